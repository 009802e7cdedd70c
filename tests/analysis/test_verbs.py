"""Parses of many texts: the same bytes here, in processes and on a Dask cluster."""

from __future__ import annotations

import pytest
from helpers.clusters import start_cluster

from selfinstruct import workers
from selfinstruct.analysis import verbs
from selfinstruct.files import InputError

TEXTS = [
    f"Write a {kind} about {number} of the {thing}."
    for number in range(90)
    for kind in ("story", "list", "note")
    for thing in ("rivers", "cities")
]


@pytest.fixture(scope="module")
def parser():
    return verbs.load_parser()


@pytest.fixture
def here(tmp_path, parser, monkeypatch):
    """(parses, bytes of their cache) as this process makes them, in three parts."""
    monkeypatch.setattr(verbs, "PART", verbs.BATCH)
    return verbs.load_parses(TEXTS, parser, tmp_path / "here.jsonl"), (tmp_path / "here.jsonl").read_bytes()


@pytest.mark.slow
def test_processes_parse_the_same(here, tmp_path, parser, monkeypatch):
    monkeypatch.setattr(verbs, "PAYS", len(TEXTS))
    for module in (verbs, workers):
        monkeypatch.setattr(module, "usable_cpus", lambda: 2)
    monkeypatch.setattr(verbs, "parse_texts", None)  # not here
    assert verbs.load_parses(TEXTS, parser, tmp_path / "there.jsonl") == here[0]
    assert (tmp_path / "there.jsonl").read_bytes() == here[1]


@pytest.mark.slow
def test_a_cluster_parses_the_same(here, tmp_path, parser, monkeypatch):
    pytest.importorskip("distributed", reason="pip install -e '.[distributed]'")
    monkeypatch.setattr(verbs, "parse_texts", None)
    with start_cluster(tmp_path, 1) as (address, _):
        assert verbs.load_parses(TEXTS, parser, tmp_path / "there.jsonl", address) == here[0]
    assert (tmp_path / "there.jsonl").read_bytes() == here[1]
    assert (
        verbs.load_parses(TEXTS, parser, tmp_path / "there.jsonl", "tcp://127.0.0.1:9") == here[0]
    )  # nothing to parse


def test_a_worker_with_another_parser_is_refused(parser):
    with pytest.raises(InputError, match=r"a worker parses with en_core_web_sm.*, this command with other 1; install"):
        verbs._parse_part(["Sing."], "other 1")
