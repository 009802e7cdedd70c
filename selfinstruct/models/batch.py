"""Batch jobs: the provider's Batch API at its lower price. Submit, exit, run the same command later to collect.

    client = connect("gpt-4o-mini", "openai", api="batch")
    client.complete(requests)       # 1st run: StoppedEarly, "batch b_1: 120 requests submitted ..."
    client.complete(requests)       # once the job is done: the completions, as from any other client

A job is written into the store before it is submitted and carries our tag, so that a crash in between submits nothing
twice. What expired or was cancelled is submitted again. What failed for good, or may have been paid for and cannot be read, is
recorded, and a new command asks it again; each line of a result file is judged by itself.
"""

from __future__ import annotations

import json
import re
import time
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

from ..files import EndpointError, StoppedEarly
from ..servers.adaptation import Adaptation
from ..servers.deadline import Deadline
from .client import ModelClient
from .endpoint import RequestFailed, decode_answer
from .protocol import Job, StoredResponse, expect_tokens, find_fault, sends_chat
from .spending import Amount

MAX_REQUESTS = 50_000  # the provider's limits for one job
MAX_BYTES = 190_000_000
CLAIM_S = 600.0  # in which a file is sent and its job written down
POLL_S = 15.0
SUBMISSIONS_A_CALL = 5
CALL_S = 1800.0  # for one call: files of 190 MB go up and down
NAMED_LINES = 3  # of a result file, in a warning
KEY = re.compile(r"[0-9a-f]{64}")
TAG = "selfinstruct"
OPEN = ("submitting", "submitted")
ENDED = ("completed", "failed", "expired", "cancelled", "canceled")
ASK_AGAIN = ("batch_expired", "batch_cancelled")


class BatchClient(ModelClient):
    """A client whose requests go out as batch jobs; see the module. `wait_s` is how long a call waits for its jobs."""

    transport = "batch"

    def __init__(self, *args: Any, wait_s: float = 0.0, poll_s: float = POLL_S):
        super().__init__(*args)
        self.wait_s, self.poll_s = wait_s, poll_s

    def _fetch(self, jobs: list[Job], desc: str, cached: int) -> dict[str, StoredResponse]:
        answers: dict[str, StoredResponse] = {}
        try:
            self._adopt_lost_jobs()
            self._work_off({job.key: job for job in jobs}, answers)
        except KeyboardInterrupt:
            left = "submitted batch jobs go on, the same command collects them"
            raise StoppedEarly(f"stopped by Ctrl-C; {left}") from None
        except StoppedEarly:
            self._tally.add([*answers, *self._failures], answers)
            raise
        return answers

    def _work_off(self, wanted: dict[str, Job], answers: dict[str, StoredResponse]) -> None:
        """Collect, submit what is in no job, and wait, until every request has its answer or its error."""
        deadline, submissions = time.monotonic() + self.wait_s, 0
        while True:
            news, running = self._collect(wanted)
            answers |= news
            taken = {key for row in running for key in row["keys"]}
            free = [job for key, job in wanted.items() if not (key in answers or key in self._failures or key in taken)]
            if not running and not free:
                return
            limit = ""
            if free and submissions < SUBMISSIONS_A_CALL:
                self.budget.reserved = self._expect([wanted[key] for key in taken if key in wanted])
                more, limit = self._submit(free, waits=bool(running))
                running, submissions = running + more, submissions + bool(more)
            if time.monotonic() >= deadline:
                raise self._explain_running(running, limit)
            time.sleep(min(self.poll_s, max(0.0, deadline - time.monotonic())))

    def _explain_running(self, running: list[dict[str, Any]], limit: str) -> StoppedEarly:
        states = [f"batch {row['batch_id']}: {len(row['keys'])} requests, {row['state']}" for row in running]
        jobs = "; ".join(states) or f"{SUBMISSIONS_A_CALL} batch jobs left requests unanswered"
        where = self.endpoint.provider.base_url
        return StoppedEarly(f"{where}: {jobs}; {limit and limit + '; '}run the same command later to collect them")

    def _call(self, what: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        """A call of the library, its errors explained as everywhere else, or Gone where the provider does not know `what`."""
        import openai

        with Deadline(CALL_S):
            try:
                return call(*args, **kwargs)
            except openai.NotFoundError:
                advice = "check base_url and the account of the key"
                raise Gone(f"{what}: the provider does not know it (404); {advice}") from None
            except openai.OpenAIError as error:
                reason = self.endpoint.explain_error(error)
                raise (EndpointError(f"{what}: {reason}") if isinstance(reason, RequestFailed) else reason) from None

    def _adopt_lost_jobs(self) -> None:
        """Find jobs whose submission was cut short: submitted after all, they carry our tag; else their requests are free."""
        rows = self.store.batches(self.endpoint.identity)
        unknown = {row["tag"]: row for row in rows if row["status"] == "submitting"}
        if not unknown:
            return
        for batch in self._call("the list of batch jobs", lambda: list(self.endpoint.client.batches.list(limit=100))):
            tag = batch.metadata.get(TAG) if isinstance(batch.metadata, dict) else None
            if row := unknown.pop(tag, None):
                self.store.put_batch({**row, "batch_id": batch.id, "status": "submitted"})
        for row in unknown.values():
            self.store.put_batch({**row, "status": "dropped"})

    def _collect(self, wanted: dict[str, Job]) -> tuple[dict[str, StoredResponse], list[dict[str, Any]]]:
        """What finished jobs brought for `wanted`, and the jobs that still run."""
        answers: dict[str, StoredResponse] = {}
        running = []
        for row in self.store.batches(self.endpoint.identity):
            if row["status"] not in OPEN or not any(key in wanted for key in row["keys"]):
                continue
            name = row["batch_id"]
            batch = self._call(f"batch {name}", self.endpoint.client.batches.retrieve, name)
            if _read_status(batch) in ENDED:
                answers |= self._collect_job(row, batch, wanted)
            else:
                done = getattr(batch.request_counts, "completed", None) or 0
                running.append({**row, "state": f"{batch.status}, {done} done"})
        return answers, running

    def _collect_job(self, row: dict[str, Any], batch: Any, wanted: dict[str, Job]) -> dict[str, StoredResponse]:
        """Store what one ended job brought. A job that also holds requests that nobody wants now stays open for them."""
        self.endpoint.adaptation = Adaptation({**row["changes"], **self.endpoint.adaptation.changes})
        if _read_status(batch) == "failed":
            self.store.put_batch({**row, "status": "collected"})
            errors = [str(getattr(error, "message", error)) for error in getattr(batch.errors, "data", None) or []]
            why = self.endpoint.hide_key("; ".join(errors[:3])) or "no reason given"
            refused = f"refused by the provider ({why})"
            raise EndpointError(f"batch {row['batch_id']}: {refused}; the next run submits it again")
        mine = {key: wanted[key] for key in row["keys"] if key in wanted}
        lines = [line for file in (batch.output_file_id, batch.error_file_id) for line in self._read_file(file)]
        self._name_odd_lines(row, lines)
        answers = self._store_good_lines(lines, mine, _measure_seconds(batch))
        judged = {
            *answers,
            *self._failures,
            *self._judge_errors(lines, mine, {*answers, *self._failures}, row["changes"]),
        }
        for key in mine.keys() - judged if _read_status(batch) == "completed" else ():
            self._record_failure(mine[key], f"batch {row['batch_id']} is completed without a line for it")
        left = [key for key in row["keys"] if key not in mine]
        self.store.put_batch({**row, "keys": left or row["keys"], "status": row["status"] if left else "collected"})
        return answers

    def _read_file(self, file_id: Any) -> list[Line]:
        """The lines of a result file; one line that says so where the file is gone."""
        if not file_id:
            return []
        try:
            file = self._call(f"file {file_id}", self.endpoint.client.files.content, str(file_id))
        except Gone as error:
            return [Line(str(file_id), odd=str(error))]
        # at "\n" alone: U+2028 and its like are part of a text
        lines = enumerate(file.content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
        texts = ((number, self.endpoint.hide_key(line.decode("utf-8", "replace"))) for number, line in lines)
        return [read_line(f"{file_id}:{number}", text) for number, text in texts if text.strip()]

    def _name_odd_lines(self, row: dict[str, Any], lines: list[Line]) -> None:
        """Warn of lines that nobody can read or that are for nobody, each with its place."""
        reasons = (
            f"custom_id {line.key[:70]!r} is none of ours" if line.key and not KEY.fullmatch(line.key) else line.odd
            for line in lines
        )
        odd = [f"{line.where}: {reason}" for line, reason in zip(lines, reasons, strict=True) if reason]
        if odd:
            more = f"; and {len(odd) - NAMED_LINES} more" if len(odd) > NAMED_LINES else ""
            listed = "; ".join(odd[:NAMED_LINES]) + more
            warnings.warn(
                f"batch {row['batch_id']}: {len(odd)} of {len(lines)} lines are of no use: {listed}", stacklevel=2
            )

    def _store_good_lines(self, lines: list[Line], mine: dict[str, Job], seconds: float) -> dict[str, StoredResponse]:
        """Store the first answer to each request; one that cannot be used is a failure."""
        answers: dict[str, StoredResponse] = {}
        for line in lines:
            if line.answer is None or line.key not in mine or line.key in answers or line.key in self._failures:
                continue
            try:
                answers[line.key] = self._store_answer(mine[line.key], line.answer, seconds)
            except RequestFailed as error:
                self._record_failure(mine[line.key], str(error), line.text)
        return answers

    def _judge_errors(
        self, lines: list[Line], mine: dict[str, Job], settled: set[str], changes: dict[str, str]
    ) -> set[str]:
        """Record requests that failed for good; one that expired, or asked for what the model refuses, is submitted again.

        Returns the keys of both.
        """
        judged: set[str] = set()
        for line in lines:
            key = line.key or next((key for key in KEY.findall(line.text) if key in mine), "")
            if line.answer is not None or key not in mine or key in settled | judged:
                continue
            judged.add(key)
            facts = line.error if isinstance(line.error, dict) else {"message": str(line.error or line.odd)}
            if facts.get("code") in ASK_AGAIN:
                continue
            sent, message = Adaptation(changes).adapt(mine[key].body), facts.get("message")
            refusal = SimpleNamespace(message=message, code=facts.get("code"), param=facts.get("param"), body=facts)
            if line.odd or not self.endpoint.adaptation.learn(refusal, sent, mine[key].body):
                self._record_failure(mine[key], str(message or facts)[:300], line.text)
        return judged

    def _submit(self, jobs: list[Job], waits: bool) -> tuple[list[dict[str, Any]], str]:
        """Submit `jobs`, as many as the limits surely pay for; returns the rows of the new batch jobs, and the limit that was met.

        A job cannot be stopped halfway. StoppedEarly where not one request fits, unless running jobs may leave room: `waits`.
        """
        chosen, limit = self._choose_affordable(jobs)
        if limit and not chosen and not waits:
            raise StoppedEarly(f"{limit} ({len(jobs)} requests are left); raise it to continue")
        url = "/v1/chat/completions" if sends_chat(self.endpoint.api) else "/v1/completions"
        parts = _split_jobs(chosen, self.endpoint.adaptation, url)
        return [self._submit_job(part, url) for part in parts], limit

    def _submit_job(self, lines: dict[str, str], url: str) -> dict[str, Any]:
        mine = self._claims.take_all(lines, CLAIM_S)
        lines = {key: line for key, line in lines.items() if key in mine}
        if not lines:
            return {"batch_id": "of another command", "keys": [], "state": "just being submitted"}
        client, tag = self.endpoint.client, uuid.uuid4().hex
        row = {"tag": tag, "batch_id": "", "endpoint": self.endpoint.identity, "status": "submitting"}
        # to the microsecond: jobs of one submission keep their order
        row |= {
            "submitted_at": str(datetime.now(UTC).replace(tzinfo=None)),
            "keys": list(lines),
            "changes": self.endpoint.adaptation.changes,
        }
        content = "".join(lines.values()).encode()
        upload = {"file": (f"{TAG}-{tag}.jsonl", content), "purpose": "batch"}
        file = self._call("the batch job", client.files.create, **upload)
        self.store.put_batch(row)
        # not retried by the library: a second job might come of it; if this call dies, the next run finds the job by its tag
        asked = {"input_file_id": file.id, "endpoint": url, "completion_window": "24h", "metadata": {TAG: tag}}
        batch = self._call("the batch job", client.with_options(max_retries=0).batches.create, **asked)
        row |= {"batch_id": batch.id, "status": "submitted"}
        self.store.put_batch(row)
        return {**row, "state": "submitted"}

    def _choose_affordable(self, jobs: list[Job]) -> tuple[list[Job], str]:
        """The first of `jobs` that stay within the limits even if each uses its `max_tokens`, and the limit for the next one."""
        total = Amount()
        for number, job in enumerate(jobs):
            total = total.plus(self._expect([job]))
            if limit := self.budget.find_limit(total):
                return jobs[:number], limit
        return jobs, ""

    def _expect(self, jobs: list[Job]) -> Amount:
        """What `jobs` come to if each uses its `max_tokens`."""
        counts = [expect_tokens(job) for job in jobs]
        return self.budget.measure(*map(sum, zip(*counts, strict=True)), self.transport) if counts else Amount()


class Gone(EndpointError):
    """The provider does not know a job or a file."""


class Line(NamedTuple):
    """A line of a result file: whose it is, and its answer, or the error in it, or what is odd about it."""

    where: str
    key: str = ""
    answer: dict[str, Any] | None = None
    error: Any = None
    odd: str = ""
    text: str = ""


def read_line(where: str, text: str) -> Line:
    """One line of a result file, whatever is in it.

    >>> read_line("file-1:3", '{"custom_id": "k", "response": "text"}').odd
    'the response is a str, not an object'
    """
    try:
        result = decode_answer(text)
    except (ValueError, RecursionError) as error:
        return Line(where, odd=f"not JSON ({error or 'nested too deeply'}): {text[:40]!r}", text=text)
    if not isinstance(result, dict):
        return Line(where, odd=f"a {type(result).__name__}, not an object", text=text)
    key, response = result.get("custom_id"), result.get("response")
    if not isinstance(key, str) or not key:
        return Line(where, odd=f"its custom_id is {str(key)[:40]!r}", text=text)
    answer = response.get("body") if isinstance(response, dict) else None
    if isinstance(response, dict) and str(response.get("status_code", 200)) == "200" and find_fault(answer) is None:
        return Line(where, key, answer, text=text)
    error = result.get("error") or (answer.get("error") if isinstance(answer, dict) else None)
    if error:
        return Line(where, key, error=error, text=text)
    odd = (
        find_fault(answer)
        if isinstance(response, dict)
        else f"the response is a {type(response).__name__}, not an object"
    )
    return Line(where, key, odd=odd or f"status {response.get('status_code')} without an error", text=text)


def _read_status(batch: Any) -> str:
    """The status of a job; what is no end, known or not, is on its way."""
    return str(batch.status).lower()


def _measure_seconds(batch: Any) -> float:
    """How long a job took, 0 where the provider does not say."""
    times = [batch.created_at, batch.completed_at or batch.expired_at]
    are_times = all(isinstance(time, int | float) and 0 < time < 1e11 for time in times)
    return max(0.0, float(times[1] - times[0])) if are_times else 0.0


def _split_jobs(jobs: list[Job], adaptation: Adaptation, url: str) -> Iterator[dict[str, str]]:
    """{key: line of the input file} of each batch job, within the provider's limits."""
    part: dict[str, str] = {}
    size = 0
    for job in jobs:
        body = adaptation.adapt(job.body)
        line = json.dumps({"custom_id": job.key, "method": "POST", "url": url, "body": body}) + "\n"
        if part and (len(part) == MAX_REQUESTS or size + len(line) > MAX_BYTES):
            yield part
            part, size = {}, 0
        part[job.key] = line
        size += len(line)
    if part:
        yield part
