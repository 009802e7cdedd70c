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
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import InputError, ParameterError, project_path, read_json, shown_path, write_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2 as httpx


COMMIT = "0b26ccaa415992100fa32df62d41b994cf928e23"
SOURCE = f"https://raw.githubusercontent.com/yizhongw/self-instruct/{COMMIT}"
LICENCE = "Apache-2.0"
FOLDER = "seeds/published"
FROM_GITHUB, FROM_MIRROR, FROM_FOLDER = "github.com, the pinned commit", "a mirror on the web", "a local copy"

SEED_TASKS = "data/seed_tasks.jsonl"
RELEASE_82K = "data/gpt3_generations/batch_221203/all_instances_82K.jsonl"
USER_ORIENTED = "human_eval/user_oriented_instructions.jsonl"
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
    there = {file.path for file, state in fetched_state(folder) if state == "fetched"}
    if there.issuperset(_PROMPT_FILES):
        out(f"prompts\n    the prompt set of these files: {shown_path(write_prompt_set(folder))}")
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


def load_published_demonstrations(folder: str | Path = FOLDER) -> dict[str, list[str]]:
    """The worked examples in each released prefix, as the text that follows "Task:", one a demonstration."""
    prefixes = published_templates(folder).items()
    return {field: [block.strip() for block in text.split("\nTask:")[1:-1]] for field, text in prefixes}


ATTEMPTS = 4
SILENCE_S = 12.0  # how long a server may send nothing at all
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses that may be gone in a moment


class AlteredFile(InputError):
    """What arrived is not the published file."""


class UnreachableSource(InputError):
    """No connection to the server, or no word from it: asking it for the next file would end the same way."""


class _Interrupted(Exception):
    """The connection broke, or the server asked to come back; what arrived so far is kept."""


class _Silent(_Interrupted):
    """The server took the question, or sent a part of the answer, and then nothing more."""


@contextmanager
def web_client() -> Iterator[httpx.Client]:
    """What `download_verified` asks with. Raises InputError where the environment names a proxy that cannot be used."""
    import httpx2 as httpx

    try:
        client = httpx.Client(follow_redirects=True, timeout=SILENCE_S)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise InputError(f"the proxy that the environment names cannot be used ({error})") from error
    with client:
        yield client


def check_address(address: str) -> None:
    """Raise InputError where `address` is not one that a web client could ask."""
    import httpx2 as httpx

    try:
        url = httpx.URL(address)
        url.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise InputError(f"{address}: not a web address ({error})") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"{address}: not a web address; it begins with http:// or https:// and names a server")


def git_blob_id(path: str | Path) -> str:
    """The id git gives to the content of `path`: sha1 of "blob <size>\\0" + content, in hex.

    >>> git_blob_id("an_empty_file")                                              # doctest: +SKIP
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    path = Path(path)
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_true(path: Path, blob_id: str) -> bool:
    """Whether `path` is there with exactly the published content."""
    return path.is_file() and git_blob_id(path) == blob_id


def copy_verified(name: str, blob_id: str, source: Path, target: Path) -> None:
    """Copy the published file `name` from the folder `source`, where it may lie under its whole path or the end of it.

    Raises InputError where it is not there, AlteredFile where it is another.
    """
    parts = Path(name).parts
    found = [path for start in range(len(parts)) if (path := source.joinpath(*parts[start:])).is_file()]
    if not found:
        raise InputError(f"{name}: not in {shown_path(source)}")
    true = next((path for path in found if is_true(path, blob_id)), None)
    if true is None:
        raise AlteredFile(_altered(shown_path(found[0]), found[0], blob_id))
    with _writable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(true, _partial(target))
        os.replace(_partial(target), target)


def download_verified(
    address: str,
    blob_id: str,
    target: Path,
    client: httpx.Client,
    pause_s: float = 1.0,
    out: Callable[[str], None] = print,
) -> None:
    """Download `address` to `target`, going on where an earlier call was stopped; up to four attempts, each said with `out`.

    Raises InputError where it cannot be had (UnreachableSource where nobody answers), AlteredFile where what arrived is
    not what was published.
    """
    with _writable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        resumed = _partial(target).is_file()
        try:
            _receive(address, target, client)
        except _Interrupted as error:
            if attempt == ATTEMPTS:
                raise _given_up(address, target, error) from error
            out(f"{address}: {error}; trying again, {attempt + 1} of {ATTEMPTS}")
            time.sleep(pause_s * attempt)
            continue
        if is_true(_partial(target), blob_id):
            os.replace(_partial(target), target)
            return
        message = _altered(address, _partial(target), blob_id)
        _partial(target).unlink()
        if not resumed:  # else an old beginning may be what is wrong: once more from the first byte
            raise AlteredFile(message)
    raise AlteredFile(message)


def _given_up(address: str, target: Path, error: _Interrupted) -> InputError:
    if isinstance(error, _Silent) and not _have(target):
        return UnreachableSource(f"{address}: {error}, {ATTEMPTS} times")
    return InputError(f"{address}: {error}; the same command goes on from {_have(target):,} bytes")


def _receive(address: str, target: Path, client: httpx.Client) -> None:
    import httpx2 as httpx

    have = _have(target)
    # no compression: a range counts bytes of what is sent
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with client.stream("GET", address, headers=headers) as response:
            if response.status_code == 416:
                return  # nothing after what we have: it is whole, or wrong, and the caller finds out which
            _check_status(address, response)
            _save(response, target, have)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
        raise InputError(f"{address}: not a web address ({error})") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        elsewhere = error.request.url != httpx.URL(address)  # a redirect of this one file
        kind = InputError if elsewhere else UnreachableSource
        raise kind(f"{address}: no connection ({error or type(error).__name__})") from error
    except httpx.ReadTimeout as error:
        raise _Silent(f"the server has sent nothing for {SILENCE_S:g} s") from error
    except httpx.TransportError as error:
        raise _Interrupted(f"the connection failed ({error or type(error).__name__})") from error
    except httpx.HTTPError as error:  # too many redirects, for one: the next attempt would end the same way
        raise InputError(f"{address}: {error or type(error).__name__}") from error


def _check_status(address: str, response: httpx.Response) -> None:
    status = response.status_code
    if status in _PASSING:
        raise _Interrupted(f"the server answers {status} {response.reason_phrase}")
    if status not in (200, 206):
        raise InputError(f"{address}: the server answers {status} {response.reason_phrase}")


def _save(response: httpx.Response, target: Path, have: int) -> None:
    from tqdm.auto import tqdm

    # a server that ignores the range answers 200 with the whole file; one that sends another part is not trusted
    goes_on = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    if response.status_code == 206 and not goes_on:
        _partial(target).unlink(missing_ok=True)
        raise _Interrupted("the server sent another part than was asked for")
    start = have if goes_on else 0
    total = start + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
    bar = tqdm(desc=target.name, total=total, initial=start, unit="B", unit_scale=True, disable=None, leave=False)
    with bar, _writable(target), _partial(target).open("ab" if goes_on else "wb") as file:
        for block in response.iter_raw():
            file.write(block)
            bar.update(len(block))


@contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{shown_path(target)}: cannot be written ({error.strerror})") from error


def _partial(target: Path) -> Path:
    return target.with_name(target.name + ".partial")


def _have(target: Path) -> int:
    return _partial(target).stat().st_size if _partial(target).is_file() else 0


def _altered(where: str, path: Path, blob_id: str) -> str:
    return (
        f"{where}: not the published file: git blob {git_blob_id(path)} ({path.stat().st_size:,} bytes), "
        f"expected {blob_id}; refused"
    )
