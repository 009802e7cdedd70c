"""A Dask cluster of real processes, started by hand as docs/sweeps.md says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.notebooks import wait_until


def start_process(folder: Path, name: str, *arguments: str, checkout: Path | None = None) -> subprocess.Popen:
    """A Dask command by hand, of another `checkout` of the kit perhaps; workers have no key."""
    command = [sys.executable, "-m", "distributed.cli.dask_" + name, *arguments]
    clean = {key: value for key, value in os.environ.items() if key != "OPENAI_API_KEY"}
    clean["DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT"] = (
        "3s"  # how long somebody knocks at a dead worker's door; 30 s by default
    )
    clean |= {"PYTHONPATH": str(checkout)} if checkout else {}
    return subprocess.Popen(command, env=clean, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def start_cluster(
    folder: Path, workers: int = 2, checkout: Path | None = None
) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """(address, [scheduler, worker, worker ...]): they are killed in the end. The workers are of `checkout`, or of this one."""
    where = folder / "scheduler.json"
    given = ["--scheduler-file", str(where), "--no-dashboard"]
    started = [start_process(folder, "scheduler", "--host", "127.0.0.1", "--port", "0", *given)]
    try:
        assert wait_until(lambda: where.is_file() and where.read_text().rstrip().endswith("}"), 300)  # written whole
        given += ["--nthreads", "1", "--no-nanny", "--memory-limit", "0"]
        started += [start_process(folder, "worker", *given, checkout=checkout) for _ in range(workers)]
        yield json.loads(where.read_text())["address"], started
    finally:
        for one in started:
            one.kill()
            one.wait()
