"""Bits per byte: what is measured, and that nothing is computed twice, whatever ends a run."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.trained import measure_by_length, task_set, train, write_base

from selfinstruct.evaluation import bits as module
from selfinstruct.evaluation.bits import find_missing_bits, measure_bits
from selfinstruct.evaluation.columns import FILLER, find_columns
from selfinstruct.evaluation.tasks import EvaluationTask, TaskSet
from selfinstruct.files import iter_lines
from selfinstruct.runfolder import RunFolder
from selfinstruct.training.loss import CompletionLoss


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path)


@pytest.fixture(autouse=True)
def chat_layout(monkeypatch):
    monkeypatch.setattr(module, "find_chat_layout", lambda run, base: f"<user>{FILLER}<answer>")


def test_a_column_has_a_row_a_training_seed_and_the_value_is_bits_for_each_byte(run, base):
    columns = train(run, base, seeds=("1", "2"))
    tasks = task_set(4)
    bits = measure_bits(run, columns, tasks, base, measure_by_length)
    assert {name: values.shape for name, values in bits.items()} == {
        "before_plain": (1, 4), "before_chat": (1, 4), "seeds_only": (2, 4), "generated_only": (2, 4),
        "run_data": (2, 4), "shuffled_outputs": (2, 4),
    }  # fmt: skip
    text = tasks.tasks[2].references[0]
    assert bits["before_plain"][0, 2] == pytest.approx((len(text) + 1) / math.log(2) / len(text), abs=1e-4)
    assert np.allclose(bits["run_data"], bits["before_plain"] / 2, atol=1e-4)


def test_what_is_asked_has_no_end_token_and_the_chat_its_own_layout(run, base):
    asked, tasks = [], task_set(2)
    measure_bits(run, train(run, base, ()), tasks, base, lambda adapter: measure_by_length(adapter, asked))
    plain = [(task.prompt, f" {task.references[0]}") for task in tasks.tasks]
    chat = [(f"<user>{task.prompt}<answer>", task.references[0]) for task in tasks.tasks]
    assert asked == plain + chat


@pytest.mark.parametrize(("room", "length"), [(2048, 2048), (32_768, 4096)])
def test_a_long_reference_is_measured_to_its_end_where_the_model_has_room(base, monkeypatch, room, length):
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=room))
    monkeypatch.setattr(module, "load_model", lambda base: (model, None))
    assert module.LossMeter(base)(None).keywords == {"max_length": length}


def test_of_several_references_the_likeliest_counts(run, base):
    tasks = TaskSet("t", (EvaluationTask("a", "p", ("far away", "near"), "a"), task_set(1).tasks[0]), "t", "sha")
    nats = {" far away": 80.0, " near": 8.0}
    measure = lambda adapter: lambda pairs: [CompletionLoss(nats.get(text, 1.0), 1) for _, text in pairs]  # noqa: E731
    bits = measure_bits(run, train(run, base, ())[:1], tasks, base, measure)
    assert bits["before_plain"][0, 0] == pytest.approx(8 / math.log(2) / 4)


def test_a_second_time_nothing_is_computed_and_another_adapter_file_or_task_file_is_new(run, base):
    columns, tasks = train(run, base, ("run_data",)), task_set(5)
    first = measure_bits(run, columns, tasks, base, measure_by_length)

    def refuse(adapter):
        raise AssertionError("it was known")

    again = measure_bits(run, columns, tasks, base, refuse)
    assert all((first[name] == again[name]).all() for name in first)
    assert find_missing_bits(run, columns, tasks, base) == 0
    assert find_missing_bits(run, columns, task_set(5, "other file"), base) == 15
    (run / "adapters/run_data/1/adapter.gguf").write_bytes(b"GGUF adapter.type trained again")
    assert find_missing_bits(run, find_columns(run, base=base), tasks, base) == 5
    assert find_missing_bits(run, columns, task_set(9, "own"), base) == 12, "a larger sample adds what is new"


def measure_slowly(run, base, log):
    """A process that computes 120 losses, four at a time, and writes down what it was asked."""

    def make_measure(adapter):
        def measure(pairs):
            time.sleep(0.03)
            with log.open("a") as file:
                file.writelines(f"{adapter.column if adapter else ''} {prompt!r}\n" for prompt, _ in pairs)
            return measure_by_length(adapter)(pairs)

        return measure

    module.CHUNK = 4
    chosen = find_columns(run, ["before_plain", "run_data", "seeds_only"])
    measure_bits(run, chosen, task_set(40), base, make_measure)


def test_killed_five_times_it_goes_on_and_loses_no_more_than_a_part_each_time(run, base, tmp_path):
    train(run, base, ("run_data", "seeds_only"))
    log = tmp_path / "log"
    log.touch()
    processes = multiprocessing.get_context("fork")
    for kill in range(5):
        done = len(log.read_text().splitlines())
        child = processes.Process(target=measure_slowly, args=(run, base, log))
        child.start()
        while len(log.read_text().splitlines()) < done + 8 and child.is_alive():
            time.sleep(0.005)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, f"it had ended before kill {kill}"
    child = processes.Process(target=measure_slowly, args=(run, base, log))
    child.start()
    child.join()
    asked = log.read_text().splitlines()
    assert child.exitcode == 0 and len(set(asked)) == 120 and len(asked) <= 120 + 5 * 4
    rows = [row for path in run.find("evaluation/losses_*.jsonl") for _, row in iter_lines(path)]
    assert len(rows) == 120
