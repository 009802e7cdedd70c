"""The published files: what they are, how to get them, and how the few-shot prompts in them are read.

    fetch_published()                                    # all of them, to seeds/published/
    fetch_published(["seed_tasks", "templates"], source="../mirror")
    published_path("data/seed_tasks.jsonl")              # verified, or an error that says how to get it

They come from one commit of github.com/yizhongw/self-instruct (Apache-2.0) and are never part of this project.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .fetch import UnreachableSource, check_address, copy_verified, download_verified, is_true, web_client
from .records import InputError, ParameterError, project_path, read_json, shown_path, write_text

COMMIT = "0b26ccaa415992100fa32df62d41b994cf928e23"
SOURCE = f"https://raw.githubusercontent.com/yizhongw/self-instruct/{COMMIT}"
LICENCE = "Apache-2.0"
FOLDER = "seeds/published"
FROM_GITHUB, FROM_MIRROR, FROM_FOLDER = "github.com, the pinned commit", "a mirror on the web", "a local copy"

SEED_TASKS = "data/seed_tasks.jsonl"
RELEASE_82K = "data/gpt3_generations/batch_221203/all_instances_82K.jsonl"
USER_ORIENTED = "human_eval/user_oriented_instructions.jsonl"
# template of `prompts.Templates` -> (file, name of the string in it)
_TEMPLATES = {
    "classification": ("self_instruct/templates/clf_task_template.py", "template_1"),
    "output_first": ("self_instruct/templates/instance_gen_template.py", "output_first_template_for_clf"),
    "input_first": ("self_instruct/templates/instance_gen_template.py", "input_first_template_for_gen"),
}


@dataclass(frozen=True)
class PublishedFile:
    """One released file: its path in the release, the git blob id that pins its content, and what it is for."""

    path: str
    blob_id: str
    purpose: str
    licence: str = LICENCE


@cache
def published_files() -> tuple[PublishedFile, ...]:
    """Every released file that the kit knows, in the order of the release's use."""
    rows = read_json(Path(__file__).with_name("published_files.json"))
    return tuple(PublishedFile(**row) for row in rows)


def choose_files(names: Sequence[str] = ()) -> list[PublishedFile]:
    """The files whose path contains one of `names`, all of them where there are none.

    Raises ParameterError for a name that fits no file.
    """
    for name in names:
        if not any(name in file.path for file in published_files()):
            known = "\n  ".join(file.path for file in published_files())
            raise ParameterError(f"{name}: no published file is called so; there are\n  {known}")
    return [file for file in published_files() if not names or any(name in file.path for name in names)]


def fetch_published(
    names: Sequence[str] = (),
    source: str | None = None,
    folder: str | Path = FOLDER,
    out: Callable[[str], None] = print,
    pause_s: float = 1.0,
) -> list[Path]:
    """Bring the published files from the pinned commit (or `source`: a mirror's URL, or a folder) and verify each one.

    What is there already is not fetched again. `pause_s`: seconds before the first retry. Raises InputError at once for a
    `source` that is neither; at the end, naming every file that could not be had or was not the published one: the others
    are there by then.
    """
    chosen, origin, folder = choose_files(names), _origin(source), project_path(folder)
    brought: dict[str, str] = {}
    faults: list[str] = []
    with nullcontext() if isinstance(origin, Path) else web_client() as client:
        for file in chosen:
            target = folder / file.path
            try:
                said = _bring(file, origin, target, client, pause_s, out)
            except InputError as error:
                faults.append(str(error))
                out(f"{file.path}\n    FAILED")
                if isinstance(error, UnreachableSource):
                    break
                continue
            out(f"{file.path}\n    {said}, {target.stat().st_size:,} bytes, {file.licence}: {file.purpose}")
            brought[file.path] = said
    if brought:
        _write_sources(folder, {path: _named(origin) for path, said in brought.items() if said != _THERE})
    if faults:
        raise InputError(_faults_text(faults, len(brought), len(chosen), source))
    return [folder / path for path in brought]


_THERE = "already there, verified"


def _origin(source: str | None) -> str | Path:
    """The web address or the folder that `source` names; None is the pinned commit."""
    if source is None:
        return SOURCE
    if source.startswith(("http://", "https://")):
        check_address(source)
        return source.rstrip("/")
    folder = Path(source).expanduser().resolve()
    if not source.strip() or not folder.is_dir():
        raise InputError(f"{source!r}: neither a folder nor a web address that begins with http:// or https://")
    return folder


def _named(origin: str | Path) -> str:
    """An origin as the README names it: no path of this machine, no address that may hold a password."""
    return FROM_FOLDER if isinstance(origin, Path) else FROM_GITHUB if origin == SOURCE else FROM_MIRROR


def _bring(
    file: PublishedFile, origin: str | Path, target: Path, client: Any, pause_s: float, out: Callable[[str], None]
) -> str:
    if is_true(target, file.blob_id):
        return _THERE
    if isinstance(origin, Path):
        copy_verified(file.path, file.blob_id, origin, target)
        return "copied, verified"
    download_verified(f"{origin}/{file.path}", file.blob_id, target, client, pause_s, out)
    return "fetched, verified"


def _faults_text(faults: list[str], had: int, wanted: int, source: str | None) -> str:
    lines = "\n  ".join(faults)
    advice = (
        "" if source else "\nNo way to github.com? `selfinstruct fetch --from URL|FOLDER` takes a mirror or a copy."
    )
    return f"{had} of {wanted} files are there; {len(faults)} could not be had:\n  {lines}{advice}"


def _write_sources(folder: Path, brought: Mapping[str, str]) -> None:
    """A README beside the files: which are there, where each came from, under which licence, and what it is for."""
    readme = folder / "README.md"
    origins = {**_origins_in(readme), **brought}
    rows = "".join(
        f"| {file.path} | {origins.get(file.path, 'was here already')} | {file.licence} | {file.purpose} |\n"
        for file in published_files()
        if is_true(folder / file.path, file.blob_id)
    )
    head = f"# Published files\n\nAs in {SOURCE}, byte for byte. Not part of this project, and not in its git.\n\n"
    write_text(readme, f"{head}| file | from | licence | what it is for |\n|---|---|---|---|\n{rows}")


def _origins_in(readme: Path) -> dict[str, str]:
    """Where the files came from that an earlier call brought, as its README says."""
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 4}


def fetched_state(folder: str | Path = FOLDER, names: Sequence[str] = ()) -> list[tuple[PublishedFile, str]]:
    """Each published file (or those that `names` choose) with "fetched", "altered" or "not fetched"."""
    folder = project_path(folder)
    return [(file, _state(folder / file.path, file.blob_id)) for file in choose_files(names)]


def _state(path: Path, blob_id: str) -> str:
    if not path.is_file():
        return "not fetched"
    return "fetched" if is_true(path, blob_id) else "altered"


def published_path(name: str, folder: str | Path = FOLDER) -> Path:
    """The fetched file `name` (its path in the release), verified; raises InputError that says how to get it."""
    (file,) = [file for file in published_files() if file.path == name]
    path = project_path(folder) / name
    state = _state(path, file.blob_id)
    if state != "fetched":
        raise InputError(f"{shown_path(path)}: {state}; `selfinstruct fetch {Path(name).name}` brings it")
    return path


def check_published(seed_tasks: bool, templates: bool, folder: str | Path = FOLDER) -> None:
    """Raise InputError, saying how to get them, where the released seed tasks or templates are missing or altered."""
    files = sorted({name for name, _ in _TEMPLATES.values()}) if templates else []
    faults = []
    for name in [SEED_TASKS, *files] if seed_tasks else files:
        try:
            published_path(name, folder)
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("; ".join(faults))


def published_templates(folder: str | Path = FOLDER) -> dict[str, str]:
    """The released few-shot prefixes of steps 2 and 3, each ending in "Task:", by the names `prompts.Templates` uses.

    The released files are Python; they are parsed for their string constants and never run. Raises InputError where a file
    is not fetched, or altered.
    """
    return {field: _string_constants(published_path(name, folder))[key] for field, (name, key) in _TEMPLATES.items()}


def _string_constants(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=path.name)
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def load_published_demonstrations(folder: str | Path = FOLDER) -> dict[str, list[str]]:
    """The worked examples in each released prefix, as the text that follows "Task:", one a demonstration."""
    prefixes = published_templates(folder).items()
    return {field: [block.strip() for block in text.split("\nTask:")[1:-1]] for field, text in prefixes}
