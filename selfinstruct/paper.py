"""The published files: what they are, how to get them, and how the few-shot prompts in them are read.

    fetch_published()                                    # all of them, to seeds/published/
    fetch_published(["seed_tasks", "templates"], source="../mirror")
    published_path("data/seed_tasks.jsonl")              # verified, or an error that says how to get it

They come from one commit of github.com/yizhongw/self-instruct (Apache-2.0) and are never part of this project.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .fetch import UnreachableSource, copy_verified, download_verified, is_true
from .records import InputError, ParameterError, project_path, read_json, shown_path, write_text

COMMIT = "0b26ccaa415992100fa32df62d41b994cf928e23"
SOURCE = f"https://raw.githubusercontent.com/yizhongw/self-instruct/{COMMIT}"
LICENCE = "Apache-2.0"
FOLDER = "seeds/published"

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
    source: str = "",
    folder: str | Path = FOLDER,
    out: Callable[[str], None] = print,
    pause_s: float = 1.0,
) -> list[Path]:
    """Bring the published files from the pinned commit (or `source`: a mirror's URL, or a folder) and verify each one.

    What is there already is not fetched again. `pause_s`: seconds before the first retry. Raises InputError at the end,
    naming every file that could not be had or was not the published one; the others are there by then.
    """
    import httpx2 as httpx

    folder, paths, faults = project_path(folder), [], []
    with httpx.Client(follow_redirects=True, timeout=60) as client:
        for file in choose_files(names):
            target = folder / file.path
            try:
                said = _bring(file, source, target, client, pause_s)
            except InputError as error:
                faults.append(str(error))
                out(f"{file.path}\n    FAILED")
                if isinstance(error, UnreachableSource):
                    break
                continue
            out(f"{file.path}\n    {said}, {target.stat().st_size:,} bytes, {file.licence}: {file.purpose}")
            paths.append(target)
    if paths:
        _write_sources(folder)
    if faults:
        raise InputError(_faults_text(faults, len(paths), len(choose_files(names)), source))
    return paths


def _bring(file: PublishedFile, source: str, target: Path, client: object, pause_s: float) -> str:
    if is_true(target, file.blob_id):
        return "already there, verified"
    if not source or source.startswith(("http://", "https://")):
        address = f"{(source or SOURCE).rstrip('/')}/{file.path}"
        download_verified(address, file.blob_id, target, client, pause_s)  # type: ignore[arg-type]
        return "fetched, verified"
    origin = Path(source).expanduser().resolve()
    if not origin.is_dir():
        raise InputError(f"{source}: neither a folder nor a web address that begins with http:// or https://")
    copy_verified(file.path, file.blob_id, origin, target)
    return "copied, verified"


def _faults_text(faults: list[str], had: int, wanted: int, source: str) -> str:
    lines = "\n  ".join(faults)
    advice = (
        "" if source else "\nNo way to github.com? `selfinstruct fetch --from URL|FOLDER` takes a mirror or a copy."
    )
    return f"{had} of {wanted} files are there; {len(faults)} could not be had:\n  {lines}{advice}"


def _write_sources(folder: Path) -> None:
    """A README beside the files: where they are from, under which licence, and what each is for."""
    rows = "".join(f"| {file.path} | {file.licence} | {file.purpose} |\n" for file in published_files())
    head = f"# Published files\n\nFrom {SOURCE}, unchanged. Not part of this project, and not in its git.\n\n"
    write_text(folder / "README.md", f"{head}| file | licence | what it is for |\n|---|---|---|\n{rows}")


def fetched_state(folder: str | Path = FOLDER) -> list[tuple[PublishedFile, str]]:
    """Each published file with "fetched", "altered" or "not fetched"."""
    folder = project_path(folder)
    return [(file, _state(folder / file.path, file.blob_id)) for file in published_files()]


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
