"""Near-duplicates of a data set: one answer whoever computes it, which a kill does not lose, and what is told of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.clusters import start_cluster
from helpers.notebooks import wait_until

from selfinstruct.analysis import duplicates
from selfinstruct.analysis.duplicates import PAYS_S, Kept, ask_question, find_duplicates
from selfinstruct.cli import main
from selfinstruct.files import ParameterError, write_json, write_records
from selfinstruct.similarity import rouge_l
from selfinstruct.workers import Workers, open_workers


def make_texts(count: int) -> list[str]:
    """Different texts, most of them close to some others."""
    rng = random.Random(1)
    made = [
        " ".join(rng.choices("write list a the poem city of dog in three".split(), k=rng.randrange(3, 25)))
        for _ in range(count // 4)
    ]
    made += [f"{text} {word}" for word in ("now", "please", "today") for text in made]
    return list(dict.fromkeys(made))


TEXTS = make_texts(400)


def find(folder, crew, texts=TEXTS, others=None, **options):
    options = {"shard_size": 60, "pays_s": 0, "tell": lambda line: None, **options}
    return find_duplicates(texts, others, folder=folder / "tiles", workers=crew, **options)


def as_bytes(found) -> list[bytes]:
    return [column.tobytes() for column in found.pairs]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return find(tmp_path_factory.mktemp("here"), Workers())


def test_the_pairs_are_those_of_the_texts(expected):
    pairs = [(i, j) for j in range(len(TEXTS)) for i in range(j) if rouge_l(TEXTS[i], TEXTS[j]) > 0.7]
    assert sorted(pairs) == list(zip(expected.pairs.first.tolist(), expected.pairs.second.tolist(), strict=True))
    assert expected.tiles + expected.pruned == 28 and expected.pruned > 0 and expected.cpu_seconds > 0


@pytest.mark.parametrize("size", [0, 17, 1000])
def test_other_shards_give_the_same_bytes(tmp_path, expected, size):
    assert as_bytes(find(tmp_path, Workers(), shard_size=size)) == as_bytes(expected)


def kill_midway(crew, kill) -> None:
    """Let `kill` end a worker after a few answers."""
    run = crew.run

    def run_and_kill(function, calls):
        for number, answer in enumerate(run(function, calls)):
            if number == 3:
                kill()
            yield answer

    crew.run = run_and_kill


def test_two_processes_give_the_same_bytes_also_when_one_dies(tmp_path, expected):
    with open_workers(2) as crew:
        kill_midway(crew, lambda: os.kill(next(iter(crew._pool._processes)), signal.SIGKILL))
        assert as_bytes(find(tmp_path, crew)) == as_bytes(expected)
        assert crew._deaths == 1


def test_processes_are_not_started_for_little_work(tmp_path, expected):
    with open_workers(2) as crew:
        assert as_bytes(find(tmp_path, crew, pays_s=PAYS_S)) == as_bytes(expected)
        assert not crew._pool._processes


@pytest.mark.slow
def test_a_cluster_gives_the_same_bytes_also_when_a_worker_dies(tmp_path, expected):
    pytest.importorskip("distributed", reason="pip install -e '.[distributed]'")
    with start_cluster(tmp_path) as (address, started), open_workers(scheduler=address) as crew:
        assert wait_until(lambda: len(crew._client.nthreads()) == 2)
        kill_midway(crew, started[1].kill)
        assert as_bytes(find(tmp_path, crew, shard_size=20)) == as_bytes(expected)


def test_a_shard_is_held_once_and_let_go_after_its_last_tile():
    held = []

    class Crew(Workers):
        def hold(self, value):
            held.append(value)
            return value

    question = ask_question(TEXTS, None, 0.7, shard_size=60)
    calls = list(question.list_calls(question.tiles, Crew()))
    assert len(calls) == len(question.tiles) and len(held) == len(question.first)
    assert [(call[0] is call[1]) == call[3] for call in calls] == [True] * len(calls)


# ---- stops

KILLED = """
import json, sys, time
from pathlib import Path
from selfinstruct.analysis import duplicates
from selfinstruct.workers import Workers

class Slow(Workers):
    def submit(self, function, *arguments):
        time.sleep(0.05)
        return super().submit(function, *arguments)

texts = json.loads(Path(sys.argv[1]).read_text())
duplicates.find_duplicates(texts, folder=Path(sys.argv[2]), workers=Slow(), shard_size=60)
"""


def test_after_kill_9_only_what_is_left_is_computed(tmp_path, expected, monkeypatch):
    write_json(tmp_path / "texts.json", TEXTS)
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "texts.json"), str(tmp_path / "tiles")]
    command = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: len(list(tmp_path.glob("tiles/*/*.npz"))) > 5)
    finally:
        command.kill()
        command.wait()
    there = len(list(tmp_path.glob("tiles/*/*.npz")))
    assert 5 < there < expected.tiles
    computed = []
    compare = duplicates.compare_shards
    monkeypatch.setattr(duplicates, "compare_shards", lambda *call: computed.append(call) or compare(*call))
    again = find(tmp_path, Workers())
    assert as_bytes(again) == as_bytes(expected) and again.tiles == expected.tiles
    assert len(computed) == expected.tiles - there
    again.kept.remove()
    assert not (tmp_path / "tiles").exists()


def test_a_tile_that_a_power_cut_emptied_is_computed_again(tmp_path, expected):
    question = ask_question(TEXTS, None, 0.7, shard_size=60)
    kept = Kept(tmp_path / "tiles", question)
    for tile, damage in zip(question.tiles, (b"", b"PK\x03\x04", b"\0" * 500), strict=False):
        kept._path(tile).write_bytes(damage)
        assert not kept.has(tile)
    assert as_bytes(find(tmp_path, Workers())) == as_bytes(expected)


@pytest.mark.parametrize("change", [{"threshold": 0.6}, {"texts": TEXTS[::-1]}, {"others": TEXTS}, {"shard_size": 61}])
def test_tiles_of_another_question_are_neither_used_nor_removed(tmp_path, change):
    kept = Kept(tmp_path / "tiles", ask_question(TEXTS, None, 0.7, shard_size=60))
    empty = np.empty(0, np.int64)
    kept.write((0, 0), duplicates.Pairs(empty, empty, np.empty(0)), 1.0)
    find(tmp_path, Workers(), **change)
    assert kept.has((0, 0))


def test_a_second_command_on_the_same_output_is_refused_with_who_writes_it(tmp_path, monkeypatch):
    data = write_records(tmp_path / "data.jsonl", [{"instruction": text} for text in TEXTS])
    out, refused = tmp_path / "pairs.jsonl", []
    write = duplicates.write_pairs

    def write_while_another_starts(*given):
        refused.append(invoke(data, "--out", out, "--threshold", 0.9))  # another question, the same file
        refused.append(invoke(data, "--out", tmp_path / "others.jsonl", "--threshold", 0.9))
        return write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "write_pairs", lambda *given: patch.undo() or write_while_another_starts(*given))
        assert invoke(data, "--out", out).exit_code == 0
    second, elsewhere = refused
    assert second.exit_code == 1 and second.output.count("\n") == 1
    assert f"{out}.tiles: another command is running in this folder (process {os.getpid()}, since " in second.output
    assert "wait until it has ended, or name another file with --out" in second.output
    assert elsewhere.exit_code == 0, elsewhere.output
    assert min(pair["rouge_l"] for pair in read_pairs(out)) < 0.9 and not list(tmp_path.glob("*.tiles"))


# ---- what is told


def test_work_of_more_than_a_minute_is_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "LONG_S", 0.0)
    told = []
    found = find(tmp_path, Workers(), tell=told.append)
    [line] = told
    assert f"on 1 worker for the {found.tiles - 3} tiles that are left, from 3 measured here" in line
    assert line.startswith("About 1 second ") and "after a stop the same command goes on" in line


def test_no_threshold_but_those_that_a_pair_can_exceed(tmp_path):
    for threshold in (-0.1, 1, 70):
        with pytest.raises(ParameterError, match=r"give 0 or more, and less than 1"):
            find(tmp_path, Workers(), threshold=threshold)


def invoke(*arguments: object):
    return CliRunner().invoke(main, ["duplicates", *map(str, arguments)])


def read_pairs(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_command_writes_every_pair_with_its_rows_and_says_what_comes_next(tmp_path):
    rows = [
        "Write a poem about autumn.",
        "Add two numbers.",
        "Write a poem about autumn.",
        "Write a poem about spring.",
    ]
    data = write_records(tmp_path / "data.jsonl", [{"instruction": row} for row in rows])
    done = invoke(data, "--out", tmp_path / "pairs.jsonl")
    assert done.exit_code == 0, done.output
    assert read_pairs(tmp_path / "pairs.jsonl") == [
        {"rouge_l": 0.8000000000000002, "first_row": 1, "second_row": 4, "first": rows[0], "second": rows[3]}
    ]
    assert (
        "1 pair with a ROUGE-L above 0.7: 2 of 3 instructions are in one; the filter of step 1 would keep 2"
        in done.output
    )
    assert "1 row that repeats an instruction word by word was counted once" in done.output
    assert f"Next: selfinstruct run --only 13 -p data {data}" in done.output
    assert not list(tmp_path.glob("*.tiles"))


def test_a_stop_while_the_pairs_are_written_loses_no_tile(tmp_path, monkeypatch):
    data = write_records(tmp_path / "data.jsonl", [{"instruction": text} for text in TEXTS])
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "write_pairs", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        done = invoke(data, "--out", tmp_path / "pairs.jsonl")
    assert done.exit_code == 3 and "the same command continues" in done.output
    monkeypatch.setattr(duplicates, "compare_shards", None)
    done = invoke(data, "--out", tmp_path / "pairs.jsonl")
    assert done.exit_code == 0 and read_pairs(tmp_path / "pairs.jsonl")
    assert not list(tmp_path.glob("*.tiles"))


def test_the_command_finds_what_two_sets_have_in_common(tmp_path):
    ours = write_records(
        tmp_path / "ours.jsonl", [{"instruction": text} for text in ("Name a river.", "Add two numbers.")]
    )
    theirs = write_records(
        tmp_path / "theirs.jsonl", [{"instruction": text} for text in ("Sing!", "Add two big numbers.")]
    )
    done = invoke(ours, theirs, "--out", tmp_path / "pairs.jsonl", "--threshold", 0.8)
    assert [(pair["first_row"], pair["second_row"]) for pair in read_pairs(tmp_path / "pairs.jsonl")] == [(2, 2)]
    assert "1 pair with a ROUGE-L above 0.8: 1 of 2 instructions of ours, and 1 of 2 of theirs" in done.output
    assert f"Next: selfinstruct compare {ours} {theirs}" in done.output


def test_what_the_command_cannot_do_is_one_line(tmp_path):
    missing = invoke(tmp_path / "none.jsonl")
    assert missing.exit_code == 1 and missing.output.count("\n") == 1 and "no such file" in missing.output
    data = write_records(tmp_path / "data.jsonl", [{"instruction": "Sing."}])
    high = invoke(data, "--threshold", 7, "--out", tmp_path / "pairs.jsonl")
    assert high.exit_code == 1 and "threshold 7: " in high.output
    blocked = invoke(data, "--out", data / "pairs.jsonl")
    assert blocked.exit_code == 1 and "cannot be written" in blocked.output
    assert invoke(data, "--workers", 0).exit_code == 2


def test_a_dead_scheduler_is_one_line_before_the_data_are_read(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="pip install -e '.[distributed]'")
    monkeypatch.setattr("selfinstruct.workers.CONNECT_S", 1)
    done = invoke(tmp_path / "none.jsonl", "--scheduler", "tcp://127.0.0.1:9")
    assert done.exit_code == 1 and "no Dask scheduler at tcp://127.0.0.1:9" in done.output
