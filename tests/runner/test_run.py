"""The runner: everything wrong is refused before a kernel starts, nothing unchanged runs twice, and errors are one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from helpers.notebooks import FIRST, SECOND, kernel_processes, wait_until, write_notebook
from nbformat import v4
from papermill.parameterize import parameterize_path

from selfinstruct.files import InputError, ParameterError, SelfInstructError
from selfinstruct.runfolder import RunFolder
from selfinstruct.runner import manifest
from selfinstruct.runner.execution import WIDGET, Step, execute_step, normalise_notebook
from selfinstruct.runner.forkserver import can_fork
from selfinstruct.runner.parameters import load_parameters, notebook_parameters
from selfinstruct.runner.run import choose_notebooks, run_notebooks

FIRST_CODE = """\
import os
from pathlib import Path
from tqdm.auto import tqdm
from selfinstruct.runfolder import open_run
from selfinstruct.files import write_records
run = open_run("02_generate_instructions", locals())
write_records(run / "machine_generated_instructions.jsonl", [{"instruction": f"Say {random_seed}."}])
print(os.environ["SELFINSTRUCT_OWNER_PID"], temperature, quick, sizes, extra, model)
Path(run / "s.sqlite").write_text("a store that other steps change")
for _ in tqdm(range(3)):
    pass
"""
SECOND_CODE = """\
from selfinstruct.runfolder import open_run
from selfinstruct.files import write_records
run = open_run("03_identify_classification", locals())
source = run.require("machine_generated_instructions.jsonl")
write_records(run / "is_clf_or_not_x_template_1.jsonl", [{"instruction": "Say 42.", "is_classification": " No"}])
"""
RAISE = "from selfinstruct.files import InputError\nraise InputError"


@pytest.fixture(scope="module", autouse=True)
def kit_code(tmp_path_factory):
    """A stand-in for the kit's own code, so that the skipping tests hold while somebody edits the real one."""
    root = tmp_path_factory.mktemp("kit")
    (root / "selfinstruct").mkdir()
    (root / "selfinstruct" / "filters.py").write_text("version = 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "PROJECT_ROOT", root)
        yield root / "selfinstruct" / "filters.py"


@pytest.fixture
def notebooks(tmp_path):
    write_notebook(tmp_path / "notebooks", FIRST, FIRST_CODE)
    write_notebook(tmp_path / "notebooks", SECOND, SECOND_CODE, 'run_dir: str = "outputs/run"  # where files go\n')
    return tmp_path / "notebooks"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of both notebooks: (notebooks folder, run folder, lines printed)."""
    top = tmp_path_factory.mktemp("finished")
    write_notebook(top / "notebooks", FIRST, FIRST_CODE)
    write_notebook(top / "notebooks", SECOND, SECOND_CODE, 'run_dir: str = "outputs/run"  # where files go\n')
    lines: list[str] = []
    run_notebooks(top / "run", {"temperature": "1e-3"}, notebooks_dir=top / "notebooks", out=lines.append)
    return top / "notebooks", top / "run", lines


@pytest.fixture
def run_copy(finished, tmp_path):
    """A copy of the finished run that a test may spoil."""
    shutil.copytree(finished[0], tmp_path / "notebooks")
    shutil.copytree(finished[1], tmp_path / "run")
    return tmp_path / "notebooks", tmp_path / "run"


def refused(tmp_path: Path, notebooks: Path, parameters: dict, **choice) -> str:
    """The message of a run that must be refused without anything having been executed or written."""
    with pytest.raises(SelfInstructError) as error:
        run_notebooks(tmp_path / "run", parameters, notebooks_dir=notebooks, **choice)
    assert not (tmp_path / "run" / "notebooks").exists()
    return str(error.value)


def test_a_run_leaves_files_executed_copies_and_a_report(finished):
    _, run, lines = finished
    copy = nbformat.read(run / "notebooks" / f"{FIRST}.ipynb", as_version=4)
    printed = next(cell.outputs[0].text for cell in copy.cells if cell.get("outputs"))
    assert printed == f"{os.getpid()} 0.001 False [1, 2] {{}} embedded\n"
    assert (run / "report.html").is_file()
    assert json.loads((run / "results" / f"{FIRST}.json").read_text()) == {"rows": 1}
    assert lines[0] == f"2 notebooks into {run}/"
    assert lines[1].startswith(FIRST) and lines[1].endswith("rows 1")
    assert "1 candidate = 1 instruction" in "\n".join(lines)
    assert lines[-1] == f"Next: open {run}/report.html"


@pytest.mark.parametrize(
    ("name", "said"), [("06_finetune_model", "selfinstruct run --run-dir {} --only 07"), (FIRST, "")]
)
def test_adapters_that_nobody_has_judged_are_not_the_end(tmp_path, name, said):
    write_notebook(tmp_path / "notebooks", name, FIRST_CODE)
    (tmp_path / "run/finetuning_data").mkdir(parents=True)
    (tmp_path / "run/finetuning_data/gpt3_finetuning_data_1.jsonl").write_text("{}\n")
    lines: list[str] = []
    run_notebooks(tmp_path / "run", only=[name], notebooks_dir=tmp_path / "notebooks", out=lines.append)
    judge = said.format(tmp_path / "run") + " judges what was trained; or " * bool(said)
    assert lines[-1] == f"Next: {judge}open {tmp_path / 'run'}/report.html"


def test_executed_copies_carry_no_times_or_versions(finished):
    text = (finished[1] / "notebooks" / f"{FIRST}.ipynb").read_text()
    notebook = json.loads(text)
    assert not {"papermill", "widgets"} & notebook["metadata"].keys()
    assert "version" not in notebook["metadata"]["language_info"]
    assert not any({"papermill", "execution"} & cell["metadata"].keys() for cell in notebook["cells"])
    assert [cell["id"] for cell in notebook["cells"]] == ["cell-0", "injected-parameters", "cell-1", "cell-2"]


def test_widgets_do_not_stay_and_other_outputs_do():
    outputs = [v4.new_output("display_data", {kind: {}, "text/plain": "bar"}) for kind in (WIDGET, "application/json")]
    cells = [v4.new_markdown_cell("Look:"), v4.new_code_cell("1", outputs=outputs)]
    notebook = normalise_notebook(v4.new_notebook(cells=cells, metadata={"widgets": {}}))
    assert [list(output["data"]) for output in notebook["cells"][1]["outputs"]] == [["application/json", "text/plain"]]
    assert "widgets" not in notebook["metadata"]


def test_what_a_cell_prints_is_one_text_however_the_kernel_sends_it():
    def streams(*pieces):
        printed = [[v4.new_output("stream", name=name, text=text) for name, text in pieces] for _ in range(2)]
        shown = v4.new_output("display_data", {"text/plain": "figure"})
        cells = [v4.new_code_cell("1", outputs=[*printed[0], shown, *printed[1]])]
        return normalise_notebook(v4.new_notebook(cells=cells))["cells"][0]["outputs"]

    assert streams(("stdout", "9."), ("stdout", "\n")) == streams(("stdout", "9.\n"))
    found = [output.get("text") for output in streams(("stdout", "a"), ("stderr", "b"), ("stderr", "c"))]
    assert found == ["a", "bc", None, "a", "bc"]


def test_an_edited_prompt_set_is_asked_again_and_another_set_is_none_of_it(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    notebook, run = tmp_path / "02.ipynb", RunFolder(tmp_path / "run")
    notebook.write_text("{}")

    def measure(prompt_set):
        return manifest.measure_fingerprint(run, notebook, {"prompt_set": str(prompt_set)}, [])

    (mine / "instructions.txt").write_text("Write tasks:\n")
    first, named = measure(mine), measure("alpaca")
    assert measure(mine) == first
    (mine / "instructions.txt").write_text("Write short tasks:\n")
    assert measure(mine) != first and measure("alpaca") == named


def test_unchanged_notebooks_are_skipped_and_say_so(run_copy):
    notebooks, run = run_copy
    lines: list[str] = []
    (run / "s.sqlite").write_text("changed since")
    outcomes = run_notebooks(run, {"temperature": 0.001}, notebooks_dir=notebooks, out=lines.append)
    assert [outcome.skipped for outcome in outcomes] == [True, True]
    assert "unchanged" in lines[1] and "rows 1" in lines[1]


def spoil_output(notebooks: Path, run: Path) -> None:
    (run / "machine_generated_instructions.jsonl").write_text('{"instruction": "Changed by hand."}\n')


def spoil_results(notebooks: Path, run: Path) -> None:
    (run / "results" / f"{FIRST}.json").unlink()


def spoil_source(notebooks: Path, run: Path) -> None:
    write_notebook(notebooks, FIRST, FIRST_CODE + "# edited\n")


def spoil_failed(notebooks: Path, run: Path) -> None:
    """A step with failed requests asks them again, even though nothing else changed."""
    path = run / "results" / f"{FIRST}.json"
    path.write_text(json.dumps({"failed": 2}))


@pytest.mark.parametrize("spoil", [spoil_output, spoil_results, spoil_source, spoil_failed])
def test_a_change_runs_the_notebook_again(run_copy, spoil):
    notebooks, run = run_copy
    spoil(notebooks, run)
    (outcome,) = run_notebooks(run, {"temperature": 0.001}, only=["02"], notebooks_dir=notebooks, out=lambda _: None)
    assert not outcome.skipped
    assert "Say 42." in (run / "machine_generated_instructions.jsonl").read_text()


def test_changed_kit_code_runs_everything_again(run_copy, kit_code, monkeypatch):
    notebooks, run = run_copy
    before = kit_code.read_text()
    kit_code.write_text("version = 2\n")
    (outcome,) = run_notebooks(run, only=["03"], notebooks_dir=notebooks, out=lambda _: None)
    kit_code.write_text(before)
    assert not outcome.skipped


def test_a_changed_input_runs_the_next_notebook_again(run_copy):
    notebooks, run = run_copy
    spoil_output(notebooks, run)
    (outcome,) = run_notebooks(run, only=["03"], notebooks_dir=notebooks, out=lambda _: None)
    assert not outcome.skipped


def test_equal_runs_give_equal_executed_copies(finished, tmp_path):
    run_notebooks(tmp_path / "again", {"temperature": "1e-3"}, notebooks_dir=finished[0], out=lambda _: None)
    first, again = (
        (folder / "notebooks" / f"{FIRST}.ipynb").read_text() for folder in (finished[1], tmp_path / "again")
    )
    assert again.replace(str(tmp_path / "again"), str(finished[1])) == first


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temprature": "1"}, 'unknown parameter "temprature" of 2 notebook(s); did you mean "temperature"?'),
        ({"zzz": "1"}, "known: extra, model, quick, random_seed, run_dir, sizes, temperature"),
        ({"random_seed": "forty-two"}, "random_seed takes an int, such as 42; got 'forty-two'"),
        ({"random_seed": True}, "random_seed takes an int, such as 42; got True"),
        ({"temperature": "nan"}, "temperature takes a float, such as 0.7; got 'nan'"),
        ({"quick": "perhaps"}, "quick takes a bool, such as false; got 'perhaps'"),
        ({"sizes": "[1, two]"}, "sizes takes a list[int], such as [1, 2]; got '[1, two]'"),
        ({"model": 7}, 'model takes a str, such as "embedded"; got 7'),
        ({"run_dir": "elsewhere"}, "use --run-dir"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(tmp_path, notebooks, parameters, message):
    assert message in refused(tmp_path, notebooks, parameters)


def test_a_missing_input_names_the_notebook_that_writes_it(tmp_path, notebooks):
    message = refused(tmp_path, notebooks, {}, only=["03"])
    assert "machine_generated_instructions.jsonl: no such file; 02_generate_instructions writes it" in message


def test_an_unknown_notebook_is_refused(tmp_path, notebooks):
    assert f'no notebook "7" in {notebooks}; there are: {FIRST}, {SECOND}' in refused(
        tmp_path, notebooks, {}, only=["7"]
    )


def test_a_file_that_is_no_notebook_is_named(tmp_path, notebooks):
    (notebooks / f"{FIRST}.ipynb").write_text("<html>")
    assert f"{FIRST}.ipynb: not a notebook" in refused(tmp_path, notebooks, {})


def test_a_folder_made_with_other_parameters_is_refused_naming_them(run_copy):
    notebooks, run = run_copy
    advice = r".*choose another folder \(--run-dir"
    with pytest.raises(ParameterError, match=rf"made with other parameters \(random_seed was 42, now 7\){advice}"):
        run_notebooks(run, {"random_seed": "7", "temperature": "1e-3"}, notebooks_dir=notebooks)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, notebooks):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        run_notebooks(tmp_path / "file" / "run", notebooks_dir=notebooks)


@pytest.mark.parametrize(
    ("only", "start", "expected"),
    [((), "", [FIRST, SECOND]), (("03",), "", [SECOND]), ((FIRST,), "", [FIRST]), ((), "03", [SECOND])],
)
def test_choice_of_notebooks(notebooks, only, start, expected):
    write_notebook(notebooks, "20_not_in_the_main_job", "")
    assert [path.stem for path in choose_notebooks(notebooks, only, start)] == expected


@pytest.mark.parametrize(("only", "start"), [(("02",), "03"), (("02", "03"), "03"), ((FIRST,), SECOND)])
def test_only_what_comes_before_from_is_refused(notebooks, only, start):
    with pytest.raises(ParameterError, match=f"--only .* --from {start}: {FIRST} comes before"):
        choose_notebooks(notebooks, only, start)
    assert [path.stem for path in choose_notebooks(notebooks, ("03",), "02")] == [SECOND]
    assert [path.stem for path in choose_notebooks(notebooks, ("03",), "03")] == [SECOND]


@pytest.mark.parametrize("name", ["exp_{x}", "{", "}{", "{0}{run_dir}", "a{{b}}"])
def test_braces_in_a_path_are_part_of_its_name(tmp_path, monkeypatch, name):
    paths = []
    monkeypatch.setattr("papermill.execute_notebook", lambda path, *_, **__: paths.append(path))
    execute_step(Step(tmp_path / name / "n.ipynb", {"run_dir": "x"}), tmp_path / name / "copy.ipynb", {})
    read = [parameterize_path(path, {"run_dir": "x"}) for path in paths]
    assert read == [str(tmp_path / name / "n.ipynb")]  # the copy is written here and not by papermill


def test_a_run_folder_with_braces_in_its_name_works(tmp_path, notebooks):
    [outcome] = run_notebooks(tmp_path / "exp_{x}", notebooks_dir=notebooks, only=["02"])
    assert (tmp_path / "exp_{x}" / "notebooks" / f"{FIRST}.ipynb").is_file() and outcome.name == FIRST


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (f"{RAISE}('seeds.jsonl:3: not JSON')", f"{FIRST}: seeds.jsonl:3: not JSON"),
        ('{}["key"]', f"{FIRST}, cell [3]: KeyError: 'key'; see "),
    ],
)
def test_a_failing_cell_gives_one_line_and_keeps_the_executed_copy(tmp_path, code, message):
    notebooks = write_notebook(tmp_path / "notebooks", FIRST, code).parent
    with pytest.raises(SelfInstructError) as error:
        run_notebooks(tmp_path / "run", notebooks_dir=notebooks)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert isinstance(error.value, InputError) == ("seeds" in message)
    assert (tmp_path / "run" / "notebooks" / f"{FIRST}.ipynb").is_file()
    assert not json.loads((tmp_path / "run" / "run.json").read_text())["notebooks"][FIRST]["fingerprint"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_a_run_is_ended_no_kernel_is_left(tmp_path, sent):
    """Neither the one that works nor the one that waits for the next notebook, nor the server that has forked them."""
    write_notebook(tmp_path / "notebooks", SECOND, SECOND_CODE, 'run_dir: str = "outputs/run"  # where files go\n')
    process = start_run(tmp_path, "time.sleep(60)")
    assert wait_until(lambda: len(kernel_processes(process.pid)) == 2 + 2 * can_fork())  # and two servers
    kernels = kernel_processes(process.pid)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=30)
    if sent == signal.SIGINT:
        assert errors.strip().splitlines()[-1].startswith(f"Stopped: {FIRST}: stopped by you")
    assert process.returncode != 0
    assert wait_until(lambda: not any(kernel.is_running() for kernel in kernels))


def test_where_nothing_is_to_do_no_process_is_started(run_copy, monkeypatch):
    notebooks, run = run_copy
    monkeypatch.setattr("subprocess.Popen.__init__", None)
    outcomes = run_notebooks(run, {"temperature": 0.001}, notebooks_dir=notebooks, out=lambda _: None)
    assert [outcome.skipped for outcome in outcomes] == [True, True]


def test_the_copy_holds_what_was_done_before_the_kernel_died(tmp_path, notebooks):
    write_notebook(notebooks, FIRST, "import os, time\nprint('so far')\ntime.sleep(0.5)\nos._exit(1)")
    with pytest.raises(SelfInstructError, match="kernel died"):
        run_notebooks(tmp_path / "run", notebooks_dir=notebooks)
    text = (tmp_path / "run" / "notebooks" / f"{FIRST}.ipynb").read_text()
    cells = json.loads(text)["cells"]
    assert "".join(cells[2]["outputs"][0]["text"]) == "so far\n"
    assert '"papermill"' not in text


def test_the_copy_on_disk_keeps_up_with_the_run(tmp_path):
    waiting = "import time\nprint('first')\ntime.sleep(1.5)"
    path = write_notebook(tmp_path / "notebooks", FIRST, waiting)
    page = nbformat.read(path, 4)
    copy = tmp_path / "run" / "notebooks" / path.name
    page.cells[2].source = f"import pathlib\nassert 'first' in pathlib.Path({str(copy)!r}).read_text()"
    nbformat.write(page, path)
    run_notebooks(tmp_path / "run", notebooks_dir=path.parent, out=lambda _: None)


def test_papermill_comes_without_a_grammar_of_addresses_and_a_file_system():
    """Building that takes longer than most notebooks do."""
    code = "import sys; from selfinstruct.runner.execution import import_papermill; print(import_papermill().__name__)"
    code += "; assert not {'rfc3987_syntax.syntax_helpers', 'pyarrow.lib'} & {*sys.modules}; import pyarrow"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "papermill\n"
    )


def test_a_failed_notebook_leaves_no_kernel(tmp_path, notebooks):
    write_notebook(notebooks, FIRST, "import time\ntime.sleep(1)\nraise OSError('broken')")
    with pytest.raises(SelfInstructError, match="broken"):
        run_notebooks(tmp_path / "run", notebooks_dir=notebooks)
    assert kernel_processes(os.getpid()) == []


def test_a_kernel_that_waits_for_a_notebook_that_is_skipped_ends_too(run_copy):
    notebooks, run = run_copy
    path = notebooks / f"{FIRST}.ipynb"
    path.write_text(path.read_text().replace("import os", "import os, time"))
    started = []
    outcomes = run_notebooks(
        run, {"temperature": 0.001}, notebooks_dir=notebooks, out=lambda _: None, tell_start=started.append
    )
    assert [outcome.skipped for outcome in outcomes] == [False, True] and started == [FIRST]
    assert kernel_processes(os.getpid()) == []


def test_the_next_notebook_has_a_fresh_kernel_even_if_the_one_that_waited_has_died(tmp_path, notebooks):
    """Here the first notebook ends it, once it is there: the only other child of its parent."""
    ending = """\
import os, psutil, time
_is_kernel = lambda command: "ipykernel" in command or "forkserver" in command
_others = []
while not _others:
    time.sleep(0.1)
    _children = psutil.Process(os.getppid()).children()
    _others = [one for one in _children if one.pid != os.getpid() and _is_kernel(" ".join(one.cmdline()))]
_others[0].kill()
"""
    write_notebook(notebooks, FIRST, ending + FIRST_CODE)
    outcomes = run_notebooks(tmp_path / "run", notebooks_dir=notebooks, out=lambda _: None)
    assert [outcome.skipped for outcome in outcomes] == [False, False]


def test_what_is_in_flight_at_ctrl_c_has_time_to_arrive(tmp_path):
    late = f"try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    time.sleep(3)\n    pathlib.Path({str(tmp_path / 'late')!r}).touch()\n    raise"
    process = start_run(tmp_path, late)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (tmp_path / "late").is_file()
    assert "Traceback" not in errors and len(errors.strip().splitlines()) == 1


def start_run(tmp_path, cell: str) -> subprocess.Popen:
    """A run of a notebook with `cell` in it, once the cell runs."""
    pid = tmp_path / "pid"
    code = f"import os, pathlib, time\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n{cell}"
    notebooks = write_notebook(tmp_path / "notebooks", FIRST, code).parent
    script = (
        "import sys\nfrom selfinstruct.runner.run import run_notebooks\nfrom selfinstruct.files import StoppedEarly\n"
        f"try:\n    run_notebooks({str(tmp_path / 'run')!r}, notebooks_dir={str(notebooks)!r})\n"
        "except StoppedEarly as error:\n    sys.exit(f'Stopped: {error}')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert wait_until(lambda: pid.is_file() and pid.read_text())
    return process


def test_values_of_a_yaml_file_are_what_the_notebook_says_they_are(tmp_path, notebooks):
    path = tmp_path / "parameters.yaml"
    path.write_text("model: 0123\nquick: no\ntemperature: 1e-3\nsizes: [3, 0x]\nextra: {a: 1e-3}\nrandom_seed: 12\n")
    declared, given = notebook_parameters(notebooks / f"{FIRST}.ipynb"), load_parameters(path)
    with pytest.raises(ParameterError, match="sizes"):
        declared["sizes"].convert(given.pop("sizes"))
    checked = {name: declared[name].convert(value) for name, value in given.items()}
    assert checked == {"model": "0123", "quick": False, "temperature": 0.001, "extra": {"a": 0.001}, "random_seed": 12}


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [1\nb: 2\n", r"bad\.yaml:2: not YAML"), ("- a\n- b\n", r"bad\.yaml:1: must be lines of")],
)
def test_a_malformed_yaml_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_parameters(path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sizes", "[5, 6]", [5, 6]),
        ("extra", "{'a': 1}", {"a": 1.0}),
        ("random_seed", "0123", 123),
        ("model", "0123", "0123"),
        ("quick", "true", True),
    ],
)
def test_text_becomes_what_the_annotation_says(notebooks, name, text, value):
    assert notebook_parameters(notebooks / f"{FIRST}.ipynb")[name].convert(text) == value


def test_what_could_not_be_read_of_the_data_is_said_at_the_end(tmp_path):
    good, bad, said = tmp_path / "good.jsonl", tmp_path / "bad.jsonl", []
    good.write_text('{"instruction": "Say yes.", "input": "", "output": "Yes."}\n')
    bad.write_text("{\n")
    run_notebooks(tmp_path / "run", {"data": f"{good},{bad}"}, only=["12"], out=said.append)
    assert [line for line in said if line.startswith(f"not read: {bad}:")]
    assert said[1].startswith("12_measure_lengths") and said[-1].startswith("Next: open")
