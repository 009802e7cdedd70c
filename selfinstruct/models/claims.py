"""Claims: which client asks a request at the moment, so that of several on one store only one pays for it.

    claims = Claims(store)
    claims.take(key, lasts_s=600)       # True: ask it. False: the answer is there, or somebody else is asking
    store.settle(stored)                # writes the answer and ends the claim
    claims.release([key])               # after a request that failed

A claim ends with its process: on this machine that is seen at once, of another machine the claim's own time must run out.
Nobody waits here; `client` puts aside what others ask, and comes back for their answers. A batch job claims its requests until
it is written down: from then on the store's row of the job says who asks.

`Reservations` are what the clients of one command have set aside for requests on their way, so that they keep its limits together.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..files import SelfInstructError
from ..session import find_process, is_alive
from .spending import Amount
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


class Reservations:
    """What one client of the command `session` has set aside, and what its others have, in other processes too."""

    def __init__(self, store: ResponseStore, session: str):
        self._store, self._session = store, session
        self._owner = uuid.uuid4().hex
        self._process = find_process()
        self._seen = -1

    @contextlib.contextmanager
    def exchange(self) -> Iterator[tuple[Amount, float, bool]]:
        """What the others have set aside, the excess they found, and True if anybody else wrote into the store since; within
        it none of them sets anything aside.
        """
        with self._store.transaction():
            tokens = usd = excess = 0.0
            for row in self._store.run("SELECT * FROM reserved WHERE owner <> ?", (self._owner,)):
                if not is_alive(row["pid"], row["started"]):
                    self._store.run("DELETE FROM reserved WHERE owner = ?", (row["owner"],))
                elif row["session"] == self._session:
                    tokens, usd, excess = tokens + row["tokens"], usd + row["usd"], max(excess, row["excess"])
            seen, self._seen = self._seen, self._store.run("PRAGMA data_version")[0][0]
            yield Amount(tokens, usd), excess, seen != self._seen

    def write(self, held: Amount, excess: float) -> None:
        """Say what this client has set aside now."""
        mine = (self._owner, self._session, *self._process, *held, excess)
        self._store.run("INSERT OR REPLACE INTO reserved VALUES (?, ?, ?, ?, ?, ?, ?)", mine)

    def close(self) -> None:
        """Nothing is set aside any more. On a full disk the others see it when the process ends."""
        with contextlib.suppress(SelfInstructError):
            self._store.run("DELETE FROM reserved WHERE owner = ?", (self._owner,))


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
