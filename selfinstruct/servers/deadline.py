"""Deadlines: whatever a server does, hang or send a byte a second, what a thread asks of it ends in time.

    keep_deadlines(http)                    # an HTTP client of the openai library
    with Deadline(seconds=30):
        client.completions.create(...)      # openai.APITimeoutError after 30 s

The library's own timeout cannot do it: it begins anew at every byte.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

_thread = threading.local()


class Deadline:
    """For what the thread does within it."""

    def __init__(self, seconds: float):
        self.seconds, self._ends = seconds, time.monotonic() + seconds

    def __enter__(self) -> Deadline:
        _thread.deadline = self
        return self

    def __exit__(self, *_: object) -> None:
        _thread.deadline = None

    @property
    def left_s(self) -> float:
        """Seconds until it is over."""
        return self._ends - time.monotonic()


def find_deadline() -> Deadline:
    """The deadline of this thread; a far one where there is none."""
    return getattr(_thread, "deadline", None) or Deadline(math.inf)


def keep_deadlines(http: Any) -> None:
    """Let the deadline of a thread cut what it does through the client `http`, at every piece it sends or receives."""
    for transport in filter(None, (http._transport, *http._mounts.values())):
        transport._pool._network_backend = _Backend(transport._pool._network_backend)


def _cut(timeout: float | None) -> float | None:
    """`timeout`, or what is left until the thread's deadline where that is less."""
    left = find_deadline().left_s
    if left <= 0:
        import httpcore2

        raise httpcore2.ReadTimeout("the deadline is over")
    shortest = min(left, math.inf if timeout is None else timeout)
    return None if shortest == math.inf else shortest


class _Backend:
    """A network backend of httpcore: connects as the one within, and watches over the streams."""

    def __init__(self, within: Any):
        self._within = within

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **settings: Any) -> _Stream:
        return _Stream(self._within.connect_tcp(host, port, _cut(timeout), **settings))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._within, name)


class _Stream:
    def __init__(self, within: Any):
        self._within = within

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._within.read(max_bytes, _cut(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._within.write(buffer, _cut(timeout))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        return _Stream(self._within.start_tls(ssl_context, server_hostname, _cut(timeout)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._within, name)
