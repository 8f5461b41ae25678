"""What a Triton server publishes of itself: its metrics, in the text format of Prometheus.

The names are those of Triton's documentation ("Metrics"). A server without a GPU, or one
that was started with ``--allow-gpu-metrics=false``, publishes none of GPUs.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tritonic_nb.errors import ArgumentError, brief

__all__ = ["Metric", "checked_metrics_url", "fetch_metrics", "parse_metrics"]

_LONGEST_S = 0.5
_MOST_NBYTES = 2 * 2**20
_LINE = re.compile(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True)
class Metric:
    """One line of a server's metrics.

    Attributes
    ----------
    name
        Such as ``nv_inference_count``.
    labels
        Such as ``{"model": "simple", "version": "1"}``.
    value
        Its number.
    """

    name: str
    labels: dict[str, str]
    value: float


def parse_metrics(text: str) -> Iterator[Metric]:
    """Give the metrics of a text; lines that are none are left out.

    The format is Prometheus' text exposition format, version 0.0.4.
    """
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        labels = {
            name: _ESCAPED.sub(lambda m: "\n" if m[1] == "n" else m[1], value)
            for name, value in _LABEL.findall(match[2] or "")
        }
        try:
            yield Metric(match[1], labels, float(match[3]))
        except ValueError:
            continue


def checked_metrics_url(url: str) -> str:
    """Return the address of a server's metrics, if it is one.

    Raises
    ------
    ArgumentError
        If it is not of the form ``http://HOST:8002/metrics``.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except (ValueError, TypeError, AttributeError):
        fits = False
    if not fits or not isinstance(url, str) or re.search(r"[\s\x00-\x1f]", url):
        raise ArgumentError(
            f"{brief(url)} is no address of metrics", "give http://HOST:8002/metrics"
        )
    return url


def fetch_metrics(url: str) -> str:
    """Return the metrics' text, from that address and no other: past proxies, not redirected.

    Raises
    ------
    OSError, http.client.HTTPException
        If it does not come within half a second, or is no such text.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    made = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = made(parts.hostname or "", parts.port, timeout=_LONGEST_S)
    give_up = time.monotonic() + _LONGEST_S
    try:
        target = parts.path or "/metrics"
        connection.request("GET", f"{target}?{parts.query}" if parts.query else target)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"it answered {answer.status} {answer.reason}")
        body = b""
        while part := answer.read1(65536):
            body += part
            if len(body) > _MOST_NBYTES:
                raise http.client.HTTPException(f"it sent more than {_MOST_NBYTES} bytes")
            if time.monotonic() > give_up:
                raise TimeoutError("it took too long")
        return body.decode("utf-8", "replace")
    finally:
        connection.close()
