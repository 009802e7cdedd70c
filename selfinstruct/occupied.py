"""One command at a time in a run folder: two would write over each other's run.json.

    with occupying(Path("outputs/run")):        # SelfInstructError at once where another command is in there
        ...

The lock is the operating system's, on a file in the folder: it ends with its process, however that ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .records import SelfInstructError, shown_path

LOCK_FILE = ".running"  # says who is in the folder; only there while somebody is, or after kill -9


@contextmanager
def occupying(folder: Path) -> Iterator[None]:
    """Keep every other command out of the run folder `folder`, which is made for it.

    Raises SelfInstructError where another command is in there: which, since when, and what to do. A folder that cannot be
    locked, since it cannot be written or its file system has no locks, is used as it is.
    """
    from filelock import FileLock, Timeout

    lock, fresh = FileLock(folder / LOCK_FILE, fallback_to_soft=False), not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        (folder / LOCK_FILE).write_text(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    except Timeout:
        raise SelfInstructError(_in_use(folder)) from None
    except OSError:  # the first file that is to be written will say why
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            (folder / LOCK_FILE).unlink(missing_ok=True)  # before the release, or it could be the next command's
            lock.release()
        if fresh:
            with suppress(OSError):  # a run that was refused leaves nothing behind
                folder.rmdir()


def _in_use(folder: Path) -> str:
    try:
        who = (folder / LOCK_FILE).read_text().strip()
    except OSError:
        who = ""
    return (
        f"{shown_path(folder)}: another command is running in this folder{f' ({who})' * bool(who)}; "
        "wait until it has ended, or name another folder with --run-dir"
    )
