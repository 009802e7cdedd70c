"""The bar of step 1: full at the end, true in between."""

from __future__ import annotations

import pytest
from helpers.clients import SETTINGS, ScriptedClient, fresh, seeds

from selfinstruct.records import MachineInstruction
from selfinstruct.steps import Round, generate_instructions, show_rounds
from selfinstruct.steps.progress import Pace


def a_round(admitted: int, requests: int = 5) -> Round:
    return Round(0, [None] * requests, [], [MachineInstruction(instruction=f"{n}") for n in range(admitted)])


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock):
    return Pace(60, clock)


def ask(pace, clock, seconds: float, requests: int = 5) -> None:
    """One round of which every answer takes `seconds`."""
    pace.follow(0)
    for answered in range(1, requests + 1):
        clock.now += seconds
        pace.follow(answered)


def test_no_rate_before_a_model_has_answered_in_the_loop(pace, clock):
    clock.now = 100
    pace.add(a_round(10))  # from the store
    assert pace.find_rate() is None and pace.describe() == "no rate yet"
    pace.follow(0)
    assert pace.find_seconds_left() is None


def test_what_came_from_the_store_tells_how_many_but_not_how_fast(pace, clock):
    pace.add(a_round(10))
    clock.now = 30  # somebody reads the page
    ask(pace, clock, 2.0)
    assert pace.find_rate() == pytest.approx(1.0)  # 2 instructions a request, 2 seconds each
    assert pace.find_seconds_left() == pytest.approx(40)  # five rounds of 10 s are needed, and one is over
    assert pace.describe() == "1/s, about 00:40 left"


def test_the_time_left_goes_down_within_a_round_and_while_nothing_comes(pace, clock):
    pace.add(a_round(10))
    ask(pace, clock, 2.0)
    pace.add(a_round(10))
    pace.follow(0)
    left = [pace.find_seconds_left()]
    for answered in (0, 1, 1, 2):
        clock.now += 1
        pace.follow(answered)
        left.append(pace.find_seconds_left())
    assert left == pytest.approx([40, 39, 38, 37, 36])


def test_the_time_left_is_that_of_whole_rounds(pace, clock):
    pace.add(a_round(29))
    ask(pace, clock, 1.0)
    pace.add(a_round(29))
    assert pace.find_seconds_left() == pytest.approx(5)  # two instructions are missing: one round


def test_a_round_without_gain_gives_no_rate(pace, clock):
    ask(pace, clock, 1.0)
    pace.add(a_round(0))
    assert pace.find_rate() is None and pace.find_seconds_left() is None


class Slow(ScriptedClient):
    """Calls `on_progress` as the real one does."""

    def complete(self, requests, desc=""):
        for answered in range(len(requests) + 1):
            self.on_progress(answered, len(requests), "41 tokens/s")
        return super().complete(requests, desc)


def test_the_bar_moves_at_once_and_ends_full_however_far_the_last_round_went(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    client = Slow(fresh)
    rounds = list(
        show_rounds(client, generate_instructions(client, seeds(), SETTINGS, num_instructions_to_generate=20), 20)
    )
    admitted = sum(len(one.admitted) for one in rounds)
    shown = capsys.readouterr().err.split("\r")
    assert admitted > 20 and "?" not in "".join(shown)
    assert "0/20" in shown[1] and "round 1: 0 of 5, no rate yet" in "".join(shown[:4])
    assert "| 20/20 [" in shown[-1] and f"{admitted} admitted from {5 * len(rounds)} requests" in shown[-1]
    assert client.on_progress is None


def test_a_loop_that_stops_early_leaves_no_bar_behind(capsys):
    client = ScriptedClient(fresh)

    def stopping():
        yield a_round(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(show_rounds(client, stopping(), 20))
    assert "3/20" in capsys.readouterr().err and client.on_progress is None
