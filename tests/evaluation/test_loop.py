"""The whole local path on a two-layer random model: weights, adapters, losses in torch, texts from llama.cpp, notebook 07."""

from __future__ import annotations

import math

import pytest
from helpers.notebooks import read_results, run_cells
from helpers.trained import task_set

from selfinstruct.files import write_records
from selfinstruct.models import embedded
from selfinstruct.runfolder import RunFolder

pytest.importorskip("torch", reason="make finetune brings torch")
pytest.importorskip("peft", reason="make finetune brings peft")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(embedded.tempfile, "tempdir", None)
    monkeypatch.setattr("selfinstruct.training.weights.CACHE", tmp_path / "weights")
    monkeypatch.setattr("selfinstruct.evaluation.evaluate.describe_tasks", lambda tasks, run: {})
    return tmp_path


def test_two_layers_are_trained_and_judged_and_the_server_writes_what_torch_would(folder):
    from helpers.tiny_model import write_tiny_gguf

    from selfinstruct.training.lora import train_adapter
    from selfinstruct.training.weights import load_adapter, load_model

    base, run = write_tiny_gguf(folder / "tiny.gguf"), RunFolder(folder / "run")
    loaded = load_model(base)
    rows = [{"prompt": f"Name {n} rivers.\nOutput:", "completion": f" Nile {n}<|endoftext|>"} for n in range(40, 60)]
    for column, steps in {"seeds_only": 4, "run_data": 30}.items():
        file = write_records(run / f"adapters/{column}/train.jsonl", rows)
        how = {"steps": steps, "rank": 4, "learning_rate": 1e-2}
        train_adapter(base, file, run / f"adapters/{column}/1", load=lambda: loaded, **how)
    write_records(folder / "own.jsonl", [
        {"instruction": one.instruction, "input": one.input, "output": one.references[0]} for one in task_set(8).tasks
    ])  # fmt: skip
    given = {
        "tasks": str(folder / "own.jsonl"), "base_model": str(base), "n_generation_tasks": 4, "max_tokens": 8,
        "judged": ["before_plain", "seeds_only", "run_data"], "store": str(folder / "store.sqlite"), "n_resamples": 200,
    }  # fmt: skip
    names = run_cells("07_evaluate_model", run.path, **given)
    found = read_results(run.path, "07_evaluate_model")["columns"]
    assert (
        found["run_data"]["bits_per_byte"]
        < found["seeds_only"]["bits_per_byte"]
        < found["before_plain"]["bits_per_byte"]
    )
    assert all(math.isfinite(one["rouge_l"]) for one in found.values())
    model, tokenizer = load_adapter(loaded[0], run / "adapters/run_data/1/peft"), loaded[1]
    for row in names["responses"]["run_data"][0]:
        assert row["response"] == write_greedily(model, tokenizer, row["prompt"], 8).strip()


def write_greedily(model, tokenizer, prompt, count):
    import torch

    ids = torch.tensor([tokenizer.encode(prompt)])
    how = {"max_new_tokens": count, "do_sample": False, "eos_token_id": [0, 2], "pad_token_id": 0}
    with torch.no_grad():
        new = model.generate(ids, attention_mask=torch.ones_like(ids), **how)[0, ids.shape[1] :].tolist()
    return tokenizer.decode([one for one in new if one not in (0, 1, 2)])
