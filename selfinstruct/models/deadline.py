"""Calls with a deadline: whatever a server does, hang or send a byte a second, a call ends in time, its retries and pauses too.

    calls = Calls()
    calls.run(client.completions.create(...), seconds=30)       # what it returns; TimeoutError after 30 s
    calls.close()

A timeout of sockets cannot do it: it begins anew at every byte.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


class Calls:
    """Coroutines run in a thread of their own, for any number of threads that wait for them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="calls")
        self._thread.start()

    def run(self, call: Coroutine[Any, Any, Any], seconds: float) -> Any:
        """What `call` returns; raises TimeoutError, the call cancelled, where it does not within `seconds`."""
        return asyncio.run_coroutine_threadsafe(_end_in_time(call, seconds), self._loop).result()

    def close(self) -> None:
        """End the thread; nothing may run in it any more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_in_time(call: Coroutine[Any, Any, Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await call
