"""Sweeps: every cell runs once, what is new or failed runs alone, nothing runs before somebody agreed, limits hold for all."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.notebooks import run_cells
from helpers.scripted import ScriptedServer
from helpers.scripted_method import respond
from helpers.sweeping import run_without_kernels, write_plan, write_sweep

from selfinstruct import cli
from selfinstruct.ablation import AblationPanel, run_trial
from selfinstruct.files import EndpointError, SelfInstructError, StoppedEarly
from selfinstruct.models import connect
from selfinstruct.runfolder import RunFolder
from selfinstruct.runner import sweep as sweeps
from selfinstruct.runner.plan import load_plan
from selfinstruct.runner.sweep import describe_power, is_finished, run_sweep

KEY = "sk-scripted-key-that-must-show-nowhere"
ARMS = ["num_prompt_instructions=8", "num_prompt_instructions=4"]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run_without_kernels(monkeypatch)
    with ScriptedServer(respond) as server:
        yield server


@pytest.fixture
def quick(monkeypatch):
    """Without notebook 21, which parses for two seconds."""
    monkeypatch.setattr(sweeps, "compare_sweep", lambda plan, sweep, out: {})


def yes(question: str) -> bool:
    return True


def start(plan, folder: Path, agree=yes, **more) -> list[str]:
    lines: list[str] = []
    run_sweep(plan, RunFolder(folder), agree, lines.append, **more)
    return lines


def read_states(folder: Path) -> dict[str, str]:
    return {name: cell["state"] for name, cell in json.loads((folder / "sweep.json").read_text())["cells"].items()}


def test_two_arms_and_two_seeds_from_plan_to_sentence(server, tmp_path):
    plan = write_plan(tmp_path, server.url)
    lines = start(plan, tmp_path / "sweep")
    assert set(read_states(tmp_path / "sweep").values()) == {"done"}
    assert lines[0].startswith("2 arms x 2 seeds = 4 cells, 4 to run")
    assert any(line.startswith(f"{ARMS[1]} needs about ") for line in lines) and "report.html" in lines[-2]
    assert re.fullmatch(
        r"To go on: \d+ more random seeds? in .*sweep.yaml, and the same command; only new cells run.", lines[-1]
    )
    results = json.loads((tmp_path / "sweep/results/21_sweep_and_compare.json").read_text())
    assert results["arms"] == {arm: [1, 2] for arm in ARMS} and len(results["sentences"]) == 1
    rows = list(csv.DictReader((tmp_path / "sweep/comparison.csv").open()))
    assert {(row["arm"], row["random_seed"]) for row in rows} == {(arm, seed) for arm in ARMS for seed in "12"}
    assert {"admitted_per_request", "novelty", "verb_noun_diversity_share", "tokens_per_admitted"} <= {
        r["number"] for r in rows
    }
    assert (tmp_path / "sweep/figures/forest.png").is_file() and (tmp_path / "sweep/figures/rounds.png").is_file()

    calls = len(server.bodies)
    again = start(plan, tmp_path / "sweep", agree=lambda question: pytest.fail("nothing is to be run"))
    assert "0 to run" in again[0] and len(server.bodies) == calls
    for path in (tmp_path / "sweep").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_a_new_seed_and_a_new_arm_run_only_what_is_new(server, quick, tmp_path):
    start(write_plan(tmp_path, server.url), tmp_path / "sweep")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep/cells").rglob("*.jsonl")}
    lines = start(write_plan(tmp_path, server.url, random_seeds=[1, 2, 3]), tmp_path / "sweep")
    assert "6 cells, 2 to run" in lines[0] and sum(line.startswith("[") for line in lines) == 2
    grid = {"num_prompt_instructions": [8, 4, 6]}
    lines = start(write_plan(tmp_path, server.url, random_seeds=[1, 2, 3], grid=grid), tmp_path / "sweep")
    assert "9 cells, 3 to run" in lines[0]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_another_folder_asks_nothing_that_is_stored(server, quick, tmp_path):
    plan = write_plan(tmp_path, server.url)
    start(plan, tmp_path / "one")
    calls = len(server.bodies)
    start(plan, tmp_path / "two")
    assert len(server.bodies) == calls
    name = "machine_generated_instructions.jsonl"
    for cell in plan.list_cells():
        assert (tmp_path / "one" / cell.folder / name).read_bytes() == (
            tmp_path / "two" / cell.folder / name
        ).read_bytes()


def test_a_failed_cell_is_reported_the_others_run_and_it_is_tried_again_alone(server, quick, tmp_path):
    plan = write_plan(tmp_path, server.url, grid={"rouge_threshold": [0.7, 0.0]})  # 0: all is too similar, step 1 stops
    with pytest.raises(
        SelfInstructError, match=r"2 of 4 cells failed \(rouge_threshold=0.0 / seed 1: 02_generate.*step 1 stopped"
    ):
        start(plan, tmp_path / "sweep")
    assert sorted(read_states(tmp_path / "sweep").values()) == ["done", "done", "failed", "failed"]
    lines: list[str] = []
    with pytest.raises(SelfInstructError, match="2 of 4 cells failed"):
        run_sweep(plan, RunFolder(tmp_path / "sweep"), yes, lines.append)
    assert "2 to run" in lines[0]


def test_nothing_runs_before_somebody_agreed(server, tmp_path):
    asked: list[str] = []
    with pytest.raises(StoppedEarly, match="nothing was run"):
        start(write_plan(tmp_path, server.url), tmp_path / "sweep", agree=lambda question: bool(asked.append(question)))
    assert asked == ["Run 4 cells?"] and not (tmp_path / "sweep").exists() and server.bodies == []


def test_ten_thousand_cells_by_accident_are_counted_and_asked_about(server, tmp_path):
    grid = {"temperature": [n / 100 for n in range(100)]}
    plan = write_plan(tmp_path, server.url, grid=grid, random_seeds=100)
    lines, began = [], time.monotonic()
    with pytest.raises(StoppedEarly):
        run_sweep(plan, RunFolder(tmp_path / "sweep"), lambda question: "10,000 cells" not in question, lines.append)
    assert "100 arms x 100 seeds = 10,000 cells" in lines[0] and "75 more arms" in lines[1]
    assert time.monotonic() - began < 20


def test_the_estimate_and_the_limit_come_first(server, quick, tmp_path):
    parameters = {"max_tokens_total": 1_000_000}
    lines = start(write_plan(tmp_path, server.url, parameters=parameters), tmp_path / "sweep")
    assert "num_prompt_instructions=8" in lines[1] and lines[2] == "Limit for the whole sweep: max_tokens_total=1e+06."


def test_a_limit_holds_for_the_whole_sweep_which_goes_on_with_a_higher_one(server, quick, tmp_path):
    with pytest.raises(StoppedEarly, match="max_tokens_total"):
        start(
            write_plan(tmp_path, server.url, parameters={"max_tokens": 100, "max_tokens_total": 2600}),
            tmp_path / "sweep",
        )
    assert {"waiting", "done"} == set(read_states(tmp_path / "sweep").values())  # two cells fit the limit
    plan = write_plan(tmp_path, server.url, parameters={"max_tokens": 100, "max_tokens_total": 10**9})
    start(plan, tmp_path / "sweep")
    assert set(read_states(tmp_path / "sweep").values()) == {"done"}
    assert len({json.dumps(body) for body in server.bodies}) == len(server.bodies) == 20  # nothing was asked twice


def test_a_model_that_nobody_finds_ends_the_sweep_at_its_second_cell(quick, tmp_path, server):
    tried = []

    def fail(plan, sweep, cells):
        for cell in cells:
            tried.append(cell)
            yield cell, EndpointError("no such model")

    with pytest.raises(EndpointError, match="no such model"):
        start(write_plan(tmp_path, server.url), tmp_path / "sweep", run_cells=fail)
    assert len(tried) == 2
    assert sorted(read_states(tmp_path / "sweep").values()) == ["failed", "failed", "waiting", "waiting"]


def test_a_changed_output_is_run_again(server, quick, tmp_path):
    plan = write_plan(tmp_path, server.url)
    start(plan, tmp_path / "sweep")
    first, *others = plan.list_cells()
    (tmp_path / "sweep" / first.folder / "machine_generated_instructions.jsonl").write_text("")
    assert not is_finished(plan, RunFolder(tmp_path / "sweep"), first)
    assert all(is_finished(plan, RunFolder(tmp_path / "sweep"), cell) for cell in others)


def test_a_sweep_of_trials_has_the_numbers_of_run_trial_and_of_the_panel_to_the_last_digit(server, quick, tmp_path):
    asked = {"model": "scripted-1", "base_url": server.url, "store": str(tmp_path / "store.sqlite")}
    given = {"n_draws": 4, "other_set": "", "machine_from": "", **asked}
    lines = [f"  {name}: {json.dumps(value)}" for name, value in given.items()]
    text = "\n".join(
        ['notebooks: ["20"]\nrandom_seeds: [3]\nparameters:', *lines, "grid:\n  prompt_set: [ours, alpaca]\n"]
    )
    (tmp_path / "sweep.yaml").write_text(text)
    plan = load_plan(tmp_path / "sweep.yaml")
    assert plan.measure == "trial_accepted_per_request"
    assert "8" in start(plan, tmp_path / "sweep")[1].splitlines()[4].split()  # the estimate comes first
    assert len(server.bodies) == 8  # A alone
    assert all(is_finished(plan, RunFolder(tmp_path / "sweep"), cell) for cell in plan.list_cells())
    names = run_cells("21_sweep_and_compare", tmp_path / "sweep", parse_verbs=False)
    rows = list(csv.DictReader((tmp_path / "sweep/comparison.csv").open()))
    for arm, seed in plan.list_cells():
        found = {
            row["number"]: float(row["value"]) for row in rows if (row["arm"], row["random_seed"]) == (arm, str(seed))
        }
        prompt_set = arm.removeprefix("prompt_set=")
        with connect(**asked) as client:
            trial = run_trial(client, prompt_set, "instructions", 4, seed)
        panel = AblationPanel(asked, prompt_set, n_draws=4, random_seed=seed)
        assert panel.run().summary() == trial.summary()
        panel.close_clients()
        expected = {f"trial_{name}": value for name, (value, *_) in trial.summary().items() if value is not None}
        assert found == expected and "trial_accepted_per_request" in found
    assert len(server.bodies) == 8
    assert {row["step"] for row in names["analysis"].build_funnels(names["cells"])} == {"trial"}


def test_power_before_anything_ran_and_after_some_pairs(server, tmp_path):
    plan = write_plan(tmp_path, server.url, smallest_difference=1)
    before = "\n".join(describe_power(plan, RunFolder(tmp_path / "sweep")))
    assert "from the rounds of outputs/example" in before and "<- this plan" in before
    assert before.splitlines()[-1].startswith("Next: selfinstruct sweep ")
    # five requests are two rounds of the example's three, whatever a round of this plan is
    by_model = write_plan(tmp_path, server.url, smallest_difference=1, parameters={"prompt_set": "short"})
    again = "\n".join(describe_power(by_model, RunFolder(tmp_path / "sweep")))
    assert "as if 2 of them were independent" in again and before.splitlines()[1:] == again.splitlines()[1:]
    after = "\n".join(describe_power(plan, write_sweep(tmp_path / "sweep", ARMS)))
    assert "from 2 pairs of finished runs" in after and "For the 1 asked for:" in after


def test_power_of_another_number_is_in_standard_deviations(server, tmp_path):
    plan = write_plan(tmp_path, server.url, measure="novelty", random_seeds=6)
    text = "\n".join(describe_power(plan, RunFolder(tmp_path / "sweep")))
    assert "6 seeds see a difference of 1.43 standard deviations of a paired difference   <- this plan" in text


def test_the_commands(server, quick, tmp_path):
    write_plan(tmp_path, server.url)
    command = ["sweep", str(tmp_path / "sweep.yaml"), "--sweep-dir", str(tmp_path / "sweep")]
    power = CliRunner().invoke(cli.main, [*command, "--power"])
    assert power.exit_code == 0 and "2 seeds see a difference of" in power.output
    estimate = CliRunner().invoke(cli.main, [*command, "--estimate"])
    assert estimate.exit_code == 0 and ARMS[1] in estimate.output
    nobody = CliRunner().invoke(cli.main, command)
    assert nobody.exit_code == 3 and "--yes" in nobody.output and server.bodies == []
    done = CliRunner().invoke(cli.main, [*command, "--yes"])
    assert done.exit_code == 0 and "[4/4]" in done.output
    wrong = CliRunner().invoke(cli.main, ["sweep", str(tmp_path / "sweep.yaml").replace("sweep.yaml", "no.yaml")])
    assert wrong.exit_code == 2
