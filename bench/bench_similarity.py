"""The novelty filter beside rouge_score: same process, same texts, CPU seconds.

    python -m bench.bench_similarity [--quick]

rouge_score would need a day for the largest rows, so its cost there is one pair's, measured on a sample of the very
pairs, times their number: those figures are marked "extrapolated". `--quick` leaves out the two long comparisons of
answers (a million pairs and the released loop on 3,000 instructions, some four minutes).
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import psutil
from rouge_score.rouge_scorer import RougeScorer

from selfinstruct.similarity.pool import InstructionPool, best_matches, nearest_neighbours

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared/bench/instructions_52k.jsonl.gz"
OUTPUT = ROOT / "outputs/bench"
SIZE, POOLS, BATCH, SAMPLE = 52_002, (1_000, 10_000, 52_000), 40, 20_000
SCORER = RougeScorer(["rougeL"], use_stemmer=False)
START = """
import time
start = time.process_time()
from selfinstruct.similarity import InstructionPool, best_matches
texts = [" ".join(map(str, range(size))) for size in (5, 6, 7, 20, 21, 22, 40, 41, 42, 70)]
pool = InstructionPool(texts)
pool.admit(texts, threshold=1.0), pool.nearest(texts[0]), pool.max_score(texts[0]), best_matches(texts, pool)
print(time.process_time() - start)
"""


def load_texts() -> tuple[list[str], str]:
    """The real instructions in random order, or made-up ones of the same length, and what they are."""
    rng = random.Random(0)
    if REAL.exists():
        with gzip.open(REAL, "rt") as lines:
            texts = [json.loads(line)["instruction"] for line in lines]
        return rng.sample(texts, len(texts)), f"{len(texts):,} real instructions"
    words = [f"w{i}" for i in range(14_000)]
    odds = 1 / np.arange(1, len(words) + 1)
    drawn = iter(rng.choices(words, odds, k=25 * SIZE))
    texts = [" ".join(next(drawn) for _ in range(rng.randint(4, 18))) for _ in range(SIZE)]
    return texts, f"{SIZE:,} GENERATED texts (the real ones are not beside this checkout)"


def cpu_seconds(action) -> tuple[float, object]:
    start = time.process_time()
    answer = action()
    return time.process_time() - start, answer


def oracle(a: str, b: str) -> float:
    return SCORER.score(a, b)["rougeL"].fmeasure


def measure_start() -> dict:
    """CPU seconds from nothing to the first answers on every path, with no cache and with a filled one."""
    with tempfile.TemporaryDirectory() as folder:
        command, env = [sys.executable, "-c", START], {**os.environ, "NUMBA_CACHE_DIR": folder}
        runs = [
            subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=ROOT) for _ in range(2)
        ]
    return {"compiling": float(runs[0].stdout), "cached": float(runs[1].stdout)}


def rouge_pair_seconds(queries: list[str], pool: list[str], rng: random.Random) -> float:
    """CPU seconds of rouge_score per pair, over a sample of the pairs the filter has to score."""
    pairs = [(rng.choice(queries), rng.choice(pool)) for _ in range(SAMPLE)]
    return cpu_seconds(lambda: [oracle(a, b) for a, b in pairs])[0] / SAMPLE


def measure_pool(texts: list[str], size: int) -> list[dict]:
    """One row per way of asking, against a pool of about `size` (it grows by what is admitted)."""
    size = min(size, len(texts) - 2)
    count = 640 if size < len(texts) / 2 else 320
    candidates = texts[-count:]
    pool = InstructionPool(texts[: min(size, len(texts) - count)])
    pair = rouge_pair_seconds(candidates, pool.texts, random.Random(1))
    half = count // 2
    ways = {
        "full record, batches of 40": (lambda c: in_batches(pool.admit, c), candidates[:half]),
        "full record, one at a time": (lambda c: [pool.admit([text]) for text in c], candidates[half:]),
        "decision only, batches of 40": (lambda c: in_batches(lambda b: best_matches(b, pool), c), candidates),
        "decision only, one at a time": (lambda c: [pool.max_score(text) for text in c], candidates[:half]),
    }
    rows = []
    for name, (ask, given) in ways.items():
        before = len(pool)
        seconds = cpu_seconds(lambda ask=ask, given=given: ask(given))[0]
        average = (before + len(pool)) / 2
        rows.append(
            comparison(f"pool {size:,}: {name}", seconds, len(given) * average, pair) | {"candidates": len(given)}
        )
    return rows


def in_batches(ask, texts: list[str]) -> list:
    return [ask(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]


def comparison(name: str, seconds: float, pairs: float, pair_seconds: float) -> dict:
    return {
        "what": name,
        "cpu_seconds": seconds,
        "pairs": pairs,
        "million_pairs_per_cpu_second": pairs / seconds / 1e6,
        "rouge_score_cpu_seconds_extrapolated": pairs * pair_seconds,
        "rouge_score_microseconds_per_pair": pair_seconds * 1e6,
        "ratio": pairs * pair_seconds / seconds,
    }


def measure_whole(texts: list[str]) -> list[dict]:
    """The three jobs over everything: the greedy stream, best match with 175 seed tasks, all pairs."""
    pool, pair = InstructionPool(), rouge_pair_seconds(texts, texts, random.Random(2))
    count = len(texts)
    stream = cpu_seconds(lambda: in_batches(pool.admit, texts))[0]
    decided = InstructionPool()
    decisions = cpu_seconds(lambda: decided.accept(texts))[0]
    seeds = cpu_seconds(lambda: best_matches(texts, texts[:175]))[0]
    pairs = cpu_seconds(lambda: nearest_neighbours(texts))[0]
    grown = count * len(pool) / 2
    return [
        comparison(f"greedy stream, full record, {len(pool):,} of {count:,} kept", stream, grown, pair),
        comparison(f"greedy stream, decisions only, {len(decided):,} kept", decisions, grown, pair),
        comparison(f"best match of {count:,} with 175", seeds, count * 175, pair),
        comparison(f"all pairs of {count:,}, nearest other", pairs, count * (count - 1), pair),
    ]


def measure_memory(texts: list[str], size: int = 1_000_000) -> dict:
    """Bytes per instruction of a pool of a million, from the growth of the process; and a batch against it."""
    process = psutil.Process()
    before = process.memory_info().rss
    seconds, pool = cpu_seconds(
        lambda: InstructionPool(f"{texts[i % len(texts)]} {i // len(texts)}" for i in range(size))
    )
    grown = process.memory_info().rss - before
    documents = pool._documents
    packed = sum(a.itemsize * len(a) for a in (documents.tokens, documents.starts, documents.classes))
    batch = cpu_seconds(lambda: pool.admit(texts[:BATCH], threshold=1.0))[0]
    return {
        "instructions": size,
        "bytes_per_instruction_with_text": grown / size,
        "bytes_per_instruction_token_ids": packed / size,
        "microseconds_per_add": seconds / size * 1e6,
        "ms_per_candidate_full_record_batches_of_40": batch / BATCH * 1e3,
    }


def compare_answers(texts: list[str]) -> dict:
    """Differences from rouge_score: 1,000 x 1,000 random pairs, every text's nearest other, the released loop on 3,000."""
    queries, pool = texts[:1_000], InstructionPool(texts[1_000:2_000])
    different = sum(
        score != oracle(query, text)
        for query in queries
        for text, score in zip(pool.texts, pool.scores(query).tolist(), strict=True)
    )
    nearest = nearest_neighbours(texts)
    near = sum(oracle(texts[i], texts[j]) != nearest.scores[i].item() for i, j in enumerate(nearest.positions.tolist()))
    some, kept = texts[:3_000], []
    for text in some:
        if max((oracle(text, other) for other in kept), default=0.0) <= 0.7:
            kept.append(text)
    ours = InstructionPool()
    ours.admit(some)
    return {
        "random_pairs": len(queries) * len(pool),
        "random_pairs_that_differ": different,
        "nearest_pairs": len(texts),
        "nearest_pairs_that_differ": near,
        "released_loop_instructions": len(some),
        "released_loop_kept": len(kept),
        "released_loop_same_set": kept == ours.texts,
    }


def as_text(result: dict) -> str:
    head = f"{'':58} {'CPU s':>8} {'M pairs/CPU s':>14} {'ms each':>9} {'rouge_score CPU s*':>19} {'ratio':>8}"
    lines = [f"{result['texts']}; {result['machine']}", "", head]
    for row in result["rows"]:
        each = f"{row['cpu_seconds'] / row['candidates'] * 1e3:.3f}" if "candidates" in row else ""
        figures = f"{row['cpu_seconds']:8.3f} {row['million_pairs_per_cpu_second']:14.1f} {each:>9}"
        lines.append(
            f"{row['what']:58} {figures} {row['rouge_score_cpu_seconds_extrapolated']:19,.0f} {row['ratio']:8,.0f}"
        )
    lines += [
        f"* extrapolated: rouge_score's CPU time per pair on {SAMPLE:,} sampled pairs, times the number of pairs",
        "",
    ]
    for part in ("start_cpu_seconds", "memory", "answers"):
        lines += [f"{part}: " + ", ".join(f"{name} {value:,.6g}" for name, value in result.get(part, {}).items())]
    return "\n".join(lines) + "\n"


@click.command(help=__doc__.split("\n")[0])
@click.option("--quick", is_flag=True, help="leave out the two long comparisons of answers")
def main(quick: bool) -> None:
    texts, label = load_texts()
    click.echo(f"{label}: a minute of timing" + ("" if quick else ", then some minutes of comparing answers"), err=True)
    started = measure_start()
    nearest_neighbours(texts[:100]), InstructionPool(texts[:100]).admit(texts[:100])  # loads the compiled code
    result = {
        "texts": label,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "start_cpu_seconds": started,
        "rows": [row for size in POOLS for row in measure_pool(texts, size)] + measure_whole(texts),
        "memory": measure_memory(texts),
    }
    if not quick:
        result["answers"] = compare_answers(texts)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "similarity.json").write_text(json.dumps(result, indent=1) + "\n")
    (OUTPUT / "similarity.txt").write_text(as_text(result))
    click.echo(as_text(result))


if __name__ == "__main__":
    main()
