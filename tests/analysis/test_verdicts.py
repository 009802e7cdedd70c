"""The verdict of a sweep: its error rate on runs of an arm against itself, its sentences, and what its seeds can see."""

from __future__ import annotations

import random

import pytest
from helpers.places import SAMPLES

from selfinstruct.analysis.verdicts import (
    ROUND_PART,
    RUN_PART,
    SEED_PART,
    TOGETHER,
    adjust_by_holm,
    compare_arms,
    count_seeds,
    find_detectable,
    split_variance,
)
from selfinstruct.files import ParameterError, read_json

BANK = read_json(SAMPLES / "sweep_bank.json")
SWEEPS = 1000


def draw_sweep(rng: random.Random, bank: dict, seeds: int, arms: int = 2) -> dict[str, dict[int, float]]:
    """A sweep of an arm against itself: which of a seed's runs stands for which arm is chance."""
    chosen = rng.sample(range(len(bank["admitted"])), seeds)
    runs = {seed: rng.sample(bank["admitted"][seed], arms) for seed in chosen}
    return {str(arm): {seed: runs[seed][arm] / BANK["requests"] for seed in chosen} for arm in range(arms)}


@pytest.mark.parametrize("bank", BANK["banks"], ids=lambda one: f"bank-{one['bank_seed']}-drift-{one['drift']}")
@pytest.mark.parametrize("seeds", [3, 6])
def test_an_arm_against_itself_differs_in_about_5_of_100_sweeps(bank, seeds):
    rng = random.Random(f"{bank['bank_seed']} {seeds}")
    found = [compare_arms(draw_sweep(rng, bank, seeds))[0].kind == "differs" for _ in range(SWEEPS)]
    assert 0.03 <= sum(found) / SWEEPS <= 0.07


@pytest.mark.parametrize("bank", BANK["banks"], ids=lambda one: f"bank-{one['bank_seed']}-drift-{one['drift']}")
def test_any_of_two_equal_arms_differs_in_at_most_7_of_100_sweeps(bank):
    rng = random.Random(bank["bank_seed"])
    found = [any(one.kind == "differs" for one in compare_arms(draw_sweep(rng, bank, 6, 3))) for _ in range(SWEEPS)]
    assert 0.02 <= sum(found) / SWEEPS <= 0.07


def runs(*values: float) -> dict[int, float]:
    return dict(enumerate(values, 1))


BASE = runs(2.0, 2.5, 1.9, 2.2, 2.4, 2.0)


def shifted(by: float, wobble: float = 0.1) -> dict[int, float]:
    return {seed: value + by + wobble * (-1) ** seed for seed, value in BASE.items()}


def test_the_three_sentences():
    apart, alike, unknown = compare_arms(
        {"a": BASE, "b": shifted(1.0), "c": shifted(0.01), "d": shifted(0.5, 1.0)}, measure="admitted_per_request"
    )
    assert apart.sentence.startswith("b differs from a by +1 [+0.")
    assert alike.sentence.startswith("c does not differ from a by more than 0.")
    assert unknown.sentence.startswith(
        f"d needs about {unknown.more_seeds} more seeds to be told from a; so far +0.5 [−"
    )
    assert unknown.more_seeds > 10
    for one in (apart, alike, unknown):
        assert "6 seeds see a difference of" in one.sentence and "asked for: 0.433" in one.sentence


def test_three_seeds_say_what_three_seeds_see():
    [one] = compare_arms({"a": runs(2, 2.5, 1.9), "b": runs(2.4, 2.4, 2.5)}, measure="admitted_per_request")
    assert one.kind == "more seeds" and f"3 seeds see a difference of {one.detectable:.2f}"[:-1] in one.sentence


def test_the_interval_is_students():
    [one] = compare_arms({"a": runs(1, 1, 1), "b": runs(2, 3, 4)}, smallest_difference=0.5)
    half = 4.302653 * 1 / 3**0.5  # t(0.975, 2 degrees) times the standard error of 1, 2, 3
    assert one.low == pytest.approx(2 - half, abs=1e-5) and one.high == pytest.approx(2 + half, abs=1e-5)
    assert one.p == pytest.approx(0.0742, abs=1e-4)


def test_runs_are_paired_by_random_seed_and_a_missing_one_drops_its_pair():
    [one] = compare_arms({"a": {1: 1.0, 2: 9.0, 3: 1.0}, "b": {3: 3.0, 1: 2.0, 7: 50.0}})
    assert one.seeds == 2 and one.difference == 1.5


def test_an_arm_without_a_common_seed_has_no_verdict():
    assert compare_arms({"a": {1: 1.0}, "b": {2: 2.0}}) == []


def test_one_seed_never_differs():
    [one] = compare_arms({"a": {1: 1.0}, "b": {1: 100.0}})
    assert one.kind == "more seeds" and one.more_seeds == 5 and one.interval == ""


@pytest.mark.parametrize("by", [0.0, 1.0, 0.1])
def test_differences_without_any_spread(by):
    """Whole numbers of a few seeds may agree by chance: equal runs are equal, a constant difference is no proof."""
    [one] = compare_arms({"a": runs(1.0, 2.0, 3.0), "b": {seed: seed + by for seed in (1, 2, 3)}})
    assert one.kind == ("more seeds" if by else "no difference") and one.p is None


def test_holm_and_its_intervals_agree():
    assert adjust_by_holm({"x": 0.02, "y": 0.03, "z": 0.9}) == {
        "x": (0.06, pytest.approx(0.05 / 3)),
        "y": (0.06, pytest.approx(0.05 / 3)),  # 0.03 alone would be below 0.05 / 1, but x stopped the row
        "z": (0.9, pytest.approx(0.05 / 3)),
    }
    rng = random.Random(1)
    for _ in range(200):
        values = {arm: runs(*(rng.gauss(at / 2, 1) for _ in range(4))) for at, arm in enumerate("abcd")}
        for one in compare_arms(values, smallest_difference=0.1):
            assert (one.kind == "differs") == (one.low > 0 or one.high < 0) == (one.p < 0.05)


def test_an_unknown_reference_is_refused():
    with pytest.raises(ParameterError, match='reference="c": no such arm; there are a, b'):
        compare_arms({"a": BASE, "b": BASE}, "c")


def test_what_seeds_can_see_is_what_they_see_80_times_of_100():
    import numpy as np

    rng, seeds = np.random.default_rng(5), 6
    found = rng.normal(find_detectable(seeds, 2.0), 2.0, (20_000, seeds))
    t = found.mean(1) / (found.std(1, ddof=1) / seeds**0.5)
    assert (abs(t) > 2.570582).mean() == pytest.approx(0.8, abs=0.01)
    assert count_seeds(2.0, find_detectable(seeds, 2.0)) == seeds


def test_shares_are_in_percentage_points():
    [one] = compare_arms({"a": runs(0.1, 0.2, 0.3), "b": runs(0.6, 0.72, 0.79)}, measure="classification_share")
    assert one.sentence.startswith("b differs from a by +50.3 pp [+")


def test_a_split_of_variance_finds_what_was_put_in():
    rng = random.Random(3)
    values, rounds = {"a": {}, "b": {}}, {}
    for seed in range(400):
        common = rng.gauss(0, 2)
        for arm in values:
            level = common + rng.gauss(0, 1)
            rounds[arm, seed] = [level + rng.gauss(0, 3) for _ in range(9)]
            values[arm][seed] = sum(rounds[arm, seed]) / 9
    found = split_variance(values, rounds)
    assert found.parts[SEED_PART] == pytest.approx(4, rel=0.25)
    assert found.parts[RUN_PART] == pytest.approx(1, rel=0.25)
    assert found.parts[ROUND_PART] == pytest.approx(1, rel=0.1)
    assert found.notes == (TOGETHER,)


def test_a_split_says_what_the_design_cannot_tell():
    [note] = split_variance({"a": {1: 1.0}, "b": {1: 2.0}}).notes
    assert "fewer than two seeds" in note
    alone = split_variance({"a": BASE})
    assert SEED_PART not in alone.parts and "With one arm" in " ".join(alone.notes)
    assert split_variance({}).parts == {}
