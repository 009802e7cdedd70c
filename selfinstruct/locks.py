"""One command at a time in a folder: whoever comes second is refused, and learns who is there.

with lock_folder(Path("outputs/run")):
    ...
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .files import SelfInstructError, show_path

LOCK_FILE = ".running"  # holds who uses the folder; it exists only meanwhile, and after kill -9


@contextmanager
def lock_folder(folder: Path, instead: str = "another folder with --run-dir") -> Iterator[None]:
    """Keep every other command out of `folder`, which is made if it does not exist.

    Raises SelfInstructError if another command uses it: which, since when, and what to do: wait, or name `instead`. A folder
    that cannot be locked, because it cannot be written or its file system has no locks, is used as it is.
    """
    from filelock import FileLock, Timeout

    lock, fresh = FileLock(folder / LOCK_FILE, fallback_to_soft=False), not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        (folder / LOCK_FILE).write_text(f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    except Timeout:
        raise SelfInstructError(_explain_lock(folder, instead)) from None
    except OSError:  # the first file that is written will say why
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            (folder / LOCK_FILE).unlink(missing_ok=True)  # before the release, or it could be the next command's
            lock.release()
        if fresh:
            with suppress(OSError):  # a refused run leaves no folder
                folder.rmdir()


def _explain_lock(folder: Path, instead: str) -> str:
    who = ""
    with suppress(OSError):
        who = f" ({(folder / LOCK_FILE).read_text().strip()})"
    advice = f"wait until it has ended, or name {instead}"
    return f"{show_path(folder)}: another command is running in this folder{who}; {advice}"
