"""Near-duplicates of a data set of any size, or of two: every pair above a threshold, exact, tile by tile.

    with open_workers(2) as workers:
        found = find_duplicates(texts, folder=Path("outputs/tiles"), workers=workers)
    found.pairs.first, found.pairs.second, found.pairs.scores
    found.kept.remove()

Answers do not depend on who computes them (`workers`), nor on the size of the shards. A finished tile is kept in `folder`: after
kill -9 the same call goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..bars import progress_bar
from ..data.datasets import Dataset, load_dataset
from ..display import count_of, show_duration
from ..files import ParameterError, explain_write_error, given_path, show_path, write_records
from ..locks import lock_folder
from ..similarity.tiles import Pairs, Shard, build_shards, count_rows, decide_kept, find_pairs, list_tiles, merge_pairs
from ..similarity.words import choose_tokenizer
from ..workers import Processes, Workers, open_workers

MEASURED = 3  # tiles that an estimate rests on
PAYS_S = 10.0  # work that is shared among processes: they take a second or two to start
LONG_S = 60.0  # work that is estimated aloud
LONG_LIST = 100_000  # texts or pairs that take a while to read or write

Tile = tuple[int, int]


@dataclass(frozen=True)
class Question:
    """Two lists of shards, which are one where a set is compared with itself, and the threshold."""

    first: Sequence[Shard]
    second: Sequence[Shard]
    threshold: float

    @property
    def same(self) -> bool:
        return self.first is self.second

    @cached_property
    def tiles(self) -> list[Tile]:
        return list_tiles(self.first, self.second, self.threshold, self.same)

    @property
    def pruned(self) -> int:
        """How many tiles cannot hold a pair."""
        rows, columns = len(self.first), len(self.second)
        return (rows * (rows + 1) // 2 if self.same else rows * columns) - len(self.tiles)

    @cached_property
    def work(self) -> dict[Tile, float]:
        """What each tile costs, in a unit of its own."""
        rows, tokens = [count_rows(shard) for shard in self.first], [shard.tokens.size for shard in self.second]
        return {(i, j): rows[i] * tokens[j] / (2 if self.same and i == j else 1) for i, j in self.tiles}

    def identify(self) -> str:
        """A hash of all that the tiles depend on."""
        digest = hashlib.sha256(f"{self.threshold!r} {self.same}".encode())
        for shard in (*self.first, *(() if self.same else self.second)):
            for part in (shard.tokens, shard.starts, shard.positions):
                digest.update(part.data)
        return digest.hexdigest()[:16]

    def list_calls(self, tiles: Sequence[Tile], workers: Workers) -> Iterator[tuple[Any, ...]]:
        """The arguments of `compare_shards` for each tile; a shard is held until its last tile has gone out."""
        last = {name: number for number, tile in enumerate(tiles) for name in self._name_shards(tile)}
        held: dict[Any, Any] = {}
        for number, (i, j) in enumerate(tiles):
            names = self._name_shards((i, j))
            for name, shard in zip(names, (self.first[i], self.second[j]), strict=True):
                if name not in held:
                    held[name] = workers.hold(shard)
            yield held[names[0]], held[names[1]], self.threshold, self.same and i == j
            held = {name: one for name, one in held.items() if last[name] > number}

    def _name_shards(self, tile: Tile) -> tuple[Any, Any]:
        return ("first", tile[0]), ("first" if self.same else "second", tile[1])


def compare_shards(queries: Shard, documents: Shard, threshold: float, same: bool) -> tuple[Pairs, float]:
    """On a worker: the pairs of a tile, and the processor seconds that they took."""
    _load_loops()
    began = time.thread_time()
    return find_pairs(queries, documents, threshold, same), time.thread_time() - began


class Kept:
    """The finished tiles of a question, a file each; written whole or not at all."""

    def __init__(self, folder: Path, question: Question):
        self.folder = folder / question.identify()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_write_error(self.folder, error, 0) from error

    def has(self, tile: Tile) -> bool:
        """True if the tile is finished and sound: a power cut may leave a file without its contents."""
        with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return self.load(tile) is not None
        return False

    def load(self, tile: Tile) -> tuple[Pairs, float]:
        """A finished tile's pairs and seconds."""
        import numpy as np

        with np.load(self._path(tile)) as file:
            return Pairs(file["first"], file["second"], file["scores"]), float(file["seconds"])

    def write(self, tile: Tile, pairs: Pairs, seconds: float) -> None:
        import numpy as np

        path = self._path(tile)
        with path.with_suffix(".part").open("wb") as file:
            np.savez(file, **pairs._asdict(), seconds=seconds)
        os.replace(file.name, path)

    def _path(self, tile: Tile) -> Path:
        return self.folder / f"{tile[0]}-{tile[1]}.npz"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # tiles of another question
            self.folder.parent.rmdir()


class Found(NamedTuple):
    """All pairs, and what they took."""

    pairs: Pairs
    tiles: int  # that were compared, now or before a stop
    pruned: int  # that the lengths of their texts ruled out
    cpu_seconds: float  # in tiles, of all workers together
    kept: Kept  # to be removed when the pairs are safe


def find_duplicates(
    texts: Sequence[str],
    others: Sequence[str] | None = None,
    *,
    folder: Path,
    workers: Workers,
    threshold: float = 0.7,
    quirks: str = "published",
    shard_size: int = 0,
    pays_s: float = PAYS_S,
    tell: Callable[[str], None] = print,
) -> Found:
    """Every pair of `texts`, or of a text with one of `others`, whose ROUGE-L is above the threshold, by position.

    Work of less than `pays_s` seconds is not given to processes of this machine. Raises ParameterError for a threshold
    outside [0, 1).
    """
    if not 0 <= threshold < 1:
        raise ParameterError(f"threshold {threshold:g}: pairs above it are looked for; give 0 or more, and less than 1")
    question = ask_question(texts, others, threshold, quirks, shard_size)
    kept = Kept(folder, question)
    _compute_tiles(question, kept, workers, pays_s, tell)
    parts = [kept.load(tile) for tile in question.tiles]
    pairs = merge_pairs((pairs for pairs, _ in parts), question.same)
    return Found(pairs, len(parts), question.pruned, sum(seconds for _, seconds in parts), kept)


def _compute_tiles(
    question: Question, kept: Kept, workers: Workers, pays_s: float, tell: Callable[[str], None]
) -> None:
    """Every tile that is not there yet: a few here, which say how long the rest will take, then the rest."""
    left = [tile for tile in question.tiles if not kept.has(tile)]
    work, total = question.work, sum(question.work.values())
    bar_format = "{l_bar}{bar}| {elapsed}<{remaining}"
    _load_loops()
    with progress_bar(total=total, desc="comparing", bar_format=bar_format, disable=len(left) < 2) as bar:
        bar.update(total - sum(work[tile] for tile in left))

        def compute(tiles: Sequence[Tile], crew: Workers) -> float:
            taken = 0.0
            for tile, (pairs, seconds) in zip(
                tiles, crew.run(compare_shards, question.list_calls(tiles, crew)), strict=True
            ):
                kept.write(tile, pairs, seconds)
                bar.update(work[tile])
                taken += seconds
            return taken

        measured = left[:: max(len(left) // MEASURED, 1)][:MEASURED]
        speed = compute(measured, Workers()) / (sum(work[tile] for tile in measured) or 1)
        left = [tile for tile in left if tile not in measured]
        seconds = speed * sum(work[tile] for tile in left)
        crew = Workers() if isinstance(workers, Processes) and seconds < pays_s else workers
        if seconds / crew.count > LONG_S:
            tell(_describe_rest(len(left), len(measured), seconds, crew, kept))
        compute(left, crew)


def _describe_rest(left: int, measured: int, seconds: float, crew: Workers, kept: Kept) -> str:
    return (
        f"About {show_duration(seconds / crew.count)} on {count_of('worker', crew.count)} for the {left:,} tiles that are left, from "
        f"{measured} measured here. Finished tiles are kept in {show_path(kept.folder)}; after a stop the same command goes on."
    )


@cache
def _load_loops() -> None:
    """Compile the loops, or read them from numba's cache: that is no part of what a tile takes."""
    [shard] = build_shards([" ".join("a" * size) for size in (1, 1, 1, 20, 20, 20, 40, 40, 40, 70)], str.split, {})
    find_pairs(shard, shard, 0.7, True)


def ask_question(
    texts: Sequence[str], others: Sequence[str] | None, threshold: float, quirks: str = "published", shard_size: int = 0
) -> Question:
    """The texts as shards."""
    split = choose_tokenizer(quirks, "unicode" if quirks == "fixed" else "rouge_score")
    ids: dict[str, int] = {}
    sets = [texts] if others is None else [texts, others]
    bars = [progress_bar(iterable=one, desc="reading words", disable=len(one) < LONG_LIST) for one in sets]
    shards = [build_shards(bar, split, ids, shard_size) for bar in bars]
    return Question(shards[0], shards[-1], threshold)


def list_duplicates(
    data: str,
    other: str = "",
    *,
    out: str = "",
    threshold: float = 0.7,
    quirks: str = "published",
    workers: int = 0,
    scheduler: str = "",
    tell: Callable[[str], None] = print,
) -> None:
    """Write the pairs of a data set, or of one with another, to `out` (JSONL), and tell what was found.

    `workers` are processes here (0: as many as there are processors, where that pays), `scheduler` a Dask cluster instead.
    Raises InputError for data that cannot be read, and for a cluster that cannot be used; SelfInstructError where another command
    writes the same file.
    """
    with open_workers(workers, scheduler) as crew:  # refused before the data are read
        names = [name for name in (data, other) if name]
        sets = [load_dataset(name, "instructions") for name in names]
        path = given_path(out or f"outputs/duplicates/{'_and_'.join(one.name for one in sets)}.jsonl")
        texts = [one.instructions for one in sets]
        folder = path.with_name(f"{path.name}.tiles")
        with lock_folder(folder, "another file with --out"):
            found = find_duplicates(*texts, folder=folder, workers=crew, threshold=threshold, quirks=quirks, tell=tell)
            write_pairs(path, found.pairs, sets)
            found.kept.remove()
        with suppress(OSError):  # what a stopped command has left, empty now
            folder.rmdir()
    for line in describe_pairs(found, sets, threshold):
        tell(line)
    tell(f"Wrote {show_path(path)}: each pair with its ROUGE-L, rows and texts")


def write_pairs(path: Path, pairs: Pairs, sets: Sequence[Dataset]) -> Path:
    """A line for each pair: ROUGE-L, the rows (from 1) where the two texts first are, and the texts."""
    first, second = sets[0], sets[-1]
    rows = [_number_rows(one) for one in (first, second)]
    lines = (
        {
            "rouge_l": score,
            "first_row": rows[0][i],
            "second_row": rows[1][j],
            "first": first.instructions[i],
            "second": second.instructions[j],
        }
        for i, j, score in zip(*(column.tolist() for column in pairs), strict=True)
    )
    total = pairs.scores.size
    return write_records(path, progress_bar(iterable=lines, total=total, desc="writing", disable=total < LONG_LIST))


def _number_rows(data: Dataset) -> list[int]:
    """The row, from 1, where each of the instructions is for the first time."""
    places: dict[str, int] = {}
    for number, row in enumerate(data.rows, 1):
        places.setdefault(row.instruction, number)
    return list(places.values())


def describe_pairs(found: Found, sets: Sequence[Dataset], threshold: float) -> list[str]:
    """What was found, for the terminal."""
    import numpy as np

    pairs, count = found.pairs, len(sets[0].instructions)
    head = f"{count_of('pair', pairs.scores.size)} with a ROUGE-L above {threshold:g}"
    if len(sets) == 2:
        rows = f"{np.unique(pairs.first).size:,} of {count:,} instructions of {sets[0].name}"
        others = f"{np.unique(pairs.second).size:,} of {len(sets[1].instructions):,} of {sets[1].name}"
        return [f"{head}: {rows}, and {others}"]
    involved = np.unique(np.concatenate([pairs.first, pairs.second])).size
    kept, repeated = int(decide_kept(pairs, count).sum()), len(sets[0].rows) - count
    lines = [
        f"{head}: {involved:,} of {count_of('instruction', count)} are in one; the filter of step 1 would keep {kept:,}"
    ]
    again = "repeats an instruction word by word was" if repeated == 1 else "repeat an instruction word by word were"
    return lines + [f"{count_of('row', repeated)} that {again} counted once"] * (repeated > 0)
