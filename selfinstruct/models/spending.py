"""What requests cost and what ends a run in good order: prices, limits of money and tokens, pace, and the account of it.

price = load_price("gpt-4o-mini")           # None for a model that nobody knows: tokens only, never a guess
budget = Budget(max_cost_usd=1.0, price=price)
budget.find_reached_limit()                 # None, or why no further request may leave
Pace(requests_per_minute=600).wait(tokens=900, stopped=event)      # sleeps until this request may leave
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..files import InputError, project_path, read_json, show_path
from .endpoint import is_embedded
from .protocol import StoredResponse

PER = 1_000_000
TABLE_FORM = '{"as_of": "2026-11-05", "models": {"gpt-4o": {"prompt": 2.5, "completion": 10.0, "batch": 0.5}}}'
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


@dataclass
class Budget:
    """Counts what one command has spent and tells when to stop; 0 = no limit. For any number of threads.

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

    def count_tokens(self, prompt_tokens: int, completion_tokens: int, transport: str = "live") -> None:
        """Count tokens that were paid for."""
        with self._lock:
            self.tokens += prompt_tokens + completion_tokens
            if self.price:
                self.spent_usd += self.price.cost(prompt_tokens, completion_tokens, transport)

    def count_success(self) -> None:
        """Count an answered request; the row of failures ends."""
        with self._lock:
            self.succeeded += 1
            self.in_a_row = 0

    def count_failure(self) -> bool:
        """Count a request that failed for good; True when too many have failed in a row."""
        with self._lock:
            self.failed += 1
            self.in_a_row += 1
            return bool(self.max_failures) and self.in_a_row >= self.max_failures

    def find_reached_limit(self) -> str | None:
        """The limit that is reached, in words, or None."""
        if self.max_cost_usd and self.spent_usd >= self.max_cost_usd:
            return f"max_cost_usd={self.max_cost_usd:g} is reached: ${self.spent_usd:.4f} spent by this command"
        if self.max_tokens_total and self.tokens >= self.max_tokens_total:
            return f"max_tokens_total={self.max_tokens_total} is reached: {self.tokens} tokens used by this command"
        return None


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
