"""GGUF files: read, named and ordered as torch has them, and written whole: F16 copies, adapters, merged weights.

    rewrite_gguf(open_gguf(Path("q4.gguf")), Path("f16.gguf"))                        # the same weights in F16
    write_adapter_gguf(Path("peft"), model.config, Path("adapter.gguf"))              # what llama.cpp loads beside its base
    write_merged_gguf(Path("base.gguf"), Path("adapter.gguf"), Path("merged.gguf"))   # both in one file

None of this needs torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..files import EndpointError, show_path


def open_gguf(path: Path) -> Any:
    """The reader of a GGUF file; raises EndpointError for one that is broken, such as half a download."""
    import gguf

    try:
        return gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError) as error:
        what = "not a whole GGUF file, or one of another version"
        raise EndpointError(f"{show_path(path)}: {what} ({str(error)[:80]}); download it again") from error


def read_field(reader: Any, name: str, default: Any = None) -> Any:
    """A field of a GGUF file's header."""
    return reader.fields[name].contents() if name in reader.fields else default


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
    reader = open_gguf(adapter)
    parts = {name: values for name, values in read_tensors(reader)}
    alpha = read_field(reader, "adapter.lora.alpha")

    def add(name: str, values: Any) -> Any:
        if f"{name}.lora_a" not in parts:
            return values
        a, b = parts[f"{name}.lora_a"], parts[f"{name}.lora_b"]
        return values + (b @ a) * (alpha / a.shape[0])

    return rewrite_gguf(open_gguf(gguf_file), path, add)
