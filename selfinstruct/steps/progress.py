"""The bar of step 1: instructions admitted, with a rate and a time left that hold.

    for round_ in show_rounds(client, rounds, num_instructions_to_generate):
        ...

Rounds are asked whole, so a bar that moved with them alone would stand still for most of a run. Here every answer moves what
stands behind the bar, and the time left counts requests: those that the rounds still needed will ask, each at the pace of the
requests that a model answered. What came from the store is on the bar and not in the pace.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator

from ..bars import progress_bar
from ..records import Client
from .instructions import Round

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


def show_rounds(client: Client, rounds: Iterable[Round], num_instructions_to_generate: int) -> Iterator[Round]:
    """Each of `rounds`, with a bar that is full at the number asked for; how far the last round went over, it says in words.

    A client that has `on_progress` calls it while it waits: then the bar moves inside a round, too.
    """
    bar = progress_bar(total=num_instructions_to_generate, desc="instructions", bar_format=BAR, miniters=0)
    pace = Pace(num_instructions_to_generate)

    def show(text: str, at_once: bool = False) -> None:
        bar.set_postfix_str(text, refresh=at_once)
        bar.update(min(pace.admitted, num_instructions_to_generate) - bar.n)

    def follow(answered: int, asked: int, state: str) -> None:
        pace.follow(answered)
        show(f"round {pace.rounds + 1}: {answered} of {asked}, {pace.describe()}, {state}", at_once=True)

    client.on_progress = follow
    try:
        for round_ in rounds:
            pace.add(round_)
            show(f"{pace.admitted} admitted from {pace.requests} requests")
            yield round_
    finally:
        client.on_progress = None
        bar.close()


class Pace:
    """How fast instructions come: what the rounds so far brought, and how long a model takes for an answer."""

    def __init__(self, wanted: int, clock: Callable[[], float] = time.monotonic):
        self.wanted, self._clock = wanted, clock
        self.admitted = self.rounds = self.requests = 0
        self._answered, self._seconds = 0, 0.0  # the answers of a model, and the time they took
        self._latest = clock()
        self._in_round: int | None = None  # answered in the round that is being asked; None between two

    def add(self, round_: Round) -> None:
        """Count a round that is over."""
        self.admitted += len(round_.admitted)
        self.requests += len(round_.requests)
        self.rounds += 1
        self._in_round = None

    def follow(self, answered: int) -> None:
        """A model has answered so many requests of the present round; 0 as it begins."""
        now = self._clock()
        if self._in_round is not None and answered > self._in_round:
            self._seconds += now - self._latest
            self._answered += answered - self._in_round
        if answered != self._in_round:
            self._in_round, self._latest = answered, now

    def find_rate(self) -> float | None:
        """Instructions a second; None until a round has brought some and a model has answered."""
        if not (self.admitted and self._seconds):
            return None
        return self.admitted / self.requests * self._answered / self._seconds

    def find_seconds_left(self) -> float | None:
        """Until the last of the rounds still needed; None as for the rate."""
        if not (rate := self.find_rate()):
            return None
        a_round = self.admitted / self.rounds
        rounds = max(math.ceil((self.wanted - self.admitted) / a_round), 1)
        asked = (self._in_round or 0) * self.admitted / self.requests
        return max((rounds * a_round - asked) / rate - (self._clock() - self._latest), 0)

    def describe(self) -> str:
        """Such as "0.84/s, about 01:05 left"."""
        from tqdm import tqdm

        rate, left = self.find_rate(), self.find_seconds_left()
        if rate is None or left is None:
            return "no rate yet"
        return f"{rate:.2g}/s, about {tqdm.format_interval(left)} left"
