"""What requests cost and what ends a run in good order: prices, limits of money and tokens, pace, and the account of it.

price = load_price("gpt-4o-mini")           # None for a model that nobody knows: tokens only, never a guess
budget = Budget(max_cost_usd=1.0, price=price)
budget.reserve(most := budget.measure(900, 1024), stopped)         # None, or why no further request may leave
budget.settle(most, used)                   # once it has used less
Pace(requests_per_minute=600).wait(tokens=900, stopped=event)      # sleeps until this request may leave
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..files import InputError, SelfInstructError, project_path, read_json, show_path
from .endpoint import is_embedded
from .protocol import StoredResponse

PER = 1_000_000
TABLE_FORM = '{"as_of": "2026-11-05", "models": {"gpt-4o": {"prompt": 2.5, "completion": 10.0, "batch": 0.5}}}'
WAIT_S = 0.5  # how often a request that waits for room looks if all is stopped
SHORT_WAIT_S = 0.05  # the same where it waits for requests of another process
WAIT, STOPPED = "wait", "stopped"
READ_EVERY_S = 0.25  # how old the sum of what a whole command has spent may be
ROUNDING_USD = 1e-9
COUNTED_TOKENS = 1_000  # prices are read for a request of this size: some providers take more for very long prompts


class Price(BaseModel):
    """Dollars per million prompt and completion tokens; `batch` is the factor for batch jobs, `as_of` where they are from."""

    model_config = ConfigDict(frozen=True)
    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    batch: float = Field(default=1.0, ge=0)
    as_of: str = ""

    def cost(self, prompt_tokens: int, completion_tokens: int, transport: str = "live") -> float:
        """Dollars for these tokens.

        >>> Price(prompt=1, completion=4, batch=0.5).cost(1_000_000, 500_000, "batch")
        1.5
        """
        factor = self.batch if transport == "batch" else 1.0
        return factor * (prompt_tokens * self.prompt + completion_tokens * self.completion) / PER


EMBEDDED_PRICE = Price(prompt=0, completion=0, as_of="a model on this machine")


def load_price(model: str, price_table: str | Path = "", base_url: str = "") -> Price | None:
    """The price of `model`: from the user's `price_table`, else from genai-prices; None where neither knows it.

    The table is a JSON file in dollars per million tokens, `batch` (default 1) the factor for batch jobs:
    {"as_of": "2026-11-05", "models": {"gpt-4o": {"prompt": 2.5, "completion": 10.0, "batch": 0.5}}}
    A dated name such as `gpt-4o-2024-08-06` that is not listed itself has its family's price. The embedded model costs nothing.
    Raises InputError where the table is missing or malformed.
    """
    model = "embedded" if is_embedded(model, base_url) else model
    names = dict.fromkeys([model, re.sub(r"-\d{4}-\d{2}-\d{2}$|-\d{4}$", "", model)])
    if price_table and (price := _find_in_table(names, project_path(price_table))):
        return price
    if model == "embedded":
        return EMBEDDED_PRICE
    return next(filter(None, map(_find_published, names)), None)


def _find_in_table(names: Iterable[str], path: Path) -> Price | None:
    table = read_json(path)
    if not isinstance(table, dict) or not isinstance(table.get("models"), dict):
        raise InputError(f'{show_path(path)}: no "models"; a price table looks like {TABLE_FORM}')
    name = next((name for name in names if table["models"].get(name) is not None), None)
    if name is None:
        return None
    try:
        return Price.model_validate({**table["models"][name], "as_of": str(table.get("as_of", ""))})
    except (ValidationError, TypeError) as error:
        needs = "needs prompt and completion, dollars per million tokens, 0 or more"
        raise InputError(f"{show_path(path)}: {name}: {needs}") from error


def _find_published(model: str) -> Price | None:
    """The price in the data that the package genai-prices brings along; nothing is fetched.

    OpenAI's models alone are looked up: by name, the copy of an open model on a server of one's own would be given the
    price of some provider.
    """
    import genai_prices

    tokens = genai_prices.Usage(input_tokens=COUNTED_TOKENS, output_tokens=COUNTED_TOKENS)
    try:
        live = genai_prices.calc_price(tokens, model, provider_id="openai")
        batch = genai_prices.calc_price(tokens, model, provider_id="openai", price_context={"processing": "batch"})
    except LookupError:
        return None
    if not live.total_price:  # priced by the second of audio, say
        return None
    prompt, completion = (price * PER / COUNTED_TOKENS for price in (live.input_price, live.output_price))
    source = f"genai-prices {genai_prices.__version__}"
    return Price(prompt=prompt, completion=completion, batch=batch.total_price / live.total_price, as_of=source)


class Amount(NamedTuple):
    """What is spent, or may be."""

    tokens: float = 0
    usd: float = 0.0

    def plus(self, other: Amount, times: float = 1) -> Amount:
        """The sum of both, of the other one so many times."""
        return Amount(self.tokens + times * other.tokens, self.usd + times * other.usd)


def measure(price: Price | None, prompt_tokens: int, completion_tokens: int, transport: str = "live") -> Amount:
    """What these tokens come to; no dollars where the price is not known."""
    return Amount(
        prompt_tokens + completion_tokens, price.cost(prompt_tokens, completion_tokens, transport) if price else 0.0
    )


NOTHING = Amount()


@dataclass
class Budget:
    """Counts what one command has spent and tells when to stop; 0 = no limit. For any number of threads.

    The limits are hard: before a request is sent, the most that it may cost is set aside, and what does not fit is not sent.
    Where the requests in flight may leave room for it, it waits for them. `find_spent` sums what the answers of the whole
    command have cost, those of its other processes too; `exchange` and `publish` are those of `claims.Reservations`.
    """

    max_cost_usd: float = 0.0
    max_tokens_total: int = 0
    max_failures: int = 5
    price: Price | None = None
    find_price: Callable[[str], Price | None] = lambda model: None  # of other models that the command uses
    find_spent: Callable[[], Amount] = Amount
    exchange: Callable[[], AbstractContextManager[tuple[Amount, float, bool]]] = lambda: nullcontext(
        (NOTHING, 0.0, False)
    )
    publish: Callable[[Amount, float], None] = lambda held, excess: None
    spent: Amount = NOTHING
    reserved: Amount = NOTHING
    succeeded: int = 0
    failed: int = 0
    in_a_row: int = 0
    _wasted: Amount = NOTHING  # for answers that are of no use
    _others: Amount = NOTHING  # what other clients of the command have set aside
    _in_flight: int = 0
    _queue: list[object] = field(default_factory=list)
    _excess: float = 0.0  # used / expected of the worst request so far; 0 before the first one
    _read_again_at: float = 0.0
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    @property
    def tokens(self) -> float:
        """What the command has used."""
        return self.spent.tokens

    @property
    def is_limited(self) -> bool:
        """True if there is a limit to keep."""
        return bool(self.max_cost_usd or self.max_tokens_total)

    def measure(self, prompt_tokens: int, completion_tokens: int, transport: str = "live") -> Amount:
        """What these tokens come to."""
        return measure(self.price, prompt_tokens, completion_tokens, transport)

    def count(self, amount: Amount, wasted: bool = False) -> None:
        """Count what was paid for; `wasted` if the store has no answer for it."""
        with self._changed:
            self.spent = self.spent.plus(amount)
            self._wasted = self._wasted.plus(amount, wasted)

    def reserve(self, most: Amount, stopped: threading.Event) -> str | None:
        """Set `most` aside for one request, in turn; returns None, or why it must not be sent: the limit that leaves no room
        for it, in words, or STOPPED.

        The first request of the command goes alone: what it comes to tells how the server counts.
        """
        if not self.is_limited:
            return None
        with self._changed:
            self._queue.append(turn := object())
            try:
                while not stopped.is_set():
                    if self._queue[0] is turn and (answer := self._try_to_reserve(most)) != WAIT:
                        return answer or None
                    self._changed.wait(WAIT_S if self._in_flight else SHORT_WAIT_S)
                return STOPPED
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()

    def _try_to_reserve(self, most: Amount) -> str:
        """ "" where `most` is set aside, WAIT where requests on their way may leave room for it, else the limit in words."""
        with self.exchange() as (self._others, excess, has_news):
            self._excess = max(self._excess, excess)
            # exact: what was stored a moment ago may count twice
            self._read_spent(now=has_news or self.find_limit(most) is not None)
            others_ask = self._in_flight > 0 or self._others.tokens > 0
            limit = self.find_limit(most)
            if others_ask and (limit or not self._excess):
                return WAIT
            if limit is None:
                self._in_flight += 1
                self.reserved = self.reserved.plus(most)
                self.publish(self.reserved, self._excess)
            return limit or ""

    def settle(self, most: Amount, used: Amount | None) -> None:
        """Give back what was set aside for a request; `used` is what it came to, None where it failed."""
        if not self.is_limited:
            return
        with self._changed:
            self._in_flight -= 1
            self.reserved = self.reserved.plus(most, -1) if self._in_flight else NOTHING
            if used is not None:
                shares = (part / whole for part, whole in zip(used, most, strict=True) if whole)
                self._excess = max(self._excess, *shares)
            with suppress(SelfInstructError):  # a full disk; it stays set aside
                self.publish(self.reserved, self._excess)
            self._changed.notify_all()

    def find_limit(self, most: Amount) -> str | None:
        """The limit that leaves no room for `most`, in words, or None."""
        excess = max(self._excess, 1.0)
        held, more = NOTHING.plus(self.reserved.plus(self._others), excess), NOTHING.plus(most, excess)
        after = self.spent.plus(held).plus(more)
        if self.max_cost_usd and after.usd > self.max_cost_usd + ROUNDING_USD:
            sums = f"${self.spent.usd:.4f} spent by this command, ${held.usd:.4f} set aside for requests on their way"
            return f"max_cost_usd={self.max_cost_usd:g} is reached: {sums}, and the next may cost ${more.usd:.4f}"
        if self.max_tokens_total and after.tokens > self.max_tokens_total:
            sums = f"{self.spent.tokens:.0f} tokens used by this command, {held.tokens:.0f} set aside for requests on their way"
            return (
                f"max_tokens_total={self.max_tokens_total} is reached: {sums}, and the next may use {more.tokens:.0f}"
            )
        return None

    def _read_spent(self, now: bool = False) -> None:
        """Read from time to time what the whole command has spent: the sum over 52,000 answers takes 10 ms."""
        if now or time.monotonic() > self._read_again_at:
            self.spent = self.find_spent().plus(self._wasted)
            self._read_again_at = time.monotonic() + READ_EVERY_S

    def count_success(self) -> None:
        """Count an answered request; the row of failures ends."""
        with self._changed:
            self.succeeded += 1
            self.in_a_row = 0

    def count_failure(self) -> bool:
        """Count a request that failed for good; True when too many have failed in a row."""
        with self._changed:
            self.failed += 1
            self.in_a_row += 1
            return bool(self.max_failures) and self.in_a_row >= self.max_failures


class Pace:
    """Evenly spaced departures that keep within requests and tokens per minute; 0 = no limit. For any number of threads."""

    def __init__(self, requests_per_minute: float = 0, tokens_per_minute: float = 0):
        self._request_s = 60 / requests_per_minute if requests_per_minute > 0 else 0.0
        self._token_s = 60 / tokens_per_minute if tokens_per_minute > 0 else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, tokens: int, stopped: threading.Event) -> None:
        """Sleep until the next departure; `tokens` is what the request is expected to use. Returns early when `stopped`."""
        if not (self._request_s or self._token_s):
            return
        with self._lock:
            leaves = max(self._next, time.monotonic())
            self._next = leaves + max(self._request_s, tokens * self._token_s)
        stopped.wait(max(0.0, leaves - time.monotonic()))

    def settle(self, expected: int, used: int) -> None:
        """Correct the schedule once the tokens a request really used are known."""
        if self._token_s:
            with self._lock:
                self._next += (used - expected) * self._token_s


class Usage(BaseModel):
    """The figures for run.json. A request that is made several times counts once.

    Tokens and `cost_usd` count cached answers too: what the data cost, whenever it was paid; `spent_usd` is what this client
    paid itself. None = the price of the model is not known.
    """

    requests: int = 0
    cached: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    spent_usd: float | None = None


class Tally:
    """Keeps a client's `usage`: which requests were made (the keys in `asked`), which have an answer, and who paid for it."""

    def __init__(self, price: Price | None):
        self._price = price
        self.usage = Usage() if price is None else Usage(cost_usd=0.0, spent_usd=0.0)
        self.asked: set[str] = set()
        self._answered: set[str] = set()

    def add(self, keys: Iterable[str], answers: Mapping[str, StoredResponse], cached: Iterable[str] = ()) -> None:
        """Count requests by their keys, with the answers they got; those `cached` were in the store before."""
        usage, cached = self.usage, set(cached)
        for key, stored in answers.items():
            if key not in self._answered:
                usage.cached += key in cached
                usage.prompt_tokens += stored.prompt_tokens
                usage.completion_tokens += stored.completion_tokens
                if self._price is not None:
                    cost = self._price.cost(stored.prompt_tokens, stored.completion_tokens, stored.transport)
                    usage.cost_usd += cost
                    usage.spent_usd += 0.0 if key in cached else cost
        self.asked |= set(keys)
        self._answered |= set(answers)
        usage.requests, usage.failed = len(self.asked), len(self.asked - self._answered)
