"""The client: each request goes out by itself, some at a time, and its answer is in the store the moment it comes.

`connection` has the example and makes the client; `batch` sends the same requests as batch jobs.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import TimeoutError as NothingYet
from multiprocessing.pool import IMapIterator, ThreadPool
from typing import Any

from ..display import count_of
from ..files import EndpointError, SelfInstructError, StoppedEarly, show_path
from ..records import Completion, Request
from .claims import Claims, Reservations
from .door import RefusedElsewhere, find_door
from .endpoint import Endpoint, RequestFailed
from .protocol import (
    Job,
    StoredResponse,
    build_stored_response,
    expect_tokens,
    find_unusable,
    make_job,
    read_completion,
    read_usage,
    utc_now,
)
from .session import session_name, works_for_another
from .spending import Amount, Budget, Pace, Tally, Usage, measure
from .store import NO_MODEL_CALLED, ResponseStore

TICK_S = 1.0  # how often a bar moves its clock
POLLS_S = (0.02, 0.25)  # how often the answers to what others ask are looked for: at first, and at last


class UselessAnswer(RequestFailed):
    """A request whose answer has come, is `used` for, and cannot be stored."""

    def __init__(self, reason: str, body: str, used: Amount):
        super().__init__(reason, body)
        self.used = used


class ModelClient:
    """Made by `connect`; use it from one thread, it uses `concurrency` of its own."""

    transport = "live"

    def __init__(
        self, endpoint: Endpoint, store: ResponseStore, budget: Budget, pace: Pace, concurrency: int, step: str
    ):
        self.endpoint, self.store, self.budget, self.pace = endpoint, store, budget, pace
        self.concurrency, self.step = concurrency, step
        self._session = session_name()
        budget.find_spent, budget.spent = self._sum_spent, self._sum_spent()
        self._reservations = Reservations(store, self._session)
        budget.exchange, budget.publish = self._reservations.exchange, self._reservations.write
        self._tally = Tally(budget.price)
        self._stopped = threading.Event()
        self._halting: SelfInstructError | None = None
        self._pool: ThreadPool | None = None
        self._arrived: dict[str, StoredResponse] = {}
        self._failures: dict[str, str] = {}
        self._may_be_paid: dict[str, str] = {}  # key -> why it failed: a new client asks it again, not this one
        self._doubts_usage = False
        self._in_flight: set[str] = set()
        self._claims = Claims(store)
        self._door = find_door()
        self._aside: list[Job] = []  # what another client asks at the moment
        self._of_others: set[str] = set()  # what another client asked, and this one waited for
        self._left_some = False
        self._taken_off: dict[str, tuple[str, ...]] = {}
        self.on_progress: Callable[[int, int, str], None] | None = None

    # what callers use

    def complete(self, requests: Sequence[Request], desc: str = "") -> list[Completion]:
        """The completions of `requests`, in their order at any concurrency; from the store where it has them.

        `desc` shows progress under that name in a terminal or notebook. For a bar of the caller's own there is `on_progress`:
        called at the start, at every answer and once a second with the number answered, the number asked, and what they came to.
        Raises EndpointError and StoppedEarly as `connection` says; what has arrived by then is in the store.
        """
        jobs = [self._make_job(request) for request in requests]
        answers = self.store.get_answers(job.key for job in jobs)
        self._failures = {job.key: self._may_be_paid[job.key] for job in jobs if job.key in self._may_be_paid}
        missing = {job.key: job for job in jobs if job.key not in answers and job.key not in self._failures}
        cached = set(answers)
        if missing:
            answers |= self._fetch(self._order_jobs(missing.values()), desc, len(cached))
            cached |= self._of_others
            if missing.keys() <= self._failures.keys() and not cached and not self.budget.succeeded:
                last = list(self._failures.values())[-1]
                raise EndpointError(f"every request failed ({len(missing)} of {len(missing)}); the last: {last}")
        completions = [self._read_completion(job, answers.get(job.key), job.key in cached) for job in jobs]
        self._tally.add((job.key for job in jobs), answers, cached)
        self._taken_off |= {job.key: one.taken_off for job, one in zip(jobs, completions, strict=True) if one.taken_off}
        return completions

    def find_missing(self, requests: Sequence[Request]) -> list[Request]:
        """Those of `requests` that the store has no answer to; nothing is asked."""
        keys = [self._make_job(request).key for request in requests]
        answers = self.store.get_answers(keys)
        return [request for request, key in zip(requests, keys, strict=True) if key not in answers]

    @property
    def usage(self) -> Usage:
        """What the requests so far came to."""
        return self._tally.usage

    @property
    def keys(self) -> list[str]:
        """The keys in the store of all requests so far, sorted: the answers that a replay needs."""
        return sorted(self._tally.asked)

    @property
    def taken_off(self) -> dict[str, int]:
        """What stood around the texts of the answers, such as thoughts or a greeting, and of how many it was taken off."""
        return dict(Counter(name for names in self._taken_off.values() for name in names).most_common())

    @property
    def replayed(self) -> bool:
        """True if every answer so far came from the store: no model was called."""
        return self.usage.requests > 0 and self.usage.cached == self.usage.requests

    def describe(self) -> dict[str, Any]:
        """What answered, for run.json: model, api, endpoint, weights, settings, what was adapted and taken off, if it was a replay."""
        endpoint, price = self.endpoint, self.budget.price
        return {
            "model": endpoint.model, "api": endpoint.api, "endpoint": endpoint.identity,
            "weights_sha256": endpoint.weights_sha256, "slots": endpoint.slots if endpoint.embedded else None,
            "deterministic": endpoint.deterministic, "concurrency": self.concurrency,
            "adapted": endpoint.adaptation.changes, "prices_as_of": price.as_of if price else None, "replayed": self.replayed,
            **({"taken_off": self.taken_off} if self._taken_off else {}),
            **({"adapter": {"sha256": adapter.sha256, "scale": adapter.scale}} if (adapter := endpoint.adapter) else {}),
            **({"threads": endpoint.threads} if endpoint.threads else {}),  # what was asked depends on them, a replay does not
        }  # fmt: skip

    def close(self) -> None:
        """End the threads and connections; prints that no model was called where none was, and what was taken off the answers."""
        if self._taken_off:
            parts = ", ".join(f"{name} (of {count_of('answer', count)})" for name, count in self.taken_off.items())
            print(f"Taken off before the answers were read: {parts}; the store has them as they came")
        if self._left_some:
            return  # a connection closed under a thread that reads from it could hand it the next one's bytes
        if self._pool is not None:
            self._pool.close()
            self._pool.join()
            self._pool = None
        elif self.replayed:
            answers = count_of("answer", self.usage.requests)
            print(f"{NO_MODEL_CALLED} ({answers} from {show_path(self.store.path)})")
        self.endpoint.close()
        self._reservations.close()
        self.store.close()

    def __enter__(self) -> ModelClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # one call of `complete`

    def _make_job(self, request: Request) -> Job:
        if self.endpoint.deterministic and request.seed is None:
            request = request.model_copy(update={"seed": request.sample_index})
        return make_job(request, self.endpoint.model, self.endpoint.api, self.endpoint.identity)

    def _order_jobs(self, jobs: Iterable[Job]) -> list[Job]:
        """`jobs` as they are sent: the embedded server keeps the prompt it read last, so those that begin alike follow one another."""
        return sorted(jobs, key=lambda job: job.request.prompt) if self.endpoint.embedded else list(jobs)

    def _read_completion(self, job: Job, stored: StoredResponse | None, cached: bool) -> Completion:
        if stored is None:
            error = self._failures.get(job.key, "not asked")
            return Completion(text="", finish_reason="error", created_at=utc_now(), error=error)
        return read_completion(stored, job.request, cached)

    def _fetch(self, jobs: list[Job], desc: str, cached: int) -> dict[str, StoredResponse]:
        """The answers to `jobs` that could be had, each written to the store the moment it came."""
        self._stopped = threading.Event()
        self._halting, self._arrived, self._of_others, self._aside = None, {}, set(), []
        self._pool = self._pool or ThreadPool(self.concurrency)
        progress = Progress(desc, len(jobs), cached, self.budget, self.on_progress)
        sent = self._pool.imap_unordered(self._answer_in_turn, jobs)
        try:
            progress.follow(sent)
            while self._aside and self._halting is None:
                sent = self._pool.imap_unordered(self._answer, self._wait_for_others(progress))
                progress.follow(sent)
        except KeyboardInterrupt:
            self._halt(StoppedEarly("stopped by Ctrl-C"))
            self._keep_in_flight(sent, progress)
        finally:
            self._stopped.set()  # whatever ends the wait, nothing more is sent behind it
            progress.bar.close()
        answers = dict(self._arrived)
        if self._halting is not None:
            self._tally.add([*answers, *self._failures], answers, self._of_others)
            raise self._explain_halt(len(answers), len(jobs)) from None
        return answers

    def _wait_for_others(self, progress: Progress) -> list[Job]:
        """Take the answers to what was put aside as others write them; returns what nobody asks any more, [] once all is there.

        No thread waits; what came counts as cached, since others paid for it.
        """
        pause, longest = POLLS_S
        while self._aside:
            keys = [job.key for job in self._aside]
            # before the look into the store: what is settled in between is found there
            free = self._claims.find_free(keys)
            found = self.store.get_answers(keys)
            self._arrived |= found
            self._of_others |= found.keys()
            left = [job for job in self._aside if job.key not in found]
            self._aside = [job for job in left if job.key not in free]
            progress.add_cached(len(found), waiting=len(self._aside))
            if len(left) > len(self._aside):
                return [job for job in left if job.key in free]
            if left:
                time.sleep(pause)
                pause = min(2 * pause, longest)
        return []

    def _keep_in_flight(self, sent: IMapIterator, progress: Progress) -> None:
        """After Ctrl-C: wait for the answers to what is in flight, since it is paid for. A second Ctrl-C leaves it."""
        try:
            if self._in_flight:
                why = "" if self.endpoint.embedded else " (they are paid for)"
                waiting = f"{count_of('request', len(self._in_flight))} in flight; waiting to keep the answers{why}"
                tell_person(f"Ctrl-C: {waiting}. Ctrl-C again leaves them.")
            progress.follow(sent)
        except KeyboardInterrupt:
            left = count_of("request", len(self._in_flight))
            self._halting = StoppedEarly(f"stopped by Ctrl-C, and the answers to {left} in flight were left")
            self._left_some = True
            self._claims.release(list(self._in_flight))
            self._pool.terminate()  # its threads are daemons and hold nobody, not even the process's end
            self._pool = None

    def _halt(self, reason: SelfInstructError) -> None:
        """Nothing more is sent; the first reason is the one that is raised."""
        if self._halting is None:
            self._halting = reason
        self._stopped.set()

    def _explain_halt(self, answered: int, asked: int) -> SelfInstructError:
        """The reason for the halt, with what is in the store by now."""
        if not answered and not isinstance(self._halting, StoppedEarly):
            return self._halting
        where = show_path(self.store.path)
        done = f"; {answered} of {asked} requests were answered and are in {where}" if answered else ""
        return type(self._halting)(f"{self._halting}{done}; run the same command again to continue")

    # one request, in a thread

    def _answer_in_turn(self, job: Job) -> bool:
        with self.endpoint.one_at_first(job.body, self._stopped):
            return self._answer(job)

    def _answer(self, job: Job) -> bool:
        """One request from start to end; False where it was not sent, such as one that another client asks just now."""
        tokens = expect_tokens(job)
        expected, most, used = sum(tokens), self.budget.measure(*tokens), None
        if not self._stopped.is_set():
            self.pace.wait(expected, self._stopped)
        if not self._reserve(most):
            return False
        try:
            if not self._claims.take(job.key, 2 * self.endpoint.find_patience(job.body)):
                self._aside.append(job)
                self.pace.settle(expected, 0)
                return False
            self._in_flight.add(job.key)
            stored = self._ask(job)
            used = self.budget.measure(stored.prompt_tokens, stored.completion_tokens)
            self.pace.settle(expected, used.tokens)
        except RequestFailed as error:
            used = getattr(error, "used", None)
            if self._record_failure(job, str(error), error.body):
                self._halt(EndpointError(f"{self.budget.in_a_row} requests in a row failed; the last: {error}"))
        except SelfInstructError as error:
            self._halt(error)
        finally:
            self.budget.settle(most, used)
            if job.key in self._in_flight and job.key not in self._arrived:
                self._claims.release([job.key])
            self._in_flight.discard(job.key)
        return True

    def _reserve(self, most: Amount) -> bool:
        """Set aside what a request may cost; False where it may not be sent any more."""
        if self._stopped.is_set():
            return False
        try:
            limit = self.budget.reserve(most, self._stopped)
        except SelfInstructError as error:  # of the store
            self._halt(error)
            return False
        if limit:
            self._halt(StoppedEarly(limit))
        return limit is None

    def _ask(self, job: Job) -> StoredResponse:
        started = time.perf_counter()
        if (stored := self._ask_elsewhere(job)) is None:
            answer = self.endpoint.ask(job.body, self._stopped)
            stored = self._store_answer(job, answer, time.perf_counter() - started)
            stored = self._door.settle(stored) if self._door else stored
        self._arrived[job.key] = stored
        return stored

    def _ask_elsewhere(self, job: Job) -> StoredResponse | None:
        """In a cell of a sweep on a cluster: the answer from the sweep's command; None where it is to be asked here."""
        try:
            found = self._door.find(job, self.step, self.endpoint.embedded) if self._door else None
        except RefusedElsewhere as error:
            raise RequestFailed(str(error)) from error
        if found:
            self.store.settle(found)
            self.budget.count_success()
        return found

    def _store_answer(self, job: Job, answer: dict[str, Any], latency_s: float) -> StoredResponse:
        """The row that the store keeps for `answer`, counted; a batch job's only where it is new, since a job may be read twice.

        Raises RequestFailed where the answer is of no use, which is checked before it is stored.
        """
        usage = read_usage(answer, job.request)
        used = self.budget.measure(usage.prompt_tokens, usage.completion_tokens, self.transport)
        self._say_doubt(usage.doubt)
        if fault := find_unusable(answer, job):
            self.budget.count(used, wasted=True)
            raise UselessAnswer(fault, json.dumps(answer, ensure_ascii=False), used)
        stored = build_stored_response(
            job, answer, endpoint=self.endpoint.identity, step=self.step, latency_s=latency_s,
            transport=self.transport, session=self._session,
        )  # fmt: skip
        kept = self.store.settle(stored)
        if kept is stored or self.transport == "live":
            self.budget.count(used, wasted=kept is not stored)
        self.budget.count_success()
        return kept

    def _say_doubt(self, doubt: str) -> None:
        """Warn once of figures of the server that cannot be."""
        if doubt and not self._doubts_usage:
            self._doubts_usage = True
            counted = "the kit counts the tokens of such answers by their texts"
            warnings.warn(f"the server's usage cannot be ({doubt}): {counted}", stacklevel=2)

    def _sum_spent(self) -> Amount:
        """What the answers of the whole command have cost so far, those of other models and other processes too."""
        total = Amount()
        for model, transport, *tokens in self.store.sum_tokens(self._session):
            price = self.budget.price if model == self.endpoint.model else self.budget.find_price(model)
            total = total.plus(measure(price, *tokens, transport))
        return total

    def _record_failure(self, job: Job, error: str, body: str = "") -> bool:
        """Record a request that failed for good; True when too many have failed in a row."""
        self._failures[job.key] = error
        if body or self.transport == "batch":
            self._may_be_paid[job.key] = error
        self.store.put_failure(job.key, self.endpoint.model, self.step, job.canonical, error, utc_now(), body)
        return self.budget.count_failure()


class Progress:
    """A tqdm bar under `desc`, and news for `tell`; without a `desc`, and where the output is neither a terminal nor a notebook,
    there is no bar.
    """

    def __init__(
        self, desc: str, total: int, cached: int, budget: Budget, tell: Callable[[int, int, str], None] | None = None
    ):
        from tqdm.auto import tqdm

        self._budget, self._cached, self._total, self._tell, self._through = budget, cached, total, tell, 0
        self._waiting = 0
        self._started, self._tokens, self._failed = time.monotonic(), budget.tokens, budget.failed
        self.bar = tqdm(total=total, desc=desc, unit="request", disable=None if desc else True, mininterval=0.5)

    def add_cached(self, number: int, waiting: int) -> None:
        """Count answers that others have fetched; `waiting` are still to come from them."""
        self._through, self._cached, self._waiting = self._through + number, self._cached + number, waiting
        self._show(tick=not number)

    def follow(self, sent: IMapIterator) -> None:
        """Wait until all of `sent` has come; what is True there is a request that is through, well or badly."""
        self._show()
        for one in _wait_for_each(sent):
            self._through += bool(one)
            if one is not False:  # what was not sent is no news
                self._show(tick=one is None)

    def _show(self, tick: bool = False) -> None:
        state = self.describe(self._cached)
        if self._tell is not None:
            self._tell(self._through, self._total, state)
        if not self.bar.disable:
            self.bar.set_postfix_str(state, refresh=tick)
            self.bar.update(self._through - self.bar.n)

    def describe(self, cached: int) -> str:
        """Such as "2 failed, 40 cached, 812 tokens/s, $0.0210"."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        rate = (self._budget.tokens - self._tokens) / seconds
        parts = [f"{self._budget.failed - self._failed} failed", f"{cached} cached", f"{rate:.0f} tokens/s"]
        if self._waiting:
            parts.append(f"{self._waiting} asked by another command")
        if self._budget.price is not None and self._budget.price.completion:
            parts.append(f"${self._budget.spent.usd:.4f}")
        return ", ".join(parts)


def _wait_for_each(sent: IMapIterator) -> Iterator[bool | None]:
    """Each of `sent` as it comes, and None whenever a second brought none."""
    while True:
        try:
            yield sent.next(TICK_S)
        except NothingYet:
            yield None
        except StopIteration:
            return


def announce(text: str) -> None:
    """Print `text` in a cell; under the runner also in its terminal, at once: there nobody reads the cell before the end."""
    print(text)
    if works_for_another():
        for line in text.splitlines():
            tell_person(line)


def tell_person(line: str) -> None:
    """Show `line` at once where the person is who waits: above the bars in a terminal, below the cell in a notebook.

    Under the runner that is the runner's terminal: of a cell that is being stopped nobody reads the output any more.
    """
    if works_for_another():
        first = _find_stderr()
        over_its_bar = "\r" + line.ljust(os.get_terminal_size(first).columns - 1) if os.isatty(first) else line
        os.write(first, (over_its_bar + "\n").encode())
        return
    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)


def _find_stderr() -> int:
    """The stderr that this process was started with, also in a kernel, whose own goes to the cell."""
    try:
        return sys.stderr.fileno()  # a kernel keeps it under this number
    except io.UnsupportedOperation:  # on Windows it leaves the process's own alone
        return 2
