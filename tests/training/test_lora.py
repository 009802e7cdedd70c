"""An adapter is trained once, goes on after a kill with the same bytes, and knows what it was made of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="make finetune brings torch")

from selfinstruct.files import EndpointError, ParameterError, StoppedEarly
from selfinstruct.models.embedded import weights_sha256
from selfinstruct.training import lora
from selfinstruct.training.weights import unpack_weights

HELDOUT = [("Say 33.\nOutput:", " word 33<|endoftext|>"), ("Say 34.\nOutput:", " word 34")]
HOW = {"steps": 8, "rank": 2, "batch_rows": 4, "learning_rate": 0.01}


class Killed(BaseException):
    """What no code of the kit catches, as little as kill -9."""


@pytest.fixture
def train(tiny, loaded, train_file, tmp_path):
    """Train in the folder of this name, or go on there."""

    def run(name="42", **settings):
        given = {"heldout": HELDOUT, "load": lambda: loaded, **HOW, **settings}
        return lora.train_adapter(tiny, train_file, tmp_path / "run_data" / name, **given)

    run.folder = tmp_path / "run_data"
    return run


def adapter_bytes(folder):
    return [(folder / name).read_bytes() for name in ("adapter.gguf", "peft/adapter_model.safetensors")]


def lines(folder):
    return [
        {k: v for k, v in json.loads(line).items() if k != "seconds"}
        for line in (folder / "loss.jsonl").read_text().splitlines()
    ]


def test_the_record_binds_the_adapter_to_its_data_weights_and_settings(train, tiny, train_file):
    record = train(source={"file": "export.jsonl"})
    assert record["train_file"] == {"name": "run_data/train.jsonl", "sha256": weights_sha256(train_file), "rows": 20}
    assert record["base"] == {"name": "tiny.gguf", "sha256": weights_sha256(tiny)}
    assert record["settings"]["rank"] == 2 and record["steps"] == 8 and record["source"] == {"file": "export.jsonl"}
    assert record["adapter"]["sha256"] == weights_sha256(train.folder / "42/adapter.gguf")
    assert record["machine"]["threads"] and record["versions"]["torch"]
    assert sorted(path.name for path in (train.folder / "42").iterdir()) == [
        "adapter.gguf",
        "loss.jsonl",
        "peft",
        "training.json",
    ]


def test_the_loss_falls_and_every_step_is_a_line(train):
    record = train(steps=30)
    rows = lines(train.folder / "42")
    assert [row["step"] for row in rows] == list(range(31))
    assert rows[0]["train_loss"] is None and rows[0]["heldout_loss"] == record["heldout_loss"]["before"]
    assert [row["step"] for row in rows if row["heldout_loss"] is not None] == [0, 5, 10, 15, 20, 25, 30]
    assert record["train_loss"]["last_fifth"] < record["train_loss"]["first"] - 1
    assert rows[-1]["epoch"] == record["epochs"] == 6.0


def test_the_model_is_as_before(train, loaded):
    before = {name: part.clone() for name, part in loaded[0].state_dict().items()}
    train()
    after = loaded[0].state_dict()
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)


def test_no_path_of_this_machine_is_written(train):
    train()
    texts = [path.read_text() for path in (train.folder / "42").rglob("*.json*")]
    assert texts and not [text for text in texts if str(train.folder.parent) in text or str(Path.home()) in text]
    assert not list((train.folder / "42").rglob("README.md"))


def test_what_is_finished_is_not_trained_again(train, monkeypatch):
    record = train()
    monkeypatch.setattr(lora, "Training", lambda *_: pytest.fail("trained again"))
    assert train() == record


@pytest.mark.parametrize("change", [{"learning_rate": 0.02}, {"random_seed": 7}, {"steps": 9}])
def test_another_setting_trains_anew_and_replaces(train, change):
    train()
    before = adapter_bytes(train.folder / "42")
    record = train(**change)
    assert adapter_bytes(train.folder / "42") != before and record["settings"] == {**record["settings"], **change}


def test_another_file_trains_anew_and_says_what_changed(train, train_file, tiny):
    train()
    train_file.write_text(train_file.read_text().replace("word 3<", "bird 3<"))
    wanted = lora.describe_training(tiny, train_file, lora.Settings(**HOW))
    progress = lora.find_progress(train.folder / "42", wanted)
    assert progress.state == "replaces" and "train_file sha256 was" in progress.changed
    assert train()["train_file"]["sha256"] == weights_sha256(train_file)
    assert lora.find_progress(train.folder / "42", wanted).state == "finished"


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("_update", 1),
        ("_update", 5),
        ("save_checkpoint", 1),
        ("save_checkpoint", 4),
        ("_log", 1),
        ("_log", 6),
        ("write", 1),
    ],
)
def test_killed_anywhere_it_goes_on_to_the_same_bytes(train, monkeypatch, place, call):
    monkeypatch.setattr(lora, "CHECKPOINT_SECONDS", 0)
    train("whole")
    original, calls = getattr(lora.Training, place), []

    def dies(self, *arguments):
        calls.append(place)
        if len(calls) == call:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(lora.Training, place, dies)
        with pytest.raises(Killed):
            train()
    assert not (train.folder / "42/training.json").exists()
    train()
    assert adapter_bytes(train.folder / "42") == adapter_bytes(train.folder / "whole")
    assert lines(train.folder / "42") == lines(train.folder / "whole")


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(train, monkeypatch):
    monkeypatch.setattr(lora, "CHECKPOINT_SECONDS", 0)
    train("whole", random_seed=7)
    with monkeypatch.context() as patch:
        patch.setattr(lora.Training, "write", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train()
    train(random_seed=7)
    assert adapter_bytes(train.folder / "42") == adapter_bytes(train.folder / "whole")


def test_ctrl_c_is_a_stop_in_good_order(train, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lora.Training, "_update", interrupt)
    with pytest.raises(StoppedEarly, match="stopped at step 0; the same command goes on"):
        train()


def test_a_loss_that_is_no_number_is_named(train, monkeypatch):
    original = lora.token_losses

    def diverge(*arguments):
        losses, owners = original(*arguments)
        return losses * float("nan"), owners

    monkeypatch.setattr(lora, "token_losses", diverge)
    with pytest.raises(EndpointError, match=r"the loss of step 1 is nan: training has diverged; lower learning_rate"):
        train()


def test_merged_on_request_also_later(train, monkeypatch):
    train()
    assert not (train.folder / "42/merged.gguf").exists()
    monkeypatch.setattr(lora, "Training", lambda *_: pytest.fail("trained again"))
    train(merge=True)
    assert (train.folder / "42/merged.gguf").stat().st_size > 10_000


def test_merging_into_a_folder_is_refused_before_training(tiny, train_file, tmp_path):
    with pytest.raises(ParameterError, match=r"merge: .* is no GGUF file"):
        lora.train_adapter(unpack_weights(tiny), train_file, tmp_path / "a/1", merge=True)
    assert not (tmp_path / "a").exists()


KILLABLE = """
import sys
from pathlib import Path
from selfinstruct.training import lora, weights
base, train_file, out, cache = map(Path, sys.argv[1:])
weights.CACHE, lora.CHECKPOINT_SECONDS, weights.usable_cpus = cache, 0, lambda: 1
lora.train_adapter(base, train_file, out, steps=60, rank=2, batch_rows=4, heldout=[("Say 3.", " x")])
"""


@pytest.mark.slow
def test_five_times_kill_minus_nine(tiny, train_file, tmp_path):
    from selfinstruct.training import weights

    command = [sys.executable, "-c", KILLABLE, tiny, train_file]
    whole, killed = tmp_path / "run_data/whole", tmp_path / "run_data/killed"
    assert subprocess.run([*command, whole, weights.CACHE], capture_output=True).returncode == 0
    for wanted in (2, 12, 23, 37, 51):
        child = subprocess.Popen(
            [*command, killed, weights.CACHE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while child.poll() is None and _count_lines(killed / "loss.jsonl") < wanted:
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it had ended before the kill"
    assert subprocess.run([*command, killed, weights.CACHE], capture_output=True).returncode == 0
    assert adapter_bytes(killed) == adapter_bytes(whole) and lines(killed) == lines(whole)
    assert len(json.loads((killed / "training.json").read_text())["machine"]["threads"]) >= 4


def _count_lines(path):
    return path.read_bytes().count(b"\n") if path.is_file() else 0
