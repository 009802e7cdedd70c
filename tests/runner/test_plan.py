"""A sweep's plan: what cannot work is refused with file and line, before anything runs."""

from __future__ import annotations

import time

import pytest

from selfinstruct.files import PROJECT_ROOT, InputError, ParameterError, SelfInstructError
from selfinstruct.runner.plan import Cell, estimate_plan, load_plan

GOOD = """\
notebooks: ["02"]
random_seeds: [1, 2]
parameters:
  num_instructions_to_generate: 20
grid:
  num_prompt_instructions: [8, 4]
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        (tmp_path / "sweep.yaml").write_text(text)
        return tmp_path / "sweep.yaml"

    return write


def test_the_example_is_two_arms_with_two_seeds_of_notebook_02():
    plan = load_plan(PROJECT_ROOT / "docs/example_sweep.yaml")
    assert plan.numbers == ["02_generate_instructions"]
    assert [cell.folder for cell in plan.list_cells()] == [
        f"cells/num_prompt_instructions={number}/seed{seed}" for seed in (1, 2) for number in (8, 4)
    ]
    assert plan.list_parameters(Cell("num_prompt_instructions=4", 2)) == {
        "num_instructions_to_generate": 20, "num_prompt_instructions": 4, "random_seed": 2,
    }  # fmt: skip


def test_the_sweep_of_the_readme_s_finding_has_two_headers_two_ratios_and_six_seeds_of_few_requests():
    plan = load_plan(PROJECT_ROOT / "docs/sweep_prompts.yaml")
    assert len(plan.list_cells()) == 24 and plan.measure == "admitted_per_request" and plan.smallest_difference == 1
    sets = {(one["prompt_set"], one["num_machine_instructions"]) for one in plan.arms.values()}
    assert sets == {(name, number) for name in ("ours", "docs/sweep_prompts") for number in (0, 2)}
    assert estimate_plan(plan, plan.list_cells()).total.calls == 24 * 9


def test_the_sweep_of_trials_asks_for_a_alone():
    plan = load_plan(PROJECT_ROOT / "docs/example_trial_sweep.yaml")
    assert plan.measure == "trial_accepted_per_request"
    assert estimate_plan(plan, plan.list_cells()).total.calls == 2 * 3 * 8


def test_what_a_file_leaves_out(write):
    plan = load_plan(write("grid:\n  temperature: [0.5, 1]"))
    assert plan.random_seeds == (1, 2, 3, 4, 5, 6)
    assert "05_filter_and_export" in plan.numbers and plan.reference == "temperature=0.5"
    assert load_plan(write("random_seeds: 3\ngrid:\n  temperature: [0.5, 1]")).random_seeds == (1, 2, 3)


def test_named_arms_and_a_grid_are_crossed_and_any_parameter_may_vary(write):
    plan = load_plan(write(
        "notebooks: [02, 03]\nreference: strict, quirks=fixed\narms:\n  strict: {rouge_threshold: 0.5}\n"
        '  loose: {rouge_threshold: 0.9, sampling: {top_p: 1}}\ngrid:\n  quirks: ["fixed", "published"]\n'
    ))  # fmt: skip
    assert list(plan.arms) == [f"{a}, quirks={q}" for a in ("strict", "loose") for q in ("fixed", "published")]
    assert plan.arms["loose, quirks=fixed"] == {"rouge_threshold": 0.9, "sampling": {"top_p": "1"}, "quirks": "fixed"}
    folders = [cell.folder for cell in plan.list_cells()]
    assert len(set(folders)) == len(folders) and all(folder.isascii() and " " not in folder for folder in folders)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (GOOD.replace("grid:", "gird:"), 5, 'unknown key "gird" of a sweep; did you mean "grid"?'),
        (GOOD.replace("num_prompt_instructions", "num_prompt_instruction"), 6, 'did you mean "num_prompt_instructions"?'),
        (GOOD.replace("num_instructions_to", "num_instruction_to"), 4, 'did you mean "num_instructions_to_generate"?'),
        (GOOD.replace("num_prompt_instructions", "blocked_starts"), 6, "with `rounds: {blocked_starts: ...}` in its prompt.yaml"),
        (GOOD.replace("[8, 4]", "[]"), 6, "an empty grid: num_prompt_instructions needs at least one value"),
        ("random_seeds: [1]\n", 1, "an empty grid: give `grid`"),
        (GOOD.replace("[8, 4]", "[8, many]"), 6, "num_prompt_instructions takes an int, such as -1; got 'many'"),
        (GOOD.replace("[8, 4]", "[8, -2]"), 6, "num_prompt_instructions=-2: must be at least -1"),
        (GOOD.replace("[8, 4]", "[8, 08]"), 5, "two arms of the same values"),
        (GOOD.replace("[8, 4]", "8"), 6, "grid.num_prompt_instructions: Input should be a valid list"),
        (GOOD.replace('["02"]', '["2"]'), 1, 'no notebook "2"'),
        (GOOD.replace("[1, 2]", "[1, 1]"), 2, "random seed 1 twice"),
        (GOOD.replace("[1, 2]", "[one]"), 2, "random_seeds.0: Input should be a valid integer"),
        (GOOD + "reference: num_prompt_instructions=5\n", 7, 'did you mean "num_prompt_instructions=8"?'),
        (GOOD + "measure: admited_per_request\n", 7, 'did you mean "admitted_per_request"?'),
        (GOOD.replace("num_prompt_instructions", "random_seed"), 6, "`random_seeds` has the seeds"),
        (GOOD.replace("num_prompt_instructions: [8, 4]", "seed_tasks_path: [no.jsonl]"), 6, "no such file"),
        (GOOD.replace("num_prompt_instructions: [8, 4]", "prompt_set: [mine]"), 6, "choose one of"),
        ("notebooks: [12]\ngrid:\n  data: [no/such.jsonl]\n", 2, "no/such.jsonl: no such file"),
        ("notebooks: [17]\ngrid:\n  show_rows: [1, 2]\n", 1, "takes a random seed"),
        ("- 1\n", 1, "a sweep is a YAML mapping"),
        ("grid: [\n", 2, "not YAML"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_named_with_its_line(write, text, line, message):
    with pytest.raises(SelfInstructError) as caught:
        load_plan(write(text))
    assert f"sweep.yaml:{line}: " in str(caught.value) and message in str(caught.value)


def test_folders_of_one_name_are_arms_by_their_paths(write, tmp_path):
    for name in ("v1/mine", "v2/mine"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "instructions.txt").write_text(f"{name}:\n")
    sets = [f"{tmp_path}/v1/mine", f"{tmp_path}/v2/mine"]
    plan = load_plan(write(f"notebooks: ['02']\ngrid:\n  prompt_set: {sets}\n"))
    assert list(plan.arms) == [f"prompt_set={name}" for name in sets]
    plan = load_plan(write(f"notebooks: ['02']\ngrid:\n  prompt_set: [ours, {sets[0]}]\n"))
    assert list(plan.arms) == ["prompt_set=ours", "prompt_set=mine"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        load_plan(tmp_path / "none.yaml")


def test_a_grid_of_millions_is_refused_without_being_spread_out(write):
    numbers = ", ".join(f"0.{n:03}" for n in range(400))
    began = time.monotonic()
    with pytest.raises(ParameterError, match=r"sweep.yaml:2: 960,000 cells; at most 100,000"):
        load_plan(write(f"notebooks: [02]\ngrid:\n  temperature: [{numbers}]\n  rouge_threshold: [{numbers}]\n"))
    assert time.monotonic() - began < 5


def test_the_estimate_has_a_row_for_each_arm_and_the_sum_of_all_seeds(write):
    plan = load_plan(write(GOOD))
    cells = plan.list_cells()
    estimate = estimate_plan(plan, cells)
    assert [row.step for row in estimate.steps] == list(plan.arms)
    assert estimate.total.calls == 4 * estimate_plan(plan, cells[:1]).total.calls
    assert estimate_plan(plan, []) is None


def test_the_estimate_of_very_many_arms_counts_all_of_them(write):
    plan = load_plan(write(GOOD.replace("[8, 4]", str(list(range(2, 42))))))
    estimate = estimate_plan(plan, plan.list_cells())
    assert estimate.steps[-1].step == "15 more arms" and len(estimate.steps) == 26
    assert estimate.total.calls == 40 * estimate_plan(plan, plan.list_cells()[:1]).total.calls * 2


def test_a_sweep_that_asks_no_model_has_no_estimate(write):
    plan = load_plan(write("notebooks: ['01']\ngrid:\n  show_rows: [1, 2]\n"))
    assert estimate_plan(plan, plan.list_cells()) is None
