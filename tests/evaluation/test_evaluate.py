"""The evaluation as notebook 07 opens it: what it judges, and what is refused before anything long begins."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
from helpers.notebooks import read_results, run_cells
from helpers.scripted import ScriptedServer
from helpers.trained import measure_by_length, task_set, train, write_base

from selfinstruct.evaluation import bits, columns, evaluate, responses
from selfinstruct.evaluation.columns import COLUMNS, FILLER, Column, find_chat_layout, find_columns, load_trained
from selfinstruct.evaluation.evaluate import open_evaluation
from selfinstruct.evaluation.scaling import open_judging
from selfinstruct.files import EndpointError, InputError, ParameterError, write_records
from selfinstruct.models import embedded
from selfinstruct.models.embedded import EmbeddedServer
from selfinstruct.runfolder import RunFolder
from selfinstruct.runner.parameters import check_prerequisites
from selfinstruct.runner.run import choose_notebooks


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run", "07_evaluate_model")


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path)


@pytest.fixture
def tasks(tmp_path):
    return write_tasks(tmp_path / "own.jsonl")


def write_tasks(path, count=8):
    rows = [
        {
            "instruction": one.instruction,
            "input": one.input,
            "output": one.references[0],
            "response": "no",
            "prompt": one.prompt,
        }
        for one in task_set(count).tasks
    ]
    write_records(path, rows)
    return str(path)


def test_rows_of_one_task_count_as_one_before_looking(run, base, tmp_path, fakes):
    train(run, base)
    rows = [{"prompt": f"Do {n % 4}.\n\nInput: {n}\nOutput:", "completion": " x"} for n in range(40)]
    path = str(write_records(tmp_path / "tasks.jsonl", rows))
    planned = open_evaluation(run, tasks=path, base_model=str(base), judged=["run_data"], n_generation_tasks=0).plan()
    alone = str(write_records(tmp_path / "alone.jsonl", rows[:4]))
    assert planned == open_evaluation(run, tasks=alone, base_model=str(base), judged=["run_data"]).plan()


@pytest.fixture
def no_parser(monkeypatch):
    """spaCy takes seconds to load, and only one of these tests is about what it finds."""
    monkeypatch.setattr("selfinstruct.evaluation.evaluate.describe_tasks", lambda tasks, run: {})


@pytest.fixture
def fakes(monkeypatch):
    """Losses and answers without a model: an adapter halves the loss, and answers with the prompt's last word."""
    monkeypatch.setattr(evaluate, "LossMeter", lambda base: measure_by_length)
    monkeypatch.setattr(evaluate, "check_libraries", lambda: None)
    monkeypatch.setattr(responses, "convert_to_f16", lambda base: base)
    for module in (bits, responses, evaluate):
        monkeypatch.setattr(module, "find_chat_layout", lambda run, base: f"<user>{FILLER}<answer>")
    with ScriptedServer(
        lambda body: " Nile Nile" if any(one["scale"] for one in body["lora"]) else " a b c d e"
    ) as server:
        serve = lambda weights, slots, deterministic, adapters: EmbeddedServer(server.url, weights, slots, 1, 0)  # noqa: E731
        monkeypatch.setattr(embedded, "serve", serve)
        yield server


def test_notebook_07_judges_every_column_and_a_second_run_asks_nothing(run, base, tasks, fakes, store):
    train(run, base, seeds=("1", "2"))
    given = {"tasks": tasks, "base_model": str(base), "n_generation_tasks": 6, "n_resamples": 200, "store": str(store)}
    run_cells("07_evaluate_model", run.path, **given)
    first = read_results(run.path, "07_evaluate_model")
    asked = len(fakes.bodies)
    assert asked == 6 * (2 + 4 * 2) and list(first["columns"]) == list(COLUMNS)
    for name, column in first["columns"].items():
        assert column["training_seeds"] == (1 if name.startswith("before") else 2)
        assert {"bits_per_byte", "rouge_l", "stopped", "tokens", "rouge_l_no_stemmer"} <= column.keys()
    assert {row["pair"] for row in first["differences"]} >= {"run_data - seeds_only", "run_data - shuffled_outputs"}
    assert all(row["minimum_detectable_difference"] > 0 for row in first["differences"])
    assert set(first["minimum_detectable_difference"]) == {"bits_per_byte", "rouge_l", "stopped"}
    assert first["columns"]["run_data"]["rouge_l"] > first["columns"]["before_plain"]["rouge_l"]
    assert first["headline"].startswith("run_data minus seeds_only")
    assert (run / "figures/evaluation.png").is_file()
    run_cells("07_evaluate_model", run.path, **given)
    assert read_results(run.path, "07_evaluate_model") == first and len(fakes.bodies) == asked
    assert len(run.state["adapters"]) == 8


def open_both(run, base, tasks):
    """What notebook 07 judges, and what 16 does, in one run folder."""
    train(run, base, ("run_data", "seeds_only"))
    sizes = open_judging(run, [], SimpleNamespace(base=base), tasks, n_written_tasks=8)
    sizes.columns = [train_size(run, base)]
    return open_evaluation(run, tasks, str(base)), sizes


def train_size(run, base, name="size_0"):
    """An adapter of notebook 16."""
    train(run, base, (name,))
    shutil.copytree(run / f"adapters/{name}", run / f"scaling/{name}", dirs_exist_ok=True)
    shutil.rmtree(run / f"adapters/{name}")
    return Column(name, (load_trained(run / f"scaling/{name}/1"),))


def read_predictions(run):
    return {path.relative_to(run.path): path.read_bytes() for path in run.find("evaluation/**/*_predictions.jsonl")}


def test_the_predictions_of_07_survive_16_and_the_reverse(run, base, tasks, fakes, store):
    ours, sizes = open_both(run, base, tasks)
    ours.ask(24, store)
    of_07 = read_predictions(run)
    sizes.ask(24, store)
    both = read_predictions(run)
    assert of_07.items() <= both.items() and len(of_07) == 4
    assert {str(path) for path in both.keys() - of_07.keys()} == {
        "evaluation/scaling/predictions/size_0-1_predictions.jsonl"
    }
    ours.columns = ours.columns[:1]
    ours.ask(24, store)
    assert [path.name for path in run.find("evaluation/predictions/*")] == ["before_plain_predictions.jsonl"]
    assert read_predictions(run).items() <= both.items() and len(read_predictions(run)) == 2
    sizes.sample = evaluate.replace(sizes.sample, tasks=())
    assert sizes.ask(24, store) == {} and len(read_predictions(run)) == 2, "nothing is asked, nothing is lost"


def test_run_json_lists_the_adapters_that_are_there_and_judged(run, base, tasks, fakes, store):
    ours, sizes = open_both(run, base, tasks)
    run.note(adapters={"gone/1": {"sha256": "0", "scale": 1.0}})
    ours.ask(24, store)
    sizes.ask(24, store)
    assert set(run.state["adapters"]) == {"run_data/1", "seeds_only/1", "size_0/1"}
    open_evaluation(run, tasks, str(base), judged=["before_plain", "run_data"]).ask(24, store)
    assert set(run.state["adapters"]) == {"run_data/1", "size_0/1"}, "a column that is dropped goes"
    shutil.rmtree(run / "scaling/size_0")
    shutil.rmtree(run / "adapters/run_data")
    open_evaluation(run, tasks, str(base)).ask(24, store)
    assert set(run.state["adapters"]) == {"seeds_only/1"}, "and so does an adapter that is deleted, whoever judged it"
    sizes.columns = [train_size(run, base)]
    sizes.ask(24, store)
    (run / "scaling/size_0/1/adapter.gguf").write_bytes(b"GGUF adapter.type another")
    open_evaluation(run, tasks, str(base)).ask(24, store)
    assert set(run.state["adapters"]) == {"seeds_only/1"}, "trained again since: it has not answered yet"


def test_an_adapter_of_another_training_file_is_not_taken_for_the_column_s(run, base, tasks, fakes):
    train(run, base, ("shuffled_outputs",))
    record = run / "adapters/shuffled_outputs/1/training.json"
    sha256 = columns.weights_sha256(run / "adapters/shuffled_outputs/train.jsonl")
    made_of = json.loads(record.read_text())
    record.write_text(json.dumps({**made_of, "train_file": {"sha256": sha256}}))
    assert [one.name for one in find_columns(run, base=base)][-1] == "shuffled_outputs"
    write_records(run / "adapters/shuffled_outputs/train.jsonl", [{"prompt": "Add.", "completion": " y"}])
    with pytest.raises(
        InputError, match=r"train\.jsonl: it has changed since shuffled_outputs was trained on it; train"
    ):
        open_evaluation(run, tasks, str(base))


def test_a_record_without_its_adapter_says_what_to_do(run, base, tasks):
    train(run, base, ("run_data",))
    (run / "adapters/run_data/1/adapter.gguf").unlink()
    with pytest.raises(InputError, match=r"run_data/1: a record and no adapter; train it again"):
        open_evaluation(run, tasks, str(base))


def test_what_can_be_seen_is_that_of_the_pairs_to_come(run, base, tasks, fakes, store):
    train(run, base)
    found = open_evaluation(run, tasks, str(base))
    rows = found.compare(found.score(found.measure_bits(), found.ask(24, store)), 100)
    planned = found.plan()
    assert len([row for row in rows if row["measure"] == "bits_per_byte"]) == 6
    for row in rows:
        if row["measure"] in planned:
            assert row["minimum_detectable_difference"] == pytest.approx(planned[row["measure"]]), row["measure"]


def test_it_is_said_beforehand_how_long_judging_takes_and_what_is_measured_for_that_is_kept(
    run, base, tasks, fakes, store, monkeypatch
):
    train(run, base, ("run_data",))
    monkeypatch.setattr(bits, "CHUNK", 3)
    found = open_evaluation(run, tasks, str(base))
    first, second = found.estimate(24, store).splitlines()
    assert first == "Bits per byte: 21 losses to compute, about 1 minute (3 have just been measured)."
    assert second.startswith("Answers: 24 requests, ") and second.endswith(" on two quiet cores.")
    assert not fakes.bodies and bits.find_missing_bits(run, found.columns, found.heldout, base) == 21
    found.measure_bits()
    found.ask(24, store)
    assert found.estimate(24, store) == "Bits per byte: every loss is known.\nAnswers: all are in the store."
    theirs = open_evaluation(run, tasks, judged=["none"], model="gpt-4o-mini", base_url="openai").estimate(24, store)
    assert theirs.startswith("provider_model: 8 requests, ") and "at most $" in theirs


def test_a_held_out_task_that_was_trained_on_is_left_out_of_all_columns(run, base, tasks, fakes):
    train(run, base, ("seeds_only", "run_data"), prompts=("Name 3 rivers.\n\nPeru\n\n", "Sing.\nOutput:"))
    found = open_evaluation(run, tasks, str(base))
    assert [one.id for one in found.heldout.tasks].count("own:4") == 0 and len(found.heldout.tasks) == 7
    assert found.problems == ["1 held-out task left out: the instruction was trained on (own:4)"]
    assert len(found.sample.tasks) == 7
    train(run, base, ("run_data",), prompts=[one.prompt for one in task_set(8).tasks])
    with pytest.raises(InputError, match=r"own\.jsonl: the columns were trained on these tasks"):
        open_evaluation(run, tasks, str(base))


def test_an_adapter_of_other_weights_is_refused(run, base, tasks, tmp_path, fakes):
    train(run, base, ("run_data",))
    other = write_base(tmp_path / "other", b"other weights")
    with pytest.raises(InputError, match=r"run_data/1: this adapter was made for other weights"):
        open_evaluation(run, tasks, str(other))


def test_without_torch_nothing_begins_and_with_all_losses_known_it_is_not_needed(run, base, tasks, fakes, monkeypatch):
    chosen = train(run, base, ("run_data",))

    def refuse():
        raise EndpointError("make finetune")

    monkeypatch.setattr(evaluate, "check_libraries", refuse)
    with pytest.raises(EndpointError, match="make finetune"):
        open_evaluation(run, tasks, str(base))
    bits.measure_bits(run, chosen, evaluate.load_tasks(tasks), base, measure_by_length)
    assert open_evaluation(run, tasks, str(base)).measure_bits().keys() == {"before_plain", "before_chat", "run_data"}


def test_before_notebook_06_and_for_a_column_that_is_not_there_it_says_what_to_do(run, base, tasks):
    with pytest.raises(InputError, match=r"/adapters: no trained column; 06_finetune_model.*--only 06,07"):
        open_evaluation(run, tasks, str(base))
    with pytest.raises(ParameterError, match=r'no column "run_dat" in .*before_plain, before_chat'):
        open_evaluation(run, tasks, str(base), judged=["before_plain", "run_dat"])
    with pytest.raises(ParameterError, match="nothing to judge"):
        open_evaluation(run, tasks, str(base), judged=["none"])


def test_missing_files_are_refused_before_the_first_notebook_runs(tmp_path, tasks):
    with pytest.raises(InputError, match=r"tasks='gone\.jsonl'"):
        check_prerequisites({"tasks": "gone.jsonl"})
    with pytest.raises(InputError, match=r"predictions='gone\.jsonl': no such file.*selfinstruct fetch"):
        check_prerequisites({"tasks": tasks, "predictions": "gone.jsonl"})
    check_prerequisites({"tasks": tasks, "predictions": f"{tasks}, {tasks}"})


def test_a_provider_s_model_has_only_the_measures_of_what_is_written(run, store, tasks, no_parser):
    with ScriptedServer(lambda body: "Nile") as server:
        given = {"judged": ["none"], "model": "ft:mine", "base_url": server.url, "tasks": tasks, "store": str(store)}
        run_cells("07_evaluate_model", run.path, n_resamples=200, **given)
    found = read_results(run.path, "07_evaluate_model")["columns"]
    assert list(found) == ["provider_model"] and "bits_per_byte" not in found["provider_model"]
    assert found["provider_model"]["stopped"] == 1


def test_published_predictions_alone_need_no_model(run, tmp_path, no_parser):
    rows = [
        {
            "prompt": one.prompt,
            "instruction": one.instruction,
            "input": one.input,
            "response": text,
            "target": one.references[0],
        }
        for one, text in zip(task_set(8).tasks, ["Nile", "x"] * 4, strict=True)
    ]
    for name in ("davinci", "davinci-self-instruct"):
        write_records(tmp_path / f"{name}_predictions.jsonl", rows)
        rows = [{**row, "response": row["target"]} for row in rows]
    files = [str(tmp_path / f"{name}_predictions.jsonl") for name in ("davinci", "davinci-self-instruct")]
    run_cells(
        "07_evaluate_model", run.path, judged=["none"], tasks=files[0], predictions=",".join(files), n_resamples=200,
        n_generation_tasks=3,
    )  # fmt: skip
    found = read_results(run.path, "07_evaluate_model")
    assert found["n_generation_tasks"] == 8  # nothing is asked, so all are judged
    assert found["columns"]["davinci-self-instruct"]["rouge_l"] == 100
    assert found["differences"][0]["pair"] == "davinci-self-instruct - davinci"


def test_training_that_has_not_ended_is_no_column_yet(run, base):
    train(run, base, ("run_data", "seeds_only"))
    (run / "adapters/run_data/1/training.json").unlink()
    assert [one.name for one in columns.find_columns(run)] == ["before_plain", "before_chat", "seeds_only"]


def test_the_chat_template_is_read_once_for_some_weights(run, base, monkeypatch):
    layout = run / "evaluation/chat_layout.json"
    layout.parent.mkdir(parents=True)
    layout.write_text(json.dumps({columns.describe_base(base)["sha256"]: f"<u>{FILLER}<a>"}))
    assert find_chat_layout(run, base) == f"<u>{FILLER}<a>"


def test_weights_without_a_chat_template_are_refused_before_anything_is_measured(run, base, tasks, monkeypatch):
    train(run, base)
    monkeypatch.setattr(evaluate, "check_libraries", lambda: None)
    monkeypatch.setattr(columns, "load_tokenizer", lambda base: SimpleNamespace(chat_template=None))
    with pytest.raises(InputError, match=r"no chat template in it; leave before_chat out: name the others in judged"):
        open_evaluation(run, tasks=tasks, base_model=str(base))
    assert open_evaluation(run, tasks=tasks, base_model=str(base), judged=["before_plain", "run_data"]).columns


class Templated:
    """A tokenizer that opens a text with `opening` by itself, or does not."""

    chat_template = "..."

    def __init__(self, opening):
        self.opening = opening

    def apply_chat_template(self, messages, **_):
        return f"<s><user>{messages[0]['content']}<answer>"

    def encode(self, text):
        return [1] * self.opening

    def decode(self, tokens):
        return "<s>" * len(tokens)


@pytest.mark.parametrize(
    ("opening", "layout"), [(True, f"<user>{FILLER}<answer>"), (False, f"<s><user>{FILLER}<answer>")]
)
def test_a_chat_prompt_opens_once(run, base, monkeypatch, opening, layout):
    monkeypatch.setattr(columns, "load_tokenizer", lambda base: Templated(opening))
    assert find_chat_layout(run, base) == layout


def test_06_and_07_are_run_when_they_are_named_and_not_by_make_run(tmp_path):
    from selfinstruct.runfolder import NOTEBOOKS_DIR

    assert [path.stem[:2] for path in choose_notebooks(NOTEBOOKS_DIR, ["07"])] == ["07"]
    assert not [path for path in choose_notebooks(NOTEBOOKS_DIR) if path.stem.startswith(("06", "07"))]
