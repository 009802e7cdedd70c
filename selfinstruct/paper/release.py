"""The published files: what they are, how to get them, and how the few-shot prompts in them are read.

    fetch_published()                                    # all of them, to seeds/published/
    fetch_published(["seed_tasks", "templates"], source="../mirror")
    find_published_file("data/seed_tasks.jsonl")              # verified, or an error that says how to get it

They come from one commit of github.com/yizhongw/self-instruct (Apache-2.0) and are never part of this project.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from ..files import InputError, ParameterError, project_path, read_json, show_path, write_text

COMMIT = "0b26ccaa415992100fa32df62d41b994cf928e23"
SOURCE = f"https://raw.githubusercontent.com/yizhongw/self-instruct/{COMMIT}"
LICENCE = "Apache-2.0"
FOLDER = "seeds/published"
RETRIES = 2
SILENCE_S = 12.0  # how long a server may send nothing at all

_ADVICE = "\nNo way to github.com? `selfinstruct fetch --from URL|FOLDER` takes a mirror or a copy."

SEED_TASKS = "data/seed_tasks.jsonl"
# prefix of `prompts.PromptSet` -> (file, name of the string in it)
_TEMPLATES = {
    "classification": ("self_instruct/templates/clf_task_template.py", "template_1"),
    "output_first": ("self_instruct/templates/instance_gen_template.py", "output_first_template_for_clf"),
    "input_first": ("self_instruct/templates/instance_gen_template.py", "input_first_template_for_gen"),
}
_PROMPT_FILES = (SEED_TASKS, *sorted({name for name, _ in _TEMPLATES.values()}))


@dataclass(frozen=True)
class PublishedFile:
    """One released file: its path in the release, the git blob id that pins its content, and what it is for."""

    path: str
    blob_id: str
    purpose: str

    def matches(self, path: Path) -> bool:
        """True if `path` is there with exactly the published content."""
        return path.is_file() and git_blob_id(path) == self.blob_id

    def state(self, folder: Path) -> str:
        """How it is in `folder`: "fetched", "altered" or "not fetched"."""
        path = folder / self.path
        return "fetched" if self.matches(path) else "altered" if path.is_file() else "not fetched"


class UnreachableSource(InputError):
    """The server does not answer: asking it for the next file would end the same way."""


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
) -> list[Path]:
    """Bring the published files from the pinned commit (or `source`: a mirror's URL, or a folder) and verify each one.

    What is there already is not fetched again. Raises InputError at once for a `source` that is neither; at the end, naming
    every file that is missing or not the published one: the others are there by then.
    """
    chosen, bring, folder = choose_files(names), _choose_way(source), project_path(folder)
    paths: list[Path] = []
    faults: list[InputError] = []
    for file in chosen:
        try:
            done = _bring(file, bring, folder)
            paths.append(folder / file.path)
        except UnreachableSource as error:
            faults.append(error)
            break
        except InputError as error:
            faults.append(error)
            done = "FAILED"
        out(f"{file.path}\n    {done}; {LICENCE}: {file.purpose}")
    if paths:
        _write_readme(folder)
    if {file.path for file, state in list_fetched(folder) if state == "fetched"}.issuperset(_PROMPT_FILES):
        out(f"prompts\n    the prompt set of these files: {show_path(write_prompt_set(folder))}")
    if faults:
        text = f"{len(paths)} of {len(chosen)} files are there; {len(faults)} could not be had:"
        raise InputError("\n  ".join([text, *map(str, faults)]) + ("" if source else _ADVICE))
    return paths


def _choose_way(source: str | None) -> Callable[[PublishedFile, Path], Path]:
    """A function that brings one file into a folder: from the pinned commit, a mirror on the web, or a folder."""
    if source is None:
        return partial(_download, address=SOURCE)
    if source.startswith(("http://", "https://")):
        return _open_mirror(source)
    folder = Path(source).expanduser().resolve()
    if not source.strip() or not folder.is_dir():
        raise InputError(f"{source!r}: neither a folder nor a web address that begins with http:// or https://")
    return partial(_copy, source=folder)


def _open_mirror(source: str) -> Callable[[PublishedFile, Path], Path]:
    """The address with its user and password apart, so that nothing prints them."""
    import requests

    try:
        auth, address = requests.utils.get_auth_from_url(source), requests.utils.urldefragauth(source).rstrip("/")
        requests.Request("GET", address).prepare()
    except (requests.RequestException, ValueError) as error:
        raise InputError(f"the mirror: not a web address ({error})") from error
    return partial(_download, address=address, auth=auth if any(auth) else None)


def _bring(file: PublishedFile, bring: Callable[[PublishedFile, Path], Path], folder: Path) -> str:
    """Put one file into `folder`, whole and verified or not at all; returns what was done."""
    target = folder / file.path
    if file.matches(target):
        return "already there, verified"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as neighbour:
            path = bring(file, Path(neighbour))
            _check_content(file, path)
            os.chmod(path, 0o644)
            os.replace(path, target)
    except OSError as error:
        raise InputError(f"{show_path(target)}: cannot be written ({error.strerror or error})") from error
    return f"fetched, verified, {target.stat().st_size:,} bytes"


def _copy(file: PublishedFile, folder: Path, source: Path) -> Path:
    """Copy a file from a folder, where it may lie under its whole path or its name alone."""
    name = Path(file.path).name
    found = [path for path in (source / file.path, source / name) if path.is_file()]
    if not found:
        raise InputError(f"{file.path}: not in {show_path(source)}")
    return Path(shutil.copyfile(found[0], folder / name))


def _download(file: PublishedFile, folder: Path, address: str, auth: tuple[str, str] | None = None) -> Path:
    """Download a file with pooch, which says where it asks, shows a bar, and starts again where a download broke off."""
    import pooch
    import requests

    shelf = pooch.Pooch(folder, f"{address}/", {file.path: None}, retry_if_failed=RETRIES)
    receive = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=SILENCE_S, auth=auth)
    try:
        return Path(shelf.fetch(file.path, downloader=receive))
    except (requests.RequestException, ValueError) as error:
        asked = getattr(getattr(error, "request", None), "url", "")
        # without an answer from the source itself; a redirect of one file may lead nowhere
        silent = getattr(error, "response", None) is None and asked == shelf.get_url(file.path)
        raise (UnreachableSource if silent else InputError)(f"{file.path}: {error}, {1 + RETRIES} times") from error


def _check_content(file: PublishedFile, path: Path) -> None:
    if not file.matches(path):
        what = f"git blob {git_blob_id(path)} ({path.stat().st_size:,} bytes), expected {file.blob_id}"
        raise InputError(f"{file.path}: not the published file: {what}; refused")


def git_blob_id(path: str | Path) -> str:
    """The id git gives to the content of `path`: sha1 of "blob <size>\\0" + content, in hex.

    >>> git_blob_id("an_empty_file")                                              # doctest: +SKIP
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    content = Path(path).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _write_readme(folder: Path) -> None:
    """A README beside the files: which are there, under which licence, and what each is for."""
    rows = [
        f"| {file.path} | {LICENCE} | {file.purpose} |\n"
        for file in published_files()
        if file.matches(folder / file.path)
    ]
    head = f"# Published files\n\nAs in {SOURCE}, byte for byte. Not part of this project, and not in its git.\n\n"
    write_text(folder / "README.md", f"{head}| file | licence | what it is for |\n|---|---|---|\n{''.join(rows)}")


def list_fetched(folder: str | Path = FOLDER, names: Sequence[str] = ()) -> list[tuple[PublishedFile, str]]:
    """Each published file (or those that `names` choose) with "fetched", "altered" or "not fetched"."""
    return [(file, file.state(project_path(folder))) for file in choose_files(names)]


def find_published_file(name: str, folder: str | Path = FOLDER) -> Path:
    """The fetched file `name` (its path in the release), verified; raises InputError that says how to get it."""
    _check_fetched([name], folder)
    return project_path(folder) / name


def check_published(folder: str | Path = FOLDER) -> None:
    """Make sure that the published prompt set is there, as released.

    Raises InputError, saying how to get them, where released files are missing or altered.
    """
    _check_fetched(_PROMPT_FILES, folder)
    write_prompt_set(folder)


def _check_fetched(names: Sequence[str], folder: str | Path) -> None:
    folder = project_path(folder)
    files = [file for file in published_files() if file.path in names]
    missing = [(folder / file.path, state) for file in files if (state := file.state(folder)) != "fetched"]
    if missing:
        advice = (f"{show_path(path)}: {state}; `selfinstruct fetch {path.name}` brings it" for path, state in missing)
        raise InputError("; ".join(advice))


def write_prompt_set(folder: str | Path = FOLDER) -> Path:
    """Write the released seed tasks and few-shot prefixes as a prompt set, `prompts/` in `folder`; returns its path.

    Raises InputError where a released file is not fetched, or altered.
    """
    target = project_path(folder) / "prompts"
    for name, text in read_published_templates(folder).items():
        write_text(target / f"{name}.txt", text)
    write_text(target / "seed_tasks.jsonl", find_published_file(SEED_TASKS, folder).read_text(encoding="utf-8"))
    return target


def read_published_templates(folder: str | Path = FOLDER) -> dict[str, str]:
    """The released few-shot prefixes of steps 2 and 3, each ending in "Task:", by the names `prompts.PromptSet` uses.

    The released files are Python; they are parsed for their string constants and never run. Raises InputError where a file
    is not fetched, or altered.
    """
    return {field: _read_constants(find_published_file(name, folder))[key] for field, (name, key) in _TEMPLATES.items()}


def _read_constants(path: Path) -> dict[str, str]:
    assignments = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}
