"""Agreement of raters and predicted shares, against worked values of their literature and by simulation."""

import math

import numpy as np
import pytest

from selfinstruct.analysis.agreement import (
    adjust_holm,
    alpha_interval,
    as_table,
    cohen_kappa,
    fisher_p,
    krippendorff_alpha,
    mcnemar_p,
    predict_share,
    share_interval,
    spearman_correlation,
    spearman_interval,
)
from selfinstruct.files import ParameterError

_ = None
# Krippendorff 2011, "Computing Krippendorff's alpha-reliability", part C: four observers, twelve units, gaps
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
    [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
]
UNITS = [[value for value in unit if value is not None] for unit in zip(*OBSERVERS, strict=True)]


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_against_the_worked_example_of_its_author(metric, alpha):
    assert krippendorff_alpha(UNITS, metric) == pytest.approx(alpha, abs=0.0005)


def test_alpha_of_two_observers_without_gaps():
    first, second = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]  # part A of the same paper: 0.095
    assert krippendorff_alpha(list(zip(first, second, strict=True)), "nominal") == pytest.approx(0.095, abs=0.0005)


def test_alpha_at_its_limits():
    assert krippendorff_alpha([[1, 1], [2, 2]]) == 1.0
    assert krippendorff_alpha([[1, 2], [2, 1]]) < 0
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None and krippendorff_alpha([[1], [2]]) is None
    assert krippendorff_alpha([]) is None and alpha_interval(UNITS[:9]) is None
    with pytest.raises(ParameterError, match='metric="ratio"'):
        krippendorff_alpha(UNITS, "ratio")


def test_alpha_has_an_interval_that_narrows_with_the_units():
    low, high = alpha_interval(UNITS, draws=300)
    more_low, more_high = alpha_interval(UNITS * 9, draws=300)
    assert low < krippendorff_alpha(UNITS) < high and more_high - more_low < (high - low) / 2


def test_kappa_of_four_classes_against_a_table_by_hand():
    first, second = "AAAABBBCCD", "AABABBCCCD"
    # 8 of 10 equal; chance (4*3 + 3*3 + 2*3 + 1*1) / 100
    assert cohen_kappa(first, second) == pytest.approx((0.8 - 0.28) / 0.72)


def test_spearman_with_ties_and_its_interval():
    first, second = [1, 2, 3, 4, 5], [5, 6, 7, 8, 7]
    assert spearman_correlation(first, second) == pytest.approx(0.82078268)  # scipy's own documented example
    low, high = spearman_interval(first * 10, second * 10)
    rho = spearman_correlation(first * 10, second * 10)
    half = 1.959964 * math.sqrt((1 + rho**2 / 2) / 47)  # Bonett and Wright 2000
    assert (low, high) == pytest.approx((math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)))
    assert spearman_correlation([1, 1], [1, 2]) is None and spearman_interval([1, 2, 3], [1, 2, 3]) is None
    assert spearman_interval([1, 2, 3, 4], [1, 2, 3, 4]) == pytest.approx((1, 1))


def test_exact_tests_against_tables_by_hand():
    # the lady tasting tea: 3 of 4 right on both sides, two-sided 34 / 70
    assert fisher_p([True] * 3 + [False], [True] + [False] * 3) == pytest.approx(34 / 70)
    assert fisher_p([], [True]) is None
    pairs = [(False, True)] * 8 + [(True, False)] * 2 + [(True, True)] * 5
    assert mcnemar_p(pairs) == pytest.approx(2 * (1 + 10 + 45) / 1024)  # binomial, 2 or fewer of 10
    assert mcnemar_p([(True, True)]) == 1.0 and mcnemar_p([]) is None


def test_holm_against_his_procedure_by_hand():
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0] and adjust_holm([]) == []


def draw_judged(rng, share, when_yes, when_no, labelled, unlabelled):
    """(person, judge) of the labelled and the judge's of the others, for a judge that is right so often."""
    person = rng.random(labelled + unlabelled) < share
    right = rng.random(len(person)) < np.where(person, when_yes, when_no)
    judge = np.where(right, person, ~person)
    pairs = list(zip(person[:labelled].tolist(), judge[:labelled].tolist(), strict=True))
    return pairs, judge[labelled:].tolist()


@pytest.mark.parametrize(
    ("share", "when_yes", "when_no", "labelled"),
    [(0.6, 0.9, 0.9, 50), (0.3, 0.8, 0.7, 25), (0.6, 0.5, 0.5, 30), (0.9, 0.99, 0.9, 30), (0.8, 0.95, 0.3, 40)],
)
def test_a_predicted_share_holds_the_truth_in_95_of_100_samples(share, when_yes, when_no, labelled):
    rng, hits = np.random.default_rng(7), 0
    for _ in range(600):
        low, high = predict_share(*draw_judged(rng, share, when_yes, when_no, labelled, 200))["interval"]
        hits += low <= share <= high
    assert hits / 600 > 0.93


def test_a_good_judge_narrows_the_interval_and_a_useless_one_does_not_matter():
    rng = np.random.default_rng(3)
    pairs, others = draw_judged(rng, 0.6, 0.95, 0.95, 50, 450)
    found = predict_share(pairs, others)
    alone = share_interval(sum(person for person, _ in pairs), 50)
    assert found["interval"][1] - found["interval"][0] < 0.75 * (alone[1] - alone[0]) and found["weight"] > 0.6
    useless = predict_share([(person, True) for person, _ in pairs], [True] * 450)
    assert useless["weight"] == 0 and useless["share"] == sum(person for person, _ in pairs) / 50


def test_a_biased_judge_is_corrected():
    rng = np.random.default_rng(5)
    pairs, others = draw_judged(rng, 0.3, 1.0, 0.5, 400, 4000)  # says yes to half of the bad: 0.65 by itself
    found = predict_share(pairs, others)
    assert np.mean(others) > 0.6 and found["share"] == pytest.approx(0.3, abs=0.05)


def test_nothing_is_predicted_without_a_persons_answers():
    none = predict_share([], [True, False])
    assert none == {"labelled": 0, "unlabelled": 2, "share": None, "interval": None, "weight": None}
    assert predict_share([(True, True)], [])["interval"] is None
    low, high = predict_share([(True, True)] * 10, [True] * 90)["interval"]
    assert low < 0.9 and high == 1.0  # a judge that never erred ten times has not proved that it never errs


def test_rows_one_after_the_other_make_a_table_with_p_values_that_can_be_small():
    table = as_table([{"set": "a", "difference": 0.12345, "interval": (0.1, 0.2), "p": 0.00012, "p_holm": 0.5}])
    assert table.loc[0].to_list() == ["a", 0.12, "0.10 to 0.20", "0.0001", "0.5"] and as_table([]).empty
