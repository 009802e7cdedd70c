"""What requests cost and what ends a run in good order: prices, pace, limits of money and tokens, and the account of it.

load_price("gpt-4o-mini").cost(prompt_tokens=1_000_000, completion_tokens=0)    # 0.15
load_price("a-model-nobody-knows")          # None: tokens only, never a guess
pace = Pace(requests_per_minute=600, tokens_per_minute=0)
pace.wait(tokens=900, stopped=event)        # sleeps until this request may leave
budget = Budget(max_cost_usd=1.0, price=price)
budget.reason()                             # None, or why no further request may leave
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..files import InputError, project_path, read_json, shown_path
from .protocol import StoredResponse


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


@dataclass
class Budget:
    """Counts what one command has spent and says when to stop; 0 = no limit. For any number of threads.

    The limits are hard: once one is reached nothing more is sent, so that spending passes it by the requests then in
    flight at most, and these are counted.
    """

    max_cost_usd: float = 0.0
    max_tokens_total: int = 0
    max_failures: int = 5
    price: Price | None = None
    tokens: int = 0
    spent_usd: float = 0.0
    succeeded: int = 0
    failed: int = 0
    in_a_row: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, prompt_tokens: int, completion_tokens: int, transport: str = "live") -> None:
        """Count tokens that were paid for."""
        with self._lock:
            self.tokens += prompt_tokens + completion_tokens
            if self.price:
                self.spent_usd += self.price.cost(prompt_tokens, completion_tokens, transport)

    def success(self) -> None:
        """Count an answered request; the row of failures ends."""
        with self._lock:
            self.succeeded += 1
            self.in_a_row = 0

    def failure(self) -> bool:
        """Count a request that failed for good; True when too many have failed in a row."""
        with self._lock:
            self.failed += 1
            self.in_a_row += 1
            return bool(self.max_failures) and self.in_a_row >= self.max_failures

    def reason(self) -> str | None:
        """The limit that is reached, in words, or None."""
        if self.max_cost_usd and self.spent_usd >= self.max_cost_usd:
            return f"max_cost_usd={self.max_cost_usd:g} is reached: ${self.spent_usd:.4f} spent by this command"
        if self.max_tokens_total and self.tokens >= self.max_tokens_total:
            return f"max_tokens_total={self.max_tokens_total} is reached: {self.tokens} tokens used by this command"
        return None


PRICE_TABLE = Path(__file__).with_name("prices.json")
PER = 1_000_000


class Price(BaseModel):
    """Dollars per million prompt and completion tokens; `batch` is the factor for batch jobs, `as_of` the table's date."""

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


def load_price(model: str, price_table: str | Path = "") -> Price | None:
    """The price of `model`, or None where the table does not have it. A dated name such as `gpt-4o-2024-08-06` has its family's price.

    `price_table` is a JSON file like `selfinstruct/prices.json`; its models stand before the kit's own. Raises InputError
    where it is missing or malformed.
    """
    tables = [project_path(price_table)] if price_table else []
    for path in [*tables, PRICE_TABLE]:
        table = _read_table(path)
        entry = table["models"].get(model) or table["models"].get(re.sub(r"-\d{4}-\d{2}-\d{2}$|-\d{4}$", "", model))
        if entry is not None:
            return _price(entry, str(table.get("as_of", "")), f"{shown_path(path)}: {model}")
    return None


def _read_table(path: Path) -> dict[str, Any]:
    table = read_json(path)
    if not isinstance(table, dict) or not isinstance(table.get("models"), dict):
        raise InputError(f'{shown_path(path)}: no "models"; a price table looks like selfinstruct/prices.json')
    return table


def _price(entry: Any, as_of: str, where: str) -> Price:
    try:
        return Price.model_validate({**entry, "as_of": as_of})
    except (ValidationError, TypeError) as error:
        raise InputError(f"{where}: needs prompt and completion, dollars per million tokens, 0 or more") from error


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
    """Keeps a client's `usage`: which requests were made, which of them have an answer, and who paid for it."""

    def __init__(self, price: Price | None):
        self._price = price
        self.usage = Usage() if price is None else Usage(cost_usd=0.0, spent_usd=0.0)
        self._asked: set[str] = set()
        self._answered: set[str] = set()

    def add(self, keys: Iterable[str], answers: Mapping[str, StoredResponse], cached: Iterable[str] = ()) -> None:
        """Count requests by their keys, with the answers they got; those `cached` were in the store before."""
        cached = set(cached)
        self._asked |= set(keys)
        for key, stored in answers.items():
            if key not in self._answered:
                self._answered.add(key)
                self._add_answer(stored, key in cached)
        self.usage.requests = len(self._asked)
        self.usage.failed = len(self._asked - self._answered)

    def _add_answer(self, stored: StoredResponse, cached: bool) -> None:
        usage = self.usage
        usage.cached += cached
        usage.prompt_tokens += stored.prompt_tokens
        usage.completion_tokens += stored.completion_tokens
        if self._price is not None:
            cost = self._price.cost(stored.prompt_tokens, stored.completion_tokens, stored.transport)
            usage.cost_usd += cost
            usage.spent_usd += 0.0 if cached else cost
