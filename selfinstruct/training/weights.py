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
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..files import PROJECT_ROOT, EndpointError, InputError, ParameterError, project_path, show_path, usable_cpus
from ..models.embedded import find_weights, weights_sha256

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
        raise EndpointError(
            f"fine-tuning needs {' and '.join(missing)}, not installed here; this brings it: make finetune"
        )


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
    if path.suffix == ".gguf":
        return find_weights(path)
    if (path / "config.json").is_file():
        return path
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
    """{"name", "sha256", "parameters"} of base weights: what a training record and an adapter are bound to.

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
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation="sdpa")
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise EndpointError(f"{show_path(path)}: transformers cannot load it ({_first_line(error)})") from error
    find_targets(model, path.name)
    return model.to(choose_device()).eval(), tokenizer


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
    import gguf
    from transformers import AutoTokenizer

    reader = gguf.GGUFReader(gguf_file)
    architecture = read_field(reader, "general.architecture")
    try:
        model = _build_llama(reader) if architecture == "llama" else None
        model = model or _load_foreign(gguf_file)
        tokenizer = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    except (ValueError, KeyError, ImportError, NotImplementedError) as error:
        why = f"the architecture {architecture} cannot be loaded for training ({_first_line(error)})"
        raise EndpointError(
            f"{show_path(gguf_file)}: {why}; choose other weights, such as the embedded ones"
        ) from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_field(reader: Any, name: str, default: Any = None) -> Any:
    """A field of a GGUF file's header."""
    return reader.fields[name].contents() if name in reader.fields else default


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

    model = AutoModelForCausalLM.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name, dtype="float32")
    model.hf_quantizer = None  # or it refuses to be saved, although its weights are plain float32 by now
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


class Layout:
    """How the weights of an architecture are named and ordered in a GGUF file.

    In the llama layout the rows of q and k are permuted: llama.cpp rotates neighbours, transformers halves.
    """

    def __init__(self, config: Any):
        import gguf

        kind = {"mistral": "llama"}.get(config.model_type, config.model_type)
        known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
        self.architecture, self.permutes = kind, kind == "llama"
        self.heads = {"attn_q": config.num_attention_heads, "attn_k": getattr(config, "num_key_value_heads", None)}
        self._map = gguf.get_tensor_name_map(known[kind], config.num_hidden_layers) if kind in known else None

    def gguf_name(self, name: str) -> str | None:
        """ "blk.0.attn_q.weight" for "model.layers.0.self_attn.q_proj.weight", None where llama.cpp has no such tensor."""
        return self._map.get_name(name, try_suffixes=(".weight", ".bias")) if self._map else None

    def to_torch(self, name: str, values: Any) -> Any:
        """A tensor of the GGUF file in the order of transformers."""
        return self._swap(name, values, first=False)

    def to_gguf(self, name: str, values: Any) -> Any:
        """A tensor of transformers in the order of the GGUF file."""
        return self._swap(name, values, first=True)

    def _swap(self, name: str, values: Any, first: bool) -> Any:
        heads = next((count for part, count in self.heads.items() if f".{part}." in name), None)
        if not (self.permutes and heads):
            return values
        half = values.shape[0] // heads // 2
        shape = (heads, 2, half) if first else (heads, half, 2)
        return values.reshape(*shape, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def read_tensors(reader: Any) -> Iterable[tuple[str, Any]]:
    """(name, float32 values) of every tensor of a GGUF file, one at a time."""
    import gguf

    for tensor in reader.tensors:
        yield tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("float32")


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
    reader = gguf.GGUFReader(source)
    if all(
        tensor.tensor_type in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.F32)
        for tensor in reader.tensors
    ):
        return source
    return rewrite_gguf(reader, converted)


def rewrite_gguf(reader: Any, path: Path, change: Callable[[str, Any], Any] = lambda name, values: values) -> Path:
    """The GGUF file of `reader` again, whole or not at all: header and tokenizer as they are, tensors as `change` returns
    them (name and float32 values), in F16; vectors stay in F32.
    """
    import gguf

    with new_gguf(path, read_field(reader, "general.architecture")) as writer:
        copy_header(reader, writer)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        for name, values in read_tensors(reader):
            values = change(name, values)
            writer.add_tensor(name, values.astype("float16" if values.ndim > 1 else "float32"))
    return path


def copy_header(reader: Any, writer: Any, without: Iterable[str] = ()) -> None:
    """Copy every field of a GGUF header but those that the new file decides itself, and `without`."""
    import gguf

    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in (
            "general.architecture",
            "general.file_type",
            "general.alignment",
            *without,
        ):
            kind = field.types[0]
            part = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub_type=part)


class new_gguf:
    """A context: a GGUF writer whose file is at `path` at its end, whole or not at all."""

    def __init__(self, path: Path, architecture: str):
        self.path, self.new, self.architecture = path, path.with_name(f".{path.name}.{os.getpid()}"), architecture

    def __enter__(self) -> Any:
        import gguf

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.writer = gguf.GGUFWriter(self.new, self.architecture)
        return self.writer

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.writer.write_header_to_file()
            self.writer.write_kv_data_to_file()
            self.writer.write_tensors_to_file()
        self.writer.close()
        if kind is None:
            self.new.replace(self.path)
        else:
            self.new.unlink(missing_ok=True)


def write_adapter_gguf(peft_dir: Path, config: Any, path: Path) -> Path | None:
    """The adapter in peft's layout as the file that llama.cpp loads; `config` is that of the base model.

    None where llama.cpp has no name for a layer of this architecture.
    """
    from safetensors.numpy import load_file

    layout, settings = Layout(config), json.loads((peft_dir / "adapter_config.json").read_text())
    tensors = {}
    for key, values in load_file(peft_dir / "adapter_model.safetensors").items():
        layer, _, side = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
        name = layout.gguf_name(f"{layer}.weight")
        if name is None:
            return None
        tensors[f"{name}.lora_{side.lower()}"] = layout.to_gguf(name, values) if side == "B" else values
    with new_gguf(path, layout.architecture) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(settings["lora_alpha"]))
        for name, values in sorted(tensors.items()):
            writer.add_tensor(name, values.astype("float32"))
    return path


def write_merged_gguf(gguf_file: Path, adapter: Path, path: Path) -> Path:
    """The base weights with the adapter (a GGUF file) added in, as one F16 file for any program that reads GGUF."""
    import gguf

    reader = gguf.GGUFReader(adapter)
    parts = {name: values for name, values in read_tensors(reader)}
    alpha = read_field(reader, "adapter.lora.alpha")

    def add(name: str, values: Any) -> Any:
        if f"{name}.lora_a" not in parts:
            return values
        a, b = parts[f"{name}.lora_a"], parts[f"{name}.lora_b"]
        return values + (b @ a) * (alpha / a.shape[0])

    return rewrite_gguf(gguf.GGUFReader(gguf_file), path, add)


def check_adapter(adapter_dir: Path, base: Path) -> dict[str, Any]:
    """The training record of an adapter's folder; raises InputError if it is missing or the adapter is of other weights."""
    from ..files import read_json

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
        return PeftModel.from_pretrained(base, path).eval()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{show_path(path)}: this adapter was made for other weights ({_first_line(error)})"
        ) from error


def remove_cache() -> None:
    """Delete all unpacked and converted weights."""
    shutil.rmtree(CACHE, ignore_errors=True)
