"""Batch jobs: the provider's Batch API at its lower price. Submit, exit, run the same command later to collect.

    client = connect("gpt-4o-mini", "openai", api="batch")
    client.complete(requests)       # 1st run: StoppedEarly, "batch b_1: 120 requests submitted ..."
    client.complete(requests)       # once the job is done: the completions, as from any other client

A job is written into the store before it is submitted and carries our tag, so that a crash in between submits nothing
twice. What expired or was cancelled is submitted again, what failed for good is recorded and the run goes on.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from ..files import EndpointError, StoppedEarly
from .adaptation import Adaptation
from .client import ModelClient
from .endpoint import RequestFailed, decode_answer
from .protocol import Job, StoredResponse, approximate_tokens, find_fault, sends_chat

MAX_REQUESTS = 50_000  # the provider's limits for one job
MAX_BYTES = 190_000_000
POLL_S = 15.0
SUBMISSIONS_A_CALL = 5
TAG = "selfinstruct"
OPEN = ("submitting", "submitted")
RUNNING = ("validating", "in_progress", "finalizing", "cancelling")
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
            if free and submissions < SUBMISSIONS_A_CALL:
                running += self._submit(free)
                submissions += 1
            if time.monotonic() >= deadline:
                states = [f"batch {row['batch_id']}: {len(row['keys'])} requests, {row['state']}" for row in running]
                jobs = "; ".join(states) or f"{SUBMISSIONS_A_CALL} batch jobs left requests unanswered"
                where = self.endpoint.provider.base_url
                raise StoppedEarly(f"{where}: {jobs}; run the same command later to collect them")
            time.sleep(min(self.poll_s, max(0.0, deadline - time.monotonic())))

    def _call(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        """A call of the library, its errors explained as everywhere else."""
        import openai

        try:
            return call(*args, **kwargs)
        except openai.OpenAIError as error:
            reason = self.endpoint.explain_error(error)
            raise (EndpointError(f"the batch job: {reason}") if isinstance(reason, RequestFailed) else reason) from None

    def _adopt_lost_jobs(self) -> None:
        """Find jobs whose submission was cut short: submitted after all, they carry our tag; else their requests are free."""
        rows = self.store.batches(self.endpoint.identity)
        unknown = {row["tag"]: row for row in rows if row["status"] == "submitting"}
        if not unknown:
            return
        for batch in self._call(lambda: list(self.endpoint.client.batches.list(limit=100))):
            if row := unknown.pop((batch.metadata or {}).get(TAG), None):
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
            batch = self._call(self.endpoint.client.batches.retrieve, row["batch_id"])
            if batch.status in RUNNING:
                done = batch.request_counts.completed if batch.request_counts else 0
                running.append({**row, "state": f"{batch.status}, {done} done"})
            else:
                answers |= self._collect_job(row, batch, wanted)
        return answers, running

    def _collect_job(self, row: dict[str, Any], batch: Any, wanted: dict[str, Job]) -> dict[str, StoredResponse]:
        """Store what one finished job brought. A job that also holds other requests stays open for them."""
        self.endpoint.adaptation = Adaptation({**row["changes"], **self.endpoint.adaptation.changes})
        if batch.status == "failed":
            self.store.put_batch({**row, "status": "collected"})
            errors = [str(error.message) for error in (batch.errors.data or [])] if batch.errors else []
            why = self.endpoint.hide_key("; ".join(errors[:3])) or "no reason given"
            refused = f"refused by the provider ({why})"
            raise EndpointError(f"batch {row['batch_id']}: {refused}; the next run submits it again")
        answers = {}
        seconds = max(0.0, (batch.completed_at or batch.expired_at or batch.created_at) - batch.created_at)
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in self._call(self.endpoint.client.files.content, file_id).text.splitlines():
                if stored := self._read_line(line, wanted, row["changes"], seconds):
                    answers[stored.key] = stored
        if all(key in wanted for key in row["keys"]):
            self.store.put_batch({**row, "status": "collected"})
        return answers

    def _read_line(
        self, line: str, wanted: dict[str, Job], changes: dict[str, str], seconds: float
    ) -> StoredResponse | None:
        """The response in one line of a result file, stored; None for a failed or foreign one."""
        try:
            result = decode_answer(self.endpoint.hide_key(line))
            job = wanted[result["custom_id"]]
        except (ValueError, KeyError, TypeError):  # broken, or of another step: asked again, or left there
            return None
        response = result.get("response") or {}
        answer = response.get("body")
        if response.get("status_code") == 200 and find_fault(answer) is None:
            return self._store_answer(job, answer, seconds)
        error = result.get("error") or (answer.get("error") if isinstance(answer, dict) else None) or find_fault(answer)
        self._judge_line(job, error, changes)
        return None

    def _judge_line(self, job: Job, error: Any, changes: dict[str, str]) -> None:
        """Record a request that failed for good; one that expired, or asked for what the model refuses, is submitted again."""
        facts = error if isinstance(error, dict) else {"message": str(error)}
        if facts.get("code") in ASK_AGAIN:
            return
        sent = Adaptation(changes).adapt(job.body)
        message = facts.get("message")
        refusal = SimpleNamespace(message=message, code=facts.get("code"), param=facts.get("param"), body=facts)
        if not self.endpoint.adaptation.learn(refusal, sent, job.body):
            self._record_failure(job, self.endpoint.hide_key(str(message or facts))[:300])

    def _submit(self, jobs: list[Job]) -> list[dict[str, Any]]:
        """Submit `jobs`, as many as the limits surely pay for, and return the rows of the new batch jobs."""
        url = "/v1/chat/completions" if sends_chat(self.endpoint.api) else "/v1/completions"
        parts = _split_jobs(self._choose_affordable(jobs), self.endpoint.adaptation, url)
        return [self._submit_job(part, url) for part in parts]

    def _submit_job(self, lines: dict[str, str], url: str) -> dict[str, Any]:
        client, tag = self.endpoint.client, uuid.uuid4().hex
        row = {"tag": tag, "batch_id": "", "endpoint": self.endpoint.identity, "status": "submitting"}
        # to the microsecond: jobs of one submission keep their order
        row |= {
            "submitted_at": str(datetime.now(UTC).replace(tzinfo=None)),
            "keys": list(lines),
            "changes": self.endpoint.adaptation.changes,
        }
        content = "".join(lines.values()).encode()
        file = self._call(client.files.create, file=(f"{TAG}-{tag}.jsonl", content), purpose="batch")
        self.store.put_batch(row)
        # not retried by the library: a second job might come of it; if this call dies, the next run finds the job by its tag
        create = client.with_options(max_retries=0).batches.create
        batch = self._call(create, input_file_id=file.id, endpoint=url, completion_window="24h", metadata={TAG: tag})
        row |= {"batch_id": batch.id, "status": "submitted"}
        self.store.put_batch(row)
        return {**row, "state": "submitted"}

    def _choose_affordable(self, jobs: list[Job]) -> list[Job]:
        """The first of `jobs` that stay within the limits even if each uses its `max_tokens`: a job cannot be stopped halfway."""
        budget, chosen = replace(self.budget), []
        for job in jobs:
            budget.count_tokens(approximate_tokens(job.request.prompt), job.request.max_tokens, self.transport)
            too_many = budget.max_tokens_total and budget.tokens > budget.max_tokens_total
            if too_many or (budget.max_cost_usd and budget.spent_usd > budget.max_cost_usd):
                break
            chosen.append(job)
        if not chosen:
            limit = f"max_cost_usd={budget.max_cost_usd:g}, max_tokens_total={budget.max_tokens_total}"
            left = f"does not cover one more request of the batch ({len(jobs)} are left)"
            raise StoppedEarly(f"{limit} {left}; raise it to continue")
        return chosen


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
