"""The owner: the process that this one works for, whose end is the end of the work and whose spending the limits count.

It is the process whose id is in the environment variable SELFINSTRUCT_OWNER_PID (the runner sets it for the kernels of its
notebooks), else this process itself.
"""

from __future__ import annotations

import os

OWNER_VARIABLE = "SELFINSTRUCT_OWNER_PID"


def find_owner() -> list[float]:
    """[pid, start time] of the owner."""
    import psutil

    named = os.environ.get(OWNER_VARIABLE, "")
    return find_process(int(named) if named.isdigit() and psutil.pid_exists(int(named)) else os.getpid())


def find_process(pid: int = 0) -> list[float]:
    """[pid, start time] of a process, this one by default; the time tells a reused pid apart."""
    import psutil

    pid = pid or os.getpid()
    return [pid, psutil.Process(pid).create_time()]


def is_alive(pid: float, started: float) -> bool:
    """True if that very process still runs; a zombie does not."""
    import psutil

    try:
        process = psutil.Process(int(pid))
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def session_name() -> str:
    """The owner in one word, under which the store counts what one command has spent."""
    pid, started = find_owner()
    return f"{pid}:{started:.2f}"


def works_for_another() -> bool:
    """True in a kernel of a run, say, and False in what a person has started."""
    return find_owner()[0] != os.getpid()
