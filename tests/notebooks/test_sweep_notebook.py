"""Notebook 21 on a sweep, on single runs and data sets, and on nothing but its defaults."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from helpers.notebooks import read_results, run_cells
from helpers.places import SAMPLES
from helpers.sweeping import run_without_kernels, write_run, write_sweep, write_trial

from selfinstruct import cli

NAME = "21_sweep_and_compare"
QUICK = {"parse_verbs": False}


def test_a_sweep_ends_in_sentences_tables_and_figures(tmp_path, capsys):
    write_sweep(tmp_path)
    run_cells(NAME, tmp_path, smallest_difference=2.0, **QUICK)
    found = read_results(tmp_path, NAME)
    assert found["arms"] == {"low": [1, 2, 3], "high": [1, 2]}
    assert found["not_read"] == ["high / seed 3: 02: no model"] and found["rows"] == []
    [verdict] = found["verdicts"]
    assert verdict["seeds"] == 2 and verdict["smallest"] == 2.0 and found["headline"] == found["sentences"][0]
    assert found["means"]["admitted_per_request"] == pytest.approx({"low": 1.2, "high": 2.15})
    assert sum(found["variance"].values()) > 0 and "cannot be told apart" in capsys.readouterr().out
    for name in ("comparison.csv", "figures/forest.png", "figures/rounds.svg"):
        assert (tmp_path / name).is_file()


def test_single_runs_and_data_sets_are_compared_row_by_row(tmp_path, monkeypatch):
    run_without_kernels(monkeypatch)
    others = SAMPLES / "all_instances.jsonl"
    done = CliRunner().invoke(cli.main, ["compare", "outputs/example", str(others), "--run-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    found = read_results(tmp_path, NAME)
    assert list(found["arms"]) == ["example", "all_instances"]
    [verdict] = found["verdicts"]
    assert verdict["number"].replace("_", " ") in found["headline"]
    assert (
        found["headline"].startswith("all_instances differs from example in ")
        and " over rows, most clearly in " in found["headline"]
    )
    assert found["headline"] in done.output and "the luck of a run" in done.output
    rows = {row["number"]: row for row in found["rows"]}
    assert {"mean_instruction_words", "empty_input_share", "median_output_words"} <= rows.keys()
    assert all(
        row["low"] <= row["difference"] <= row["high"] for row in rows.values() if row["number"].startswith("mean")
    )


def test_two_runs_are_told_apart_by_their_rounds_with_the_parameters_that_differ_on_top(tmp_path, monkeypatch):
    run_without_kernels(monkeypatch)
    write_run(tmp_path / "a", [(9, 1)] * 8)
    write_run(tmp_path / "b", [(4, 6), (6, 4)] * 4, 0.5)
    both = [str(tmp_path / name) for name in "ab"]
    done = CliRunner().invoke(cli.main, ["compare", *both, "--run-dir", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    found = read_results(tmp_path / "out", NAME)
    assert found["headline"].startswith("b differs from a in admitted per request by −0.8 [−")
    assert found["verdicts"][0]["kind"] == "differs" and "nothing can be said" not in done.output
    assert done.output.index("rouge_threshold: 0.7 (a), 0.5 (b)") < done.output.rindex(found["headline"])


def test_trials_are_compared_with_trials_and_a_trial_with_a_run_is_refused(tmp_path, monkeypatch):
    run_without_kernels(monkeypatch)
    write_trial(tmp_path / "a", "ours", accepted_per_request=[2, 1, 3])
    write_trial(tmp_path / "b", "chat", accepted_per_request=[5, 4, 6])
    write_run(tmp_path / "run", [(6, 1)])

    def compare(*names):
        given = [str(tmp_path / name) for name in names]
        return CliRunner().invoke(cli.main, ["compare", *given, "--run-dir", str(tmp_path / "out")])

    done = compare("a", "b")
    assert done.exit_code == 0 and "prompt_set: ours (a), chat (b)" in done.output, done.output
    assert "b differs from a in 1 of 1 number over draws" in done.output and "(selfinstruct sweep" in done.output
    found = read_results(tmp_path / "out", NAME)
    assert found["means"]["trial_accepted_per_request"] == {"a": 2, "b": 5} and len(found["verdicts"]) == 1
    write_trial(tmp_path / "b", "chat", accepted_per_request=[2, 1, 3])  # a trial that ran again is read again
    assert "b does not differ from a in any of 1 number" in compare("a", "b").output
    third = compare("a", "b", "run")
    assert third.exit_code == 0 and f"not read: {tmp_path}/a holds only a trial of notebook 20" in third.output
    refused = compare("run", "a")
    assert refused.exit_code == 1 and "holds only the rows of a run or data set and" in refused.output


def test_one_run_alone_is_no_comparison(tmp_path):
    refused = CliRunner().invoke(cli.main, ["compare", "outputs/example", "--run-dir", str(tmp_path)])
    assert refused.exit_code == 1 and "name at least two" in refused.output


def test_its_defaults_compare_a_run_with_the_example(tmp_path):
    run_cells(NAME, tmp_path, **QUICK)
    assert list(read_results(tmp_path, NAME)["arms"]) == ["example"]
