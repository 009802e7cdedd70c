"""Bring one file from a web address or a folder, and keep it only if every byte is as published.

A file is known by its git blob id, the sha1 of "blob <size>\\0" and its content. What arrives goes to `NAME.partial` first
and takes its name once the id is right, so a file under its own name is whole and true. A stopped download goes on from
where it stood.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .records import InputError, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2 as httpx

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
