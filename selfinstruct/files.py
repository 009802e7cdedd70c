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
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

PROJECT_ROOT = Path(__file__).resolve().parent.parent
R = TypeVar("R", bound="BaseModel")


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
    path = Path(path)
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip() and not (unfinished and not line.endswith(b"\n")):
                    yield number, _parse_object(line, f"{show_path(path)}:{number}")
    except OSError as error:
        raise InputError(f"{show_path(path)}: {(error.strerror or str(error)).lower()}") from error


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


def load_records(path: str | Path, record: type[R], unfinished: bool = False) -> list[R]:
    """Every line of `path` as a validated `record`; raises InputError with file:line and the field that is wrong."""
    lines = iter_lines(path, unfinished)
    return [_validate(record, value, f"{show_path(path)}:{number}") for number, value in lines]


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
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as out:
            out.write(text)
        os.chmod(out.name, 0o644)
        os.replace(out.name, path)
    except OSError as error:
        raise InputError(f"{show_path(path)}: cannot be written ({error.strerror}); is the folder yours?") from error
    return path


def write_records(path: str | Path, records: Iterable[BaseModel | dict[str, Any]]) -> Path:
    """Write `records` as JSONL, whole or not at all."""
    return write_text(path, "".join(dump_line(record) for record in records))


def append_record(path: str | Path, *records: BaseModel | dict[str, Any]) -> None:
    """Add JSON lines to `path`, on disk before returning; a last line that a kill cut off is removed first."""
    with Path(path).open("a+b") as out:
        _cut_unfinished_line(out)
        out.writelines(dump_line(record).encode() for record in records)


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
