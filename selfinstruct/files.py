"""Files and errors: where files are, how lines of JSON are read and written, and every error the kit raises.

    for number, value in iter_lines("seeds/seed_tasks.jsonl"):      # InputError names file and line
        ...
    write_records("outputs/run/rows.jsonl", rows)                   # whole or not at all

The error tree; a caller that only wants to report catches the root:

    SelfInstructError            something a person can fix; the text says what, where and what to do
    ├── InputError               a file: missing, malformed, empty, or without a field it must have (file:line)
    ├── ParameterError           a parameter: unknown, of the wrong type, or at odds with the run folder
    ├── EndpointError            a model that cannot be used: server down, wrong key, no such model, garbage for an answer
    └── StoppedEarly             a limit or Ctrl-C ended a run in good order; the same command continues it
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
R = TypeVar("R", bound="BaseModel")
SECRET_NAME = re.compile(r"key|token|secret|sig|auth|pass|pwd|code|cred|jwt", re.IGNORECASE)  # of a field in an address


class SelfInstructError(Exception):
    """Anything a person can fix; the message says what, where and what to do."""


class InputError(SelfInstructError):
    """A file is missing, malformed, empty, or lacks a field."""


class ParameterError(SelfInstructError):
    """A parameter is unknown, has the wrong type, or contradicts the run folder."""


class EndpointError(SelfInstructError):
    """The model cannot be used: no server, wrong key, no such model, or unusable answers."""


class StoppedEarly(SelfInstructError):
    """A limit or Ctrl-C ended the run in good order; running the same command again continues it."""


def project_path(path: str | Path) -> Path:
    """`path` as it is when absolute, else below the project's root: JupyterLab and papermill start in different folders."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else PROJECT_ROOT / path


def given_path(path: str | Path) -> Path:
    """A path that a person gave to a command: from the current folder where it is there, else from the project's root.

    One that begins with ./ or ../ is always the current folder's.
    """
    here = Path(os.path.abspath(Path(path).expanduser()))
    return here if here.exists() or re.match(r"\.\.?[/\\]", str(path)) else project_path(path)


def show_path(path: str | Path) -> str:
    """`path` as messages print it: relative to the project where it lies inside, so that nobody's home shows."""
    path = Path(path)
    return str(path.relative_to(PROJECT_ROOT)) if path.is_relative_to(PROJECT_ROOT) else str(path)


def holds_secret(text: str) -> bool:
    """True if `text` is an address with a password or a key in it.

    >>> holds_secret("http://ann:secret@host/v1"), holds_secret("http://host/v1?api-version=1")
    (True, False)
    """
    address, *fields = re.split("[?#&;]", text)
    names = [field.partition("=")[0] for field in fields]
    without_scheme = re.fullmatch(r"(?://)?[^\s/\\:@]*:[^\s/\\]+@\S+", text) is not None
    return without_scheme or ("://" in address and ("@" in text or any(map(SECRET_NAME.search, names))))


def usable_cpus(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> float:
    """Processors this process may use: its affinity, and in a container its share of the machine's (0.5 is half a one)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        limit, period = quota.read_text().split()  # "200000 100000", or "max 100000" where there is no limit
        return min(allowed, int(limit) / int(period))
    return allowed


def iter_lines(path: str | Path, unfinished: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file; raises InputError at the first line that is not a JSON object.

    `unfinished` takes a file that a kill may have cut off: a last line without its end is left out.
    """
    path, name = Path(path), show_path(path)
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and not (unfinished and not line.endswith(b"\n")):
                    yield number, _parse_object(line, f"{name}:{number}")
    except OSError as error:
        raise InputError(f"{name}: {(error.strerror or str(error)).lower()}") from error


def _parse_object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except (ValueError, RecursionError) as error:  # an integer of over 4,300 digits is a plain ValueError
        fault, column = getattr(error, "msg", error), getattr(error, "colno", 1)
        raise InputError(f"{where}: not JSON ({fault} at column {column})") from error
    if isinstance(value, dict):
        return value
    raise InputError(f"{where}: a {type(value).__name__}, not an object; every line must be one JSON object")


def load_records(path: str | Path, record: type[R], unfinished: bool = False, without: Container[str] = ()) -> list[R]:
    """Every line of `path` as a validated `record`; raises InputError with file:line and the field that is wrong.

    `without` names what is left out of the dicts in a line, such as the prompt of a completion, which fills the memory.
    """
    return [row for _, row in iter_records(path, record, unfinished, without)]


def iter_records(
    path: str | Path, record: type[R], unfinished: bool = False, without: Container[str] = ()
) -> Iterator[tuple[int, R]]:
    """(line number, `record`) of each line, one at a time: for whoever does not need all of a long file at once.

    What lines have in common is in memory once: the record of a completion, which step 1 writes with each of its
    instructions, and the instructions that are the names in `most_similar`.
    """
    before: dict[str, Any] = {}
    name = show_path(path)
    for number, value in iter_lines(path, unfinished):
        for field, part in value.items():
            if isinstance(part, dict):
                kept = {sys.intern(key): one for key, one in part.items() if key not in without}
                value[field] = before[field] if kept == before.get(field) else kept
        yield number, _validate(record, value, f"{name}:{number}")
        before = value


def _validate(record: type[R], value: dict[str, Any], where: str) -> R:
    from pydantic import ValidationError  # takes a while to load, and not all who read files need it

    try:
        return record.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        what = f'missing "{field}"' if first["type"] == "missing" else f'"{field}": {first["msg"]}'
        needs = ", ".join(name for name, info in record.model_fields.items() if info.is_required())
        raise InputError(f"{where}: {what}; a {record.__name__} needs {needs}") from error


def dump_line(record: BaseModel | dict[str, Any]) -> str:
    """One JSON line, newline included; key order is field order, so equal records give equal bytes."""
    value = record if isinstance(record, dict) else record.model_dump()
    return json.dumps(value, ensure_ascii=False) + "\n"


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` whole or not at all: to a neighbour first, then renamed over `path`."""
    return _write_whole(Path(path), iter([text]))


def write_records(path: str | Path, records: Iterable[BaseModel | dict[str, Any]]) -> Path:
    """Write `records` as JSONL, one by one, whole or not at all."""
    return _write_whole(Path(path), map(dump_line, records))


def _write_whole(path: Path, parts: Iterator[str]) -> Path:
    written, temporary = 0, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
            temporary = out.name
            for part in map(str.encode, parts):
                written += len(part)
                out.write(part)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise explain_write_error(path, error, written + sum(len(part.encode()) for part in parts)) from error
    except BaseException:
        _remove(temporary)
        raise
    return path


def _remove(temporary: str | None) -> None:
    if temporary:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def explain_write_error(path: Path, error: OSError, size: int) -> InputError:
    """The error for a file that cannot be written: its cause, and for a full disk how many bytes there should be."""
    where, reason = show_path(path), error.strerror or str(error)
    if error.errno == errno.EFBIG:
        return InputError(
            f"{where}: cannot be written ({reason}, {describe_space(path, size)}); raise the limit: ulimit -f"
        )
    if error.errno in DISK_FULL:
        return InputError(f"{where}: the disk is full ({reason}, {describe_space(path, size)}); free some space")
    return InputError(f"{where}: cannot be written ({reason}); is the folder yours? choose a folder you may write to")


def describe_space(path: Path, size: int) -> str:
    """Such as "61.3 MB needed, 0.1 MB free"."""
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    with contextlib.suppress(OSError):
        return f"{size / 1e6:,.3f} MB needed, {shutil.disk_usage(folder).free / 1e6:,.3f} MB free"
    return f"{size / 1e6:,.3f} MB needed"


def append_record(path: str | Path, *records: BaseModel | dict[str, Any]) -> None:
    """Add JSON lines to `path`, on disk before returning; a last line that a kill cut off is removed first."""
    lines = [dump_line(record).encode() for record in records]
    try:
        with Path(path).open("a+b") as out:
            _cut_unfinished_line(out)
            out.writelines(lines)
    except OSError as error:
        raise explain_write_error(Path(path), error, sum(map(len, lines))) from error


def _cut_unfinished_line(file: BinaryIO) -> None:
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


def write_json(path: str | Path, value: Any) -> Path:
    """Write `value` as indented JSON, whole or not at all."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The JSON of `path`; raises InputError where it is missing or malformed."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{show_path(path)}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{show_path(path)}: not JSON ({error})") from error
