"""What training will need: memory, refused beforehand where there is not enough, and minutes, from one batch timed.

check_memory(base, batch_tokens=1024)                    # EndpointError with both figures
time_tokens(model, rows, plan[0], "bfloat16")            # seconds a token
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import EndpointError, InputError, read_json, show_path
from .gguf_files import open_gguf, read_field
from .loss import token_losses
from .rows import TokenRow
from .weights import choose_device, find_unpacked, import_torch

RESERVED_GB = 0.7  # Python with torch and transformers
ACTIVATIONS = 2.8  # measured in float32: numbers kept for the way back, in units of parameters / width, a token
CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # elsewhere bf16 is emulated, and slower than float32


class Sizes(NamedTuple):
    """What memory depends on: parameters, width of the hidden states, and words of the vocabulary."""

    parameters: int
    width: int
    vocabulary: int


def measure_sizes(base: Path) -> Sizes:
    """The sizes of base weights, from their headers alone; raises InputError for a folder that has none."""
    folder = find_unpacked(base)
    if folder is None:
        return _read_gguf_sizes(base)
    try:
        return _read_folder_sizes(folder)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        expected = "expected the config.json and *.safetensors of a model of transformers"
        raise InputError(f"{show_path(base)}: no weights that can be read; {expected}") from error


def _read_folder_sizes(folder: Path) -> Sizes:
    config = read_json(folder / "config.json")
    config = config.get("text_config", config)
    shapes = [part["shape"] for path in folder.glob("*.safetensors") for part in _read_header(path).values()]
    width = config.get("hidden_size") or config.get("n_embd") or config.get("d_model") or 1
    if not shapes:
        raise ValueError("no tensors")
    return Sizes(sum(map(_multiply, shapes)), width, config.get("vocab_size", 0))


def _read_header(path: Path) -> dict[str, Any]:
    """The tensors that a safetensors file lists: its first eight bytes are the length of a JSON text."""
    with path.open("rb") as file:
        tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: part for name, part in tensors.items() if name != "__metadata__"}


def _multiply(shape: Sequence[int]) -> int:
    product = 1
    for one in shape:
        product *= one
    return product


def _read_gguf_sizes(gguf_file: Path) -> Sizes:
    reader = open_gguf(gguf_file)
    width = read_field(reader, f"{read_field(reader, 'general.architecture')}.embedding_length", 1)
    tokens = reader.fields.get("tokenizer.ggml.tokens")
    return Sizes(sum(int(t.n_elements) for t in reader.tensors), width, len(tokens.data) if tokens else 0)


def needed_gb(sizes: Sizes, batch_tokens: int) -> float:
    """Gigabytes that training takes: float32 weights, what a batch of that many tokens keeps for the way back, and the
    output layer on half of them (its numbers, softmax and gradient).
    """
    weights = 4 * sizes.parameters * 1.15  # the adapter with its two moments, and room while files are read
    hidden = 4 * ACTIVATIONS * sizes.parameters / sizes.width * batch_tokens
    output = 12 * sizes.vocabulary * batch_tokens / 2
    return (weights + hidden + output) / 1e9 + RESERVED_GB


def available_gb(device: str) -> float:
    """Gigabytes that are free: on the GPU, or in this machine or container."""
    if device == "cuda":
        return import_torch().cuda.mem_get_info()[0] / 1e9
    import psutil

    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        stat = dict(line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text()) - int(stat.get("inactive_file", 0))
        free = min(free, limit - used)
    return free / 1e9


def check_memory(base: Path, batch_tokens: int) -> float:
    """The gigabytes that training needs; raises EndpointError where they are not free."""
    needed, free = needed_gb(measure_sizes(base), batch_tokens), available_gb(choose_device())
    if needed > free:
        raise EndpointError(
            f"{show_path(base)}: training needs about {needed:.1f} GB of memory, and {max(free, 0):.1f} GB are free; close other "
            "programs, lower batch_tokens, or choose smaller weights (base_model)"
        )
    return needed


def choose_precision(precision: str, device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """ "float32" or "bfloat16": what `precision` says, and for "auto" bfloat16 where the processor or GPU computes in it."""
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bfloat16" if import_torch().cuda.is_bf16_supported() else "float32"
    with contextlib.suppress(OSError):
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
        return "bfloat16" if device == "cpu" and CPU_FLAGS & set(flags.split()) else "float32"
    return "float32"


def autocast(device: str, precision: str) -> Any:
    """A context in which layers compute in bfloat16, where `precision` says so; weights and sums stay in float32."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def count_tokens(rows: Sequence[TokenRow], plan: Sequence[Sequence[int]]) -> int:
    """The tokens that all steps of a plan read."""
    return sum(len(rows[number].ids) for batch in plan for number in batch)


def time_tokens(model: Any, rows: Sequence[TokenRow], batch: Sequence[int], precision: str) -> float:
    """Seconds a token, there and back, of one batch run twice; the second run counts. The model does not change."""
    device, chosen = model.device.type, [rows[number] for number in batch]
    for _ in range(2):
        began = time.perf_counter()
        with autocast(device, precision):
            loss = token_losses(model, chosen)[0].mean()
        loss.backward()
        if device == "cuda":  # it computes while Python goes on
            import_torch().cuda.synchronize()
        seconds = time.perf_counter() - began
    model.zero_grad(set_to_none=True)
    return seconds / sum(len(row.ids) for row in chosen)
