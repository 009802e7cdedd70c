"""Data sets of any origin as rows (instruction, input, output): what the analyses read.

    load_dataset("data/all_instances_82K.jsonl").instructions     # unique, in order
    load_datasets("outputs/mine, alpaca.json", run)               # ([Dataset, Dataset], [what could not be read])

A data set is a run folder, a file in one of the layouts of `formats`, any other folder with such files (a Hugging Face data
set's, for one), or rows in memory (a Hugging Face `Dataset`, for one). Every row is read, or named: see `Dataset.left_out`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..files import InputError, SelfInstructError, given_path, load_records, show_path
from ..parsing import parse_is_classification
from ..records import ClassificationAnswer
from ..runfolder import ALL_INSTANCES, CLASSIFICATION, INSTANCES, INSTRUCTIONS, REJECTIONS, RunFolder
from .formats import read_rows
from .origin import author_of, find_author, find_quirks
from .reading import FILES, find_data_files, iter_objects, take_object
from .rows import Row
from .scripts import note_scripts


@dataclass(frozen=True)
class Dataset:
    """Rows with where they come from; `label` says who wrote them, for figures, `notes` how they were read, and `left_out`
    which rows could not be.

    `source` is never empty and tells two files of the same name apart: the path of the file or folder, from the project's
    root where it lies below it, wherever Python was started. `run` is the run folder that the rows are from, if they are.
    """

    name: str
    rows: list[Row]
    source: str
    label: str = ""
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    run: RunFolder | None = None

    @cached_property
    def instructions(self) -> list[str]:
        """The instructions without repetition, in order of first appearance."""
        return list(dict.fromkeys(row.instruction for row in self.rows))

    @property
    def parts(self) -> dict[str, list[str]]:
        """The texts of each kind: instructions without repetition, inputs that are not empty, and outputs."""
        inputs = [row.input for row in self.rows if row.input]
        outputs = [row.output for row in self.rows if row.output is not None]
        return {"instruction": self.instructions, "input": inputs, "output": outputs}

    @property
    def has_instances(self) -> bool:
        """True if the rows have outputs, not only instructions."""
        return any(row.output is not None for row in self.rows)


def load_dataset(
    data: str | Path | RunFolder | Dataset | Iterable[Mapping[str, Any]], part: str = "instances"
) -> Dataset:
    """One data set: a run folder, a file, another folder with files of one shape, or rows in memory; a Dataset is returned as it is.

    Of a run folder, `part` says what is wanted: "instances" (the rows of step 4) or "instructions" (all that step 1
    admitted). Raises InputError for what cannot be read, with the file and line.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, RunFolder):
        return _load_run(data, part)
    if not isinstance(data, (str, Path)):
        places = ((f"row {number}", row) for number, row in enumerate(data, 1))
        return _build_dataset(((where, take_object(row, where)) for where, row in places), "rows in memory")
    path = given_path(data)
    if path.is_dir():
        run = RunFolder(path)
        return _load_run(run, part) if run.exists() else _load_folder(path)
    if not path.is_file():
        several = " (one data set, please: notebooks 10 to 13 take several)" if "," in str(data) else ""
        fetching = "; selfinstruct fetch brings the published files" * ("seeds/published" in path.as_posix())
        raise InputError(
            f"{show_path(path)}: no such file{several}{fetching}; data takes a run folder, a JSONL, JSON, CSV, Parquet or Arrow file, "
            "or a folder of such files"
        )
    dataset = _load_file(path)
    homes = [run for folder in (path.parent, path.parent.parent) if (run := RunFolder(folder)).state]
    return replace(dataset, label=author_of(homes[0]), run=homes[0]) if homes else dataset


def load_datasets(
    data: str | Sequence[Any], run: RunFolder, part: str = "instances"
) -> tuple[list[Dataset], list[str]]:
    """(data sets, what could not be read) of a notebook's `data` parameter: "" is the run's own, else one or several,
    as a list or in one text with commas between.

    Raises InputError only where none could be read.
    """
    datasets, problems = [], []
    for source in split_sources(data) or [run]:
        try:
            datasets.append(load_dataset(source, part))
        except SelfInstructError as error:
            problems.append(str(error))
    if not datasets:
        raise InputError("; ".join(problems))
    datasets = _number_names(datasets)
    return datasets, [*problems, *(f"{one.name}: {line}" for one in datasets for line in one.left_out)]


def check_data(data: str | Sequence[Any]) -> None:
    """Raise the InputError of the first data set where none that `data` names is there; "" names none."""
    sources = split_sources(data)
    if sources and not any(isinstance(one, str) and given_path(one).exists() for one in sources):
        load_dataset(sources[0])


def split_sources(data: str | Sequence[Any]) -> list[Any]:
    """Each data set that `data` names, in order; [] for ""."""
    if not isinstance(data, str):
        return list(data)
    parts, found = data.split(","), []
    while parts:  # a comma is part of a name where there is such a file
        names = [",".join(parts[:end]).strip() for end in range(len(parts), 0, -1)]
        name = next((one for one in names if one and given_path(one).exists()), names[-1])
        found.append(name)
        del parts[: len(names) - names.index(name)]
    return [name for name in found if name]


def _number_names(datasets: list[Dataset]) -> list[Dataset]:
    """The data sets with a number after every name that an earlier one has, or that is another one's."""
    taken, named = {dataset.name for dataset in datasets}, {}
    for dataset in datasets:
        name = dataset.name
        if name in named:
            name = next(free for number in count(2) if (free := f"{name} ({number})") not in taken | named.keys())
        named[name] = replace(dataset, name=name)
    return list(named.values())


def _load_file(path: Path) -> Dataset:
    notes: list[str] = []
    return _build_dataset(iter_objects(path, notes), show_path(path), notes)


def _build_dataset(objects: Iterable[tuple[str, Any]], source: str, notes: Sequence[str] = ()) -> Dataset:
    """`notes` are those of the files; they may grow while the objects are read."""
    rows, read_as, left_out = read_rows(objects)
    if not rows:
        raise InputError(f"{source}: no rows in it; a data set needs at least one")
    dataset = Dataset(_name_source(source), rows, source, find_author(_name_source(source)), left_out=tuple(left_out))
    return replace(dataset, notes=(*read_as, *notes, *left_out, *note_scripts(dataset.parts)))


def files_of(folder: Path) -> list[Path]:
    """The files of a folder, a run's or another, that hold a data set."""
    written = (INSTRUCTIONS, CLASSIFICATION, INSTANCES, ALL_INSTANCES, REJECTIONS)
    run = RunFolder(folder)
    return [path for pattern in written for path in run.find(pattern)] if run.exists() else find_data_files(folder)


def _load_folder(folder: Path) -> Dataset:
    """The rows of all files of a folder: one that `save_to_disk` wrote, that was downloaded from the hub, or any other.

    Where it has tables its JSON files are left out, and where it has JSON its CSV files, with a note: they may well hold
    the same rows.
    """
    kinds = {kind: found for kind in FILES if (found := find_data_files(folder, kind))}
    if not kinds:
        names = ", ".join([*FILES["JSON files"][:2], *FILES["tables"], *FILES["CSV files"][:2]])
        raise InputError(
            f"{show_path(folder)}: no data in this folder; looked for a run's files (run.json, {INSTRUCTIONS}, "
            f"{ALL_INSTANCES}) and, in its subfolders too, for {names}"
        )
    (kind, files), *others = kinds.items()
    notes = [f"{len(files)} files, all splits"] if len(files) > 1 else []
    notes += [f"{other} beside the {kind} left out: {len(found)}" for other, found in others]
    objects = chain.from_iterable(iter_objects(path, notes) for path in files)
    return _build_dataset(objects, show_path(folder), notes)


def _load_run(run: RunFolder, part: str) -> Dataset:
    """A run folder's instances with the labels of step 2, or the instructions of step 1."""
    pattern = INSTRUCTIONS if part == "instructions" else ALL_INSTANCES
    found = run.find(pattern)
    if not found:
        raise run.missing(pattern)
    dataset, newest, quirks = _load_file(found[0]), run.find_newest(CLASSIFICATION), find_quirks(run)
    answers = load_records(newest, ClassificationAnswer) if newest else []
    labels = {answer.instruction: parse_is_classification(answer.is_classification, quirks) for answer in answers}
    rows = [replace(row, is_classification=labels.get(row.instruction, row.is_classification)) for row in dataset.rows]
    notes = (*dataset.notes, *([f"labels read with quirks={quirks}"] if answers and quirks != "published" else []))
    return replace(dataset, name=run.path.name, source=str(run), rows=rows, label=author_of(run), notes=notes, run=run)


def _name_source(source: str) -> str:
    return re.sub(r"(?<=.)(\.(jsonl?|parquet|arrow|csv|tsv))?(\.gz)?$", "", Path(source).name) or source
