"""What the requests of a client came to: how many, how many from the store, tokens and dollars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from .prices import Price
from .stored import StoredResponse


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
