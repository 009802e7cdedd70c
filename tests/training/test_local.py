"""The local backend: everything that cannot work is refused before anything is loaded, and what is planned is what is done."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="make finetune brings torch")

from helpers.notebooks import read_results, run_cells

from selfinstruct.evaluation import load_heldout_pairs
from selfinstruct.files import EndpointError, InputError, ParameterError, load_records, write_json, write_records
from selfinstruct.models.embedded import weights_sha256
from selfinstruct.prompts import load_prompts
from selfinstruct.records import FinetuningRow
from selfinstruct.runfolder import RunFolder
from selfinstruct.training import cost, local
from selfinstruct.training.cost import Sizes, choose_precision, measure_sizes, needed_gb
from selfinstruct.training.lora import Settings
from selfinstruct.training.rows import TRAINED, write_training_files
from selfinstruct.training.weights import unpack_weights

SEEDS = load_prompts("ours").seed_tasks[:3]
SEED = SEEDS[0]
ROWS = [{"prompt": f"Do {i}.\nOutput:", "completion": f" done {i}<|endoftext|>"} for i in range(12)]
ROWS.append({"prompt": f"{SEED.instruction}\nOutput:", "completion": f" {SEED.instances[0].output}<|endoftext|>"})


@pytest.fixture
def run(tmp_path):
    """A run folder with an export of twelve generated rows and one seed task."""
    write_json(tmp_path / "mine/run.json", {})
    write_records(tmp_path / "mine/finetuning_data/gpt3_finetuning_data_13.jsonl", ROWS)
    return RunFolder(tmp_path / "mine")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (
            {"columns": ["run_date"]},
            ParameterError,
            "no column 'run_date' to train; there are seeds_only, generated_only",
        ),
        ({"columns": []}, ParameterError, r"columns=\[\]: name one to train at least, of seeds_only"),
        ({"base_model": "nowhere.gguf"}, EndpointError, "no such file"),
        (
            {"batch_tokens": 10**9},
            EndpointError,
            r"needs about [\d.]+ GB of memory, and [\d.]+ GB are free; .*lower batch_tokens",
        ),
        ({"backend": "elsewhere"}, ParameterError, "backend='elsewhere'"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(tiny, given, error, words):
    with pytest.raises(error, match=words) as caught:
        local.check_training(**{"base_model": str(tiny), **given})
    assert "\n" not in str(caught.value)


def test_no_training_seed_is_refused_before_anything_is_read(run, tiny):
    with pytest.raises(ParameterError, match=r"training_seeds=\[\]: give one training seed at least"):
        local.plan_training(run, tiny, {}, Settings(), training_seeds=[])


def test_merging_needs_a_file(tiny):
    with pytest.raises(ParameterError, match="merge"):
        local.check_training(str(unpack_weights(tiny)), merge=True)


def test_missing_torch_comes_first(tiny, monkeypatch):
    monkeypatch.setattr("selfinstruct.training.weights.importlib.util.find_spec", lambda name: None)
    with pytest.raises(EndpointError, match="make finetune"):
        local.check_training(str(tiny))


def test_the_rows_of_a_run_are_its_export(run):
    rows, source = local.find_rows(run, "", SEEDS, 1)
    assert [row.model_dump() for row in rows] == ROWS
    path = run / "finetuning_data/gpt3_finetuning_data_13.jsonl"
    assert source == {"file": path.name, "sha256": weights_sha256(path), "rows": 13, "left_out": 0, "not_shuffled": 0}


def test_other_data_are_laid_out_with_the_seed_tasks(run, tmp_path):
    path = tmp_path / "alpaca.jsonl"
    write_records(path, [{"instruction": f"Do {i}.", "input": "", "output": "x" * (i > 1)} for i in range(6)])
    rows, source = local.find_rows(run, str(path), SEEDS, 1)
    assert len(rows) == 4 + 3 and source["left_out"] == 2


def test_outputs_that_cannot_be_shuffled_are_counted_in_the_source(run, tmp_path):
    rows = [{"prompt": f"Is it {i}?\n", "completion": "Yes<|endoftext|>" if i else "No<|endoftext|>"} for i in range(4)]
    assert local.find_rows(run, str(write_records(tmp_path / "yes.jsonl", rows)), SEEDS, 1)[1]["not_shuffled"] == 2


def test_a_row_of_pairs_without_a_completion_is_named(run, tmp_path):
    path = write_records(tmp_path / "pairs.jsonl", [*ROWS[:2], {"prompt": "Do it.", "completion": " <|endoftext|>"}])
    with pytest.raises(InputError, match=r"pairs\.jsonl:3: no completion to learn"):
        local.find_rows(run, str(path), SEEDS, 1)


def test_data_without_outputs_and_a_run_without_rows_are_refused(run, tmp_path):
    path = write_records(tmp_path / "instructions.jsonl", [{"instruction": "Do it."}])
    with pytest.raises(InputError, match=r"instructions\.jsonl: no completion to learn"):
        local.find_rows(run, str(path), SEEDS, 1)
    with pytest.raises(InputError, match="05_filter_and_export writes it"):
        local.find_rows(RunFolder(tmp_path / "empty"), "", SEEDS, 1)


def test_columns_have_equal_steps_and_the_estimate_ends(run, tiny):
    files = write_training_files(run.path, SEEDS, load_records(run.find("finetuning_data/*")[0], FinetuningRow), 1)
    settings, columns = Settings(rank=2, batch_rows=4), ["seeds_only", "run_data"]
    plan = local.plan_training(run, tiny, files, settings, columns, training_seeds=[1, 2])
    lines = plan.describe()
    assert [line["column"] for line in lines] == ["seeds_only", "seeds_only", "run_data", "run_data"]
    assert {line["steps"] for line in lines} == {2 * 4} and lines[2]["epochs"] == 2.0
    assert lines[0]["epochs"] > 2  # one seed row: often
    assert plan.estimate().startswith("About ") and "tokens" in plan.estimate()
    plan.train()
    again = local.plan_training(run, tiny, files, settings, columns, training_seeds=[1, 2])
    assert {line["state"] for line in again.describe()} == {"finished"}
    assert again.estimate().startswith("Nothing to train") and "loaded" not in vars(again)


def test_memory_is_reckoned_from_headers(tiny):
    sizes = measure_sizes(unpack_weights(tiny))
    assert cost._read_gguf_sizes(tiny) == sizes and sizes.width == 32
    assert 2.5 < needed_gb(Sizes(134_515_008, 576, 49_152), 1024) < 5  # measured: 4.2
    assert needed_gb(Sizes(7 * 10**9, 4096, 32_000), 1024) > 30


def test_bfloat16_only_where_the_processor_has_it(tmp_path):
    with_it, without = tmp_path / "with", tmp_path / "without"
    with_it.write_text("model name : x\nflags\t\t: fpu avx512_bf16 sse\n")
    without.write_text("flags\t\t: fpu avx512f sse\n")
    assert choose_precision("auto", "cpu", with_it) == "bfloat16"
    assert choose_precision("auto", "cpu", without) == choose_precision("auto", "cpu", tmp_path / "no") == "float32"
    assert choose_precision("float32", "cpu", with_it) == "float32"


def test_the_notebook_trains_all_columns_and_then_nothing(run, tiny):
    given = {"base_model": str(tiny), "rank": 2, "batch_tokens": 512, "steps": 4, "heldout_sample": 2}
    run_cells("06_finetune_model", run.path, **given)
    results = read_results(run.path, "06_finetune_model")
    assert [one["column"] for one in results["trained"]] == list(TRAINED)
    assert {one["steps"] for one in results["trained"]} == {4}
    assert (
        results["trained"][2]["train_file"]["sha256"] == results["source"]["sha256"]
    )  # what is trained on is the export
    assert {one["source"]["not_shuffled"] for one in results["trained"]} == {0}
    assert (run / "figures/training_loss.png").is_file()
    names = run_cells("06_finetune_model", run.path, **{**given, "training_seeds": [42, 7]})
    assert [one.progress.state for one in names["training"].planned] == ["finished", "new"] * 4


@pytest.mark.real_weights
@pytest.mark.slow
def test_the_embedded_model_learns_to_stop(run, tmp_path):
    """Minutes: twenty steps on the run's rows, and the loss of held-out tasks is lower than before."""
    files = write_training_files(run.path, SEEDS, load_records(run.find("finetuning_data/*")[0], FinetuningRow), 1)
    base = local.check_training()
    [record] = local.plan_training(run, base, files, Settings(steps=20), ["run_data"]).train(load_heldout_pairs(8))
    assert record["heldout_loss"]["after"] < record["heldout_loss"]["before"]
