"""Differences of columns: right against what is known, calibrated with and without clusters, and refused where nothing can be said."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.stats import ttest_rel

from selfinstruct.analysis import paired
from selfinstruct.analysis.agreement import adjust_holm
from selfinstruct.analysis.paired import (
    compare_columns,
    measure_detectable_difference,
    summarise_columns,
)
from selfinstruct.files import ParameterError


def draw_columns(size=200, gain=0.0, seed=0):
    rng = np.random.default_rng(seed)
    before = rng.normal(20, 15, size)
    return {"before": before, "after": before + gain + rng.normal(0, 10, size)}


def compare_one(scores, **options):
    return compare_columns(scores, [("after", "before")], **options).iloc[0]


def test_the_worked_examples():
    assert doctest.testmod(paired).failed == 0


def test_a_difference_is_the_mean_of_a_less_that_of_b_and_agrees_with_students_t():
    scores = draw_columns(gain=4)
    found, known = compare_one(scores), ttest_rel(scores["after"], scores["before"])
    ends = known.confidence_interval()
    assert found["difference"] == pytest.approx(np.mean(scores["after"] - scores["before"]))
    assert (found["mean_a"], found["mean_b"]) == pytest.approx((scores["after"].mean(), scores["before"].mean()))
    assert (found["low"], found["high"]) == pytest.approx((ends.low, ends.high), abs=0.1)
    assert (found["n"], found["units"], found["resamples"]) == (200, 200, 10_000)


def test_p_is_below_five_per_cent_where_the_interval_leaves_out_zero():
    rows = [compare_one(draw_columns(40, 3.3, seed), n_resamples=999) for seed in range(60)]
    assert [row["p"] < 0.05 for row in rows] == [row["low"] > 0 or row["high"] < 0 for row in rows]
    assert len({row["p"] < 0.05 for row in rows}) == 2


@pytest.mark.parametrize("size", [8, 60])
def test_one_in_twenty_true_nulls_is_rejected(size):
    """Plain percentiles of eight tasks reject 10.6 %, of many the same as ours."""
    rejected = [compare_one(draw_columns(size, 0, seed), n_resamples=999)["p"] < 0.05 for seed in range(500)]
    assert 0.025 < np.mean(rejected) < 0.08


def test_rows_of_one_task_belong_together_and_a_naive_bootstrap_finds_what_is_not_there():
    tasks, rows = 40, 10
    clusters, found = np.repeat(np.arange(tasks), rows), []
    for seed in range(250):
        rng = np.random.default_rng(seed)
        base = rng.normal(20, 15, tasks * rows)
        common = np.repeat(rng.normal(0, 1, tasks), rows)
        scores = {"before": base, "after": base + common + rng.normal(0, 1, tasks * rows)}
        found.append([compare_one(scores, clusters=one, n_resamples=499)["p"] < 0.05 for one in (clusters, None)])
    ours, naive = np.mean(found, axis=0)
    assert 0.02 < ours < 0.09 and naive > 0.3


def test_the_order_of_tasks_and_the_names_of_clusters_change_nothing():
    scores, clusters = draw_columns(90, 2), np.repeat(np.arange(30), 3)
    order = np.random.default_rng(1).permutation(90)
    moved = {name: values[order] for name, values in scores.items()}
    for one, other in ((None, None), (clusters, [f"task {number}" for number in clusters[order]])):
        first, second = compare_one(scores, clusters=one), compare_one(moved, clusters=other)
        for name in ("difference", "low", "high", "p", "minimum_detectable_difference"):
            assert first[name] == pytest.approx(second[name], abs=1e-9), name


def test_equal_seeds_give_equal_intervals_and_others_nearly():
    scores = draw_columns(100, 2)
    one, again, other = (compare_one(scores, random_seed=seed)["low"] for seed in (1, 1, 2))
    assert one == again != other and one == pytest.approx(other, abs=0.2)


def test_clusters_of_one_row_are_tasks():
    scores = draw_columns(50, 2)
    assert compare_one(scores).equals(compare_one(scores, clusters=range(50)))


def test_clusters_of_unequal_size_keep_the_mean_over_rows():
    scores = {"before": np.zeros(5), "after": np.array([1.0, 1, 1, 1, 6])}
    assert compare_one(scores, clusters=list("aaaab"))["difference"] == 2.0


def test_equal_columns_differ_by_nothing_and_a_constant_gain_is_believed_only_with_enough_tasks():
    same = draw_columns(30)["before"]
    found = compare_one({"before": same, "after": same})
    assert [found[name] for name in ("difference", "low", "high", "p")] == [0, 0, 0, 1]
    two, many = (compare_one({"before": np.zeros(size), "after": np.ones(size)}) for size in (2, 30))
    assert (two["low"], two["high"]) == (1, 1) and two["p"] > 0.05 > many["p"]


def test_training_seeds_are_averaged_first_and_their_spread_is_told():
    before = draw_columns(80)["before"]
    after = before + np.array([[1.0], [3.0], [5.0]])
    found = compare_one({"before": before, "after": after})
    assert (found["difference"], found["seed_sd"]) == pytest.approx((3, 2))
    assert found.drop("seed_sd").equals(compare_one({"before": before, "after": after.mean(axis=0)}).drop("seed_sd"))
    by_seed = {"before": np.stack([before, before + 2, before + 4]), "after": after}
    assert compare_one(by_seed)["seed_sd"] == pytest.approx(0)
    assert np.isnan(compare_one({"before": np.stack([before] * 2), "after": after})["seed_sd"])


def test_holm_corrects_for_the_comparisons_made():
    scores = {**draw_columns(60, 4), "other": draw_columns(60, 0, 5)["after"]}
    pairs = [("after", "before"), ("other", "before"), ("after", "other")]
    table = compare_columns(scores, pairs)
    assert list(table["p_holm"]) == adjust_holm(list(table["p"]))
    assert table["p_holm"].min() == pytest.approx(3 * table["p"].min())
    assert adjust_holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0] and adjust_holm([]) == []
    assert compare_columns(scores, pairs[:1])["p_holm"][0] == table["p"][0]


def test_what_could_be_seen_is_known_before_looking():
    """Figures of statsmodels 0.15.0, TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8), times an SD of 17."""
    for tasks, known in ((3, 55.48874), (10, 16.93203), (91, 5.046721), (252, 3.011752), (566, 2.005318)):
        assert measure_detectable_difference(tasks, 17) == pytest.approx(known, rel=1e-5)
    assert measure_detectable_difference(1, 17) == float("inf")
    assert measure_detectable_difference(252, 17, comparisons=6) == pytest.approx(3.752649)


def test_a_stated_sd_or_that_of_the_data():
    scores = draw_columns(150, 1)
    sd = (scores["after"] - scores["before"]).std(ddof=1)
    own, stated = compare_one(scores), compare_one(scores, sd=17)
    assert own["minimum_detectable_difference"] == pytest.approx(measure_detectable_difference(150, sd))
    assert stated["minimum_detectable_difference"] == measure_detectable_difference(150, 17)
    assert own["low"] == stated["low"]


def test_with_that_gain_four_of_five_experiments_find_it():
    gain = measure_detectable_difference(50, 10)
    found = [compare_one(draw_columns(50, gain, seed), n_resamples=999)["p"] < 0.05 for seed in range(400)]
    assert 0.74 < np.mean(found) < 0.87


def test_among_several_pairs_four_of_five_experiments_find_it_after_holm():
    """Three pairs are true nulls, so that the fourth has to pass Holm's strictest step: with the figure of a single comparison
    62 % of experiments find it.
    """
    gain, found = measure_detectable_difference(40, 10, comparisons=4), []
    for seed in range(1000, 1160):
        rng = np.random.default_rng(seed)
        scores = {"base": np.zeros(40), "gain": rng.normal(gain, 10, 40)}
        scores |= {f"null {number}": rng.normal(0, 10, 40) for number in range(3)}
        table = compare_columns(scores, [(name, "base") for name in scores if name != "base"], n_resamples=499)
        found.append((table["p_holm"][0] < 0.05, table["minimum_detectable_difference"][0]))
    power, limits = np.mean(found, axis=0)
    assert 0.72 < power < 0.88
    assert limits == pytest.approx(gain, rel=0.05), "the figure that is printed, by the SD of these differences"


def test_the_mean_of_each_column_with_its_interval():
    scores = draw_columns(100, 2)
    table = summarise_columns({**scores, "seeds": np.stack([scores["before"], scores["before"] + 2])})
    assert list(table["column"]) == ["before", "after", "seeds"] and list(table["seeds"]) == [1, 1, 2]
    assert list(table["mean"]) == pytest.approx(
        [scores["before"].mean(), scores["after"].mean(), scores["before"].mean() + 1]
    )
    assert ((table["low"] < table["mean"]) & (table["mean"] < table["high"])).all()
    assert table["seed_sd"][2] == pytest.approx(2**0.5)


EVALSTATS = (1.491663951950091, -0.1846085924298754, 3.1962170037509883)  # version 0.3.3; how: see the test


def test_equal_to_evalstats_where_the_method_is_the_same():
    """evalstats is no dependency: for this one test it would bring statsmodels and seven others (53 MB) into every clone.

    Its figures: pairwise_differences(np.stack([after, before]), 0, 1, method="bootstrap", n_bootstrap=10_000, ci=ci,
    rng=np.random.default_rng(0)), columns sorted by their difference, with ci the level that belongs to 120 tasks.
    """
    found = compare_one(draw_columns(120, 3, seed=7))
    assert (found["difference"], found["low"], found["high"]) == pytest.approx(EVALSTATS, abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "pairs", "options", "message"),
    [
        ({"a": [1.0], "b": [2.0]}, [("a", "b")], {}, "1 task to judge on; an interval needs at least two tasks"),
        ({"a": [1, 2], "b": [2, 3]}, [("a", "b")], {"clusters": ["x", "x"]}, "1 cluster to judge on"),
        ({"a": [1, np.nan, 3], "b": [1, 2, 3]}, [], {}, r"a: 1 of 3 scores are no numbers, the first that of task 1"),
        ({"a": [1, np.inf], "b": [1, 2]}, [], {}, "a: 1 of 2 scores are no numbers"),
        ({"a": [1, 2, 3], "b": [1, 2]}, [], {}, r"columns of different lengths \(\{'a': 3, 'b': 2\}\)"),
        ({"a": [1, 2], "b": [1, 2]}, [("a", "c")], {}, "'c': no column of that name; there are a, b"),
        ({"a": [1, 2]}, [], {"clusters": [1]}, "1 clusters for 2 rows"),
        ({"a": [1, 2]}, [], {"confidence": 95}, "confidence=95; give a share between 0 and 1"),
        ({"a": 3.0}, [], {}, r"a: scores of shape \(\)"),
        ({"a": []}, [], {}, r"a: scores of shape \(0,\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(scores, pairs, options, message):
    with pytest.raises(ParameterError, match=message):
        compare_columns(scores, pairs, **options)


def test_a_plan_that_is_none_is_refused():
    with pytest.raises(ParameterError, match=r"n=0, sd=1, comparisons=1: n and comparisons must be 1 or more"):
        measure_detectable_difference(0, 1)
