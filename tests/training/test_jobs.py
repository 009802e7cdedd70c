"""A provider's fine-tuning job against a loopback fake: estimate, upload, job, waiting, every end, and a stop at every point."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from helpers.finetuning import TUNED, FineTuningApi
from helpers.scripted import Reply, ScriptedServer

from selfinstruct.files import (
    EndpointError,
    InputError,
    ParameterError,
    StoppedEarly,
    iter_lines,
    read_json,
    write_records,
)
from selfinstruct.models.connection import connect
from selfinstruct.records import Request
from selfinstruct.runfolder import ALL_INSTANCES, FINETUNING, RunFolder
from selfinstruct.training import jobs
from selfinstruct.training.jobs import FOLDER, plan_job

KEY = "sk-proj-a-very-secret-key-9876543210"
SOON = {"retry-after-ms": "1"}


class Killed(BaseException):
    """What no except clause catches, as no process survives kill -9."""


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    write_records(
        folder / ALL_INSTANCES, [{"instruction": f"Count to {n}.", "input": "", "output": str(n)} for n in range(30)]
    )
    rows = [{"prompt": f"Count to {n}.\n", "completion": f"{n}<|endoftext|>"} for n in range(30)]
    write_records(folder / FINETUNING.replace("*", "30"), rows)
    return RunFolder(folder)


@pytest.fixture
def start(run, monkeypatch):
    """start(api, **settings): the command against that provider, always at `start.url`; `start.said` is what it printed."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said: list[str] = []
    with ScriptedServer(lambda body: "tuned", route=lambda *call: train.api(*call)) as server:

        def train(api, **settings):
            train.api = api
            common = {
                "training_price": 3.0,
                "job_wait_s": 30,
                "poll_s": 0.001,
                "tell": said.append,
                "base_url": server.url,
            }
            given = {**common, **settings}
            limit, wait, poll = given.pop("max_cost_usd", 0.0), given.pop("job_wait_s"), given.pop("poll_s")
            job = plan_job(run, given.pop("base_model", "scripted"), **given)
            said.append(job.estimate(limit))
            return job.work_off(wait, poll)

        train.said, train.url = said, server.url
        yield train


def state_of(run):
    return read_json(run / FOLDER / "job.json")


def test_upload_job_waiting_and_the_tuned_model(run, start):
    api = FineTuningApi("validating_files", "queued", "running", "running", "succeeded")
    record = start(api, epochs=2, learning_rate_multiplier=0.5, random_seed=7)
    assert record["model"] == TUNED and record["trained_tokens"] == 1234
    assert read_json(run / FOLDER / "training.json") == record
    (job,) = api.jobs.values()
    assert job["method"] == {
        "type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "learning_rate_multiplier": 0.5}},
    }  # fmt: skip
    assert "hyperparameters" not in {name for name in job if job[name]} and job["seed"] == 7
    assert [api.files[job[name]][0].rpartition("-")[2] for name in ("training_file", "validation_file")] == [
        "train.jsonl", "validation.jsonl",
    ]  # fmt: skip
    assert [line for line in start.said if line.startswith("job ftjob-1")] == [
        f"job ftjob-1: {status}" for status in ("validating_files", "queued", "running", "succeeded")
    ]


def test_the_trained_file_is_the_exported_file(run, start):
    api = FineTuningApi()
    record = start(api)
    (job,) = api.jobs.values()
    uploaded = hashlib.sha256(api.files[job["training_file"]][1]).hexdigest()
    exported = read_json(run / FOLDER / "data/export.json")["files"]["train.jsonl"]
    on_disk = hashlib.sha256((run / FOLDER / record["train_file"]["name"]).read_bytes()).hexdigest()
    assert uploaded == exported == on_disk == record["train_file"]["sha256"]


def test_the_tuned_model_is_asked_by_its_name(start, tmp_path):
    record = start(FineTuningApi())
    with ScriptedServer(lambda body: "tuned") as server:
        client = connect(record["model"], server.url, api="chat", store=tmp_path / "s.sqlite")
        (answer,) = client.complete([Request(prompt="p", max_tokens=5, temperature=0, top_p=1)])
    assert answer.text == "tuned" and server.bodies[0]["model"] == TUNED


# before anything is sent


def test_the_estimate_and_the_word_on_closing_come_first(run, start):
    start(FineTuningApi())
    state = state_of(run)
    lines = [line for _, line in iter_lines(run / FOLDER / "data/train.jsonl")]
    assert state["examples"] == len(lines) and state["estimated_tokens_trained"] == 2 * state["tokens"]
    assert state["estimated_cost_usd"] == pytest.approx(3.0 * 2 * state["tokens"] / 1e6)
    said = start.said
    assert "2 epochs" in said[0] and "$3 a million" in said[0] and "6 January 2027" in " ".join(said[0].split())
    assert next(number for number, line in enumerate(said) if line.startswith("uploaded")) > 0


def test_the_limit_stops_it_before_the_upload_and_a_higher_one_goes_on(run, start):
    api = FineTuningApi()
    with pytest.raises(StoppedEarly, match=r"max_cost_usd=0.0001 is reached.*nothing was uploaded"):
        start(api, max_cost_usd=0.0001, training_price=25)
    assert api.calls == []
    assert start(api, max_cost_usd=5, training_price=25)["model"] == TUNED


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"training_price": -1.0}, "training_price is not set"),
        ({"epochs": 0}, "epochs=0"),
        ({"base_model": "embedded", "base_url": ""}, "is no provider's"),
        ({"base_model": ""}, "is no provider's"),
    ],
)
def test_a_wrong_parameter_is_one_sentence_before_anything_is_written(run, start, settings, says):
    with pytest.raises(ParameterError, match=says):
        start(FineTuningApi(), **settings)
    assert not (run / FOLDER).exists()


def test_too_few_examples_are_refused_before_anything_is_sent(run, start):
    write_records(
        run / FINETUNING.replace("*", "30"), [{"prompt": "Count to 1.\n", "completion": "1<|endoftext|>"}] * 5
    )
    api = FineTuningApi()
    with pytest.raises(InputError, match="at least 10"):
        start(api, validation=0.0)
    assert api.calls == []


def test_another_job_in_the_same_folder_is_refused(run, start):
    start(FineTuningApi())
    elsewhere = start.url.replace("127.0.0.1", "localhost")
    for settings in ({"epochs": 3}, {"base_model": "another"}, {"random_seed": 1}, {"base_url": elsewhere}):
        with pytest.raises(ParameterError, match="this job began with other values of"):
            start(FineTuningApi(), **settings)
    (run / FOLDER / "data/train.jsonl").write_text("{}\n")
    with pytest.raises(ParameterError, match=r"train\.jsonl; choose another run_dir"):
        start(FineTuningApi())


def test_rows_that_changed_since_the_upload_are_refused(run, start):
    start(FineTuningApi())
    write_records(run / FINETUNING.replace("*", "30"), [{"prompt": "Count to 1.\n", "completion": "1<|endoftext|>"}])
    with pytest.raises(ParameterError, match="rows_sha256"):
        start(FineTuningApi())


# how it ends


def test_a_job_that_takes_longer_is_left_and_collected_later(run, start):
    api = FineTuningApi("running")
    with pytest.raises(
        StoppedEarly, match="job ftjob-1: running; it goes on at the provider: run the same command later"
    ):
        start(api, job_wait_s=0)
    api.statuses = ["succeeded"]
    assert start(api, job_wait_s=0)["model"] == TUNED
    assert api.calls.count("POST files") == 2 and api.calls.count("POST jobs") == 1


def test_a_failure_is_in_the_provider_s_own_words_and_starts_nothing_again(run, start):
    api = FineTuningApi("failed", error={"code": "bad_file", "message": "line 3 is unsafe", "param": "training_file"})
    api.events = ["Validating", "The job failed: moderation"]
    for _ in range(2):
        with pytest.raises(
            EndpointError, match=r"ftjob-1: failed \(line 3 is unsafe; Validating; The job failed: moderation\)"
        ):
            start(api)
    assert len(api.jobs) == 1 and state_of(run)["status"] == "failed"
    assert not (run / FOLDER / "training.json").exists()


def test_a_cancelled_job_is_named(start):
    api = FineTuningApi("running", "cancelled")
    api.events = ["cancelled by a colleague"]
    with pytest.raises(EndpointError, match=r"ftjob-1: cancelled \(cancelled by a colleague\)"):
        start(api)


def test_a_job_that_succeeds_without_a_model_is_no_success(start, monkeypatch):
    api = FineTuningApi("succeeded")
    monkeypatch.setattr("helpers.finetuning.TUNED", "")
    with pytest.raises(EndpointError, match="succeeded, without the name of a model"):
        start(api)


def test_a_job_that_the_provider_forgot_is_named(run, start):
    api = FineTuningApi("running")
    with pytest.raises(StoppedEarly):
        start(api, job_wait_s=0)
    api.jobs.clear()
    with pytest.raises(EndpointError, match=r"job ftjob-1: the provider does not know it \(404: no job ftjob-1\)"):
        start(api)


# errors of the way


@pytest.mark.parametrize("call", ["POST files", "POST jobs", "GET job", "GET events"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_provider_is_asked_again_and_nothing_is_made_twice(start, call, status):
    api = FineTuningApi("running", "succeeded")
    api.replies[call] = [Reply(status, {"error": {"message": "later"}}, SOON) for _ in range(2)]
    assert start(api)["model"] == TUNED
    assert len(api.files) == 2 and len(api.jobs) == 1 and not api.replies[call]


@pytest.mark.parametrize("call", ["POST files", "POST jobs"])
def test_an_answer_that_is_lost_makes_nothing_twice(start, call, monkeypatch):
    monkeypatch.setattr(jobs, "find_pause", lambda error, retries: 0.001)
    api = FineTuningApi()
    api.lost = [call]
    assert start(api)["model"] == TUNED
    assert len(api.files) == 2 and len(api.jobs) == 1


@pytest.mark.parametrize("call", ["POST files", "POST jobs", "GET job"])
def test_an_error_for_good_is_explained_and_the_next_start_goes_on(start, call):
    api = FineTuningApi()
    api.replies[call] = [Reply(400, {"error": {"message": f"no, not with {KEY}"}})]
    with pytest.raises(EndpointError) as error:
        start(api)
    assert "no, not with [key]" in str(error.value)
    assert start(api)["model"] == TUNED
    assert len(api.files) == 2 and len(api.jobs) == 1


def test_a_refused_key_and_a_server_without_jobs_say_what_to_do(start):
    for status, says in ((401, "check OPENAI_API_KEY"), (404, "not every server tunes models")):
        api = FineTuningApi()
        api.replies["POST files"] = [Reply(status, {"error": {"message": "no"}})]
        with pytest.raises(EndpointError, match=says):
            start(api)


@pytest.mark.parametrize("call", ["POST files", "POST jobs", "GET job"])
@pytest.mark.parametrize("garbage", ["<html>hello</html>", "{cut", "[]", "{}"])
def test_an_answer_of_another_form_is_named_and_the_next_start_goes_on(start, call, garbage):
    api = FineTuningApi()
    api.replies[call] = [Reply(200, garbage, {"content-type": "application/json"})]
    with pytest.raises(EndpointError, match="check base_url"):
        start(api)
    assert start(api)["model"] == TUNED and (len(api.files), len(api.jobs)) == (2, 1)


def test_a_file_that_is_not_ready_is_waited_for(start, monkeypatch):
    monkeypatch.setattr(jobs, "NOT_READY_PAUSE_S", 0.001)
    api = FineTuningApi()
    api.replies["POST jobs"] = [
        Reply(400, {"error": {"message": "file-1 is still being processed and is not ready"}})
    ] * 3
    assert start(api)["model"] == TUNED and len(api.jobs) == 1


def test_the_key_shows_nowhere(run, start):
    api = FineTuningApi("running", "failed", error={"code": KEY, "message": f"bad key {KEY}", "param": None})
    api.events = [f"event with {KEY}"]
    api.replies["POST jobs"] = [Reply(500, {"error": {"message": KEY}}, SOON)]
    with pytest.raises(EndpointError) as error:
        start(api)
    assert "bad key [key]" in str(error.value)
    texts = [
        str(error.value),
        *start.said,
        *(path.read_text("utf-8") for path in run.path.rglob("*") if path.is_file()),
    ]
    assert not any(KEY in text for text in texts)


# a stop at every point


def count_notes(start, monkeypatch) -> int:
    notes, real = [], jobs.ProviderJob.note
    with monkeypatch.context() as patch:
        patch.setattr(jobs.ProviderJob, "note", lambda self, **facts: (notes.append(facts), real(self, **facts))[1])
        start(FineTuningApi("running", "succeeded"))
    return len(notes)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_around_every_note_makes_nothing_twice(run, start, monkeypatch, tmp_path, when):
    total = count_notes(start, monkeypatch)
    assert total >= 10
    real = jobs.ProviderJob.note
    for at in range(total):
        (run / FOLDER).rename(tmp_path / f"{when}-{at}")
        api, count = FineTuningApi("running", "succeeded"), []

        def note(self, at=at, count=count, **facts):
            count.append(1)
            if len(count) == at + 1:
                if when == "after":
                    real(self, **facts)
                raise Killed
            real(self, **facts)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(jobs.ProviderJob, "note", note)
            start(api)
        assert start(api)["model"] == TUNED
        assert (len(api.files), len(api.jobs)) == (2, 1), at


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(start, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    api = FineTuningApi("running")
    with monkeypatch.context() as patch, pytest.raises(StoppedEarly, match="the same command collects it"):
        patch.setattr(jobs, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
        start(api)
    api.statuses = ["succeeded"]
    assert start(api)["model"] == TUNED and len(api.jobs) == 1


def test_kill_9_while_the_job_is_being_created_makes_no_second_one(run, start):
    api, delays = FineTuningApi(), [30.0]

    def slow_once(method, path, raw):
        reply = api(method, path, raw)
        if (method, path) == ("POST", "/v1/fine_tuning/jobs") and delays:
            reply.delay_s = delays.pop()
        return reply

    code = "import sys; from selfinstruct.training.jobs import plan_job as t; from selfinstruct.runfolder import RunFolder as R; "
    code += "j = t(R(sys.argv[1]), 'scripted', base_url=sys.argv[2], training_price=3.0); j.estimate(); j.work_off(30)"
    start.api = slow_once
    command = subprocess.Popen([sys.executable, "-c", code, str(run.path), start.url], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not api.jobs and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    assert json.loads((run / FOLDER / "job.json").read_text())["job_id"] == ""
    assert start(api)["model"] == TUNED
    assert (len(api.files), len(api.jobs)) == (2, 1)
