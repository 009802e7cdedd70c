"""The columns that are judged: before training, and what notebook 06 has trained, with the adapters of every training seed.

find_columns(run)                       # before_plain, before_chat, seeds_only, generated_only, run_data, shuffled_outputs
find_chat_layout(run, base)             # how before_chat is asked
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..files import InputError, ParameterError, iter_lines, read_json, show_path, write_json
from ..models.embedded import weights_sha256
from ..runfolder import RunFolder
from ..training.lora import ADAPTER, PEFT, RECORD
from ..training.rows import ADAPTERS, COLUMNS
from ..training.weights import check_adapter, describe_base, load_tokenizer

BEFORE = COLUMNS[:2]
PROVIDER = "provider_model"  # the column of a model that a provider serves: it has no loss
FOLDER = "evaluation"
FILLER = "\u2237"  # stands for the prompt where the chat template is rendered once


class Places(NamedTuple):
    """The folders of a run folder that one notebook owns: where its adapters are trained, and what they write."""

    adapters: str
    predictions: str


OF_07 = Places(ADAPTERS, f"{FOLDER}/predictions")
OF_16 = Places("scaling", f"{FOLDER}/scaling/predictions")


@dataclass(frozen=True)
class TrainedAdapter:
    """What training left of one column and training seed: an adapter and its record."""

    column: str
    training_seed: str
    folder: Path
    sha256: str
    record: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return self.folder / ADAPTER


@dataclass(frozen=True)
class Column:
    """One way of answering: the base weights (`adapters` is empty), or an adapter for each training seed."""

    name: str
    adapters: tuple[TrainedAdapter, ...] = ()

    @property
    def chat(self) -> bool:
        return self.name == "before_chat"

    @property
    def variants(self) -> tuple[TrainedAdapter | None, ...]:
        """An adapter a training seed; None is the base."""
        return self.adapters or (None,)


def find_columns(run: RunFolder, judged: Sequence[str] = (), base: Path | None = None) -> list[Column]:
    """The columns to judge: before training, and what notebook 06 has trained in `run`; or those that `judged` names.

    Raises ParameterError for a name that has no adapter, InputError for an adapter that was made for other weights than `base` or
    from another file than the column's.
    """
    trained = _find_trained(run)
    for name in judged:
        if name not in (*BEFORE, *trained):
            known = ", ".join((*BEFORE, *trained))
            raise ParameterError(
                f'judged: no column "{name}" in {run}/adapters; there are {known} (notebook 06 trains them)'
            )
    names = [*judged] or [name for name in COLUMNS if name in (*BEFORE, *trained)]
    if base:
        for one in (one for name in names for one in trained.get(name, ())):
            check_adapter(one.folder, base)
            check_train_file(one)
    return [Column(name, tuple(trained.get(name, ()))) for name in names]


def _find_trained(run: RunFolder) -> dict[str, list[TrainedAdapter]]:
    found: dict[str, list[TrainedAdapter]] = {}
    for path in run.find(f"adapters/*/*/{RECORD}"):
        one = load_trained(path.parent)
        found.setdefault(one.column, []).append(one)
    return found


def load_trained(folder: Path) -> TrainedAdapter:
    """The adapter of COLUMN/TRAINING_SEED. Raises InputError where the record is missing, which is written last, or the adapter."""
    record = read_json(folder / RECORD)
    # the first is not there where llama.cpp does not know the architecture
    files = [path for name in (ADAPTER, f"{PEFT}/adapter_model.safetensors") if (path := folder / name).is_file()]
    if not files:
        raise InputError(f"{show_path(folder)}: a record and no adapter; train it again with 06_finetune_model")
    return TrainedAdapter(folder.parent.name, folder.name, folder, weights_sha256(files[0]), record)


def check_train_file(adapter: TrainedAdapter) -> None:
    """Raise InputError where the column's train.jsonl is another one by now than the adapter was trained on."""
    path, trained_on = adapter.folder.parent / "train.jsonl", adapter.record.get("train_file", {}).get("sha256")
    if trained_on and path.is_file() and weights_sha256(path) != trained_on:
        advice = f"train again with 06_finetune_model, or delete {show_path(adapter.folder)}"
        raise InputError(f"{show_path(path)}: it has changed since {adapter.column} was trained on it; {advice}")


def collect_prompts(run: RunFolder, columns: Sequence[Column]) -> list[str]:
    """Every prompt that any of the columns was trained on."""
    files = [run / f"adapters/{one.name}/train.jsonl" for one in columns if one.adapters]
    return [row["prompt"] for path in files if path.is_file() for _, row in iter_lines(path)]


def find_chat_layout(run: RunFolder, base: Path) -> str:
    """The base's chat template around one message of the user, which FILLER stands for; kept in `evaluation/chat_layout.json`.

    Without the token that opens a text, where there is one: whoever reads the prompt adds it, and would have it twice.
    Raises InputError where the weights have no chat template.
    """
    path, sha256 = run / f"{FOLDER}/chat_layout.json", describe_base(base)["sha256"]
    known = read_json(path) if path.is_file() else {}
    if sha256 not in known:
        tokenizer = load_tokenizer(base)
        if not tokenizer.chat_template:
            raise InputError(f"{base.name}: no chat template in it; leave before_chat out: name the others in judged")
        messages = [{"role": "user", "content": FILLER}]
        layout = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        known[sha256] = layout.removeprefix(tokenizer.decode(tokenizer.encode("")))
        write_json(path, known)
    return known[sha256]
