"""How fast the client is: throughput at 64 requests in flight, its own CPU per request, and a replay through step 1.

    python -m bench.bench_client                    # all, about 7 minutes
    python -m bench.bench_client --requests 1280 --responses 5000

Targets: >= 95% of the ideal throughput at 500 ms latency, <= 3 ms of CPU per request, and 50,000 stored responses through
step 1, similarity filter included, in under 5 minutes on 2 cores. The model is scripted; nothing here says how good it is.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.table import Figure, show_table

ROOT = Path(__file__).resolve().parent.parent
IN_FLIGHT = 64
LATENCY_S = 0.5
REPLAY_S = 300.0  # for 50,000 responses
SERVER = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from scripted import ScriptedServer
with ScriptedServer(lambda body: " an answer of some words", latency_s={LATENCY_S}) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def cpu_seconds() -> float:
    """CPU time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure_throughput(requests: int, folder: Path) -> list[Figure]:
    """`requests` calls, 64 at a time, to a server in another process that answers after 500 ms."""
    from selfinstruct.models.connection import connect
    from selfinstruct.records import Request

    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = server.stdout.readline().strip()
    common = {"max_tokens": 300, "temperature": 0.7, "top_p": 0.5, "stop": ("\n\n",)}
    asked = [
        Request(prompt=f"{'Come up with a series of tasks. ' * 40}{number}", **common) for number in range(requests)
    ]
    with connect("scripted", url, store=folder / "throughput.sqlite", concurrency=IN_FLIGHT) as client:
        client.complete(asked[:1])
        started, cpu = time.perf_counter(), cpu_seconds()
        client.complete(asked[1:])
        wall, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    server.communicate("")
    ideal = (requests - 1) / IN_FLIGHT * LATENCY_S
    what = f"{requests - 1:,} requests, {IN_FLIGHT} in flight, {LATENCY_S * 1e3:.0f} ms each"
    return [
        Figure(f"{what}: of the ideal throughput", ideal / wall * 100, "%", 95, more_is_better=True),
        Figure("the kit's own CPU for each of them", cpu / (requests - 1) * 1e3, "ms", 3),
    ]


def scripted_step_1(seed: int = 1):
    """Completions of two to four instructions with words as frequent as in a text (Zipf), so that some resemble others."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghilmnoprstuvw", k=rng.randint(2, 9))) for _ in range(3000)]
    weights = [1 / rank for rank in range(1, 3001)]

    def ask(body, stopped):
        count = rng.randint(2, 4)
        items = [" ".join(rng.choices(words, weights, k=rng.randint(6, 24))) for _ in range(count)]
        text = " " + "\n".join([items[0], *(f"{number}. {item}" for number, item in enumerate(items[1:], 10))])
        return {
            "choices": [{"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}],
            "created": 1_671_600_000,
        }

    return ask


def step_1(folder: Path, responses: int, ask=None) -> tuple[int, int, float]:
    """Step 1 over the store; (instructions admitted, candidates rejected, seconds). `ask` answers what is not stored."""
    from selfinstruct.models.connection import connect
    from selfinstruct.prompts import request_settings
    from selfinstruct.records import load_seed_tasks
    from selfinstruct.steps.instructions import generate_instructions

    started, admitted, rejected = time.perf_counter(), 0, 0
    with connect("scripted", "http://127.0.0.1:9/v1", store=folder / "replay.sqlite", concurrency=1) as client:
        if ask is not None:
            client.endpoint.ask = ask
        settings = request_settings("instructions", embedded=False)
        rounds = generate_instructions(
            client, load_seed_tasks(), settings, num_instructions_to_generate=10**9, max_rounds=responses // 5
        )
        for round_ in rounds:
            admitted += len(round_.admitted)
            rejected += len(round_.rejected)
    return admitted, rejected, time.perf_counter() - started


def measure_replay(responses: int, folder: Path) -> list[Figure]:
    """`responses` stored responses through step 1: lookup, parsing, filters, ROUGE-L against the growing pool."""
    *_, filling = step_1(folder, responses, scripted_step_1())
    cpu = cpu_seconds()
    admitted, rejected, seconds = step_1(folder, responses)
    return [
        Figure(f"replay of {responses:,} stored responses through step 1", seconds, "s", REPLAY_S * responses / 50_000),
        Figure(f"  CPU of it; {admitted:,} instructions admitted, {rejected:,} not", cpu_seconds() - cpu, "s"),
        Figure("  the same with a model that answers at once, to fill the store", filling, "s"),
    ]


def main() -> None:
    """Both measurements in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3841)
    parser.add_argument("--responses", type=int, default=50_000)
    chosen = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        if chosen.requests > 1:
            figures += measure_throughput(chosen.requests, Path(folder))
        if chosen.responses:
            figures += measure_replay(chosen.responses, Path(folder))
    show_table("client", "a scripted model", figures)


if __name__ == "__main__":
    main()
