"""The published files: what they are, how to get them, and how the few-shot prompts in them are read.

    fetch_published()                                    # all of them, to seeds/published/
    fetch_published(["seed_tasks", "templates"], source="../mirror")
    published_path("data/seed_tasks.jsonl")              # verified, or an error that says how to get it

They come from one commit of github.com/yizhongw/self-instruct (Apache-2.0) and are never part of this project.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..files import InputError, ParameterError, project_path, read_json, shown_path, write_text

COMMIT = "0b26ccaa415992100fa32df62d41b994cf928e23"
SOURCE = f"https://raw.githubusercontent.com/yizhongw/self-instruct/{COMMIT}"
LICENCE = "Apache-2.0"
FOLDER = "seeds/published"
FROM_GITHUB, FROM_MIRROR, FROM_FOLDER = "github.com, the pinned commit", "a mirror on the web", "a local copy"
RETRIES = 2
SILENCE_S = 12.0  # how long a server may send nothing at all

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
    licence: str = LICENCE

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
    chosen, origin, folder = choose_files(names), _origin(source), project_path(folder)
    states: dict[str, str] = {}
    faults: list[InputError] = []
    for file in chosen:
        try:
            states[file.path] = _bring(file, origin, folder)
        except InputError as error:
            faults.append(error)
        if any(isinstance(error, UnreachableSource) for error in faults):
            break
        out(f"{file.path}\n    {states.get(file.path, 'FAILED')}; {file.licence}: {file.purpose}")
    if states:
        _write_sources(folder, {path: origin.name for path, state in states.items() if state != _THERE})
    if {file.path for file, state in fetched_state(folder) if state == "fetched"}.issuperset(_PROMPT_FILES):
        out(f"prompts\n    the prompt set of these files: {shown_path(write_prompt_set(folder))}")
    if faults:
        raise InputError(_faults_text(faults, len(states), len(chosen), source))
    return [folder / path for path in states]


_THERE = "already there, verified"


@dataclass(frozen=True)
class Origin:
    """Where files come from: a folder, or a web address with its user and password apart, so that nothing prints them.

    `name` is for the README: no path of this machine, no address.
    """

    name: str
    place: str | Path
    auth: tuple[str, str] | None = None


def _origin(source: str | None) -> Origin:
    if source is None:
        return Origin(FROM_GITHUB, SOURCE)
    if source.startswith(("http://", "https://")):
        return _mirror(source)
    folder = Path(source).expanduser().resolve()
    if not source.strip() or not folder.is_dir():
        raise InputError(f"{source!r}: neither a folder nor a web address that begins with http:// or https://")
    return Origin(FROM_FOLDER, folder)


def _mirror(source: str) -> Origin:
    import requests

    try:
        auth, address = requests.utils.get_auth_from_url(source), requests.utils.urldefragauth(source).rstrip("/")
        requests.Request("GET", address).prepare()
    except (requests.RequestException, ValueError) as error:
        raise InputError(f"the mirror: not a web address ({error})") from error
    return Origin(FROM_MIRROR, address, auth if any(auth) else None)


def _bring(file: PublishedFile, origin: Origin, folder: Path) -> str:
    """Put one file into `folder`, whole and verified or not at all; returns what was done."""
    target = folder / file.path
    if file.matches(target):
        return _THERE
    bring = _copy if isinstance(origin.place, Path) else _download
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as neighbour:
            path = bring(file, origin, Path(neighbour))
            _check_content(file, path, origin)
            os.chmod(path, 0o644)
            os.replace(path, target)
    except OSError as error:
        raise InputError(f"{shown_path(target)}: cannot be written ({error.strerror or error})") from error
    return f"{'copied' if bring is _copy else 'fetched'}, verified, {target.stat().st_size:,} bytes"


def _copy(file: PublishedFile, origin: Origin, folder: Path) -> Path:
    """Copy a file from a folder, where it may lie under its whole path or the end of it."""
    parts = Path(file.path).parts
    found = [path for start in range(len(parts)) if (path := Path(origin.place, *parts[start:])).is_file()]
    if not found:
        raise InputError(f"{file.path}: not in {shown_path(origin.place)}")
    best = next((path for path in found if file.matches(path)), found[0])
    return Path(shutil.copyfile(best, folder / parts[-1]))


def _download(file: PublishedFile, origin: Origin, folder: Path) -> Path:
    """Download a file with pooch, which says where it asks, shows a bar, and starts again where a download broke off."""
    import pooch
    import requests

    shelf = pooch.Pooch(folder, f"{origin.place}/", {file.path: None}, retry_if_failed=RETRIES)
    receive = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=SILENCE_S, auth=origin.auth)
    try:
        return Path(shelf.fetch(file.path, downloader=receive))
    except (requests.RequestException, ValueError) as error:
        asked = getattr(getattr(error, "request", None), "url", "")
        # without an answer from the source itself; a redirect of one file may lead nowhere
        silent = getattr(error, "response", None) is None and asked == shelf.get_url(file.path)
        raise (UnreachableSource if silent else InputError)(f"{file.path}: {error}, {1 + RETRIES} times") from error


def _check_content(file: PublishedFile, path: Path, origin: Origin) -> None:
    if file.matches(path):
        return
    where = shown_path(origin.place) if isinstance(origin.place, Path) else origin.place
    blob_id, size = git_blob_id(path), path.stat().st_size
    raise InputError(
        f"{file.path}: not the published file in {where}: git blob {blob_id} ({size:,} bytes), "
        f"expected {file.blob_id}; refused"
    )


def git_blob_id(path: str | Path) -> str:
    """The id git gives to the content of `path`: sha1 of "blob <size>\\0" + content, in hex.

    >>> git_blob_id("an_empty_file")                                              # doctest: +SKIP
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    content = Path(path).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _faults_text(faults: Sequence[InputError], had: int, wanted: int, source: str | None) -> str:
    lines = "\n  ".join(map(str, faults))
    advice = "No way to github.com? `selfinstruct fetch --from URL|FOLDER` takes a mirror or a copy."
    text = f"{had} of {wanted} files are there; {len(faults)} could not be had:\n  {lines}"
    return text if source else f"{text}\n{advice}"


def _write_sources(folder: Path, brought: Mapping[str, str]) -> None:
    """A README beside the files: which are there, where each came from, under which licence, and what it is for."""
    readme = folder / "README.md"
    origins = {**_origins_in(readme), **brought}
    rows = "".join(
        f"| {file.path} | {origins.get(file.path, 'was here already')} | {file.licence} | {file.purpose} |\n"
        for file in published_files()
        if file.matches(folder / file.path)
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
    return [(file, file.state(project_path(folder))) for file in choose_files(names)]


def published_path(name: str, folder: str | Path = FOLDER) -> Path:
    """The fetched file `name` (its path in the release), verified; raises InputError that says how to get it."""
    (file,) = [file for file in published_files() if file.path == name]
    state = file.state(project_path(folder))
    path = project_path(folder) / name
    if state != "fetched":
        raise InputError(f"{shown_path(path)}: {state}; `selfinstruct fetch {path.name}` brings it")
    return path


def check_published(folder: str | Path = FOLDER) -> None:
    """Make sure that the published prompt set is there, as released.

    Raises InputError, saying how to get them, where released files are missing or altered.
    """
    faults = []
    for name in _PROMPT_FILES:
        try:
            published_path(name, folder)
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("; ".join(faults))
    write_prompt_set(folder)


def write_prompt_set(folder: str | Path = FOLDER) -> Path:
    """Write the released seed tasks and few-shot prefixes as a prompt set, `prompts/` in `folder`; returns its path.

    Raises InputError where a released file is not fetched, or altered.
    """
    target = project_path(folder) / "prompts"
    for name, text in published_templates(folder).items():
        write_text(target / f"{name}.txt", text)
    write_text(target / "seed_tasks.jsonl", published_path(SEED_TASKS, folder).read_text(encoding="utf-8"))
    return target


def published_templates(folder: str | Path = FOLDER) -> dict[str, str]:
    """The released few-shot prefixes of steps 2 and 3, each ending in "Task:", by the names `prompts.PromptSet` uses.

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
