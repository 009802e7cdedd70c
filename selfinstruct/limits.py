"""Limits: how fast requests may leave, and what ends a run in good order: money, tokens, or failures in a row.

    pace = Pace(requests_per_minute=600, tokens_per_minute=0)
    pace.wait(tokens=900, stopped=event)        # sleeps until this request may leave
    budget = Budget(max_cost_usd=1.0, price=price)
    budget.reason()                             # None, or why no further request may leave
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from .prices import Price


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
