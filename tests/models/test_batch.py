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
            return self._find(self.files, path)
        if path == "batches" and method == "GET":
            return Reply(body={"object": "list", "data": list(self.jobs.values()), "has_more": False})
        if path == "batches":
            return self._create(json.loads(raw))
        if path.startswith("batches/"):
            return self._find(self.jobs, path)
        return None

    @staticmethod
    def _find(there: dict, path: str) -> Reply:
        found = there.get(path.split("/")[1])
        return Reply(404, {"error": {"message": "no such object"}}) if found is None else Reply(body=found)

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
        self,
        job: str,
        status: str = "completed",
        line: Callable[[dict], dict | str | None] = lambda request: None,
        text: Callable[[str, str, int], str] = lambda key, line, number: line,
    ) -> None:
        """End a job. `line(request)` is a line of the result files, or None for a good answer; `text(key, line, number)` changes
        the lines of good ones.
        """
        good, bad = [], []
        for request in self.requests(job):
            told = line(request["body"])
            result = {
                "custom_id": request["custom_id"],
                "response": {"status_code": 200, "body": answer(request["body"], echo(request["body"]))},
            }
            if told is not None:
                result = {"custom_id": request["custom_id"], **told} if isinstance(told, dict) else told
            dumped = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
            (bad if told else good).append(dumped if told else text(request["custom_id"], dumped, len(good)))
        files = {
            name: self._keep("\n".join(lines).encode(errors="surrogateescape"))
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


ODD = {
    "cut off": lambda key: f'{{"custom_id": "{key}", "resp',
    "no JSON": lambda key: f"<html>{key}</html>",
    "a list": lambda key: json.dumps([key]),
    "nested without end": lambda key: f'{{"custom_id": "{key}", "response": {"[" * 5000 + "]" * 5000}}}',
    "a text for a response": lambda key: json.dumps({"custom_id": key, "response": "text"}),
    "a list for a response": lambda key: json.dumps({"custom_id": key, "response": [1]}),
    "no response": lambda key: json.dumps({"custom_id": key}),
    "a null body": lambda key: json.dumps({"custom_id": key, "response": {"status_code": 200, "body": None}}),
    "a body of text": lambda key: json.dumps({"custom_id": key, "response": {"status_code": 200, "body": "{}"}}),
    "no choices": lambda key: json.dumps({"custom_id": key, "response": {"status_code": 200, "body": {"choices": []}}}),
    "no text": lambda key: json.dumps(
        {"custom_id": key, "response": {"status_code": 200, "body": {"choices": [{"message": {"content": None}}]}}}
    ),
    "an error of text": lambda key: json.dumps({"custom_id": key, "response": None, "error": "broken"}),
    "an error of numbers": lambda key: json.dumps({"custom_id": key, "response": {}, "error": [5, {"code": 7}]}),
    "a code that is a list": lambda key: json.dumps({"custom_id": key, "error": {"code": ["x"], "message": {"a": 1}}}),
    "a status without an error": lambda key: json.dumps(
        {"custom_id": key, "response": {"status_code": 500, "body": {}}}
    ),
    "no line at all": lambda key: "",
    "a broken byte": lambda key: f'{{"custom_id": "{key}", "\udcff',
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.filterwarnings("ignore:batch batch_1")
def test_an_odd_line_costs_no_other_and_its_request_is_paid_again_by_a_new_command_only(batch, api, odd):
    submit(batch, asks(4))
    api.finish("batch_1", text=lambda key, line, number: odd(key) if number == 1 else line)
    for _ in range(2):
        with batch(batch_wait_s=0.1) as client:
            completions = client.complete(asks(4)[:1] + asks(4)[2:])
            assert [completion.error for completion in completions] == [None] * 3
    with batch(batch_wait_s=0.1) as client:
        for _ in range(2):
            assert client.complete(asks(4))[1].error
    assert list(api.jobs) == ["batch_1"]
    with ResponseStore(client.store.path) as store:
        assert len(store) == 3 and len(store.failures()) == 1
    submit(batch, asks(4))
    assert [prompt_of(line["body"]) for line in api.requests("batch_2")] == ["prompt 1"]
    api.finish("batch_2")
    with batch() as client:
        assert [completion.error for completion in client.complete(asks(4))] == [None] * 4


def test_lines_that_cannot_be_used_are_named_with_their_place(batch, api):
    submit(batch, asks(5))
    odd = ["{", "[]", '{"custom_id": 3}', '{"custom_id": "other"}']
    api.finish("batch_1", text=lambda key, line, number: [*odd, line][number])
    with pytest.warns(UserWarning) as told, batch() as client:
        client.complete(asks(5))
    assert str(told[0].message).startswith("batch batch_1: 4 of 5 lines are of no use: file-1:1: not JSON (")
    assert "; file-1:2: a list, not an object; file-1:3: its custom_id is '3'; and 1 more" in str(told[0].message)


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1e", "\r"])
def test_marks_that_python_takes_for_line_ends_are_part_of_an_answer(batch, api, mark):
    submit(batch, asks(2))
    inside = mark if mark > "\x7f" else json.dumps(mark)[1:-1]
    api.finish("batch_1", text=lambda key, line, number: line.replace("!", f"{inside}!"))
    with batch() as client:
        assert [completion.text for completion in client.complete(asks(2))] == [f" prompt {n}{mark}!" for n in range(2)]


def test_a_file_with_a_byte_order_mark_and_windows_line_ends_is_read(batch, api):
    submit(batch, asks(2))
    api.finish("batch_1", text=lambda key, line, number: "\ufeff" * (not number) + line + "\r")
    with batch() as client:
        assert [completion.error for completion in client.complete(asks(2))] == [None, None]


def test_of_two_lines_for_one_request_the_first_answer_counts_once(batch, api, prices):
    submit(batch, asks(3))
    error = json.dumps({"custom_id": "KEY", "response": None, "error": {"message": "broken"}})
    api.finish(
        "batch_1",
        text=lambda key, line, number: "\n".join(
            [error.replace("KEY", key), line, line.replace("!", "?"), error.replace("KEY", key)]
        ),
    )
    with batch(price_table=prices) as client:
        completions = client.complete(asks(3))
    assert [completion.text for completion in completions] == [f" prompt {number}!" for number in range(3)]
    assert client.usage.failed == 0
    assert client.budget.tokens == client.usage.prompt_tokens + client.usage.completion_tokens
    with ResponseStore(client.store.path) as store:
        assert store.failures() == []


def test_an_answer_that_is_downloaded_twice_is_paid_once(batch, api, prices):
    submit(batch, asks(4))
    api.finish("batch_1")
    with batch(price_table=prices) as client:
        paid = sum(one.prompt_tokens + one.completion_tokens for one in client.complete(asks(2)))
    keys = [line["custom_id"] for line in api.requests("batch_1")]
    with ResponseStore(client.store.path) as store:
        (job,) = store.batches(client.endpoint.identity)
        store.put_batch({**job, "keys": keys})  # as if killed before this was noted
    with batch(price_table=prices) as client:
        client.complete(asks(4))
    assert client.budget.tokens == 2 * paid  # both clients are of one command


def test_a_result_file_that_is_gone_fails_its_requests_and_they_can_be_asked_anew(batch, api):
    submit(batch, asks(2))
    api.finish("batch_1")
    del api.files[api.jobs["batch_1"]["output_file_id"]]
    gone = pytest.warns(UserWarning, match="file file-1: the provider does not know it")
    with gone, batch() as client, pytest.raises(EndpointError, match="batch_1 is completed without a line for it"):
        client.complete(asks(2))
    assert "batch_2: 2 requests" in submit(batch, asks(2))


def test_a_job_that_the_provider_does_not_know_is_not_paid_again(batch, api):
    submit(batch, asks(2))
    job = api.jobs.pop("batch_1")
    told = "batch batch_1: the provider does not know it .404.; check base_url and the account of the key"
    with batch() as client, pytest.raises(EndpointError, match=told):
        client.complete(asks(2))
    api.jobs["batch_1"] = job
    api.finish("batch_1")
    with batch() as client:
        assert client.complete(asks(2))[0].text == " prompt 0!"


@pytest.mark.parametrize("changes", [
    {"status": "queued"}, {"status": "IN_PROGRESS", "request_counts": None}, {"status": 7, "request_counts": "many"},
])  # fmt: skip
def test_a_state_that_is_no_end_is_on_its_way(batch, api, changes):
    submit(batch, asks(2))
    api.jobs["batch_1"] |= changes
    assert f"{changes['status']}, 0 done" in submit(batch, asks(2))


@pytest.mark.parametrize("ended", ["soon", 10**400, -1, True, [5], None])
def test_a_job_without_times_or_with_odd_ones_is_collected(batch, api, ended):
    submit(batch, asks(2))
    api.finish("batch_1", "COMPLETED")
    api.jobs["batch_1"] |= {"created_at": 1, "completed_at": ended, "metadata": ["x"], "errors": {"data": None}}
    with batch() as client:
        assert client.complete(asks(2))[1].error is None


def test_while_it_waits_for_its_jobs_it_submits_no_more_than_the_cap_pays_for(batch, api, prices, monkeypatch):
    most = (2 + 8) / 1000 / 2  # dollars: a prompt of 8 characters and max_tokens 8
    settings = {"api": "batch-completions", "price_table": prices, "max_cost_usd": most * 3.5}
    told = submit(batch, asks(10), batch_wait_s=0.1, **settings)
    assert "batch_1: 3 requests" in told and "max_cost_usd=0.0175 is reached: $0.0000 spent" in told
    submit(batch, asks(10), **settings)  # its jobs are on their way still
    assert [len(api.requests(job)) for job in api.jobs] == [3]
    monkeypatch.setattr("time.sleep", lambda seconds: [api.finish(job) for job in api.jobs])
    submit(batch, asks(10), batch_wait_s=1.0, **settings)
    with ResponseStore(batch().store.path) as store:
        paid = sum(row.prompt_tokens + row.completion_tokens for row in store.rows()) / 1000 / 2
    assert most * 2.5 < paid <= most * 3.5


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
    settings = {"api": "batch-completions", "price_table": prices}
    submit(batch, asks(10), **settings, max_cost_usd=most * 3.5)
    assert len(api.requests("batch_1")) == 3
    api.finish("batch_1")
    with batch(**settings) as client:
        client.complete(asks(3))
    tokens = client.usage.prompt_tokens + client.usage.completion_tokens
    assert client.usage.cost_usd == pytest.approx(tokens / 1000 / 2)
    told = submit(batch, [ask("one more")], **settings, max_cost_usd=most / 2)
    assert "max_cost_usd=0.0025 is reached" in told and "(1 requests are left); raise it to continue" in told


def test_waiting_collects_in_one_call(batch, api, monkeypatch):
    with batch(batch_wait_s=5.0) as client:
        client.poll_s = 0.01
        monkeypatch.setattr("time.sleep", lambda seconds: [api.finish(job) for job in api.jobs])
        assert len(client.complete(asks(3))) == 3
