"""Near-duplicates of many instructions, exact, on one and two workers: the same bytes, time, memory, and 10 million by extrapolation.

    python bench/bench_tiles.py                                        20,000, made of the seed tasks; half a minute
    python bench/bench_tiles.py instructions.jsonl.gz --count 1000000  a million, made of that file's; --dask adds a local cluster

The instructions are those of the file (of a small count a part of them, so that each comes nineteen times), then the same again and
again, each with one to four words changed, added or left out (seeded: everybody gets the same ones).
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import click
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.table import Figure, show_table
from selfinstruct.analysis.duplicates import Found, find_duplicates
from selfinstruct.data import load_dataset
from selfinstruct.display import show_duration
from selfinstruct.similarity.tiles import SHARD
from selfinstruct.workers import Processes, open_workers

MANY, MACHINES = 10_000_000, 16
CALCULATED_CPU_S = {1_000_000: 450.0}  # for the 52,002 instructions of Alpaca, before anybody had measured it
COPIES = 19  # 52,002 instructions in a million


class Measured(NamedTuple):
    """One run of everything."""

    name: str
    workers: int
    wall_s: float
    cpu_s: float
    worker_mb: float
    command_mb: float
    found: Found

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"".join(column.tobytes() for column in self.found.pairs)).hexdigest()[:16]


def edit(text: str, words: Sequence[str], rng: random.Random) -> str:
    """The text with one to four words changed, added or left out."""
    parts = text.split()
    for _ in range(rng.randint(1, 4)):
        kind, place = rng.random(), rng.randrange(len(parts))
        if kind < 0.2:
            parts.insert(place, rng.choice(words))
        elif kind < 0.4 and len(parts) > 1:
            del parts[place]
        else:
            parts[place] = rng.choice(words)
    return " ".join(parts)


def make_texts(base: Sequence[str], count: int) -> list[str]:
    """`count` texts: those of `base`, then the same with edits."""
    words = sorted({word for text in base[:5000] for word in text.split()})
    rng = random.Random(1)
    return [base[i] if i < len(base) else edit(base[i % len(base)], words, rng) for i in range(count)]


@contextmanager
def open_crew(name: str, count: int):
    """`count` processes, of our own or as a local Dask cluster."""
    with ExitStack() as stack:
        if name == "Dask":
            from distributed import LocalCluster

            given = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None, "silence_logs": 50}
            cluster = stack.enter_context(LocalCluster(n_workers=count, **given))
            yield stack.enter_context(open_workers(scheduler=cluster.scheduler_address))
        else:
            crew = Processes(count)
            stack.callback(crew.close)
            yield crew


class Watch(threading.Thread):
    """Looks ten times a second how much memory each process takes that this one has started; `peak_mb` is the most of one."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak_mb, self._ended = 0.0, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it has just ended
                    self.peak_mb = max(self.peak_mb, process.memory_info().rss / 1e6)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()


def used_cpu() -> float:
    """Processor seconds of this process and of those that it started and that have ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


def measure(texts: Sequence[str], name: str, count: int, threshold: float = 0.7) -> Measured:
    before, began = used_cpu(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Watch() as watch, open_crew(name, count) as crew:
        found = find_duplicates(texts, folder=Path(folder) / "tiles", workers=crew, threshold=threshold, pays_s=0)
    wall, command_mb = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    one = Measured(name, count, wall, used_cpu() - before, watch.peak_mb, command_mb, found)
    print(f"{len(texts):,} on {count} ({name}): {wall:,.0f} s, sha256 {one.digest}", file=sys.stderr, flush=True)
    return one


def list_figures(one: Measured, count: int) -> list[Figure]:
    name = f"{one.workers} worker{'s' * (one.workers > 1)} ({one.name}): "
    return [
        Figure(name + "wall", one.wall_s, "s"),
        Figure(name + "CPU, of all processes", one.cpu_s, "s"),
        Figure(name + "CPU in tiles", one.found.cpu_seconds, "s", CALCULATED_CPU_S.get(count)),
        Figure(name + "peak memory of a worker", one.worker_mb, "MB"),
        Figure(name + "peak memory of the command", one.command_mb, "MB"),
    ]


def extrapolate(one: Measured, start: Measured, count: int, copies: float) -> list[str]:
    """What MANY instructions take on MACHINES workers, and how that is calculated from the run with one worker."""
    times, pairs = MANY / count, one.found.pairs.scores.size * MANY / count
    rest = max(one.cpu_s - one.found.cpu_seconds - start.cpu_s, 0.0)
    tiles, command = one.found.cpu_seconds * times**2 / MACHINES, rest * times
    memory = (one.command_mb - start.command_mb) * times / 1e3
    return [
        f"{MANY:,} on {MACHINES} workers, extrapolated: {show_duration(tiles + command)}",
        f"= {one.found.cpu_seconds:,.2f} CPU-s in tiles x ({MANY:,} / {count:,})^2 / {MACHINES} = {show_duration(tiles)}",
        f"+ {rest:,.2f} CPU-s outside of tiles (cutting, sending, sorting) x {MANY:,} / {count:,} = {show_duration(command)}",
        f"for cores like this one and texts of these lengths, in shards of {SHARD:,}: here {min(SHARD, max(count // 8, 1000)):,}.",
        f"With {copies:.0f} near copies of each, as here, {pairs:,.0f} pairs. Memory: {one.worker_mb:,.0f} MB a worker, as here; the "
        f"command {start.command_mb / 1e3 + memory:,.1f} GB, in proportion.",
    ]


@click.command(help=__doc__)
@click.argument("file", default="seeds/seed_tasks.jsonl")
@click.option("--count", default=20_000, show_default=True)
@click.option("--threshold", default=0.7, show_default=True)
@click.option("--dask", is_flag=True, help="Two workers of a local Dask cluster, too.")
def main(file: str, count: int, threshold: float, dask: bool) -> None:
    start = measure(
        make_texts(["Name a river."], 100), "processes", 1
    )  # what all runs begin with, whatever they compare
    base = load_dataset(file).instructions[: -(-count // COPIES)]
    texts = make_texts(base, count)
    runs = [measure(texts, "processes", workers, threshold) for workers in (1, 2)]
    runs += [measure(texts, "Dask", 2, threshold)] if dask else []
    found = runs[0].found
    figures = [figure for one in runs for figure in list_figures(one, count)]
    compared = count * (count - 1) / 2 / found.cpu_seconds / 1e6
    figures += [
        Figure("pairs ruled on", compared, "M/CPU-s"),
        Figure("speed-up of two workers", runs[0].wall_s / runs[1].wall_s, "x"),
    ]
    setting = f"{count:,} instructions made of {len(base):,}: {found.pairs.scores.size:,} pairs above {threshold:g}"
    show_table("tiles", f"{setting}; {found.tiles:,} tiles compared, {found.pruned:,} ruled out by length", figures)
    print("\n".join(extrapolate(runs[0], start, count, count / len(base))))
    first, *others = (one.digest for one in runs)
    if any(other != first for other in others):
        raise SystemExit("The answers of the runs are NOT EQUAL.")
    print(f"The answers of all {len(runs)} runs are equal to the bit (sha256 {first}).")


if __name__ == "__main__":
    main()
