"""LoRA adapters of the embedded server: it loads all that a command needs, at scale 0, and each request says which one it wants.

    adapter = find_adapter("outputs/run/adapters/run_data/1/adapter.gguf")
    connect("base-f16.gguf", adapter=adapter.path, adapters=[...])      # before: without `adapter`, from the same server

In the store's key an adapter is the sha256 of its file and its scale: neither its place on this machine nor its number on the
server says anything about an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import EndpointError, ParameterError, project_path, show_path
from .embedded import weights_sha256

HEAD = 65_536  # bytes of a GGUF file in which its kind stands


@dataclass(frozen=True)
class Adapter:
    """An adapter as llama.cpp's GGUF file, and how much of it a request wants: 0 is none, 1 all."""

    path: Path
    sha256: str
    scale: float = 1.0

    @property
    def identity(self) -> str:
        """What the store's keys hold of it."""
        return f"adapter={self.sha256}:scale={self.scale:g}"


def find_adapter(path: str | Path, scale: float = 1.0) -> Adapter:
    """The adapter of `path`. Raises EndpointError where there is none, or a GGUF file of another kind."""
    path = project_path(path).resolve()
    if not path.is_file():
        raise EndpointError(f"{show_path(path)}: no such adapter; notebook 06 writes one for every column")
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.startswith(b"GGUF") or b"adapter.type" not in head:
        raise EndpointError(f"{show_path(path)}: not an adapter in GGUF form; notebook 06 writes them as adapter.gguf")
    return Adapter(path, weights_sha256(path), scale)


def choose_adapters(adapter: str | Path, adapters: Sequence[str | Path], scale: float) -> dict[str, Any]:
    """The settings of an endpoint: all adapters that its server loads, and the one that its requests want, if any.

    Raises ParameterError for a scale below 0, EndpointError for what is no adapter.
    """
    if scale < 0:
        raise ParameterError(f"adapter_scale={scale}: must be at least 0; 1 is the adapter as it was trained")
    chosen = find_adapter(adapter, scale) if adapter else None
    loaded = {one.path: one for one in map(find_adapter, adapters)}
    if chosen:
        loaded.setdefault(chosen.path, chosen)
    return {"adapters": tuple(loaded.values()), "adapter": chosen}
