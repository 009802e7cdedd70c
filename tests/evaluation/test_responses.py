"""What the columns write: how they are asked, what is kept, and how it is scored."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter

import numpy as np
import pytest
from helpers.clients import ScriptedClient, completion
from helpers.scripted import ScriptedServer, prompt_of
from helpers.trained import task_set, train, write_base

from selfinstruct.analysis.predictions import load_predictions
from selfinstruct.evaluation import responses as module
from selfinstruct.evaluation.columns import FILLER, PROVIDER, Column, find_columns
from selfinstruct.evaluation.responses import (
    ask_column,
    ask_columns,
    ask_provider,
    load_columns,
    note_columns,
    remove_echo,
    score_columns,
)
from selfinstruct.files import InputError, write_records
from selfinstruct.models import embedded
from selfinstruct.models.embedded import EmbeddedServer
from selfinstruct.models.store import ResponseStore
from selfinstruct.review.responses import load_responses
from selfinstruct.runfolder import RunFolder


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run", "07_evaluate_model")


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "convert_to_f16", lambda base: base)
    monkeypatch.setattr(module, "find_chat_layout", lambda run, base: f"<user>{FILLER}<answer>")
    return write_base(tmp_path)


@pytest.fixture
def served(monkeypatch):
    with ScriptedServer(lambda body: " Nile") as server:
        serve = lambda weights, slots, deterministic, adapters: EmbeddedServer(server.url, weights, slots, 1, 0)  # noqa: E731
        monkeypatch.setattr(embedded, "serve", serve)
        yield server


def test_every_column_and_seed_answers_the_same_prompts_greedily_without_a_stop(run, base, store, served):
    columns, tasks = train(run, base, ("run_data",), seeds=("1", "2")), task_set(3).tasks
    responses, clients = ask_columns(run, columns, tasks, base, 24, store)
    assert {name: len(seeds) for name, seeds in responses.items()} == {
        "before_plain": 1,
        "before_chat": 1,
        "run_data": 2,
    }
    assert len(clients) == 4 and len(served.bodies) == 12
    for body in served.bodies:
        assert (body["temperature"], body["max_tokens"], "stop" in body) == (0, 24, False)
    plain = {prompt_of(body) for body in served.bodies if not prompt_of(body).startswith("<user>")}
    assert plain == {task.prompt for task in tasks}
    assert sorted({str(body["lora"]) for body in served.bodies}) == [
        str([{"id": 0, "scale": a}, {"id": 1, "scale": b}]) for a, b in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0))
    ]
    note_columns(run, columns, clients)
    state = run.state
    assert state["usage"]["07_evaluate_model"]["requests"] == 12 and len(run.read_keys()) == 12
    assert {name: one["scale"] for name, one in state["adapters"].items()} == {"run_data/1": 1.0, "run_data/2": 1.0}
    assert "model" not in state, "what is judged did not write the run's files"


def ask_slowly(run, base, store):
    """A process that asks for forty answers, as notebook 07 does."""
    ask_columns(run, find_columns(run), task_set(10).tasks, base, 24, store)


def tell_request(body):
    """An answer that says what was asked, and of which adapter."""
    return f" {body['lora']} {prompt_of(body)}"


def read_stored(path):
    """The answers in the store."""
    with ResponseStore(path) as store:
        return {row.response["choices"][0]["text"] for row in store.rows()}


def test_killed_five_times_it_asks_nothing_again_that_is_stored_and_writes_the_same_files(
    run, base, store, served, tmp_path
):
    train(run, base, ("run_data", "seeds_only"))
    served.respond = tell_request
    whole, other = RunFolder(tmp_path / "whole"), tmp_path / "other.sqlite"
    train(whole, base, ("run_data", "seeds_only"))
    ask_slowly(whole, base, other)
    served.bodies.clear()
    served.latency_s = 0.05
    processes = multiprocessing.get_context("fork")
    for kill in range(5):
        stored, before = read_stored(store), len(served.bodies)
        child = processes.Process(target=ask_slowly, args=(run, base, store))
        child.start()
        while len(served.bodies) < before + 5 and child.is_alive():
            time.sleep(0.002)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, f"it had ended before kill {kill}"
        assert stored.isdisjoint(map(tell_request, served.bodies[before:])) and read_stored(store) >= stored
    stored, before = read_stored(store), len(served.bodies)
    child = processes.Process(target=ask_slowly, args=(run, base, store))
    child.start()
    child.join()
    # as sets: what a killed command had just sent may be read by the server a moment later
    assert child.exitcode == 0 and set(map(tell_request, served.bodies[before:])) == read_stored(store) - stored
    assert 5 <= len(stored) < 40 == len(read_stored(store)), "four at a time are in flight, and those are lost"
    files = {path.name: path.read_bytes() for path in run.find("evaluation/predictions/*")}
    assert (
        files == {path.name: path.read_bytes() for path in whole.find("evaluation/predictions/*")} and len(files) == 4
    )


def test_the_rows_are_those_of_the_published_predictions(run, base, store, served):
    columns, tasks = train(run, base, ("run_data",)), task_set(3).tasks
    ask_columns(run, columns, tasks, base, 24, store)
    names = [path.name for path in run.find("evaluation/predictions/*")]
    assert names == [f"{one}_predictions.jsonl" for one in ("before_chat", "before_plain", "run_data-1")]
    rows = load_predictions(run / "evaluation/predictions/run_data-1_predictions.jsonl")
    assert [(row.prompt, row.response, row.target) for row in rows] == [
        (one.prompt, "Nile", one.references[0]) for one in tasks
    ]


def test_what_is_written_is_what_people_grade(run, base, store, served):
    ask_columns(run, train(run, base, ("run_data",)), task_set(3).tasks, base, 24, store)
    found = Counter((row.column, row.training_seed) for row in load_responses("", run))
    assert found == {("before_plain", None): 3, ("before_chat", None): 3, ("run_data", 1): 3}


def test_an_echo_is_removed_and_what_could_not_be_answered_is_empty(run):
    tasks = task_set(3).tasks
    texts = [f"{tasks[0].prompt} Nile", " Nile", None]
    client = ScriptedClient(
        lambda request, number: completion(texts[number] or "", error=None if texts[number] else "no text")
    )
    rows = ask_column(run, Column("run_data"), None, tasks, client, 8)
    assert [row["response"] for row in rows] == ["Nile", "Nile", ""]
    assert remove_echo("Name a river.", "Name a river. Nile") == " Nile"


def test_a_provider_is_asked_with_the_bare_message(run, store):
    with ScriptedServer(lambda body: "Nile") as server:
        settings = {"model": "ft:mine", "base_url": server.url, "api": "chat", "store": store}
        responses, _ = ask_provider(run, task_set(2).tasks, 8, **settings)
        assert [len(body["messages"]) for body in server.bodies] == [1, 1]
    assert [row["response"] for row in responses[PROVIDER][0]] == ["Nile", "Nile"]


def test_measures_of_what_is_written():
    tasks = task_set(3).tasks  # references: Nile; Nile Nile; Nile Nile Nile
    texts = ["Nile", "Nile Nile and then on and on", "rivers"]
    rows = [
        {"response": text, "finish_reason": reason, "tokens": count}
        for text, reason, count in zip(texts, ("stop", "length", "stop"), (1, 8, 1), strict=True)
    ]
    scores = score_columns({"a": [rows], "b": [rows, rows]}, tasks)
    assert np.allclose(scores["rouge_l"]["a"], [[100, 2 * 2 / (2 + 7) * 100, 0]])
    assert np.allclose(scores["rouge_l_reference_length"]["a"], [[100, 100, 0]])
    assert scores["stopped"]["a"].tolist() == [[1, 0, 1]] and scores["tokens"]["a"].tolist() == [[1, 8, 1]]
    assert scores["rouge_l"]["b"].shape == (2, 3)


def published(path, tasks, answers):
    rows = [
        {"prompt": one.prompt, "instruction": f"{one.instruction}\n", "input": one.input, "response": f" {text}", "target": one.references[0]}
        for one, text in zip(tasks, answers, strict=True)
    ]  # fmt: skip
    write_records(path, rows)
    return str(path)


def test_published_predictions_are_columns_of_the_same_tasks(tmp_path):
    tasks = task_set(4).tasks
    one = published(tmp_path / "davinci_predictions.jsonl", tasks, "abcd")
    other = published(tmp_path / "text-davinci-001_predictions.jsonl", tasks[::-1], "dcba")
    columns = load_columns(f"{one}, {other}", tasks[1:3])
    assert {name: [row["response"] for row in seeds[0]] for name, seeds in columns.items()} == {
        "davinci": ["b", "c"], "text-davinci-001": ["b", "c"],
    }  # fmt: skip
    assert "stopped" not in score_columns(columns, tasks[1:3])


def test_predictions_for_other_tasks_are_refused(tmp_path):
    tasks = task_set(4).tasks
    path = published(tmp_path / "davinci_predictions.jsonl", tasks[:3], "abc")
    with pytest.raises(InputError, match=r"no response to 1 of 4 tasks, the first t3; give tasks="):
        load_columns(path, tasks)
