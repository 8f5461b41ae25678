"""Blocks that are recorded: real sessions over the real /dev/shm, and what is shown of them."""

from __future__ import annotations

import csv
import gc
import io
import math
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tritonic_nb
from tests.conftest import TEST_URL
from tests.render.test_render_progress import executed
from tritonic_nb.errors import ArgumentError, SessionClosedError, TensorDatatypeError
from tritonic_nb.memory import RegionDescriptor, SharedMemoryType
from tritonic_nb.monitoring import EventHook, Reading, Recording, Source, sampler
from tritonic_nb.monitoring.events import EventRecord
from tritonic_nb.watching import region_sizes

Open = Callable[..., tritonic_nb.Session]
MB = 10**6


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == sampler.THREAD]


def floats(count: int) -> Any:
    return np.ones((1, count), np.float32)


def told(**values: float) -> Source:
    return Source("told", lambda: Reading({k.replace("_", "/", 1): v for k, v in values.items()}))


# What a session tells


def test_a_block_is_recorded_with_its_regions_and_events(open_session: Open) -> None:
    """Regions by tensor, what happened to them and when, and how many inferences there were."""
    session = open_session("identity_fp32")
    session.infer(floats(8))  # it tells the size of the output, which has no region before
    session.unregister()
    with session.watch(hz=10, show=False) as w:
        for _ in range(5):
            session.infer(floats(MB))
        time.sleep(0.25)
        session.infer(floats(2 * MB))
        with pytest.raises(TensorDatatypeError):
            session.infer(np.ones((1, 8), np.int32))
        time.sleep(0.25)
        session.unregister()
    assert w.counts["infer"] == 6
    assert w.counts["error"] == 1
    assert w.counts["register"] == 2
    assert w.counts["grow"] >= 2
    assert w.counts["unregister"] == w.counts["register"] + w.counts["grow"]
    assert w.peaks["region/input INPUT0"] == 8_003_584  # whole pages
    kinds = [event.kind for event in w.events]
    assert kinds[0] == "register"
    assert kinds[-1] == "unregister"
    (error,) = [event for event in w.events if event.kind == "error"]
    assert error.text.startswith("TensorDatatypeError: 'INPUT0' is FP32")
    times = [event.time_s for event in w.events]
    assert times == sorted(times)
    assert times[0] >= 0
    (grown,) = [e for e in w.events if (e.kind, e.text) == ("grow", "input INPUT0")]
    assert grown.time_s >= 0.25
    assert grown.nbytes == 8_003_584
    assert not threads()


def test_its_regions_are_what_is_in_dev_shm(open_session: Open) -> None:
    """The bytes of each tensor's region, and none of them counts as another holder's."""
    session = open_session("identity_fp32")
    session.infer(floats(MB))
    with session.watch(hz=10, show=False) as w:
        session.infer(floats(MB))
        sizes = {f"region/{r.direction} {r.tensor}": r.nbytes for r in session.regions}
    assert sizes["region/input INPUT0"] == 4_001_792  # whole pages
    assert {name: w.peaks[name] for name in sizes} == sizes
    assert w.peaks.get("holder/this process", 0) < MB
    assert w.peaks["shm/used"] >= sum(sizes.values())


def test_the_server_is_watched_where_it_is_ours(open_session: Open) -> None:
    """Its resident memory and that of its models; else there is a sentence."""
    session = open_session("identity_fp32")
    with session.watch(show=False) as w:
        session.infer(floats(8))
    assert w.peaks["resident/this process"] > 10 * MB
    if TEST_URL:
        assert "serve()" in w.missing["the server's processes"]
    else:
        assert w.peaks["resident/server"] > 10 * MB
        assert w.peaks["resident/models"] > 10 * MB


@pytest.mark.skipif(bool(TEST_URL), reason="the other server's metrics port is not known")
def test_a_server_elsewhere_is_watched_by_its_metrics(server: Any) -> None:
    """Only where their address is given; otherwise a sentence says how to."""
    options = {"headers": server.headers, "load": True, "shared_memory": "system"}
    with tritonic_nb.Session(server.url, "identity_fp32", **options) as session:
        with session.watch(show=False) as without:
            session.infer(floats(8))
        with session.watch(metrics_url=server.metrics_url, show=False) as w:
            session.infer(floats(8))
    assert "metrics_url=" in without.missing["the server's metrics"]
    assert not [name for name in without.peaks if name.startswith("triton")]
    assert w.peaks["triton/inference_count"] >= 1
    assert "resident/server" not in w.peaks


def test_several_may_watch_one_session(open_session: Open) -> None:
    """Each has what happened in its own block."""
    session = open_session("identity_fp32")
    session.infer(floats(8))
    session.infer(floats(8))
    session.unregister()
    with session.watch(show=False) as outer:
        session.infer(floats(8))
        with session.watch(show=False) as inner:
            session.infer(floats(8))
    session.infer(floats(8))
    assert (outer.counts["infer"], inner.counts["infer"]) == (2, 1)
    assert outer.counts["register"] == 2
    assert "register" not in inner.counts


def test_inferences_of_many_threads_are_all_counted(open_session: Open) -> None:
    """Those of map(), too."""
    session = open_session("identity_fp32")
    with session.watch(show=False) as w:
        for _ in session.map([floats(8)] * 200, in_flight=8, progress=False):
            pass
    assert w.counts["infer"] == 200


def test_closing_the_session_ends_the_recording(open_session: Open) -> None:
    """At once, with the memory given back in the last sample; the block goes on."""
    session = open_session("identity_fp32")
    session.infer(floats(MB))
    with session.watch(hz=1, show=False) as w:
        session.infer(floats(MB))
        session.close()
        assert not threads()
        samples = len(w.to_pandas())
    frame = w.to_pandas()
    assert len(frame) == samples == 2
    last = frame.iloc[-1]
    assert math.isnan(last.get("region/input INPUT0", math.nan))
    assert w.counts["unregister"] == 2
    with pytest.raises(SessionClosedError):
        session.watch()


def test_a_forgotten_session_ends_its_recording(address: Any) -> None:
    """A recording does not keep a session alive, and no thread is left of it."""
    options = {"load": True, "shared_memory": "system"}
    session = tritonic_nb.Session(address, "identity_fp32", **options)
    w = session.watch(hz=10, show=False)
    w.__enter__()
    session.infer(floats(8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del session
        gc.collect()
    assert not threads()
    assert w.counts["infer"] == 1
    assert w.peaks["shm/used"]


def test_a_recording_that_is_kept_keeps_nothing_of_the_session() -> None:
    """Neither its regions nor its server, which would stop if nobody held it."""
    held = type("Held", (), {"__call__": lambda _: Reading({"it/is": 1})})()
    gone = weakref.ref(held)
    with Recording([Source("held", held)], hz=10, show=False) as w:
        pass
    del held
    gc.collect()
    assert gone() is None
    assert w.peaks == {"it/is": 1}


def test_nobody_looks_and_nothing_is_kept(open_session: Open) -> None:
    """A session that nobody watches has no thread, no events, and a hook that is idle."""
    session = open_session("identity_fp32")
    session.infer(floats(8))
    assert not session._events.watched
    w = session.watch(show=False)
    session.infer(floats(8))  # made, and not begun
    assert (w.counts, w.events, dict(w.peaks), threads()) == ({}, (), {}, [])
    assert repr(w) == "Recording, not begun"
    assert w.picture() is None


def test_events_are_bounded_and_all_counted() -> None:
    """The last 2000 are kept, with texts of bounded length."""
    hook, record = EventHook(), EventRecord()
    hook.note("register", "before")
    hook.start(record, lambda: None)
    for number in range(5000):
        hook.note("register", f"{number} " + "x" * 10_000, number)
    hook.note_error(ValueError("secret"))
    hook.stop(record)
    hook.note("register", "after")
    assert record.counts == {"register": 5000, "error": 1}
    assert len(record.events) == 2000
    assert [event.text for event in record.events][-1] == "ValueError"
    assert max(len(event.text) for event in record.events) == 300
    assert any(event.text.endswith("…") for event in record.events)
    assert not hook.watched


def test_regions_given_up_and_of_devices_have_names_of_their_own() -> None:
    """By tensor; what is gone here and the server still keeps together."""

    def region(tensor: str, state: str, device: int | None = None) -> RegionDescriptor:
        kind = SharedMemoryType.SYSTEM if device is None else SharedMemoryType.CUDA
        return RegionDescriptor(
            "n", "/n", kind, device, 4096, None, 0, tensor, "input", 1, 4096, state
        )

    sizes = region_sizes(
        [region("a", "registered"), region("a", "registered"), region("b", "quarantined"),
         region("c", "quarantined"), region("a", "registered", 1)]
    )  # fmt: skip
    assert sizes == {
        "region/input a": 8192,
        "region/still at the server": 8192,
        "cuda1/input a": 4096,
    }


# The block


def test_the_blocks_exceptions_pass_through(capsys: pytest.CaptureFixture[str]) -> None:
    """And what was recorded is there, and shown."""
    with pytest.raises(ZeroDivisionError), tritonic_nb.watch() as w:
        _ = 1 / 0
    assert len(w.to_pandas()) == 2
    assert "Memory during" in capsys.readouterr().out
    assert not threads()


def test_an_interrupt_in_the_block_passes_through() -> None:
    """KeyboardInterrupt and SystemExit, too."""
    for kind in (KeyboardInterrupt, SystemExit):
        with pytest.raises(kind), tritonic_nb.watch(show=False) as w:
            raise kind
        assert len(w.to_pandas()) == 2


def test_what_cannot_be_shown_does_not_hide_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is gone is one line in the log."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(ZeroDivisionError), tritonic_nb.watch():
        _ = 1 / 0


def test_a_recording_is_used_once() -> None:
    """Another block needs another one."""
    w = tritonic_nb.watch(show=False)
    with w:
        pass
    with pytest.raises(ArgumentError, match="make another one"), w:
        pass
    assert not threads()


@pytest.mark.parametrize("warn_at", [0, -1, 1.1, math.nan, "0.5", None, True])
def test_where_it_warns_is_checked(warn_at: Any) -> None:
    """A part of /dev/shm."""
    with pytest.raises(ArgumentError, match="up to 1"):
        tritonic_nb.watch(warn_at=warn_at)


def test_how_often_and_where_metrics_are_is_checked(open_session: Open) -> None:
    """When the recording is made, not when it begins."""
    with pytest.raises(ArgumentError, match="1 to 10"):
        tritonic_nb.watch(hz=100)
    with pytest.raises(ArgumentError, match="http://HOST:8002/metrics"):
        open_session().watch(metrics_url="localhost")


def test_peaks_are_of_all_samples_and_lows_of_what_is_free() -> None:
    """The most, and of what is free or available the least."""
    used = iter([5, 9, 2])
    now = {"used": 0}

    def read() -> Reading:
        now["used"] = next(used, now["used"])
        return Reading({"shm/used": now["used"], "shm/total": 10, "shm/free": 10 - now["used"],
                        "gpu0/busy_percent": 12.5})  # fmt: skip

    with Recording([Source("told", read)], hz=10, show=False) as w:
        time.sleep(0.35)
    assert dict(w.peaks) == {
        "shm/used": 9, "shm/total": 10, "shm/free": 1, "gpu0/busy_percent": 12.5,
    }  # fmt: skip
    assert isinstance(w.peaks["shm/used"], int)
    with pytest.raises(TypeError):
        w.peaks["shm/used"] = 0  # type: ignore[index]


def test_it_warns_when_dev_shm_was_nearly_full() -> None:
    """In the summary, from the part on that was asked for."""
    source = told(shm_used=95, shm_total=100, shm_free=5)
    with Recording([source], show=False) as w, Recording([source], warn_at=0.96, show=False) as no:
        pass
    assert "95.0%" in repr(w)
    assert "warning" in repr(w)
    assert "warning" not in repr(no)


# What comes out


def test_the_samples_as_a_table(tmp_path: Path) -> None:
    """The same in pandas and CSV: seconds since the block began, a column for each series."""
    turn = iter(range(10**6))

    def read() -> Reading:
        number = next(turn)
        return Reading(
            {"shm/used": number, **({"region/input \u00e9,\n": 7} if number > 1 else {})}
        )

    with Recording([Source("told", read)], hz=10, show=False) as w:
        time.sleep(0.35)
    frame = w.to_pandas()
    assert list(frame.columns) == ["shm/used", "region/input \u00e9,\n"]
    assert frame.index.name == "time_s"
    assert 0 <= frame.index[0] < 0.1
    assert list(frame["shm/used"]) == list(range(len(frame)))
    assert frame["region/input \u00e9,\n"].isna().sum() == 2
    path = w.to_csv(tmp_path / "w.csv")
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == ["time_s", *frame.columns]
    assert [row[1:] for row in rows][1:3] == [["1", ""], ["2", "7"]]
    assert [float(row[0]) for row in rows] == list(frame.index)


def test_without_pandas_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """To install it, or to write CSV."""
    with tritonic_nb.watch(show=False) as w:
        pass
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ArgumentError, match=r"pip install pandas.*to_csv"):
        w.to_pandas()


def test_the_picture_is_saved(tmp_path: Path) -> None:
    """As a PNG file and under no other name."""
    with tritonic_nb.watch(show=False) as w:
        pass
    path = w.save(tmp_path / "w.PNG")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width == 1440
    with pytest.raises(ArgumentError, match=r"ends in \.png"):
        w.save(tmp_path / "w.svg")
    with pytest.raises(ArgumentError, match="nothing was sampled"):
        tritonic_nb.watch(show=False).save(tmp_path / "x.png")
    assert os.listdir(tmp_path) == ["w.PNG"]


def test_it_shows_itself_in_text_and_html(open_session: Open) -> None:
    """With peaks, counts, reasons; hostile texts are escaped; the picture is drawn once."""
    session = open_session("identity_fp32")
    with session.watch(show=False) as w:
        session.infer(floats(8))
        session._events.note("error", "<script>alert(1)</script>")
        assert "still going on" in repr(w)
    text, html = repr(w), w._repr_html_()
    assert "input INPUT0" in text
    assert "1 infer" in text
    assert "<script>" in text
    assert "<script>" not in html
    assert 'src="data:image/png;base64,' in html
    assert w.picture() is w.picture()
    data, metadata = w._repr_mimebundle_()  # type: ignore[misc]
    assert set(data) == {"text/plain", "text/html", "image/png"}
    assert metadata == {"image/png": {"width": 720}}


def test_what_was_not_to_be_seen_is_told() -> None:
    """A source that is missing is a row with its sentence."""
    with Recording([Source("GPUs", lambda: "there is <no> driver")], show=False) as w:
        pass
    assert w.missing == {"GPUs": "there is <no> driver"}
    assert "there is <no> driver" in repr(w)
    assert "there is &lt;no&gt; driver" in w._repr_html_()
    assert w.picture() is None  # nothing to draw, and no error


def test_in_a_script_it_prints_a_summary() -> None:
    """A warning of none, and no picture drawn: Matplotlib is not even imported."""
    script = """
    import sys, tritonic_nb
    with tritonic_nb.watch(hz=10) as w:
        block = bytearray(50_000_000)
        import time; time.sleep(0.3)
    assert "matplotlib" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Memory during 0.")
    assert "this process" in done.stdout


def test_in_a_notebook_it_shows_picture_and_summary(tmp_path: Path) -> None:
    """Once, at the end of the block, in what is saved; no widget."""
    cell = "import tritonic_nb\nwith tritonic_nb.watch(hz=10) as w:\n    sum(range(10**6))"
    (outputs,) = executed([cell], tmp_path)
    (output,) = outputs
    assert set(output.data) == {"text/plain", "text/html", "image/png"}
    assert output.data["text/plain"].startswith("Memory during ")
    assert "data:image/png;base64," in output.data["text/html"]


# Without a block


def test_a_recording_can_rest_and_go_on() -> None:
    """No thread meanwhile; the same samples go on, and after its end it does not."""
    w = Recording([told(it_is=1)], hz=10, show=False)
    ended: list[bool] = []
    w.begin(lambda: ended.append(w.ended))
    w.suspend()
    assert w.suspended
    assert not threads()
    before = len(w.history)
    w.resume()
    assert not w.suspended
    time.sleep(0.3)
    w.stop()
    assert len(w.history) > before
    assert ended.count(True) == 1
    assert ended[-1]
    w.resume()
    w.stop()
    assert not threads()
    assert ended.count(True) == 1


def test_a_page_that_looks_while_it_ends_starts_nothing() -> None:
    """Resumed by another thread just before its end: the thread that samples ends all the same."""
    w = Recording([told(it_is=1)], hz=10, show=False)
    w.begin()
    subscription = w._subscription
    assert subscription is not None
    close = subscription.close

    def close_and_look() -> None:
        close()
        page = threading.Thread(target=w.resume)
        page.start()
        page.join()

    subscription.close = close_and_look  # type: ignore[method-assign]
    w.stop()
    assert w.ended
    assert not threads()
