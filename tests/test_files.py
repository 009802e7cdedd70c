"""Files: what this process may use, and JSON lines that a kill cut short."""

import os
from pathlib import Path

import pytest

from selfinstruct.files import InputError, append_record, iter_lines, usable_cpus


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
