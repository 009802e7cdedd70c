"""The panel of notebook 20: edit, run, pin, compare, save, and run from the saved folder; every control has a name."""

import json
import shutil
import time

import ipywidgets as widgets
import pytest
from helpers.notebooks import read_results, run_cells
from helpers.scripted import ScriptedServer
from helpers.scripted_method import respond

from selfinstruct.ablation import AblationPanel
from selfinstruct.files import PROJECT_ROOT, ParameterError
from selfinstruct.prompts import load_prompts


@pytest.fixture
def sets(tmp_path):
    """A copy of a prompt set in a folder of the test."""
    return shutil.copytree(PROJECT_ROOT / "seeds/prompts/short", tmp_path / "mine")


@pytest.fixture
def server():
    with ScriptedServer(respond) as running:
        yield running


@pytest.fixture
def connection(tmp_path, server):
    return {"model": "scripted", "base_url": server.url, "store": str(tmp_path / "s.sqlite")}


@pytest.fixture
def panel(connection, sets):
    made = AblationPanel(connection, str(sets), n_draws=4)
    yield made
    made.close_clients()


def press(panel, name):
    panel.buttons[name].click()
    return panel.status.value


def run_twice(panel):
    """The first press shows what it will ask, the second one asks."""
    press(panel, "run")
    return press(panel, "run")


def controls_of(widget):
    found = (
        [] if not isinstance(widget, widgets.Box) else [one for child in widget.children for one in controls_of(child)]
    )
    return found if isinstance(widget, widgets.Box) else [widget]


def test_every_control_has_a_name_for_a_screen_reader(panel):
    controls = [one for one in controls_of(panel) if not isinstance(one, widgets.HTML)]
    assert len(controls) >= 11 and all(one.description for one in controls)
    assert len({one.description for one in controls}) == len(controls)
    assert all(one.tooltip for one in controls if isinstance(one, widgets.Button))


def test_a_trial_that_may_cost_is_asked_at_the_second_press_only(panel, server):
    assert "4 of 4 requests are new" in press(panel, "run") and "no price known. Press Run again" in panel.status.value
    assert server.bodies == [] and panel.trial is None
    assert "4 draws, 0 answered from the store" in press(panel, "run")
    assert len(server.bodies) == 4 and panel.answers.value.count("<tr>") == 5
    assert "4 answered from the store" in press(panel, "run")  # nothing new, so nothing to agree to


def test_edit_run_pin_compare_save_and_run_from_the_folder(panel, tmp_path, server):
    run_twice(panel)
    assert "A is" in press(panel, "pin")
    panel.file.value = "instructions.txt"
    assert panel.text.value == "Come up with a series of tasks:\n"
    panel.text.value = "Come up with a series of short tasks:\n"
    assert "Edited, not saved: instructions.txt" in panel.status.value and "short tasks" in panel.prompt.value
    assert "(edited)" not in panel.sums.value
    run_twice(panel)
    assert panel.trial.name.endswith("(edited)") and "On the same 4 draws" in panel.comparison.value
    asked = [draw.request.prompt.partition("\n")[2] for trial in (panel.pinned, panel.trial) for draw in trial.draws]
    assert asked[:4] == asked[4:]  # the same seed tasks, in the same order
    panel.name.value = str(tmp_path / "short-tasks")
    assert "a run takes it with -p prompt_set" in press(panel, "save")
    assert panel.set.value == str(tmp_path / "short-tasks") and panel.edits == {}
    assert load_prompts(tmp_path / "short-tasks").headers["instructions"] == "Come up with a series of short tasks:\n"
    before = len(server.bodies)
    assert "4 answered from the store" in press(panel, "run") and len(server.bodies) == before
    assert not (tmp_path / "mine/instructions.txt").exists()


def test_what_is_wrong_in_an_edit_is_said_with_file_and_line_and_is_not_saved(panel, tmp_path):
    panel.file.value = "prompt.yaml"
    panel.text.value = "source: me\nmachin: 0\n"
    assert "mine/prompt.yaml:2: unknown key &quot;machin&quot;; did you mean &quot;machine&quot;?" in panel.status.value
    panel.name.value = str(tmp_path / "wrong")
    assert "unknown key" in press(panel, "save") and not (tmp_path / "wrong").exists()
    press(panel, "reload")
    assert panel.edits == {} and panel.status.value.count("unknown") == 0


@pytest.mark.parametrize(
    ("name", "message"), [("", "no name for a folder"), ("a b", "no name"), ("ours", "is there already")]
)
def test_a_name_that_is_none_or_taken_is_refused(panel, name, message):
    panel.name.value = name
    assert message in press(panel, "save")


def test_nothing_to_pin_or_compare_yet(panel):
    assert "run a trial first" in press(panel, "pin")
    with pytest.raises(ParameterError, match="pin a trial"):
        panel.compare()


def test_trials_of_other_draws_are_not_compared(panel):
    run_twice(panel)
    press(panel, "pin")
    panel.seed.value = 7
    run_twice(panel)
    assert "run both with the same ones, so that they have the same draws" in panel.comparison.value


def test_the_other_steps(panel):
    for step, file in (("classification", "classification_header.txt"), ("instances", "input_first_header.txt")):
        panel.step.value = step
        assert panel.file.value == file
        run_twice(panel)
        assert panel.trial.step == step and len(panel.trial.draws) == 4


def test_a_press_is_answered_from_the_store_at_once(panel):
    panel.draws.value = 8
    run_twice(panel)
    start = time.perf_counter()
    press(panel, "run")
    assert time.perf_counter() - start < 1.5  # 0.3 s on a quiet machine, which many of these are not


@pytest.fixture
def sent(monkeypatch):
    """What goes to the browser: the size in bytes of each message."""
    sizes = []
    send = widgets.Widget._send

    def count(self, message, buffers=None):
        sizes.append(len(json.dumps(message)))
        send(self, message, buffers)

    monkeypatch.setattr(widgets.Widget, "_send", count)
    return sizes


def test_a_press_that_the_store_answers_sends_one_update_for_each_area(panel, sent):
    panel.draws.value = 20
    run_twice(panel)
    press(panel, "pin")
    sent.clear()
    press(panel, "run")
    assert "20 answered from the store" in panel.status.value and "On the same 20 draws" in panel.comparison.value
    assert 4 <= len(sent) <= 5 and sum(sent) < 60_000, (
        sent
    )  # answers, sums, comparison, status where it changed, the focus


def test_an_edit_sends_the_prompt_and_no_list_of_files_that_is_there(panel, sent):
    panel.file.value = "instructions.txt"
    panel.text.value = "Come up with a series of short tasks:\n"  # the set has a file more: its list is built again
    sent.clear()
    panel.text.value = "Come up with a series of brief tasks:\n"
    assert "brief tasks" in panel.prompt.value and len(sent) <= 4 and sum(sent) < 10_000, sent


def test_the_notebook_runs_through_with_its_default(tmp_path, server):
    given = {"model": "scripted", "base_url": server.url, "store": str(tmp_path / "s.sqlite"), "n_draws": 3}
    names = run_cells("20_ablate_prompts", tmp_path / "run", **given)
    found = read_results(tmp_path / "run", "20_ablate_prompts")
    assert (found["a"], found["b"], found["draws"]) == ("ours", "seeds-only", 3)
    assert found["difference"][0] == names["comparison"].difference


def test_a_set_for_a_chat_is_asked_as_one_in_every_cell(tmp_path, server):
    given = {"model": "scripted", "base_url": server.url, "store": str(tmp_path / "s.sqlite"), "n_draws": 3}
    run_cells("20_ablate_prompts", tmp_path / "run", prompt_set="chat", other_set="ours", **given)
    completions = [body for body in server.bodies if "Come up with" in body.get("prompt", "")]
    assert len(completions) == 3  # those of B alone
