"""Single runs and data sets are compared over rows, and the sentences say what that is and what it is not."""

from __future__ import annotations

import pytest
from helpers.sweeping import write_run, write_sweep, write_trial

from selfinstruct.analysis.cells import load_cells
from selfinstruct.analysis.figures import new_figure
from selfinstruct.analysis.forest import MARKS, plot_forest
from selfinstruct.analysis.singles import OVER_DRAWS, OVER_ROWS, compare_rows, judge_rows
from selfinstruct.analysis.tables import find_differing_parameters
from selfinstruct.files import ParameterError
from selfinstruct.runfolder import RunFolder

MEASURE = "admitted_per_request"


@pytest.fixture
def load(tmp_path):
    """The cells of runs that are made of these rounds: name=[(admitted, too similar), ...]."""

    def load(**runs):
        for name, rounds in runs.items():
            write_run(tmp_path / name, rounds, 0.5 if name == "b" else 0.7)
        return load_cells(RunFolder(tmp_path), ",".join(str(tmp_path / name) for name in runs))[0]

    return load


def test_every_number_over_rows_and_step_1_round_by_round(load):
    rows = compare_rows(load(a=[(9, 1)] * 12, b=[(4, 6), (6, 4)] * 6))
    found = {row["number"]: row for row in rows}
    assert found[MEASURE]["difference"] == pytest.approx(-0.8) and found[MEASURE]["excludes_zero"]
    assert found["admitted_share"]["difference"] == pytest.approx(-0.4) and "mean_instruction_words" in found
    assert (
        found["too_similar_share"]["difference"] == pytest.approx(0.4) and found["too_similar_share"]["excludes_zero"]
    )
    news = [0.8 - 0.1 * at for at in range(12)]  # as the helper writes them: 1 - (0.2 + 0.1 x round)
    expected = sum(n * one for n, one in zip([4, 6] * 6, news, strict=True)) / 60 - sum(news) / 12
    assert found["novelty"]["difference"] == pytest.approx(expected, abs=1e-4)
    assert len(found) == len(rows)  # no number twice


def test_the_sentence_names_the_difference_and_that_it_is_over_rows(load):
    rows = compare_rows(load(a=[(9, 1)] * 12, b=[(4, 6), (6, 4)] * 6))
    [verdict], sentences = judge_rows(rows, MEASURE)
    assert verdict.kind == "differs" and verdict.low < -0.8 < verdict.high < 0
    assert sentences[0] == f"b differs from a in admitted per request by −0.8 {verdict.interval} over rows."
    assert sentences[1].startswith("b differs from a in ") and " over rows, most clearly in " in sentences[1]
    assert sentences[-1] == OVER_ROWS and "luck of a run" in OVER_ROWS and not any("seed n" in one for one in sentences)


def test_equal_runs_do_not_differ_by_more_than_the_interval_s_end(load):
    rows = compare_rows(load(a=[(4, 6), (6, 4)] * 6, b=[(6, 4), (4, 6)] * 6))
    [verdict], sentences = judge_rows(rows, MEASURE, smallest_difference=0.1)
    most = max(abs(verdict.low), abs(verdict.high))
    assert 0.1 < most < 0.4 and verdict.kind == "more seeds"  # the difference that matters is not excluded
    assert sentences[0].startswith(f"b does not differ from a in admitted per request by more than {most:.3g}")
    assert sentences[0].endswith("over rows.")
    [verdict], _ = judge_rows(rows, MEASURE, smallest_difference=0.5)
    assert verdict.kind == "no difference" and verdict.smallest == 0.5


def test_few_rounds_have_wider_intervals_and_one_has_none(load):
    few, many = (
        next(
            row
            for row in compare_rows(load(a=[(4, 6), (6, 4)] * times, b=[(5, 5), (6, 4)] * times))
            if row["number"] == MEASURE
        )
        for times in (1, 8)
    )
    assert few["high"] - few["low"] > 12.7 / 1.96 * (
        many["high"] - many["low"]
    )  # Student's t with one degree of freedom
    [verdict], sentences = judge_rows(compare_rows(load(a=[(4, 6)], b=[(6, 4)])), MEASURE)
    assert verdict.interval == "" and "one round gives no interval; so far +0.4" in sentences[0]


def test_the_reference_may_be_any_of_them(load):
    cells = load(a=[(9, 1)] * 6, b=[(4, 6), (6, 4)] * 3, c=[(9, 1)] * 6)
    found = [row for row in compare_rows(cells, reference="b") if row["number"] == MEASURE]
    assert [(row["data_set"], row["against"], row["difference"] > 0) for row in found] == [
        ("a", "b", True),
        ("c", "b", True),
    ]
    with pytest.raises(ParameterError, match='reference="d": no such arm; there are a, b, c'):
        compare_rows(cells, reference="d")


def test_data_without_the_measure_is_summed_up_over_all_its_numbers(load):
    rows = [row for row in compare_rows(load(a=[(9, 1)] * 3, b=[(9, 1)] * 3)) if "admitted" not in row["number"]]
    verdicts, sentences = judge_rows(rows, MEASURE)
    assert len(sentences) == 2 and "over rows" in sentences[0]
    assert len(verdicts) == 1 and verdicts[0].number in {row["number"] for row in rows}
    assert judge_rows([], MEASURE) == ([], [])


def test_runs_of_several_seeds_are_not_compared_row_by_row(tmp_path):
    assert compare_rows(load_cells(write_sweep(tmp_path))[0]) == []


def test_single_trials_are_compared_over_draws_each_with_its_own_interval(tmp_path):
    for name, value in {"a": [2.0, 1.0, 3.5], "b": [5.0, 3.0, 6.0]}.items():
        write_trial(tmp_path / name, accepted_per_request=value, copied_share=[0.1, None, None])
    write_trial(tmp_path / "c", accepted_per_request=[2.1, 1.0, 3.0], copied_share=[None, None, None])
    rows = compare_rows(load_cells(RunFolder(tmp_path), ",".join(str(tmp_path / name) for name in "abc"))[0])
    found = {(row["data_set"], row["number"]): row for row in rows}
    first = found["b", "trial_accepted_per_request"]
    # b - a: down by sqrt((5 - 3)^2 + (3.5 - 2)^2), up by sqrt((6 - 5)^2 + (2 - 1)^2)
    ends = pytest.approx((0.5, 3 + 2**0.5))
    assert (first["difference"], (first["low"], first["high"])) == (3.0, ends) and first["excludes_zero"]
    assert not found["c", "trial_accepted_per_request"]["excludes_zero"] and ("c", "trial_copied_share") not in found
    verdicts, sentences = judge_rows(rows, "trial_accepted_per_request")
    assert sentences[0] == "b differs from a in trial accepted per request by +3 [+0.5, +4.41] over draws."
    most = "most clearly in trial accepted per request by +3 [+0.5, +4.41]; one in twenty does so by chance."
    assert sentences[2] == f"b differs from a in 1 of 1 number over draws, {most}"
    assert sentences[4:] == [OVER_DRAWS] and [one.basis for one in verdicts] == ["over draws"] * 2
    share = next(row for row in rows if row["number"] == "trial_copied_share")
    assert "one draw gives no interval" in judge_rows([share], "trial_copied_share")[1][0]
    assert judge_rows([share], "")[1][0] == "b cannot be told from a: no number has an interval."


def test_single_trials_that_differ_by_a_fraction_of_a_cent_are_told_apart(tmp_path):
    for name, dollars in {"a": [2e-5, 1.9e-5, 2.1e-5], "b": [3e-5, 2.9e-5, 3.1e-5]}.items():
        write_trial(tmp_path / name, cost_per_accepted_usd=dollars)
    [row] = compare_rows(load_cells(RunFolder(tmp_path), f"{tmp_path}/a,{tmp_path}/b")[0])
    assert row["excludes_zero"] and row["difference"] == pytest.approx(1e-5)


def test_the_forest_of_single_runs_says_what_its_intervals_are_over(load):
    verdicts, _ = judge_rows(compare_rows(load(a=[(9, 1)] * 12, b=[(4, 6), (6, 4)] * 6)), MEASURE)
    _, ax = new_figure()
    plot_forest(verdicts, {}, ax)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["b\nover rows, 95 %"]
    assert [line.get_marker() for line in ax.get_lines() if list(line.get_xdata()) == [-0.8]] == [MARKS["differs"]]


def test_data_of_others_does_not_differ_by_having_no_parameters(load, tmp_path):
    cells = load(a=[(9, 1)], b=[(9, 1)])
    assert find_differing_parameters(cells) == [{"parameter": "rouge_threshold", "a": "0.7", "b": "0.5"}]
    (tmp_path / "rows.json").write_text('[{"instruction": "Name a colour.", "input": "", "output": "Red"}]')
    others = load_cells(RunFolder(tmp_path), f"{tmp_path / 'a'},{tmp_path / 'rows.json'}")[0]
    assert len(others) == 2 and find_differing_parameters(others) == []
