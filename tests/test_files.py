"""Files: what this process may use, and JSON lines that a kill cut short."""

import errno
import os
import tempfile
import tracemalloc
from pathlib import Path

import pytest

from selfinstruct.files import (
    InputError,
    append_record,
    iter_lines,
    load_records,
    usable_cpus,
    write_records,
    write_text,
)
from selfinstruct.records import MachineInstruction


def test_a_container_counts_its_share_of_the_machine(tmp_path: Path):
    quota, allowed = tmp_path / "cpu.max", len(os.sched_getaffinity(0))
    quota.write_text("50000 100000\n")
    assert usable_cpus(quota) == 0.5
    quota.write_text("max 100000\n")
    assert usable_cpus(quota) == usable_cpus(tmp_path / "absent") == allowed


@pytest.mark.parametrize("cut", ['{"text": "ha', '{"text": "caf\u00e9'.encode()[:-1], "{", '{"text": "whole"}'])
def test_a_last_line_without_its_end_is_left_out_and_then_removed(tmp_path: Path, cut):
    path = tmp_path / "rows.jsonl"
    append_record(path, {"n": 1}, {"n": 2})
    with path.open("ab") as out:
        out.write(cut.encode() if isinstance(cut, str) else cut)
    assert [row["n"] for _, row in iter_lines(path, unfinished=True)] == [1, 2]
    append_record(path, {"n": 3})
    assert path.read_text() == '{"n": 1}\n{"n": 2}\n{"n": 3}\n'


def test_a_file_that_nobody_cut_may_end_without_a_line_end(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\r\n\n{"n": 2}')
    assert list(iter_lines(path)) == [(1, {"n": 1}), (3, {"n": 2})]


def test_a_line_cut_in_the_middle_of_a_file_is_no_end(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": \n{"n": 3}\n')
    with pytest.raises(InputError, match=r"rows.jsonl:2: not JSON"):
        list(iter_lines(path, unfinished=True))
    path.write_bytes(b'{"n": 1}\n{"n": "\xe9"}\n')
    with pytest.raises(InputError, match=r"rows.jsonl:2: not UTF-8"):
        list(iter_lines(path))


# written whole or not at all


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_records_are_written_one_by_one(tmp_path: Path):
    tracemalloc.start()
    write_records(tmp_path / "rows.jsonl", ({"text": "x" * 10_000} for _ in range(1_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "rows.jsonl").stat().st_size == 10_013_000 and peak < 1_000_000


@pytest.mark.parametrize("bad", [{"n": object()}, {"n": "half an emoji \ud83d"}])
def test_a_record_that_cannot_be_written_leaves_the_file_of_before_and_nothing_else(tmp_path: Path, bad):
    path = write_records(tmp_path / "rows.jsonl", [{"n": 1}])
    with pytest.raises((TypeError, UnicodeEncodeError)):
        write_records(path, [{"n": 2}, bad])
    assert path.read_text() == '{"n": 1}\n' and names(tmp_path) == ["rows.jsonl"]


def test_ctrl_c_while_writing_leaves_the_file_of_before_and_nothing_else(tmp_path: Path):
    def interrupted():
        yield {"n": 2}
        raise KeyboardInterrupt

    path = write_records(tmp_path / "rows.jsonl", [{"n": 1}])
    with pytest.raises(KeyboardInterrupt):
        write_records(path, interrupted())
    assert path.read_text() == '{"n": 1}\n' and names(tmp_path) == ["rows.jsonl"]


@pytest.fixture
def full(monkeypatch):
    """A disk that is full after a few writes, or one large one."""
    real = tempfile.NamedTemporaryFile

    def open_limited(*args, **kwargs):
        file = real(*args, **kwargs)
        write, room = file.write, iter(range(5))

        def write_if_room(data: bytes) -> int:
            if next(room, None) is None or len(data) > 5_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(data)

        file.write = write_if_room
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", open_limited)


def test_a_full_disk_is_named_with_the_space_that_is_needed_and_leaves_no_temporary_file(tmp_path: Path, full):
    said = (
        r"rows.jsonl: the disk is full \(No space left on device, 0\.020 MB needed, [\d,.]+ MB free\); free some space$"
    )
    with pytest.raises(InputError, match=said):
        write_records(tmp_path / "rows.jsonl", ({"n": "x" * 990} for _ in range(20)))
    with pytest.raises(InputError, match=said):
        write_text(tmp_path / "rows.jsonl", "x" * 20_000)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.EDQUOT, "the disk is full .* MB needed"), (errno.EFBIG, "MB needed.*raise the limit: ulimit -f"),
     (errno.EROFS, r"cannot be written \(Read-only file system\).*choose a folder you may write to")],
)  # fmt: skip
def test_other_causes_are_named_as_well(tmp_path: Path, monkeypatch, number, message):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=message):
        write_text(tmp_path / "page.html", "x")
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_line_that_cannot_be_appended_is_a_full_disk_too():
    with pytest.raises(InputError, match=r"/dev/full: the disk is full"):
        append_record("/dev/full", {"n": 1})


# read into little memory


def test_what_lines_have_in_common_is_in_memory_once(tmp_path: Path):
    """Step 1 writes the record of a completion with each of its instructions."""
    metadata = {"prompt": "1. Sing.", "response": {"choices": [{"text": " Dance."}]}}
    rows = [{"instruction": text, "most_similar": {"Sing.": 0.5}, "metadata": metadata} for text in ("Hop.", "Run.")]
    rows.append({"instruction": "Sing.", "metadata": {"prompt": "1. Sing.", "n": 1}})
    path = write_records(tmp_path / "rows.jsonl", rows)
    first, second, third = load_records(path, MachineInstruction)
    assert [one.metadata for one in (first, second, third)] == [row["metadata"] for row in rows]
    assert first.metadata["prompt"] is second.metadata["prompt"]
    assert next(iter(first.most_similar)) is next(iter(second.most_similar))
    first.metadata["n"] = 2
    assert "n" not in second.metadata
    (lean, *_) = load_records(path, MachineInstruction, without=("prompt",))
    assert lean.metadata == {"response": metadata["response"]}
