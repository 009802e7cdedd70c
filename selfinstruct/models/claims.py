"""Claims: which client asks a request at the moment, so that of several on one store only one pays for it.

    claims = Claims(store)
    claims.take(key, lasts_s=600)       # True: ask it. False: the answer is there, or somebody else is asking
    store.settle(stored)                # writes the answer and ends the claim
    claims.release([key])               # after a request that failed

A claim ends with its process: on this machine that is seen at once, of another machine the claim's own time must run out.
Nobody waits here; `client` puts aside what others ask, and comes back for their answers. A batch job claims its requests until
it is written down: from then on the store's row of the job says who asks.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files import SelfInstructError
from .session import find_process, is_alive
from .store import ResponseStore


class Claims:
    """The claims of one client on the requests of `store`. Safe for several threads."""

    def __init__(self, store: ResponseStore):
        self._store = store
        self._owner = uuid.uuid4().hex
        self._process = find_process()

    def take(self, key: str, lasts_s: float) -> bool:
        """Claim a request for `lasts_s` seconds at most; False where its answer is stored, or somebody else asks for it.

        Raises InputError where the disk has no space for an answer.
        """
        return bool(self.take_all([key], lasts_s))

    def take_all(self, keys: Iterable[str], lasts_s: float) -> set[str]:
        """Those of `keys` that are this client's to ask, claimed in one go as with `take`."""
        self._store.require_space()
        with self._store.transaction() as execute:
            return {key for key in keys if self._take(execute, key, lasts_s)}

    def _take(self, execute: Any, key: str, lasts_s: float) -> bool:
        if execute("SELECT 1 FROM responses WHERE key = ?", (key,)).fetchone():
            return False
        claim = execute("SELECT machine, pid, started, until, owner FROM claims WHERE key = ?", (key,)).fetchone()
        if claim and claim["owner"] != self._owner and _is_valid(*tuple(claim)[:4]):
            return False
        mine = (key, self._owner, identify_machine(), *self._process, time.time() + lasts_s)
        execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?)", mine)
        return True

    def find_free(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that nobody else asks for."""
        rows = self._store.run("SELECT machine, pid, started, until, key FROM claims WHERE owner <> ?", (self._owner,))
        return set(keys) - {row["key"] for row in rows if _is_valid(*tuple(row)[:4])}

    def release(self, keys: Iterable[str]) -> None:
        """End this client's claims on `keys`: others may ask them. On a full disk they last until their time is over."""
        with contextlib.suppress(SelfInstructError):
            for key in keys:
                self._store.run("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._owner))


def _is_valid(machine: str, pid: int, started: float, until: float) -> bool:
    """True if a claim still holds: its time is not over, and, as far as can be seen from here, its process runs."""
    return time.time() < until and (machine != identify_machine() or is_alive(pid, started))


@functools.cache
def identify_machine() -> str:
    """This start of this machine, in a container the container: elsewhere its process ids mean nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        import platform

        import psutil

        return f"{platform.node()}:{psutil.boot_time():.0f}"
