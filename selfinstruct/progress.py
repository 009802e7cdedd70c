"""Progress of many requests: done, failed, cached, tokens per second, spent so far, time left; only where a person looks."""

from __future__ import annotations

import time

from .limits import Budget


class Progress:
    """A tqdm bar under `desc`; silent without one, and where the output is neither a terminal nor a notebook."""

    def __init__(self, desc: str, total: int, cached: int, budget: Budget):
        self._budget, self._cached = budget, cached
        self._started, self._tokens, self._failed = time.monotonic(), budget.tokens, budget.failed
        self._bar = self._new_bar(desc, total) if desc else None

    def _new_bar(self, desc: str, total: int) -> object:
        from tqdm.auto import tqdm

        return tqdm(total=total, desc=desc, unit="request", disable=None, mininterval=0.5)

    def advance(self) -> None:
        """One more request is through, well or badly."""
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix_str(self.counts(self._cached), refresh=False)
            self._bar.update()

    def counts(self, cached: int) -> str:
        """Such as "2 failed, 40 cached, 812 tokens/s, $0.0210"."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        rate = (self._budget.tokens - self._tokens) / seconds
        parts = [f"{self._budget.failed - self._failed} failed", f"{cached} cached", f"{rate:.0f} tokens/s"]
        if self._budget.price is not None and self._budget.price.completion:
            parts.append(f"${self._budget.spent_usd:.4f}")
        return ", ".join(parts)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
