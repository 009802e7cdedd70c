"""`-f notebooks/paper.yaml`: every setting of the paper, each a parameter of some notebook, and a run given them follows the paper."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner
from helpers.notebooks import run_cells
from helpers.places import PROJECT_ROOT
from helpers.scripted import ScriptedServer
from helpers.scripted_method import respond

from selfinstruct.cli import main
from selfinstruct.files import write_text
from selfinstruct.paper.scorecard import build_scorecard
from selfinstruct.runfolder import NOTEBOOKS_DIR, RunFolder
from selfinstruct.runner.parameters import load_parameters, notebook_parameters
from selfinstruct.runner.run import read_parameters

PAPER = PROJECT_ROOT / "notebooks/paper.yaml"
DECLARED = {path.stem: notebook_parameters(path) for path in sorted(NOTEBOOKS_DIR.glob("[0-9]*.ipynb"))}
# our own: where files go, who is asked and how fast, what is shown, what the kit adds
OURS = {
    "run_dir", "store", "model", "base_url", "concurrency", "requests_per_minute", "tokens_per_minute", "max_cost_usd",
    "max_tokens_total", "price_table", "deterministic", "show_rows", "show_form", "data", "data_set", "draws", "rater", "second_rater",
    "rater_model", "scheduler", "judge_columns", "data_sets", "copied_threshold", "seed_tasks_path", "random_seed", "timeout_s",
    "other_set", "step", "n_draws", "machine_from",
    # fine-tuning and judging on weights of one's own; the paper's are a provider's defaults
    "backend", "base_model", "batch_tokens", "better_model", "columns", "heldout_sample", "job_wait_s", "judged", "learning_rate",
    "max_length", "merge", "n_generation_tasks", "n_resamples", "n_tasks", "n_written_tasks", "output_tokens", "precision", "predictions",
    "rank", "sizes", "steps", "tasks", "training_price", "training_seeds", "validation",
    # sweeps
    "measure", "parse_verbs", "reference", "runs", "smallest_difference",
}  # fmt: skip


def test_each_key_is_a_parameter_of_some_notebook_and_none_is_missing():
    given = load_parameters(PAPER)
    known = {name for one in DECLARED.values() for name in one}
    assert set(given) == known - OURS
    for one in DECLARED.values():
        for name, parameter in one.items():
            if name in given:
                parameter.convert(given[name])


def test_the_page_on_the_paper_names_tests_that_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)`", (PROJECT_ROOT / "docs/paper.md").read_text(encoding="utf-8"))
    assert len(set(named)) >= 5 and [name for name in named if not (PROJECT_ROOT / name).is_file()] == []


def test_of_the_file_a_notebook_gets_what_it_takes():
    assert set(read_parameters(PAPER, ["05"])) == {"prompt_set", "quirks", "num_instructions", "include_seed_tasks"}
    assert "size" not in read_parameters(PAPER) and read_parameters(PAPER, ["14"])["size"] == "200"
    assert "rouge_threshold" in read_parameters(PAPER, start="13")


@pytest.mark.parametrize("name", ["rouge_treshold", "run_folder"])
def test_a_name_that_no_notebook_has_is_refused(tmp_path, name):
    file = write_text(tmp_path / "mine.yaml", f"size: 20\n{name}: 1\n")
    done = CliRunner().invoke(main, ["run", "--only", "05", "-f", str(file), "--run-dir", str(tmp_path / "run")])
    assert done.exit_code == 1 and f'unknown parameter "{name}"' in done.output


def test_the_command_takes_it():
    asked = ["run", "-f", str(PAPER), "-p", "prompt_set", "ours", "-p", "model", "davinci-002", "--estimate"]
    done = CliRunner().invoke(main, asked)
    assert done.exit_code == 0 and "02_generate_instructions" in done.output, done.output


def test_a_run_given_these_follows_the_paper_in_all_that_it_can_set(tmp_path):
    """A scripted model asked for five instructions, with our prompts, since the published ones are not fetched here."""
    here = {"prompt_set": "ours", "num_instructions_to_generate": 5}
    with ScriptedServer(respond) as server:
        model = {"model": "scripted-1", "base_url": server.url, "store": str(tmp_path / "s.sqlite")}
        for number in ("02", "03", "04", "11"):
            name = next(one for one in DECLARED if one.startswith(number))
            given = {**read_parameters(PAPER, [number]), **here, **model}
            given = {key: DECLARED[name][key].convert(value) for key, value in given.items() if key in DECLARED[name]}
            run_cells(name, tmp_path / "run", **given)
    settings = [
        row for row in build_scorecard(RunFolder(tmp_path / "run")).rows if not row.finding and row.ours is not None
    ]
    assert len(settings) >= 24
    # the released code sends what the paper does not print
    assert [row.id for row in settings if row.verdict != "reproduced"] == [
        "table4.classification.stop",
        "table4.instances.stop",
    ]
