"""Near-duplicates of many instructions, exact, on one and two workers: the same bytes, time, memory, and 10 million by extrapolation.

    python bench/bench_tiles.py                                        20,000, made of the seed tasks; half a minute
    python bench/bench_tiles.py instructions.jsonl.gz --count 1000000  a million, made of that file's; --dask adds a local cluster

The instructions are those of the file, then the same again and again, each with one to four words changed, added or left out
(seeded: everybody gets the same ones).
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.table import Figure, show_table
from selfinstruct.analysis.duplicates import Found, find_duplicates
from selfinstruct.data import load_dataset
from selfinstruct.display import show_duration
from selfinstruct.similarity.tiles import SHARD
from selfinstruct.workers import Processes, open_workers

MANY, MACHINES = 10_000_000, 16
CALCULATED_CPU_S = {1_000_000: 450.0}  # for the 52,002 instructions of Alpaca, before anybody had measured it
PAIR_BYTES = 24  # two positions and a score


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


def used(who: int) -> tuple[float, float]:
    """(processor seconds, peak megabytes of one process) of this process, or of those that it started and that have ended."""
    found = resource.getrusage(who)
    return found.ru_utime + found.ru_stime, found.ru_maxrss / 1e3


def measure(texts: Sequence[str], name: str, count: int, threshold: float) -> Measured:
    before = used(resource.RUSAGE_SELF)[0] + used(resource.RUSAGE_CHILDREN)[0]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, open_crew(name, count) as crew:
        found = find_duplicates(texts, folder=Path(folder) / "tiles", workers=crew, threshold=threshold, pays_s=0)
    wall = time.perf_counter() - began
    (own, command_mb), (others, worker_mb) = used(resource.RUSAGE_SELF), used(resource.RUSAGE_CHILDREN)
    return Measured(name, count, wall, own + others - before, worker_mb, command_mb, found)


def list_figures(one: Measured, count: int) -> list[Figure]:
    name = f"{one.workers} worker{'s' * (one.workers > 1)} ({one.name}): "
    return [
        Figure(name + "wall", one.wall_s, "s"),
        Figure(name + "CPU, of all processes", one.cpu_s, "s"),
        Figure(name + "CPU in tiles", one.found.cpu_seconds, "s", CALCULATED_CPU_S.get(count)),
        Figure(name + "peak memory of a worker", one.worker_mb, "MB"),
        Figure(name + "peak memory of the command", one.command_mb, "MB"),
    ]


def extrapolate(one: Measured, count: int) -> list[str]:
    """What MANY instructions take on MACHINES workers, and how that is calculated from the run with one worker."""
    times = MANY / count
    rest = max(one.wall_s - one.found.cpu_seconds, 0.0)
    tiles, command = one.found.cpu_seconds * times**2 / MACHINES, rest * times
    gigabytes = one.found.pairs.scores.size * times**2 * PAIR_BYTES * 2 / 1e9
    return [
        f"{MANY:,} on {MACHINES} workers, extrapolated: {show_duration(tiles + command)}",
        f"= {one.found.cpu_seconds:,.1f} CPU-s in tiles x ({MANY:,} / {count:,})^2 / {MACHINES} = {show_duration(tiles)}",
        f"+ {rest:,.1f} s outside of tiles (cutting, sending, merging) x {MANY:,} / {count:,} = {show_duration(command)}",
        f"The same lengths of texts are taken for granted, {MACHINES} cores like this one, and shards of {SHARD:,} texts: here "
        f"they have {min(SHARD, max(count // 8, 1000)):,}.",
        f"As many times repeated, they would have {one.found.pairs.scores.size * times**2:,.0f} pairs, {gigabytes:,.1f} GB while "
        "they are sorted; a set that is not made of copies has fewer.",
    ]


@click.command(help=__doc__)
@click.argument("file", default="seeds/seed_tasks.jsonl")
@click.option("--count", default=20_000, show_default=True)
@click.option("--threshold", default=0.7, show_default=True)
@click.option("--dask", is_flag=True, help="Two workers of a local Dask cluster, too.")
def main(file: str, count: int, threshold: float, dask: bool) -> None:
    base = load_dataset(file).instructions
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
    print("\n".join(extrapolate(runs[0], count)))
    first, *others = (one.digest for one in runs)
    if any(other != first for other in others):
        raise SystemExit("The answers of the runs are NOT EQUAL.")
    print(f"The answers of all {len(runs)} runs are equal to the bit (sha256 {first}).")


if __name__ == "__main__":
    main()
