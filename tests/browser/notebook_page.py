"""A notebook in a browser: opened, run and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab_server import LOOPBACK

if TYPE_CHECKING:
    from lab_server import LabServer
    from playwright.sync_api import Browser, Locator, Page

OPEN_S = 60.0
RUN_S = 120.0

_PANEL = "window.jupyterapp.shell.currentWidget"
_KERNEL_IDLE = f"() => {_PANEL}?.sessionContext?.session?.kernel?.status === 'idle'"
_RUN_ALL = """() => {
  window.tnbRan = undefined;
  window.jupyterapp.commands.execute('notebook:run-all-cells').then(
    ran => { window.tnbRan = ran ? 'ran' : 'stopped'; },
    error => { window.tnbRan = `failed: ${error}`; });
}"""
_EXECUTE = f"""async code => {{
  const kernel = {_PANEL}.sessionContext.session.kernel;
  return (await kernel.requestExecute({{ code }}).done).content;
}}"""
_CONTRAST_JS = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")

_Color = tuple[float, float, float, float]


class NotebookPage:
    """One notebook in JupyterLab, in a browser context of its own.

    Attributes
    ----------
    page
        Playwright's page.
    console_errors
        What the browser's console said at level "error", and uncaught exceptions.
    requests
        The address of every request and web socket.
    """

    def __init__(self, browser: Browser, lab: LabServer, **context: Any) -> None:
        self._lab = lab
        size = {"width": 1400, "height": 1000}
        self._context = browser.new_context(**{"viewport": size, **context})
        self.page: Page = self._context.new_page()
        self.console_errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.console_errors.append(str(error)))
        self._context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))

    def open(self, notebook: str) -> None:
        """Open a notebook and wait for its cells and its kernel."""
        self.page.goto(self._lab.address(notebook), timeout=OPEN_S * 1000)
        self.cells.first.wait_for(timeout=OPEN_S * 1000)
        self.page.wait_for_function(_KERNEL_IDLE, timeout=OPEN_S * 1000)

    def run_all(self, timeout_s: float = RUN_S) -> None:
        """Run all cells, wait for the end, and fail where a cell did."""
        self.page.evaluate(_RUN_ALL)
        self.page.wait_for_function("() => window.tnbRan", timeout=timeout_s * 1000)
        ended = self.page.evaluate("() => window.tnbRan")
        assert ended == "ran", "\n".join([ended, *self.error_texts()])

    def execute(self, code: str) -> None:
        """Run code in the notebook's kernel, outside of any cell, and fail where it does."""
        reply = self.page.evaluate(_EXECUTE, code)
        assert reply["status"] == "ok", "\n".join(reply.get("traceback", []))

    def save(self) -> None:
        """Save the notebook with its outputs."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def reload(self) -> None:
        """Load the page again, as a person does, and wait for its cells and its kernel."""
        self.page.goto(self.page.url.partition("?")[0], timeout=OPEN_S * 1000)
        self.cells.first.wait_for(timeout=OPEN_S * 1000)

    def change_theme(self, theme: str) -> None:
        """Change the theme of this page."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme
        )
        light = str("Light" in theme).lower()
        self.page.wait_for_selector(f"body[data-jp-theme-light={light}]", state="attached")

    def barriers(self, selector: str) -> list[tuple[str, list[str]]]:
        """Give what axe-core finds serious or critical in an element: rules, with the HTML."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page, context=selector).response["violations"]
        return [
            (each["id"], [node["html"] for node in each["nodes"]])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

    def shut_down_kernel(self) -> None:
        """Shut the kernel down, as JupyterLab's own menu does."""
        self.page.evaluate(f"() => {_PANEL}.sessionContext.shutdown()")

    def close(self) -> None:
        """Close the page and all that the browser kept for it."""
        self._context.close()

    @property
    def cells(self) -> Locator:
        """The cells of the notebook."""
        return self.page.locator(".jp-NotebookPanel .jp-Cell")

    def outputs(self, selector: str) -> Locator:
        """Give what matches a CSS selector in the cells' outputs."""
        return self.page.locator(f".jp-NotebookPanel .jp-Cell-outputArea :is({selector})")

    def is_dark(self) -> bool:
        """Whether JupyterLab wears a dark theme."""
        return self.page.get_attribute("body", "data-jp-theme-light") == "false"

    def output_texts(self) -> list[str]:
        """Give the text of every cell's outputs, for the cells that have any."""
        return self.page.locator(".jp-NotebookPanel .jp-Cell-outputArea").all_inner_texts()

    def error_texts(self) -> list[str]:
        """Give what is shown as an error, or was written to stderr."""
        kinds = ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr")
        selector = ", ".join(f'[data-mime-type="{kind}"]' for kind in kinds)
        return self.outputs(selector).all_inner_texts()

    def foreign_requests(self) -> list[str]:
        """Give the addresses of requests that would leave this machine."""
        here = (
            f"http://{LOOPBACK}:{self._lab.port}/",
            f"ws://{LOOPBACK}:{self._lab.port}/",
            "data:",
            "blob:",
        )
        return [address for address in self.requests if not address.startswith(here)]

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.console_errors.append(f"{message.text} ({message.location.get('url', '')})")


def contrasts(element: Locator) -> list[tuple[float, str]]:
    """Give the contrast of each text in an element with what is behind it, by WCAG 2.

    Returns
    -------
    list of (float, str)
        Ratios from 1 (cannot be seen) to 21 (black on white), the smallest first.
    """
    found = []
    for text in element.evaluate(_CONTRAST_JS):
        behind: _Color = (255, 255, 255, 1)  # the browser's own canvas
        for layer in reversed(text["behind"]):
            behind = _over(layer, behind)
        found.append((_ratio(_over(text["color"], behind), behind), text["text"]))
    return sorted(found)


def _over(top: _Color, below: _Color) -> _Color:
    alpha = top[3]
    red, green, blue = (
        a * alpha + b * (1 - alpha) for a, b in zip(top[:3], below[:3], strict=True)
    )
    return red, green, blue, 1


def _ratio(first: _Color, second: _Color) -> float:
    darker, lighter = sorted((_luminance(first), _luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: _Color) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in color[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
