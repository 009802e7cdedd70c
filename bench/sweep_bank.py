"""The bank of runs that the calibration of a sweep's verdict is tested with: `tests/samples/sweep_bank.json`.

    python -m bench.sweep_bank              # about three minutes; the same bytes every time

A run is step 1 as the kit does it (loop, parser, filters, pool) on a scripted model that writes very different amounts, as
models do: some prompts bring more than others, many answers bring nothing, some are cut off. Each random seed has three runs of
the *same* arm: the same first prompts, other samples. With `drift`, a whole run brings more or less than another one, as after
a change of the server. A sweep drawn from the bank compares an arm with itself, so whatever it calls a difference is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from selfinstruct.records import Completion, Request, SeedTask, load_seed_tasks
from selfinstruct.steps.instructions import generate_instructions

BANK = Path(__file__).resolve().parent.parent / "tests/samples/sweep_bank.json"
BANK_SEEDS, DRIFTS = (11, 12, 13), (0.0, 0.3)
RANDOM_SEEDS, DRAWS, ROUNDS = 150, 3, 6
SETTINGS = {"max_tokens": 300, "temperature": 0.7, "top_p": 0.5}
VERBS = "Write Name Explain List Compare Describe Find Sort Count Design Translate Rewrite Suggest Summarise".split()
WORDS = [a + b for a in "ba ke lo mi nu pra ste tro vel zan".split() for b in "der fin gul hop jam kin lem".split()]


class ScriptedModel:
    """Answers decided by the prompt and by `name`, the run's; `drift` is the standard deviation of its log yield."""

    def __init__(self, name: str, drift: float):
        self.name, self.level = name, drift * random.Random(f"level {name}").gauss(0, 1)

    def complete(self, requests: Sequence[Request], desc: str = "") -> list[Completion]:
        """One answer a request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        rng = random.Random(f"{self.name}|{request.sample_index}|{request.prompt}")
        gain = random.Random(hashlib.sha256(request.prompt.encode()).digest()).gauss(0, 0.35)
        mean = max(0.2, 2.6 * math.exp(gain + self.level))
        items = [_write_item(rng) for _ in range(min(8, int(rng.gammavariate(1.2, mean / 1.2) + 0.5)))]
        text = " " + "\n".join(f"{9 + at}. {item}" if at else item for at, item in enumerate(items))
        ended = "length" if rng.random() < 0.12 else "stop"
        return Completion(text=text, finish_reason=ended, created_at="2026-01-01T00:00:00Z", response={"choices": []})


def _write_item(rng: random.Random) -> str:
    if rng.random() < 0.08:
        return "Write a program that adds numbers."  # falls to a rule
    words = (WORDS[min(len(WORDS) - 1, int(rng.expovariate(0.07)))] for _ in range(rng.randint(3, 8)))
    return f"{rng.choice(VERBS)} {' '.join(words)}."


def count_admitted(seed_tasks: Sequence[SeedTask], random_seed: int, name: str, drift: float) -> int:
    """Instructions that one run admits."""
    chosen = {"num_instructions_to_generate": 10**6, "random_seed": random_seed, "max_rounds": ROUNDS}
    rounds = generate_instructions(ScriptedModel(name, drift), seed_tasks, SETTINGS, **chosen)
    return sum(len(one.admitted) for one in rounds)


def build_bank(bank_seed: int, drift: float, random_seeds: int = RANDOM_SEEDS) -> list[list[int]]:
    """Admitted instructions, a row for each random seed with the runs of that seed."""
    seed_tasks = load_seed_tasks()
    return [
        [count_admitted(seed_tasks, 1000 * bank_seed + seed, f"{bank_seed}-{seed}-{k}", drift) for k in range(DRAWS)]
        for seed in range(random_seeds)
    ]


def main() -> None:
    """Write the bank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=BANK)
    out = parser.parse_args().out
    requests = ROUNDS * 5
    banks = [
        {"bank_seed": seed, "drift": drift, "admitted": build_bank(seed, drift)}
        for seed in BANK_SEEDS
        for drift in DRIFTS
    ]
    lines = ",\n".join(json.dumps(bank) for bank in banks)
    out.write_text(f'{{"requests": {requests}, "banks": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(banks)} banks in {out}")


if __name__ == "__main__":
    main()
