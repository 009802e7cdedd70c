"""The numbers of runs and data sets: what is measured, and from which files."""

from __future__ import annotations

import json

import pytest
from helpers.places import SAMPLES
from helpers.sweeping import write_run, write_sweep, write_trial

from selfinstruct.analysis.cells import (
    MEASURES,
    collect_rounds,
    collect_values,
    count_requests_per_round,
    load_cells,
    measure_cells,
)
from selfinstruct.analysis.figures import new_figure
from selfinstruct.analysis.forest import MARKS, plot_forest, plot_rounds
from selfinstruct.analysis.tables import build_funnels
from selfinstruct.analysis.verdicts import compare_arms
from selfinstruct.files import InputError, iter_lines, write_json
from selfinstruct.runfolder import REJECTIONS, RunFolder

EXAMPLE = RunFolder("outputs/example")


@pytest.fixture
def sweep(tmp_path):
    """Two arms, three seeds; one cell failed."""
    return write_sweep(tmp_path)


def test_a_sweeps_cells_are_those_that_are_done(sweep):
    cells, problems = load_cells(sweep)
    assert [(cell.arm, cell.random_seed) for cell in cells] == [
        ("low", 1),
        ("low", 2),
        ("low", 3),
        ("high", 1),
        ("high", 2),
    ]
    assert problems == ["high / seed 3: 02: no model"]


def test_a_sweep_of_which_nothing_is_done(tmp_path):
    waiting = {"a / seed 1": {"arm": "a", "random_seed": 1, "folder": "cells/a/seed1", "state": "waiting"}}
    write_json(tmp_path / "sweep.json", {"cells": waiting})
    with pytest.raises(InputError, match="no cell of this sweep is done; a / seed 1: not run yet"):
        load_cells(RunFolder(tmp_path))


def test_the_numbers_of_step_1(sweep):
    cells, _ = load_cells(sweep)
    found = measure_cells(cells)[0]
    assert found["admitted"] == 11 and found["candidates"] == 14 and found["admitted_per_request"] == 1.1
    assert found["too_similar_share"] == pytest.approx(3 / 14)
    assert found["novelty"] == pytest.approx((6 * 0.8 + 5 * 0.7) / 11)
    assert found["tokens_per_admitted"] == pytest.approx(150 / 11) and found["usd_per_admitted"] == pytest.approx(
        0.5 / 11
    )
    assert collect_rounds(cells, count_requests_per_round(cells))["low", 1] == [6 / 5, 5 / 5]


def test_a_rule_that_drops_nothing_in_a_run_has_a_share_of_0_there(tmp_path):
    write_sweep(tmp_path)
    spotless = tmp_path / "cells/low/seed2" / REJECTIONS
    spotless.write_text("")
    cells, _ = load_cells(RunFolder(tmp_path))
    values = collect_values(cells, measure_cells(cells))["too_similar_share"]
    assert values["low"].keys() == {1, 2, 3} and values["low"][2] == 0 and values["low"][1] > 0


def test_every_number_of_the_example_is_a_measure_or_a_rules_share():
    [found] = measure_cells(load_cells(EXAMPLE)[0])
    assert {name for name in found if name not in MEASURES} <= {
        "too_similar_share",
        "blacklisted_word_share",
        "blocked_start_share",
    }
    results = json.loads((EXAMPLE / "results/02_generate_instructions.json").read_text())
    assert found["admitted_per_request"] == results["accepted"] / results["requested"]
    labels = json.loads((EXAMPLE / "results/03_identify_classification.json").read_text())
    share = labels["classification"] / labels["instructions"]
    assert found["copied_share"] is not None and found["classification_share"] == pytest.approx(share, abs=1e-4)


def test_diversity_counts_equally_many_instructions(tmp_path, monkeypatch):
    import selfinstruct.analysis.cells as module

    pairs = [[("a", "b"), ("a", "b"), ("c", "d"), ("e", "f")], [("a", "b"), ("c", "d")]]
    monkeypatch.setattr(module, "_parse_pairs", lambda *_: pairs)
    cells = [load_cells(EXAMPLE)[0][0]] * 2
    found = [one["verb_noun_diversity_share"] for one in measure_cells(cells, object(), tmp_path / "parses.jsonl")]
    assert found == [0.5, 1.0]  # of the first two each


def test_runs_and_data_sets_that_are_named_are_an_arm_each(tmp_path):
    write_run(tmp_path / "mine", [(6, 1), (7, 2)])
    cells, problems = load_cells(RunFolder(tmp_path / "out"), f"outputs/example,{SAMPLES / 'all_instances.jsonl'}")
    assert [cell.arm for cell in cells] == ["example", "all_instances"] and problems == []
    found = measure_cells(cells)
    assert "admitted" in found[0] and "admitted" not in found[1] and found[1]["mean_output_words"] > 0
    # a run that has come to its instructions alone is compared by those
    cells, _ = load_cells(RunFolder(tmp_path / "out"), f"{tmp_path / 'mine'},outputs/example")
    rows = [row for _, row in iter_lines("outputs/example/machine_generated_instructions.jsonl")]
    assert [len(cell.rounds) for cell in cells] == [2, rows[-1]["request_idx"] + 1]


def test_what_cannot_be_read_is_named(tmp_path):
    others = f"outputs/example,{SAMPLES / 'all_instances.jsonl'}"
    cells, problems = load_cells(RunFolder(tmp_path), f"{others},no/such.jsonl")
    assert len(cells) == 2 and "no/such.jsonl: no such file" in problems[0]
    with pytest.raises(InputError, match=r"no/such\.jsonl: no such file"):  # one alone is no comparison
        load_cells(RunFolder(tmp_path), "outputs/example,no/such.jsonl")


def test_a_trial_alone_is_compared_with_trials_of_its_step_and_what_a_folder_holds_is_named(tmp_path):
    write_trial(tmp_path / "a", accepted_per_request=[2, 1, 3])
    write_trial(tmp_path / "b", accepted_per_request=[5, 4, 6])
    write_trial(tmp_path / "labels", step="classification", accuracy=[0.5, 0.2, 0.8])
    write_run(tmp_path / "run", [(6, 1)])
    out, named = RunFolder(tmp_path / "out"), lambda *names: ",".join(str(tmp_path / name) for name in names)
    cells, problems = load_cells(out, named("a", "b"))
    assert (measure_cells(cells), problems) == (
        [{"trial_accepted_per_request": 2}, {"trial_accepted_per_request": 5}],
        [],
    )
    cells, [left, also] = load_cells(out, named("a", "run", "b", "labels"))
    assert [cell.arm for cell in cells] == ["a", "b"]
    trial = f"{tmp_path}/a holds only a trial of notebook 20 (step 'instructions')"
    assert left.startswith(f"{trial} and {tmp_path}/run holds only the rows of a run or data set: they have no number")
    assert "labels holds only a trial of notebook 20 (step 'classification')" in also
    for pair in (("a", "run"), ("run", "a"), ("a", "labels")):
        with pytest.raises(InputError, match=r"no number in common\. Compare a trial with a trial of the same step"):
            load_cells(out, named(*pair))
    write_trial(tmp_path / "run", accepted_per_request=[3, 2, 4])  # a run with a trial, too
    assert len(load_cells(out, named("a", "run"))[0]) == 2
    cells, problems = load_cells(RunFolder(tmp_path / "a"))  # not named: the example is only offered
    assert [cell.arm for cell in cells] == ["a"] and "outputs/example holds only the rows of a run" in problems[0]


def test_without_a_sweep_the_run_is_compared_with_the_example(tmp_path):
    write_run(tmp_path / "mine", [(6, 1)])
    assert [cell.arm for cell in load_cells(RunFolder(tmp_path / "mine"))[0]] == ["mine", "example"]


def test_the_forest_has_a_row_for_each_arm_with_interval_and_pairs():
    base = {1: 1.0, 2: 2.0, 3: 3.0}
    values = {"a": base, "b": {s: v + 5 + s / 10 for s, v in base.items()}, "c": {1: 1.2, 2: 1.8, 3: 3.1}}
    verdicts = compare_arms(values, measure="admitted_per_request")
    _, ax = new_figure()
    plot_forest(verdicts, values, ax)
    labels = [tick.get_text() for tick in ax.get_yticklabels()]
    assert labels == ["c\n3 seeds, 95 %", "b\n3 seeds, 97.5 %"]  # drawn from below
    assert ax.get_xlabel() == "difference from a:\ninstructions admitted per request"
    marks = [line.get_marker() for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert marks == [MARKS["more seeds"], MARKS["differs"]]
    dots = [list(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "."]
    assert dots[1] == pytest.approx([5.1, 5.2, 5.3])


def test_shares_are_drawn_in_percentage_points():
    values = {"a": {1: 0.1, 2: 0.2}, "b": {1: 0.3, 2: 0.5}}
    _, ax = new_figure()
    plot_forest(compare_arms(values, measure="admitted_share"), values, ax)
    assert "percentage points" in ax.get_xlabel()
    assert next(list(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == ".") == pytest.approx(
        [20, 30]
    )


def test_curves_of_yield_and_novelty(sweep):
    cells, _ = load_cells(sweep)
    _, (first, second) = new_figure(rows=2)
    plot_rounds(cells, first)
    plot_rounds(cells, second, "novelty")
    assert list(first.get_lines()[0].get_ydata()) == [6, 11]
    assert list(second.get_lines()[0].get_ydata()) == pytest.approx([0.8, 0.7])
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["low", "high"]
    assert first.get_xlabel() and "0 to 1" in second.get_ylabel()


@pytest.mark.parametrize(
    ("draw", "why"),
    [
        (lambda ax: plot_forest([], {}, ax), "no two arms to compare"),
        (lambda ax: plot_rounds([], ax), "no rounds of step 1 to draw"),
    ],
)
def test_a_figure_of_nothing_says_so(draw, why):
    _, ax = new_figure()
    draw(ax)
    assert [text.get_text() for text in ax.texts] == [why] and not ax.axison


def test_the_numbers_of_trials_of_every_step_are_columns_as_they_were_recorded(tmp_path):
    found = {
        "2": {"accuracy": [0.625, 0.3, 0.86], "cost_per_accepted_usd": [None, None, None]},
        "3": {"valid_instances_per_task": [1 / 3, 0, 1], "copied_share": [0.1, 0, 1], "parse_rate": [2 / 3, 0.2, 1]},
    }
    for arm, values in found.items():
        counts = {"requests": 8, "candidates": 8, "accepted": 5, "rejected": {"wrong": 3}}
        write_json(
            tmp_path / f"cells/{arm}/seed1/results/20_ablate_prompts.json", {"values": [values, values], **counts}
        )
    cells = {arm: {"arm": arm, "random_seed": 1, "folder": f"cells/{arm}/seed1", "state": "done"} for arm in found}
    write_json(tmp_path / "sweep.json", {"cells": cells})
    cells, _ = load_cells(RunFolder(tmp_path))
    assert measure_cells(cells) == [
        {"trial_accuracy": 0.625},
        {"trial_valid_instances_per_task": 1 / 3, "trial_copied_share": 0.1, "trial_parse_rate": 2 / 3},
    ]
    rows = {row[""]: row["2"] for row in build_funnels(cells)}
    assert rows == {"requests": "8", "candidates": "8", "wrong": "3 (37.5%)", "accepted": "5 (62.5%)"}
    assert {name for one in measure_cells(cells) for name in one} <= set(MEASURES)
