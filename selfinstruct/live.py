"""Live requests: each goes out by itself, some at a time, and its answer is in the store the moment it comes.

`client` has the example and makes the client; `batch` sends the same requests as batch jobs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

from .completion import (
    Completion,
    Job,
    Request,
    approximate_tokens,
    failed_completion,
    make_job,
    read_completion,
    stored_response,
    utc_now,
)
from .endpoint import Endpoint, RequestFailed
from .limits import Budget, Pace
from .owner import session_name
from .progress import Progress
from .records import EndpointError, SelfInstructError, StoppedEarly, shown_path
from .store import ResponseStore, StoredResponse
from .usage import Tally, Usage


class ModelClient:
    """Made by `client.connect`; use it from one thread, it uses `concurrency` of its own."""

    transport = "live"

    def __init__(self, endpoint: Endpoint, store: ResponseStore, budget: Budget, pace: Pace, concurrency: int, step: str):
        self.endpoint, self.store, self.budget, self.pace = endpoint, store, budget, pace
        self.concurrency, self.step = concurrency, step
        self._session = session_name()
        for model, transport, prompt_tokens, completion_tokens in store.spent(self._session):
            if model == endpoint.model:
                budget.add(prompt_tokens, completion_tokens, transport)
        self._tally = Tally(budget.price)
        self._stopped = threading.Event()
        self._halting: SelfInstructError | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._failures: dict[str, str] = {}
        self._watch = Progress("", 0, 0, budget)

    def complete(self, requests: Sequence[Request], desc: str = "") -> list[Completion]:
        """The completions of `requests`, in their order at any concurrency; from the store where it has them.

        `desc` shows progress under that name in a terminal or notebook. Raises EndpointError and StoppedEarly as the
        module says; what has arrived by then is in the store.
        """
        jobs = [self._job(request) for request in requests]
        answers = self.store.get_many(job.key for job in jobs)
        missing = {job.key: job for job in jobs if job.key not in answers}
        cached = set(answers)
        self._failures = {}
        if missing:
            answers |= self._fetch(list(missing.values()), desc, len(cached))
            self._check_all_failed(len(missing), len(cached))
        completions = [self._completion(job, answers.get(job.key), job.key in cached) for job in jobs]
        self._tally.add((job.key for job in jobs), answers, cached)
        return completions

    def _job(self, request: Request) -> Job:
        if self.endpoint.deterministic and request.seed is None:
            request = request.model_copy(update={"seed": request.sample_index})
        return make_job(request, self.endpoint.model, self.endpoint.api, self.endpoint.identity)

    def _completion(self, job: Job, stored: StoredResponse | None, cached: bool) -> Completion:
        if stored is None:
            return failed_completion(self._failures.get(job.key, "not asked"), utc_now())
        return read_completion(stored, job.request, cached)

    def _fetch(self, jobs: list[Job], desc: str, cached: int) -> dict[str, StoredResponse]:
        """The answers to `jobs` that could be had, each written to the store the moment it came."""
        self._stopped.clear()
        self._halting = None
        self._pool = self._pool or ThreadPoolExecutor(self.concurrency, thread_name_prefix="model")
        futures: list[Future[StoredResponse | None]] = []
        with Progress(desc, len(jobs), cached, self.budget) as progress:
            try:
                futures += (self._pool.submit(self._answer, job) for job in jobs)
                for _ in as_completed(futures):
                    progress.advance()
            except KeyboardInterrupt:
                self._halt(StoppedEarly("stopped by Ctrl-C"))
                wait(futures)  # what is in flight is paid for: keep it; a second Ctrl-C leaves it
        return self._collected(futures)

    def _collected(self, futures: list[Future[StoredResponse | None]]) -> dict[str, StoredResponse]:
        answers = {stored.key: stored for future in futures if (stored := future.result()) is not None}
        if self._halting is None:
            return answers
        self._tally.add([*answers, *self._failures], answers)
        done = f"; {len(answers)} of {len(futures)} requests were answered and are in {shown_path(self.store.path)}" if answers else ""
        if not answers and not isinstance(self._halting, StoppedEarly):
            raise self._halting from None
        raise type(self._halting)(f"{self._halting}{done}; run the same command again to continue") from None

    def _answer(self, job: Job) -> StoredResponse | None:
        """One request from start to end, in a thread; None where it failed or was not sent."""
        expected = approximate_tokens(job.request.prompt) + job.request.max_tokens
        if not self._stopped.is_set():
            self.pace.wait(expected, self._stopped)
        if not self._stopped.is_set() and (reason := self.budget.reason()):
            self._halt(StoppedEarly(reason))
        if self._stopped.is_set():
            return None
        try:
            stored = self._asked(job)
        except RequestFailed as error:
            self._failed(job, str(error))
            return None
        except SelfInstructError as error:
            self._halt(error)
            return None
        self.pace.settle(expected, stored.prompt_tokens + stored.completion_tokens)
        return stored

    def _asked(self, job: Job) -> StoredResponse:
        started = time.perf_counter()
        answer = self.endpoint.ask(job.body, self._stopped)
        stored = stored_response(
            job, answer, endpoint=self.endpoint.identity, step=self.step, latency_s=time.perf_counter() - started,
            transport=self.transport, session=self._session,
        )  # fmt: skip
        self.store.put(stored)
        self.budget.add(stored.prompt_tokens, stored.completion_tokens, self.transport)
        self.budget.success()
        return stored

    def _failed(self, job: Job, error: str) -> None:
        self._failures[job.key] = error
        self.store.put_failure(job.key, self.endpoint.model, self.step, job.canonical, error, utc_now())
        if self.budget.failure():
            self._halt(EndpointError(f"{self.budget.in_a_row} requests in a row failed; the last: {error}"))

    def _halt(self, reason: SelfInstructError) -> None:
        """Nothing more is sent; the first reason is the one that is told."""
        if self._halting is None:
            self._halting = reason
        self._stopped.set()

    def _check_all_failed(self, asked: int, cached: int) -> None:
        if len(self._failures) == asked and not cached and not self.budget.succeeded:
            raise EndpointError(f"every request failed ({asked} of {asked}); the last: {list(self._failures.values())[-1]}")

    @property
    def usage(self) -> Usage:
        """What the requests so far came to."""
        return self._tally.usage

    @property
    def replayed(self) -> bool:
        """Whether every answer so far came from the store: no model was called."""
        return self.usage.requests > 0 and self.usage.cached == self.usage.requests

    @property
    def status(self) -> str:
        """One line for a caller's own progress bar: "12 done, 0 failed, 3 cached, 41 tokens/s, $0.0021"."""
        return f"{self.usage.requests - self.usage.failed} done, {self._watch.counts(self.usage.cached)}"

    def describe(self) -> dict[str, Any]:
        """What answered, for run.json: model, api, endpoint, weights, settings, what was adapted, and whether it was a replay."""
        endpoint, price = self.endpoint, self.budget.price
        return {
            "model": endpoint.model, "api": endpoint.api, "endpoint": endpoint.identity,
            "weights_sha256": endpoint.weights_sha256, "slots": endpoint.slots if endpoint.embedded else None,
            "deterministic": endpoint.deterministic, "concurrency": self.concurrency,
            "adapted": endpoint.adaptation.changes, "prices_as_of": price.as_of if price else None, "replayed": self.replayed,
        }  # fmt: skip

    def close(self) -> None:
        """End the threads and connections; says so where every answer was a replay."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
        elif self.replayed:
            print(f"replayed: all {self.usage.requests} answers came from {shown_path(self.store.path)}; no model was called")
        self.endpoint.close()
        self.store.close()

    def __enter__(self) -> ModelClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
