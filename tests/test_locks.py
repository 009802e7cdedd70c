"""A folder is one command's at a time: whoever comes second is refused in one sentence, and an error frees it."""

from __future__ import annotations

import os

import pytest

from selfinstruct.files import SelfInstructError
from selfinstruct.locks import lock_folder


def test_the_second_is_refused_with_who_is_there_and_what_to_name_instead(tmp_path):
    with (
        lock_folder(tmp_path / "it"),
        pytest.raises(SelfInstructError, match=rf"{tmp_path}/it: .* \(process {os.getpid()}, since .*or name a pen$"),
        lock_folder(tmp_path / "it", "a pen"),
    ):
        pass
    assert not (tmp_path / "it").exists()  # nothing was written: it is as before


def test_an_error_frees_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        raise ZeroDivisionError
    with lock_folder(tmp_path):
        pass


def test_where_nothing_can_be_locked_the_run_goes_on(tmp_path, monkeypatch):
    """A file system without locks is no reason to refuse a run."""

    def no_locks(*_, **__):
        raise OSError("Function not implemented")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    with lock_folder(tmp_path):
        pass
