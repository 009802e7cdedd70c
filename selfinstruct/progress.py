"""Progress of many requests: done, failed, cached, tokens per second, spent so far, time left; only where a person looks."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable

from .limits import Budget
from .owner import works_for_another


class Progress:
    """A tqdm bar under `desc`; silent without one, and where the output is neither a terminal nor a notebook."""

    def __init__(self, desc: str, total: int, cached: int, budget: Budget):
        self._budget, self._cached = budget, cached
        self._started, self._tokens, self._failed = time.monotonic(), budget.tokens, budget.failed
        self._bar = self._new_bar(desc, total) if desc else None

    def _new_bar(self, desc: str, total: int) -> object:
        from tqdm.auto import tqdm

        return tqdm(total=total, desc=desc, unit="request", disable=None, mininterval=0.5)

    def follow(self, sent: Iterable[bool]) -> None:
        """Wait until all of `sent` has come; what is True there is a request that is through, well or badly."""
        for one in sent:
            if one:
                self._advance()

    def _advance(self) -> None:
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


def tell_person(line: str) -> None:
    """Show `line` at once where the person is who waits: above the bars in a terminal, below the cell in a notebook.

    Under the runner that is the runner's terminal: of a cell that is being stopped nobody reads the output any more.
    """
    if works_for_another():
        first = _inherited_stderr()
        over_its_bar = "\r" + line.ljust(os.get_terminal_size(first).columns - 1) if os.isatty(first) else line
        os.write(first, (over_its_bar + "\n").encode())
        return
    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)


def _inherited_stderr() -> int:
    """The stderr that this process was started with, also in a kernel, whose own goes to the cell."""
    try:
        return sys.stderr.fileno()  # a kernel keeps it under this number
    except io.UnsupportedOperation:  # on Windows it leaves the process's own alone
        return 2
