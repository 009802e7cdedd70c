"""Batch jobs against a scripted Batch API: submit, exit, collect later; partial, failed, expired, and nothing submitted twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from helpers.asking import ask, asks, echo
from helpers.scripted import Reply, ScriptedServer, answer, prompt_of

from selfinstruct.files import EndpointError, StoppedEarly
from selfinstruct.models.claims import Claims
from selfinstruct.models.connection import connect
from selfinstruct.models.store import ResponseStore

NOW = 1_671_600_000


class BatchApi:
    """The files and batches of a provider. A job stays `in_progress` until `finish` is called."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict] = {}
        self.break_after_creating = False

    def __call__(self, method: str, path: str, raw: bytes) -> Reply | None:
        path = path.split("?")[0].removeprefix("/v1/")
        if path == "files":
            content = re.search(rb'filename="[^"]+\.jsonl".*?\r\n\r\n(.*?)\r\n--', raw, re.DOTALL)[1]
            return Reply(body={"id": self._keep(content), "object": "file"})
        if path.startswith("files/"):
            return Reply(body=self.files[path.split("/")[1]])
        if path == "batches" and method == "GET":
            return Reply(body={"object": "list", "data": list(self.jobs.values()), "has_more": False})
        if path == "batches":
            return self._create(json.loads(raw))
        if path.startswith("batches/"):
            return Reply(body=self.jobs[path.split("/")[1]])
        return None

    def _keep(self, content: bytes) -> str:
        self.files[f"file-{len(self.files)}"] = content
        return f"file-{len(self.files) - 1}"

    def _create(self, asked: dict) -> Reply:
        job = {
            "id": f"batch_{len(self.jobs) + 1}",
            "object": "batch",
            "status": "in_progress",
            "created_at": NOW,
            **asked,
        }
        self.jobs[job["id"]] = job
        return Reply(reset=True) if self.break_after_creating else Reply(body=job)

    def requests(self, job: str) -> list[dict]:
        """The lines of a job's input file."""
        return [json.loads(line) for line in self.files[self.jobs[job]["input_file_id"]].splitlines()]

    def finish(
        self, job: str, status: str = "completed", line: Callable[[dict], dict | str | None] = lambda request: None
    ) -> None:
        """End a job. `line(request)` is a line of the result files, or None for a good answer."""
        good, bad = [], []
        for request in self.requests(job):
            told = line(request["body"])
            result = {
                "custom_id": request["custom_id"],
                "response": {"status_code": 200, "body": answer(request["body"], echo(request["body"]))},
            }
            if told is not None:
                result = {"custom_id": request["custom_id"], **told} if isinstance(told, dict) else told
            (good if told is None else bad).append(result if isinstance(result, str) else json.dumps(result))
        files = {
            name: self._keep("\n".join(lines).encode())
            for name, lines in (("output_file_id", good), ("error_file_id", bad))
            if lines
        }
        self.jobs[job] |= {"status": status, "completed_at": NOW + 60, **files}


@pytest.fixture
def api():
    return BatchApi()


@pytest.fixture
def batch(api, tmp_path):
    """open_client(**settings), each time as a new command would, on one store and one provider."""
    with ScriptedServer(echo, route=api) as server:
        yield lambda **settings: connect(
            "scripted", server.url, **{"api": "batch", "store": tmp_path / "s.sqlite", **settings}
        )


def submit(batch, requests, **settings) -> str:
    with batch(**settings) as client, pytest.raises(StoppedEarly) as caught:
        client.complete(requests)
    return str(caught.value)


def test_requests_that_another_command_is_just_submitting_are_not_submitted_again(batch, api, tmp_path):
    with batch() as client, ResponseStore(tmp_path / "s.sqlite") as store:
        keys = [client._make_job(one).key for one in asks(3)]
        Claims(store).take_all(keys[:2], 600)
        with pytest.raises(StoppedEarly, match=r"batch_1: 1 requests, submitted"):
            client.complete(asks(3))
        with pytest.raises(StoppedEarly, match="batch of another command: 0 requests, just being submitted"):
            client.complete(asks(2))
        store.run("UPDATE claims SET pid = 0")  # it died before it was through
        assert "batch_2: 2 requests" in submit(batch, asks(2))
        assert store.run("SELECT * FROM claims") == []
    assert sorted(one["custom_id"] for job in api.jobs for one in api.requests(job)) == sorted(keys)


def failed_with(word: str, error: dict, status: int = 400):
    """`error` for the prompts with `word` in them, a good answer for the others."""
    return lambda body: (
        {"response": {"status_code": status, "body": {"error": error}}} if word in prompt_of(body) else None
    )


def expired(word: str):
    return lambda body: (
        {"response": None, "error": {"code": "batch_expired", "message": "too late"}}
        if word in prompt_of(body)
        else None
    )


def test_submit_exit_and_collect_with_the_same_command(batch, api):
    assert "batch batch_1: 5 requests, submitted; run the same command later" in submit(batch, asks(5))
    assert "batch batch_1: 5 requests, in_progress, 0 done" in submit(batch, asks(5))
    api.finish("batch_1")
    with batch() as client:
        completions = client.complete(asks(5))
    assert [completion.text for completion in completions] == [f" prompt {number}!" for number in range(5)]
    assert len(api.jobs) == 1
    assert {(line["method"], line["url"]) for line in api.requests("batch_1")} == {("POST", "/v1/chat/completions")}
    with batch() as client:
        assert all(completion.cached for completion in client.complete(asks(5)))


def test_a_job_of_a_completions_model(batch, api):
    submit(batch, asks(2), api="batch-completions")
    assert api.requests("batch_1")[0]["url"] == "/v1/completions"
    assert api.requests("batch_1")[0]["body"]["prompt"] == "prompt 0"


def test_what_a_batch_paid_a_live_run_does_not_pay_again(batch, api):
    submit(batch, asks(2))
    api.finish("batch_1")
    with batch() as client:
        client.complete(asks(2))
    with batch(api="chat") as client:
        assert client.complete(asks(2))[0].cached


def test_only_new_requests_are_submitted_while_a_job_runs(batch, api):
    submit(batch, asks(3))
    submit(batch, asks(5))
    assert [len(api.requests(job)) for job in api.jobs] == [3, 2]


def test_one_failed_request_is_recorded_and_the_next_run_submits_just_it(batch, api):
    submit(batch, asks(4))
    api.finish("batch_1", line=failed_with("2", {"message": "the prompt is refused", "code": "bad_prompt"}))
    with batch() as client:
        completions = client.complete(asks(4))
    assert [completion.error for completion in completions] == [None, None, "the prompt is refused", None]
    assert client.usage.failed == 1
    submit(batch, asks(4))
    assert [prompt_of(line["body"]) for line in api.requests("batch_2")] == ["prompt 2"]


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_expired_is_submitted_again_and_what_was_done_is_kept(batch, api, status):
    submit(batch, asks(4))
    api.finish("batch_1", status, expired("3"))
    submit(batch, asks(4))
    assert [prompt_of(line["body"]) for line in api.requests("batch_2")] == ["prompt 3"]
    api.finish("batch_2")
    with batch() as client:
        assert [completion.error for completion in client.complete(asks(4))] == [None] * 4


def test_a_job_the_provider_refuses_says_why_and_is_free_again(batch, api):
    submit(batch, asks(2))
    api.jobs["batch_1"] |= {
        "status": "failed",
        "errors": {"object": "list", "data": [{"message": "no such model", "code": "model"}]},
    }
    with batch() as client, pytest.raises(EndpointError, match="batch_1: refused by the provider \\(no such model\\)"):
        client.complete(asks(2))
    submit(batch, asks(2))
    assert list(api.jobs) == ["batch_1", "batch_2"]


def test_broken_lines_and_empty_choices_lose_only_themselves(batch, api):
    submit(batch, asks(4))
    empty = {"response": {"status_code": 200, "body": {"choices": []}}}
    api.finish("batch_1", line=lambda body: {"prompt 1": '{"custom_id": "x', "prompt 2": empty}.get(prompt_of(body)))
    assert "batch_2: 1 requests" in submit(
        batch, asks(4)
    )  # no line for prompt 1: asked again; an empty answer for 2: failed
    api.finish("batch_2")
    with batch() as client, pytest.raises(StoppedEarly):
        client.complete(asks(4))
    with ResponseStore(client.store.path) as store:
        assert len(store) == 3
        assert [failure["error"] for failure in store.failures()] == ["the answer has no choices"]


def test_a_refused_parameter_is_adapted_and_stays_adapted_in_later_runs(batch, api):
    refusal = failed_with(
        "", {"message": "Unsupported parameter: 'max_tokens', use 'max_completion_tokens'", "param": "max_tokens"}
    )
    submit(batch, asks(2))
    api.finish("batch_1", line=refusal)
    with pytest.warns(UserWarning, match="max_completion_tokens"):
        submit(batch, asks(2))
    assert "max_completion_tokens" in api.requests("batch_2")[0]["body"]
    api.finish(
        "batch_2",
        line=failed_with("", {"message": "Unsupported value: 'temperature' is not supported", "param": "temperature"}),
    )
    with pytest.warns(UserWarning, match="temperature"):
        submit(batch, asks(2))
    body = api.requests("batch_3")[0]["body"]
    assert "max_completion_tokens" in body and not {"max_tokens", "temperature"} & set(body)


def test_a_crash_between_submitting_and_noting_it_submits_nothing_twice(batch, api):
    api.break_after_creating = True
    with batch() as client, pytest.raises(EndpointError, match="the batch job: the connection broke"):
        client.complete(asks(3))
    api.break_after_creating = False
    assert "batch_1: 3 requests, in_progress" in submit(batch, asks(3))
    assert list(api.jobs) == ["batch_1"]


def test_a_submission_that_never_arrived_is_made_again(batch, api):
    api.break_after_creating = True
    with batch() as client, pytest.raises(EndpointError):
        client.complete(asks(3))
    api.jobs.clear()
    api.break_after_creating = False
    submit(batch, asks(3))
    assert len(api.requests("batch_1")) == 3


def test_a_job_is_split_at_the_provider_s_limit(batch, api, monkeypatch):
    monkeypatch.setattr("selfinstruct.models.batch.MAX_REQUESTS", 2)
    assert "batch_3: 1 requests" in submit(batch, asks(5))
    for job in list(api.jobs):
        api.finish(job)
    with batch() as client:
        assert len(client.complete(asks(5))) == 5


def test_another_step_s_job_is_left_alone_and_a_changed_run_loses_nothing(batch, api):
    submit(batch, asks(4))
    api.finish("batch_1")
    with batch() as client:
        client.complete(asks(2))  # a run over fewer
    with batch() as client:
        assert client.complete(asks(4))[3].text == " prompt 3!"
    assert len(api.jobs) == 1


def test_the_price_is_the_batch_price_and_the_cap_is_kept_before_submitting(batch, api, prices):
    most = (2 + 8) / 1000 / 2  # dollars: a prompt of 8 characters and max_tokens 8
    submit(batch, asks(10), price_table=prices, max_cost_usd=most * 3.5)
    assert len(api.requests("batch_1")) == 3
    api.finish("batch_1")
    with batch(price_table=prices) as client:
        client.complete(asks(3))
    tokens = client.usage.prompt_tokens + client.usage.completion_tokens
    assert client.usage.cost_usd == pytest.approx(tokens / 1000 / 2)
    told = submit(batch, [ask("one more")], price_table=prices, max_cost_usd=most / 2)
    assert "does not cover one more request" in told


def test_waiting_collects_in_one_call(batch, api, monkeypatch):
    with batch(batch_wait_s=5.0) as client:
        client.poll_s = 0.01
        monkeypatch.setattr("time.sleep", lambda seconds: [api.finish(job) for job in api.jobs])
        assert len(client.complete(asks(3))) == 3
