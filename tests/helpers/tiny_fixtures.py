"""A model of two layers for all tests of training; where torch is not installed they are skipped, naming what brings it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.tiny_model import write_tiny_gguf

from selfinstruct.files import write_records


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The GGUF file of the tiny model; unpacked and converted weights go to a folder of the tests."""
    pytest.importorskip("torch", reason="make finetune brings torch")
    from selfinstruct.training import weights

    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "CACHE", folder / "cache")
        patch.setattr(weights, "usable_cpus", lambda: 1)  # two threads on a busy processor wait for one another
        yield write_tiny_gguf(folder / "tiny.gguf")


@pytest.fixture(scope="session")
def loaded(tiny):
    """(model, tokenizer) of the tiny model; whoever trains it leaves it as it was."""
    from selfinstruct.training import load_model

    return load_model(tiny)


@pytest.fixture
def train_file(tmp_path) -> Path:
    """Twenty rows of prompt and completion, in the place of a column."""
    rows = [{"prompt": f"Say {i}.\nOutput:", "completion": f" word {i}<|endoftext|>"} for i in range(20)]
    return write_records(tmp_path / "run_data/train.jsonl", rows)


@pytest.fixture
def read_lines():
    return lambda path: [json.loads(line) for line in path.read_text().splitlines()]
