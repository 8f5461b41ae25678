"""Opens what the README's badge opens on Binder: JupyterLab, on the quickstart."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.parse import unquote
from urllib.request import Request, urlopen

__all__ = ["main"]

_PORT = 8888
_START_S = 60.0


def main() -> int:
    """Start JupyterLab, and ask for the page and the notebook of the first badge."""
    found = re.search(r"mybinder\.org/v2/gh/\S+\?labpath=([\w%.-]+)", Path("README.md").read_text())
    if found is None:
        print("the README has no link to Binder")
        return 1
    notebook = unquote(found[1])
    token = secrets.token_hex()
    lab = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={_PORT}",
         "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", "--LabApp.news_url=None"],
        env={**os.environ, "JUPYTER_TOKEN": token},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        page = _get(f"lab/tree/{notebook}", token, time.monotonic() + _START_S)
        file = json.loads(_get(f"api/contents/{notebook}", token, time.monotonic() + _START_S))
    finally:
        lab.terminate()
        lab.wait()
    title = file["content"]["cells"][0]["source"].splitlines()[0]
    print(f"JupyterLab opens {notebook}: {title}")
    return 0 if b"JupyterLab" in page else 1


def _get(path: str, token: str, until: float) -> bytes:
    """Get a page, as soon as the server answers."""
    request = Request(
        f"http://127.0.0.1:{_PORT}/{path}", headers={"Authorization": f"token {token}"}
    )
    while True:
        try:
            with urlopen(request, timeout=10) as reply:  # noqa: S310 - the address is ours
                return bytes(reply.read())
        except URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
