"""Faults on the way: a server that breaks one request in eight, runs that are killed, endpoints that cannot work."""

# ruff: noqa: SIM117  a server, and within it its client: nesting reads better than one long line
from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers.bootstrapping import scripted_model
from helpers.places import TESTS
from helpers.scripted import Reply, ScriptedServer, prompt_of

from selfinstruct.files import EndpointError, write_records
from selfinstruct.models.connection import connect
from selfinstruct.models.store import ResponseStore
from selfinstruct.models.upkeep import verify_store
from selfinstruct.steps.classification import identify_classification

STEP_2 = {"max_tokens": 3, "temperature": 0.0, "top_p": 0.0, "stop": ("\n",), "logprobs": None}


class Plain:
    """The shortest templates there can be."""

    @staticmethod
    def classification_prompt(instruction: str) -> str:
        return f"{instruction}?"

    @staticmethod
    def read_label(text: str) -> str:
        return text


def yes_or_no(body: dict) -> str:
    return " Yes" if len(prompt_of(body)) % 2 else " No"


FAULTS = {
    "429": lambda: Reply(429, {"error": {"message": "slow down"}}, headers={"Retry-After": "0.05"}),
    "500": lambda: Reply(500, {"error": {"message": "broken"}}, headers={"Retry-After-Ms": "20"}),
    "timeout": lambda: Reply(body=b"", delay_s=5),
    "reset": lambda: Reply(reset=True),
    "truncated": lambda: Reply(body=b'{"choices": [{"text": " Ye'),
    "cut off": lambda: Reply(body=b'{"choices": [', cut=True),
    "empty choices": lambda: Reply(body={"id": "x", "choices": []}),
    "garbage": lambda: Reply(
        body=b"<html><body>502 \xff\xfe Bad gateway</body></html>", headers={"Content-Type": "text/html"}
    ),
}


class FaultyModel:
    """Answers as `yes_or_no`, after a first fault for the share of prompts that `seed` picks, 1% garbage among them."""

    def __init__(self, seed: int, share: float):
        self._rng, self._share, self._lock = random.Random(seed), share, threading.Lock()
        self.tried: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    def __call__(self, body: dict):
        with self._lock:
            self.tried[prompt_of(body)] += 1
            fault = None
            if self.tried[prompt_of(body)] == 1 and self._rng.random() < self._share:
                others = [name for name in FAULTS if name not in ("garbage", "timeout")]
                weights = [0.09 * 8, 0.03 * 8] + [0.88 * 8 / len(others)] * len(others)
                (fault,) = self._rng.choices(["garbage", "timeout", *others], weights)
                self.faults[fault] += 1
        return FAULTS[fault]() if fault else yes_or_no(body)


def classify(url: str, folder: Path, instructions: list[str]) -> tuple[bytes, object]:
    """Step 2 over `instructions` into a file; its bytes, and the client's usage."""
    with connect("scripted", url, store=folder / "store.sqlite", concurrency=64, timeout_s=8.0) as client:
        answers = identify_classification(client, instructions, Plain, STEP_2)
    return write_records(folder / "is_clf_or_not.jsonl", answers).read_bytes(), client.usage


@pytest.mark.slow
def test_1500_requests_against_a_faulty_server_give_the_files_of_a_sound_one(tmp_path):
    instructions = [f"Task {number} {'x' * (number % 7)}" for number in range(1500)]
    model = FaultyModel(seed=1, share=0.12)
    with ScriptedServer(model) as server:
        faulty, usage = classify(server.url, tmp_path / "faulty", instructions)
    assert set(model.faults) == set(FAULTS) and model.faults["garbage"] >= 10
    assert (usage.requests, usage.failed, usage.cached) == (1500, 0, 0)
    with ResponseStore(tmp_path / "faulty" / "store.sqlite") as store:
        assert len(store) == 1500 and store.failures() == []
        assert (
            sum(row.prompt_tokens + row.completion_tokens for row in store.rows())
            == usage.prompt_tokens + usage.completion_tokens
        )
    # every fault cost one more request, and nothing was asked again once it had been answered
    assert sum(model.tried.values()) == 1500 + sum(model.faults.values())
    assert verify_store(tmp_path / "faulty" / "store.sqlite") == (1500, [])
    with ScriptedServer(yes_or_no) as server:
        sound, _ = classify(server.url, tmp_path / "sound", instructions)
    assert faulty == sound


# failures for good


def broken_for(*words: str, reply=lambda: Reply(400, {"error": {"message": "this prompt is refused"}})):
    return lambda body: reply() if any(word in prompt_of(body) for word in words) else yes_or_no(body)


def test_a_request_that_fails_for_good_is_recorded_and_only_it_is_asked_again(tmp_path):
    instructions = [f"Task {number:02}" for number in range(40)]
    with ScriptedServer(broken_for("07", "23")) as server:
        _, usage = classify(server.url, tmp_path, instructions)
        assert (usage.requests, usage.failed) == (40, 2)
        with ResponseStore(tmp_path / "store.sqlite") as store:
            assert [failure["error"] for failure in store.failures()] == ["400: this prompt is refused"] * 2
        asked = len(server.bodies)
        server.respond = yes_or_no
        lines, usage = classify(server.url, tmp_path, instructions)
        assert {prompt_of(body) for body in server.bodies[asked:]} == {"Task 07?", "Task 23?"}
        assert (usage.failed, usage.cached) == (0, 38)
        with ResponseStore(tmp_path / "store.sqlite") as store:
            assert store.failures() == []
    assert b'"is_classification": ""' not in lines


def test_a_request_that_keeps_failing_does_not_stop_a_run_that_has_the_rest(tmp_path):
    with ScriptedServer(broken_for("07")) as server:
        for _ in range(2):
            _, usage = classify(server.url, tmp_path, [f"Task {number:02}" for number in range(10)])
            assert usage.failed == 1
        with ResponseStore(tmp_path / "store.sqlite") as store:
            assert store.failures()[0]["attempts"] == 2


def test_an_answer_that_stays_garbage_is_a_failure_that_says_what_came(tmp_path, monkeypatch):
    monkeypatch.setattr("selfinstruct.models.endpoint.BAD_ANSWER_PAUSE_S", 0.001)
    garbage = broken_for("07", reply=lambda: Reply(body=b"<html>Bad gateway"))
    with ScriptedServer(garbage) as server:
        classify(server.url, tmp_path, [f"Task {number:02}" for number in range(10)])
        assert sum("07" in prompt_of(body) for body in server.bodies) == 5
    with ResponseStore(tmp_path / "store.sqlite") as store:
        assert store.failures()[0]["error"] == "the answer is not JSON: '<html>Bad gateway'"


def test_failures_in_a_row_stop_the_run_with_the_reason(tmp_path):
    answered = []

    def dies(body):
        answered.append(body)
        return yes_or_no(body) if len(answered) <= 10 else Reply(400, {"error": {"message": "the disk is full"}})

    with ScriptedServer(dies) as server:
        with connect("scripted", server.url, store=tmp_path / "s.sqlite", concurrency=1, max_failures=4) as client:
            with pytest.raises(
                EndpointError, match=r"4 requests in a row failed; the last: 400: the disk is full; 10 of 30"
            ):
                identify_classification(client, [f"Task {number}" for number in range(30)], Plain, STEP_2)
        assert len(server.bodies) == 14


def test_if_every_request_fails_it_says_so(tmp_path):
    with ScriptedServer(broken_for("Task")) as server:
        with connect("scripted", server.url, store=tmp_path / "s.sqlite") as client:
            with pytest.raises(
                EndpointError, match=r"every request failed \(3 of 3\); the last: 400: this prompt is refused"
            ):
                identify_classification(client, ["Task 1", "Task 2", "Task 3"], Plain, STEP_2)


# endpoints that cannot work


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            Reply(401, {"error": {"message": "Incorrect API key"}}),
            r"the key was refused \(401\); check OPENAI_API_KEY in the environment",
        ),
        (Reply(403, {"error": {"message": "not your model"}}), r"the key was refused \(403\)"),
        (
            Reply(404, {"error": {"message": "unknown"}}),
            r"no model 'scripted' there for api='completions' \(404: unknown\).*try api='chat'",
        ),
        (Reply(404, "<html>not found"), r"check model and base_url"),
        (
            Reply(429, {"error": {"message": "no", "code": "insufficient_quota"}}, {"Retry-After-Ms": "1"}),
            "no credit left",
        ),
    ],
)
def test_an_endpoint_that_no_request_can_use_stops_at_once(tmp_path, reply, message):
    with ScriptedServer(lambda body: reply) as server:
        with connect("scripted", server.url, store=tmp_path / "s.sqlite", concurrency=2) as client:
            with pytest.raises(EndpointError, match=message):
                identify_classification(client, [f"Task {number}" for number in range(50)], Plain, STEP_2)
        assert len(server.bodies) <= 2 * 5


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_is_down_is_told_at_once(tmp_path):
    started = time.monotonic()
    with connect("scripted", f"http://127.0.0.1:{free_port()}/v1", store=tmp_path / "s.sqlite") as client:
        with pytest.raises(
            EndpointError, match=r"http://127\.0\.0\.1:\d+/v1: no server answers there .*start it, or check base_url"
        ):
            identify_classification(client, ["Task"], Plain, STEP_2)
    assert time.monotonic() - started < 3


def test_a_server_that_goes_away_midway_loses_nothing(tmp_path):
    with ScriptedServer(yes_or_no) as server:
        with connect("scripted", server.url, store=tmp_path / "s.sqlite") as client:
            identify_classification(client, ["Task 1"], Plain, STEP_2)
    with connect("scripted", server.url, store=tmp_path / "s.sqlite") as client:
        with pytest.raises(EndpointError, match="no server answers there"):
            identify_classification(client, ["Task 1", "Task 2"], Plain, STEP_2)
        assert identify_classification(client, ["Task 1"], Plain, STEP_2)[0].is_classification == " Yes"


# kill -9


RUN = """
import sys
from pathlib import Path
from selfinstruct.models import connect
from selfinstruct.steps import *
from selfinstruct.prompts import PromptSet, request_settings
from selfinstruct.files import write_records
url, out = sys.argv[1], Path(sys.argv[2])
sys.path.insert(0, {tests!r})
from helpers.bootstrapping import seed_tasks
with connect("scripted", url, store=out / "store.sqlite", concurrency=4) as client:
    rounds = generate_instructions(client, seed_tasks(), request_settings("instructions", False), num_instructions_to_generate=30)
    records = [record for round_ in rounds for record in round_.admitted]
    write_records(out / "machine_generated_instructions.jsonl", records)
    templates = PromptSet("Yes or no?\\n\\nTask:", "Labels first.\\n\\nTask:", "Inputs first.\\n\\nTask:", name="test")
    texts = [record.instruction for record in records]
    answers = identify_classification(client, texts, templates, request_settings("classification", False))
    write_records(out / "is_clf_or_not.jsonl", answers)
    labels = parse_labels(answers)
    made = generate_instances(client, records, labels, templates, request_settings("instances", False))
    write_records(out / "machine_generated_instances.jsonl", made)
print("done")
"""


def start_run(url: str, out: Path) -> subprocess.Popen:
    out.mkdir(exist_ok=True)
    code = RUN.format(tests=str(TESTS))
    return subprocess.Popen([sys.executable, "-c", code, url, str(out)], stdout=subprocess.PIPE, text=True)


def files_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.jsonl"))}


@pytest.mark.slow
def test_killed_at_5_random_moments_and_run_again_the_files_are_those_of_one_run(tmp_path):
    rng = random.Random(8)
    with ScriptedServer(scripted_model, latency_s=0.01) as server:
        assert start_run(server.url, tmp_path / "whole").communicate(timeout=60)[0] == "done\n"
        total = len(server.bodies)
        kills, received = 0, set()
        while kills < 5:
            before = len(server.bodies)
            run = start_run(server.url, tmp_path / "killed")
            # a random moment of the work still ahead: after so many more requests have arrived, and a little later
            ahead = rng.randint(1, max(2, total // 4))
            while len(server.bodies) < before + ahead and run.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.random() / 30)
            os.kill(run.pid, signal.SIGKILL)
            run.communicate()
            kills += 1
            asked_again = received & {prompt_of(body) + str(body["max_tokens"]) for body in server.bodies[before:]}
            assert not asked_again, "a response that was received has been fetched again"
            with ResponseStore(tmp_path / "killed" / "store.sqlite") as store:
                received = {row.request["prompt"] + str(row.request["max_tokens"]) for row in store.rows()}
        assert start_run(server.url, tmp_path / "killed").communicate(timeout=60)[0].endswith("done\n")
    assert len(received) > 20
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert len(files_of(tmp_path / "whole")) == 3
