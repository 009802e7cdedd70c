"""Weights: from a GGUF file, a folder or a hub name to a model in float32, and back to files that llama.cpp serves.

    base = find_base()                        # the embedded model; or "some.gguf", a folder, "owner/name"
    model, tokenizer = load_model(base)
    convert_to_f16(base)                      # the file to serve: its answers are torch's, those of a quantised file are not

A GGUF file is unpacked once, into a folder of CACHE named after its sha256. What llama.cpp calls the llama layout is read by
our own loader; all other layouts by transformers, which is slower and reads fewer files.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..files import (
    PROJECT_ROOT,
    EndpointError,
    InputError,
    ParameterError,
    project_path,
    read_json,
    show_path,
    usable_cpus,
)
from ..models.embedded import find_weights, weights_sha256
from .gguf_files import Layout, open_gguf, read_field, read_tensors, rewrite_gguf

CACHE = PROJECT_ROOT / "outputs/weights"  # unpacked and converted weights, 4 + 2 bytes a parameter; may be deleted
NEEDED = ("torch", "transformers", "peft", "gguf")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# read when the libraries are imported: no calls to the hub, no bars of their own, no threads that burn a shared processor
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0",
}  # fmt: skip
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def check_libraries() -> None:
    """Raise EndpointError with the one command to type where torch or what goes with it is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise EndpointError(f"not installed here, and needed: {', '.join(missing)}; run: make finetune")


def import_torch(offline: bool = True) -> Any:
    """The module torch, with the environment set that it and transformers read at import."""
    check_libraries()
    for name, value in {**QUIET, **(OFFLINE if offline else {})}.items():
        os.environ.setdefault(name, value)
    import torch

    torch.set_num_threads(max(1, round(usable_cpus())))
    return torch


def choose_device() -> str:
    """Where models are trained: a GPU where torch finds one, else the processor."""
    torch = import_torch()
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def find_base(path_or_name: str | Path = "") -> Path:
    """The base weights: a GGUF file, or a folder in the layout of transformers. "" and "embedded" are the embedded model.

    A hub name ("owner/name") is downloaded, or found where it was downloaded before. Raises ParameterError for anything
    that is none of these.
    """
    text = str(path_or_name)
    if text in ("", "embedded"):
        return find_weights()
    path = project_path(path_or_name)
    if path.suffix == ".gguf" and path.is_file():
        return find_weights(path)
    if (path / "config.json").is_file():
        return path
    if path.suffix == ".gguf":
        advice = 'name the GGUF file of the weights, or "" for the embedded ones'
        raise EndpointError(f"base_model: {show_path(path)}: no such file; {advice}")
    if path.exists() or not HUB_NAME.fullmatch(text):
        raise ParameterError(
            f"base_model: {show_path(path)} is no GGUF file and no folder with config.json; name one, a model of the hub "
            '("owner/name"), or "" for the embedded weights'
        )
    return _download(text)


def _download(name: str) -> Path:
    import_torch(offline=False)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "tokenizer*", "*.jinja"]))
    except Exception as error:  # the hub's own tree of errors, and httpx's
        reason = str(error).strip().partition("\n")[0][:120]
        raise EndpointError(
            f"base_model: {name} is not on this machine, and the hub does not give it ({reason})"
        ) from error


def describe_base(base: Path) -> dict[str, Any]:
    """{"name", "sha256"} of base weights: what a training record and an adapter are bound to.

    The sha256 of a folder is that of its config and weight files, one after the other.
    """
    files = [base] if base.is_file() else [base / "config.json", *sorted(base.glob("*.safetensors"))]
    changed = tuple((str(path), path.stat().st_mtime_ns) for path in files)
    return {"name": _name_base(base), "sha256": _hash_files(changed)}


def _name_base(base: Path) -> str:
    """A folder's name; that of the hub's cache is a commit, and the model's name is two folders up."""
    return (
        base.parent.parent.name.removeprefix("models--").replace("--", "/")
        if base.parent.name == "snapshots"
        else base.name
    )


@lru_cache(maxsize=8)
def _hash_files(files: tuple[tuple[str, int], ...]) -> str:
    if len(files) == 1:
        return weights_sha256(Path(files[0][0]))
    return hashlib.sha256("".join(weights_sha256(Path(path)) for path, _ in files).encode()).hexdigest()


def load_model(base: str | Path = "") -> tuple[Any, Any]:
    """(model in float32 on the device of `choose_device`, tokenizer) of base weights; see `find_base`.

    Raises EndpointError for an architecture that cannot be loaded or has no layer that LoRA adapts.
    """
    import_torch()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = find_base(base)
    folder = unpack_weights(path) if path.is_file() else path
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise _explain(path, error) from error
    find_targets(model, path.name)
    return model.to(choose_device()).eval(), tokenizer


def load_tokenizer(base: Path) -> Any:
    """The tokenizer alone: in a moment, once a GGUF file is unpacked."""
    import_torch()
    from transformers import AutoTokenizer

    folder = unpack_weights(base) if base.is_file() else base
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise _explain(base, error) from error


def _explain(path: Path, error: Exception) -> EndpointError:
    """transformers, tokenizers and safetensors have a tree of errors each, and raise what Python has as well."""
    advice = "choose other weights, such as the embedded ones"
    return EndpointError(f"{show_path(path)}: transformers cannot load it ({_first_line(error)}); {advice}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160]


def find_targets(model: Any, name: str = "the model") -> list[str]:
    """The names of the linear layers that LoRA adapts ("q_proj", ...): all but the one that gives the tokens.

    Raises EndpointError where there are none.
    """
    from torch import nn

    head = model.get_output_embeddings()
    found = {
        key.rpartition(".")[2]
        for key, part in model.named_modules()
        if isinstance(part, nn.Linear) and part is not head
    }
    if not found:
        kind = model.config.model_type
        raise EndpointError(
            f"{name}: LoRA finds no linear layer to adapt in the architecture {kind}; choose other weights"
        )
    return sorted(found)


def find_unpacked(base: Path) -> Path | None:
    """The folder in the layout of transformers: `base` itself, or what a GGUF file was unpacked into, None before that."""
    folder = CACHE / weights_sha256(base)[:16] if base.is_file() else base
    return folder if folder.is_dir() else None


def unpack_weights(gguf_file: Path) -> Path:
    """The folder of CACHE with config, float32 weights and tokenizer of a GGUF file; made when it is not there."""
    folder = CACHE / weights_sha256(gguf_file)[:16]
    if not folder.is_dir():
        import_torch()
        _write_folder(folder, lambda new: _unpack(gguf_file, new))
    return folder


def _write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
        new = Path(scratch, "folder")
        new.mkdir()
        write(new)
        if not folder.exists():
            new.rename(folder)


def _unpack(gguf_file: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    reader = open_gguf(gguf_file)
    architecture = read_field(reader, "general.architecture")
    try:
        model = _build_llama(reader) if architecture == "llama" else None
        model = model or _load_foreign(gguf_file)
        tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    except Exception as error:  # see `_explain`
        why = f"the architecture {architecture} cannot be loaded for training ({_first_line(error)})"
        raise EndpointError(
            f"{show_path(gguf_file)}: {why}; choose other weights, such as the embedded ones"
        ) from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _build_llama(reader: Any) -> Any:
    """The llama layout as a model of transformers; None where the file has more than we know of (scaled rotations, biases, ...).

    Equal to transformers' own loader bit for bit, in a quarter of its time, and it can be saved.
    """
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    config = _read_llama_config(reader)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    names, layout = {}, Layout(config)
    for key in model.state_dict():
        if not (config.tie_word_embeddings and key.startswith("lm_head")):
            names[layout.gguf_name(key)] = key
    if set(names) != {tensor.name for tensor in reader.tensors} or read_field(reader, "llama.rope.scaling.type"):
        return None
    state = {}
    for name, values in read_tensors(reader):
        state[names[name]] = torch.from_numpy(np.ascontiguousarray(layout.to_torch(name, values)))
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(
        config
    )  # its numbers are no weights: made on "meta", they are empty
    return model


def _read_llama_config(reader: Any) -> Any:
    from transformers import LlamaConfig

    def field(name: str, default: Any = None) -> Any:
        return read_field(reader, f"llama.{name}", default)

    heads, width = field("attention.head_count"), field("embedding_length")
    tokens = {part: read_field(reader, f"tokenizer.ggml.{part}_token_id") for part in ("bos", "eos", "padding")}
    return LlamaConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data), hidden_size=width,
        intermediate_size=field("feed_forward_length"), num_hidden_layers=field("block_count"), num_attention_heads=heads,
        num_key_value_heads=field("attention.head_count_kv", heads), head_dim=field("attention.key_length", width // heads),
        max_position_embeddings=field("context_length"), rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base", 10000.0)},
        tie_word_embeddings="output.weight" not in {tensor.name for tensor in reader.tensors},
        bos_token_id=tokens["bos"], eos_token_id=tokens["eos"], pad_token_id=tokens["padding"], dtype="float32",
    )  # fmt: skip


def _load_foreign(gguf_file: Path) -> Any:
    from transformers import AutoModelForCausalLM

    how = {"gguf_file": gguf_file.name, "dtype": "float32", "output_loading_info": True}
    model, found = AutoModelForCausalLM.from_pretrained(gguf_file.parent, **how)
    if missing := sorted(found["missing_keys"]):  # they would be random numbers
        raise ValueError(f"{len(missing)} weights are not in the file, the first {missing[0]}")
    model.hf_quantizer = None  # or it refuses to be saved, although its weights are plain float32 by now
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def convert_to_f16(gguf_file: str | Path = "") -> Path:
    """The F16 file of CACHE to serve in place of a quantised one; a file that is F16 already is itself.

    The int8 activations of a quantised file change texts: 2 of 5 greedy answers were torch's, and 5 of 5 with F16.
    """
    import gguf

    source = find_base(gguf_file)
    if source.is_dir():
        raise ParameterError(
            f"{show_path(source)}: to serve this model its GGUF file is needed; name that as base_model"
        )
    converted = CACHE / f"{weights_sha256(source)[:16]}.f16.gguf"
    if converted.is_file():
        return converted
    reader = open_gguf(source)
    if all(
        tensor.tensor_type in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.F32)
        for tensor in reader.tensors
    ):
        return source
    return rewrite_gguf(reader, converted)


def check_adapter(adapter_dir: Path, base: Path) -> dict[str, Any]:
    """The training record of an adapter's folder; raises InputError if it is missing or the adapter is of other weights."""
    record, now = read_json(adapter_dir / "training.json"), describe_base(base)
    made_for = record.get("base", {})
    if made_for.get("sha256") != now["sha256"]:
        raise InputError(
            f"{show_path(adapter_dir)}: this adapter was made for other weights ({made_for.get('name')}, not {now['name']}); "
            "name those as base_model, or train again with 06_finetune_model"
        )
    return record


def load_adapter(model: Any, peft_dir: str | Path) -> Any:
    """`model` with the adapter of a folder in peft's layout, in the place of one that it already has.

    `with model.disable_adapter():` is the base model again. Raises InputError for an adapter of another shape.
    """
    from peft import PeftModel

    path = Path(peft_dir)
    if not (path / "adapter_model.safetensors").is_file():
        raise InputError(f"{show_path(path)}: no adapter in this folder; 06_finetune_model writes it")
    base = model.unload() if isinstance(model, PeftModel) else model
    try:
        with warnings.catch_warnings():  # of what peft calls in transformers, to be renamed there some day
            warnings.simplefilter("ignore", FutureWarning)
            return PeftModel.from_pretrained(base, path).eval()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{show_path(path)}: this adapter was made for other weights ({_first_line(error)})"
        ) from error
