"""Training an adapter: low-rank updates (LoRA) of all linear layers, on the loss of completions, in the paper's two epochs.

    train_adapter(find_base(), files["run_data"], out_dir, random_seed=42)       # the training record
    find_progress(out_dir, wanted)                                               # what is there of it

`out_dir` holds adapter.gguf, peft/, loss.jsonl, and training.json, which is written last: without it the training has not
ended. Until then checkpoint.pt, of every minute, has all that the next step depends on (adapter, optimizer, chance, place in
the plan), so that after kill -9 the same command goes on and ends in the same bytes. That holds for the same number of threads,
since sums are added up in another order by another number; `machine` of the record says how many there were.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..bars import progress_bar
from ..files import (
    EndpointError,
    ParameterError,
    StoppedEarly,
    append_record,
    iter_lines,
    read_json,
    show_path,
    write_json,
    write_records,
)
from ..models.embedded import weights_sha256
from .cost import autocast, choose_precision
from .gguf_files import write_adapter_gguf, write_merged_gguf
from .loss import sum_losses, token_losses
from .rows import TokenRow, load_pairs, plan_batches, tokenise_rows
from .weights import describe_base, find_targets, import_torch, load_model

RECORD, STARTED, CHECKPOINT, LOSSES = "training.json", "started.json", "checkpoint.pt", "loss.jsonl"
ADAPTER, MERGED, PEFT = "adapter.gguf", "merged.gguf", "peft"
CHECKPOINT_SECONDS = 60.0
MEASURES = 6  # of the held-out loss, after the one before training
WARM_UP, LOWEST = 0.1, 0.05  # share of the steps in which the rate rises; what is left of it at the end of the cosine
ALPHA = 2  # times the rank: the usual scale of the update


@dataclass(frozen=True)
class Settings:
    """What decides an adapter besides its data and its base. `steps` 0 is as many as `epochs` have; `random_seed` draws the
    first weights and the order of rows. The rate suits LoRA, which needs five times that of full fine-tuning.
    """

    learning_rate: float = 1e-3
    rank: int = 16
    epochs: int = 2
    steps: int = 0
    random_seed: int = 42
    batch_tokens: int = 1024
    batch_rows: int = 16
    max_length: int = 512
    precision: str = "auto"

    def plan(self, rows: Sequence[TokenRow]) -> list[list[int]]:
        """The row numbers of every update step."""
        return plan_batches(rows, self.random_seed, self.epochs, self.steps, self.batch_tokens, self.batch_rows)


class Progress(NamedTuple):
    """What is there of a training: "new", "continues", "finished" or "replaces" another; `step` is the last one logged, and
    `changed` says what the other one was made with.
    """

    state: str
    step: int = 0
    changed: str = ""


def describe_training(base: Path, train_file: Path, settings: Settings) -> dict[str, Any]:
    """What an adapter is made of; with equal ingredients it is not trained again."""
    rows = len(load_pairs(train_file))
    data = {"name": f"{train_file.parent.name}/{train_file.name}", "sha256": weights_sha256(train_file), "rows": rows}
    return {"train_file": data, "base": describe_base(base), "settings": asdict(settings)}


def find_progress(out_dir: Path, wanted: dict[str, Any]) -> Progress:
    """What `out_dir` has of the training that `describe_training` describes."""
    for name, state in ((RECORD, "finished"), (STARTED, "continues")):
        if (out_dir / name).is_file():
            found = read_json(out_dir / name)
            changed = "; ".join(_list_changes({key: found.get(key) for key in wanted}, wanted))
            lost = state == "finished" and not (out_dir / PEFT / "adapter_model.safetensors").is_file()
            return Progress("new" if lost else "replaces" if changed else state, _read_step(out_dir), changed)
    return Progress("new")


def _list_changes(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """ "learning_rate 0.0005, now 0.001" for every value that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in new:
            yield from _list_changes(old.get(key), new[key], f"{name} {key}".strip().removeprefix("settings "))
    elif old != new:
        yield f"{name} was {str(old)[:12]}, now {str(new)[:12]}"


def _read_step(out_dir: Path) -> int:
    path = out_dir / LOSSES
    return max((line["step"] for _, line in iter_lines(path, unfinished=True)), default=0) if path.is_file() else 0


def train_adapter(
    base: Path,
    train_file: Path,
    out_dir: Path,
    *,
    heldout: Sequence[tuple[str, str]] = (),
    load: Callable[[], tuple[Any, Any]] | None = None,
    merge: bool = False,
    source: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train an adapter on the {prompt, completion} lines of `train_file`, or go on with it; returns the training record.

    `heldout` are pairs whose loss is drawn, and which decide nothing; `load` gives (model, tokenizer) of `base`, and the model is
    as before when this returns; `merge` also writes merged.gguf; `source` goes into the record. What was trained from other data or
    with other `settings` is replaced. Raises InputError for a row without a completion, StoppedEarly at Ctrl-C.
    """
    chosen = Settings(**settings)
    wanted = describe_training(base, train_file, chosen)
    if merge and base.is_dir():
        raise ParameterError(
            f"merge: {show_path(base)} is no GGUF file, and only such a file can be written again; leave merge out"
        )
    if find_progress(out_dir, wanted).state != "finished":
        _prepare_folder(out_dir, wanted)
        model, tokenizer = load() if load else load_model(base)
        texts = (load_pairs(train_file), heldout)
        rows, held = (tokenise_rows(pairs, tokenizer, chosen.max_length) for pairs in texts)
        with adapted(model, chosen) as tuned:
            training = Training(tuned, rows, held, chosen, out_dir)
            try:
                training.run()
            except KeyboardInterrupt:
                where, last = show_path(out_dir), "the last checkpoint, of a minute ago at most"
                raise StoppedEarly(
                    f"{where}: stopped at step {training.step}; the same command goes on from {last}"
                ) from None
            training.write(wanted, source)
    if merge and not (out_dir / MERGED).is_file():
        write_merged_gguf(base, out_dir / ADAPTER, out_dir / MERGED)
    return read_json(out_dir / RECORD)


def _prepare_folder(out_dir: Path, wanted: dict[str, Any]) -> None:
    """An empty folder that knows what is trained in it, or the one that the same training has begun."""
    if find_progress(out_dir, wanted).state != "continues":
        shutil.rmtree(out_dir, ignore_errors=True)
        write_json(out_dir / STARTED, wanted)


@contextlib.contextmanager
def adapted(model: Any, settings: Settings) -> Iterator[Any]:
    """`model` with a new adapter, drawn with the settings' seed; without it again at the end."""
    from peft import LoraConfig, get_peft_model

    torch = import_torch()
    torch.manual_seed(settings.random_seed)
    rank, layers = settings.rank, find_targets(model)
    config = LoraConfig(r=rank, lora_alpha=ALPHA * rank, target_modules=layers, task_type="CAUSAL_LM", lora_dropout=0.0)
    with warnings.catch_warnings():  # of what peft calls in transformers, to be renamed there some day
        warnings.simplefilter("ignore", FutureWarning)
        tuned = get_peft_model(model, config)
    try:
        yield tuned
    finally:
        tuned.unload()
        model.eval()
        if hasattr(model, "peft_config"):  # or the next adapter warns that it is a second one
            del model.peft_config


class Training:
    """One adapter's steps, from wherever its folder says that they had come."""

    def __init__(
        self, model: Any, rows: Sequence[TokenRow], heldout: Sequence[TokenRow], settings: Settings, out_dir: Path
    ):
        torch = import_torch()
        self.model, self.rows, self.heldout, self.settings, self.out_dir = model, rows, heldout, settings, out_dir
        self.plan, self.device = settings.plan(rows), model.device.type
        self.precision = choose_precision(settings.precision, self.device)
        self.weights = {name: part for name, part in model.named_parameters() if part.requires_grad}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=settings.learning_rate, weight_decay=0.0)
        self.step, self.tokens, self.seconds, self.threads = 0, 0, 0.0, [torch.get_num_threads()]
        self._load_checkpoint()

    def run(self) -> None:
        """All steps that are left, with a bar, a line of loss.jsonl each, and a checkpoint a minute."""
        name = f"{self.out_dir.parent.name}, seed {self.out_dir.name}"
        began, saved = time.monotonic() - self.seconds, time.monotonic()
        if not self.step:
            self._log(None, 0.0)
        with progress_bar(total=len(self.plan), initial=self.step, desc=name, unit="step") as bar:
            while self.step < len(self.plan):
                loss = self._update(self.plan[self.step])
                self.seconds = time.monotonic() - began
                self._log(loss, self.seconds)
                bar.update()
                bar.set_postfix_str(f"loss {loss:.2f}")
                if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    self.save_checkpoint()
                    saved = time.monotonic()

    def _update(self, batch: Sequence[int]) -> float:
        """One step: the mean loss of the batch's completion tokens, before the step."""
        import torch

        self._set_rate()
        self.model.train()
        rows = [self.rows[number] for number in batch]
        with autocast(self.device, self.precision):
            loss = token_losses(self.model, rows)[0].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        value = loss.item()
        if not math.isfinite(value):
            where = f"{show_path(self.out_dir)}: the loss of step {self.step + 1}"
            raise EndpointError(f"{where} is {value}: training has diverged; lower learning_rate")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += sum(len(row.ids) for row in rows)
        return value

    def _set_rate(self) -> None:
        """The rate of this step: it rises, then falls along a cosine."""
        total = len(self.plan)
        rising = max(1, round(WARM_UP * total))
        done = (self.step - rising) / max(1, total - rising)
        share = (self.step + 1) / rising if self.step < rising else max(LOWEST, (1 + math.cos(math.pi * done)) / 2)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * share

    def _log(self, loss: float | None, seconds: float) -> None:
        append_record(self.out_dir / LOSSES, {
            "step": self.step, "epoch": round(self.tokens / sum(len(row.ids) for row in self.rows), 3), "train_loss": loss,
            "heldout_loss": self._measure_heldout(), "tokens": self.tokens, "seconds": round(seconds, 2),
        })  # fmt: skip

    def _measure_heldout(self) -> float | None:
        """The mean loss of a token of the held-out completions, None where it is not this step's turn."""
        total = len(self.plan)
        turns = {round(total * number / MEASURES) for number in range(MEASURES + 1)}
        if self.step not in turns or not self.heldout:
            return None
        with autocast(self.device, self.precision):
            nats = sum(
                sum(sum_losses(self.model, self.heldout[start : start + 8])) for start in range(0, len(self.heldout), 8)
            )
        return nats / sum(len(row.ids) - row.prompt_length for row in self.heldout)

    def save_checkpoint(self) -> None:
        """All that the next step depends on, whole or not at all."""
        import torch

        path = self.out_dir / CHECKPOINT
        state = {
            "step": self.step, "tokens": self.tokens, "seconds": self.seconds, "threads": self.threads,
            "weights": dict(self.weights), "optimizer": self.optimizer.state_dict(), "chance": torch.get_rng_state(),
        }  # fmt: skip
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def _load_checkpoint(self) -> None:
        """Go on where the folder's checkpoint is; lines of loss.jsonl from after it are taken back."""
        import torch

        losses = self.out_dir / LOSSES
        if (self.out_dir / CHECKPOINT).is_file():
            state = torch.load(self.out_dir / CHECKPOINT, map_location=self.device, weights_only=True)
            with torch.no_grad():
                for name, part in self.weights.items():
                    part.copy_(state["weights"][name])
            self.optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["chance"].cpu())
            self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
            self.threads = [*state["threads"], *self.threads]
        if losses.is_file():
            kept = [line for _, line in iter_lines(losses, unfinished=True) if self.step and line["step"] <= self.step]
            write_records(losses, kept)

    def write(self, wanted: Mapping[str, Any], source: Mapping[str, Any] | None) -> None:
        """The adapter in both layouts, then the record; the checkpoint goes."""
        peft_dir, file = self.out_dir / PEFT, self.out_dir / ADAPTER
        self.model.save_pretrained(peft_dir)
        (peft_dir / "README.md").unlink(missing_ok=True)  # a form with nothing filled in
        config = read_json(peft_dir / "adapter_config.json")
        config |= {
            "base_model_name_or_path": wanted["base"]["name"],
            "target_modules": sorted(config["target_modules"]),
        }
        write_json(peft_dir / "adapter_config.json", config)
        written = write_adapter_gguf(peft_dir, self.model.config, file)
        write_json(self.out_dir / RECORD, {
            **wanted, "source": source, **self._summarise(),
            "adapter": {"sha256": weights_sha256(file) if written else None, "file": file.name if written else None},
        })  # fmt: skip
        for name in (CHECKPOINT, STARTED):
            (self.out_dir / name).unlink(missing_ok=True)

    def _summarise(self) -> dict[str, Any]:
        lines = [line for _, line in iter_lines(self.out_dir / LOSSES)]
        train = [line["train_loss"] for line in lines if line["train_loss"] is not None]
        held = [line["heldout_loss"] for line in lines if line["heldout_loss"] is not None]
        tail = train[-max(1, len(train) // 5) :]
        return {
            "steps": self.step, "epochs": lines[-1]["epoch"], "tokens": self.tokens, "seconds": round(self.seconds, 1),
            "train_loss": {"first": train[0], "last_fifth": sum(tail) / len(tail)},
            "heldout_loss": {"before": held[0], "after": held[-1]} if held else None,
            "trained_parameters": sum(part.numel() for part in self.weights.values()),
            "machine": {"device": self.device, "precision": self.precision, "threads": self.threads},
            "versions": _read_versions(),
        }  # fmt: skip


def _read_versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft", "gguf")}
