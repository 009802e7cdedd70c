"""What is concluded: pairs, sentences, the figure, and answers side by side."""

from __future__ import annotations

import numpy as np
import pytest

from selfinstruct.analysis import new_figure
from selfinstruct.evaluation.comparison import (
    ASSUMED_SD,
    SideBySide,
    compare_measures,
    compare_table_3,
    draw_differences,
    find_extremes,
    find_pairs,
    mark_words,
    plan_comparison,
    say_difference,
    summarise_measures,
    tabulate_columns,
    tabulate_differences,
)
from selfinstruct.evaluation.tasks import EvaluationTask

RNG = np.random.default_rng(1)
TASK = RNG.normal(2, 0.5, 270)


def columns(gain=0.0, seeds=1):
    noise = lambda: RNG.normal(0, 0.1, (seeds, 270))  # noqa: E731
    names = {"before_plain": 0.5, "seeds_only": 0.0, "run_data": -gain, "shuffled_outputs": 0.3}
    return {name: TASK + shift + noise() for name, shift in names.items()}


def test_what_can_be_seen_needs_no_result():
    plan = plan_comparison({"rouge_l": 60, "bits_per_byte": 270}, {"rouge_l": 1, "bits_per_byte": 6})
    assert plan["rouge_l"] == pytest.approx(6.3, abs=0.2)
    assert plan["bits_per_byte"] < plan_comparison({"bits_per_byte": 60}, {"bits_per_byte": 6})["bits_per_byte"]
    assert plan_comparison({"rouge_l": 60}, {"rouge_l": 6})["rouge_l"] == pytest.approx(7.9, abs=0.2)
    assert plan_comparison({"rouge_l": 60}, {"rouge_l": 0})["rouge_l"] == plan["rouge_l"], (
        "one column: nothing to correct"
    )


def test_the_loop_s_two_questions_come_first():
    pairs = find_pairs(["before_plain", "before_chat", "seeds_only", "generated_only", "run_data", "shuffled_outputs"])
    assert pairs[:2] == [("run_data", "seeds_only"), ("run_data", "shuffled_outputs")] and len(pairs) == 6
    assert find_pairs(["davinci", "davinci-self-instruct"]) == [("davinci-self-instruct", "davinci")]
    assert find_pairs(["mine", "yours", "theirs"]) == [("yours", "mine"), ("theirs", "mine")]


def test_a_null_is_said_to_be_one_with_what_would_have_gone_unseen():
    rows = compare_measures({"bits_per_byte": columns()}, [("run_data", "seeds_only")], {})
    limit = plan_comparison({"bits_per_byte": 270}, {"bits_per_byte": 1})["bits_per_byte"]
    assert rows[0]["minimum_detectable_difference"] == pytest.approx(limit)
    assert 0 < rows[0]["observed_detectable_difference"] < limit, "the SD here is 0.14, and 0.2 was stated"
    words = say_difference(rows[0])
    assert words.startswith("run_data minus seeds_only: ") and "bits per byte [" in words
    here = rows[0]["observed_detectable_difference"]
    assert words.endswith(f": no difference seen (planned to see {limit:.3f}; by the SD here {here:.3f}).")


@pytest.mark.parametrize(("gain", "better"), [(0.1, "run_data"), (-0.1, "seeds_only")])
def test_fewer_bits_are_better(gain, better):
    (row,) = compare_measures({"bits_per_byte": columns(gain)}, [("run_data", "seeds_only")], {})
    assert f"{better} is better" in say_difference(row)
    (row,) = compare_measures({"rouge_l": columns(-gain)}, [("run_data", "seeds_only")], {})
    assert f"{better} is better" in say_difference(row), "more ROUGE-L is"


def test_shares_are_in_percent():
    scores = {"stopped": {"run_data": np.ones((1, 40)), "seeds_only": np.eye(2)[:1].repeat(20, 1)}}
    (row,) = compare_measures(scores, [("run_data", "seeds_only")], {})
    assert row["difference"] == 0.5 and tabulate_differences([row])[0]["difference"] == "+50"
    assert "+50 percentage points of responses that stopped" in say_difference(row)


def test_holm_counts_the_pairs_of_one_measure():
    scores = {"bits_per_byte": columns(0.01), "rouge_l": columns(0.01)}
    pairs = [("run_data", "seeds_only"), ("run_data", "shuffled_outputs")]
    alone, several = (compare_measures(scores, chosen, {}) for chosen in (pairs[:1], pairs))
    assert [row["measure"] for row in several] == ["bits_per_byte"] * 2 + ["rouge_l"] * 2
    assert alone[0]["p_holm"] == alone[0]["p"] and several[0]["p_holm"] <= 2 * several[0]["p"]
    plan = plan_comparison({"bits_per_byte": 270}, {"bits_per_byte": 2})["bits_per_byte"]
    assert several[0]["minimum_detectable_difference"] == plan > alone[0]["minimum_detectable_difference"]
    assert several[0]["observed_detectable_difference"] > alone[0]["observed_detectable_difference"]
    assert set(ASSUMED_SD) >= {row["measure"] for row in several}


def test_the_table_has_every_column_with_its_interval_and_the_spread_over_seeds():
    summary = summarise_measures({"bits_per_byte": columns(seeds=3), "stopped": {"run_data": np.eye(2)[:1]}}, {})
    rows = {row["column"]: row for row in tabulate_columns(summary)}
    assert rows["run_data"]["bits per byte"].startswith("1.9") and rows["run_data"]["seeds"] == 3
    assert 0 < rows["run_data"]["SD over seeds"] < 0.1
    assert rows["run_data"]["stopped, %"].startswith("50\u00a0[") and rows["before_plain"]["stopped, %"] == "–"
    assert summary["run_data"]["intervals"]["bits_per_byte"][0] < summary["run_data"]["bits_per_byte"]


def test_the_figure_names_every_pair_and_its_unit():
    scores = {"bits_per_byte": columns(0.2), "rouge_l": columns()}
    rows = compare_measures(scores, [("run_data", "seeds_only"), ("run_data", "before_plain")], {})
    _, axes = draw_differences(rows, new_figure)
    assert "bits per byte\n(left: the first is better)" in axes[0].get_xlabel()
    assert "points of ROUGE-L\n(right: the first is better)" in axes[1].get_xlabel()
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [
        "run_data −\nseeds_only",
        "run_data −\nbefore_plain",
    ]
    (alone,) = draw_differences(rows[:2], new_figure)[1:]
    assert alone.get_xlabel(), "one measure is one panel"
    assert [row["pair"] for row in tabulate_differences(rows)][:1] == ["run_data − seeds_only"]


def test_table_3_has_ours_in_the_places_of_gpt_3_before_and_after():
    rows = compare_table_3({"before_plain": {"rouge_l": 7.7}, "run_data": {"rouge_l": 14.9}}, "heldout")
    ours = {row["our column"]: row["ours, heldout"] for row in rows if row["our column"]}
    assert ours == {"before_plain": 7.7, "run_data": 14.9, "run_data − before_plain": pytest.approx(7.2)}
    assert len(rows) == 10 and rows[1]["paper, SuperNI"] == 6.8
    assert compare_table_3({}, "heldout")[-1]["our column"] is None


def extremes(gains, texts=("a", "b")):
    tasks = [EvaluationTask(f"t{n}", f"Do {n}.", ("x",), "c") for n in range(len(gains))]
    rows = [[{"response": text}] * len(gains) for text in texts]
    return find_extremes(tasks, *rows, np.array(gains), 2)


def test_the_largest_gains_come_first_then_the_largest_losses():
    assert [one.gain for one in extremes([1, -5, 9, 0, -7, 3])] == [9, 3, -7, -5]
    assert [one.gain for one in extremes([0.0, 0.0])] == [] and "no difference" in repr(SideBySide([], "a", "b"))


def test_words_that_only_one_has_are_marked_and_nothing_of_a_model_is_obeyed():
    left, right = mark_words("The <b>old</b> Nile", "The Nile \x1b[31m<script>")
    assert "<del" in left and "&lt;b&gt;old&lt;/b&gt;" in left and "<b>" not in left
    assert "<ins" in right and "&lt;script&gt;" in right and "\x1b" not in right and "<script>" not in right
    page = SideBySide(extremes([5.0], ("<img src=x>", "$1 and $2")), "before_plain", "run_data")._repr_html_()
    assert "<img" not in page and "mathjax_ignore" in page and "before_plain" in page


def test_a_long_answer_is_cut_to_read():
    page = SideBySide(extremes([5.0], ("word " * 2000, "b")), "a", "b")
    assert len(page._repr_html_()) < 3000 and len(repr(page)) < 1500
