"""What the embedded model makes of the method's steps 1 to 3 under several settings, in one table.

    python -m bench.bench_embedded                                  # every setting, 9 or 10 requests of step 1 each, about 20 minutes
    python -m bench.bench_embedded --only default --random-seeds 42 1 2 3 4 5 --instructions 60
    python -m bench.bench_embedded --threshold                      # step 2 on the seed tasks: the threshold of its margins

Answers are drawn anew each time and few: a share may be off by 15 points, and a busy machine divides tokens a second by four.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.table import MACHINE, OUTPUT
from selfinstruct.prompts import PAPER_REQUESTS, PromptSet, load_prompts, request_settings
from selfinstruct.records import ClassificationAnswer, MachineInstances, MachineInstruction
from selfinstruct.steps.instructions import EMBEDDED_ROUNDS, PAPER_ROUNDS

REQUESTS = 9  # of step 1 at the least, in whole rounds
PAPER_STEP_1 = {name: PAPER_REQUESTS["instructions"][name] for name in ("top_p", "presence_penalty", "stop")}


@dataclass(frozen=True)
class Setting:
    """What is tried: the prompt set, what differs from the embedded requests by step, and how the server runs."""

    name: str
    prompts: str = "short"
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    slots: int = 1
    flash_attention: bool = False
    threads: int = 0  # 0: as the kit chooses
    rounds: dict[str, Any] = field(default_factory=dict)  # what differs from EMBEDDED_ROUNDS


def _step_1(name: str, **changes: Any) -> Setting:
    return Setting(name, requests={"instructions": changes})


SETTINGS = (
    Setting("default"),
    Setting("rounds as released: 5 plain requests, no first words dropped", rounds=PAPER_ROUNDS),
    Setting("no requests for classification tasks", rounds={"classification_requests": 0}),
    Setting("no first words dropped", rounds={"blocked_starts": []}),
    Setting("2 of 5 requests for classification tasks", rounds={"requests_per_round": 5, "classification_requests": 2}),
    _step_1("step 1 as in the paper", **PAPER_STEP_1),
    _step_1("step 1: presence penalty 1", presence_penalty=1.0),
    Setting("steps 2 and 3: our full prompts", prompts="ours"),
    Setting("step 3: no frequency penalty", requests={"instances": {"frequency_penalty": 0.0}}),
    Setting("4 slots, flash attention", slots=4, flash_attention=True),
    Setting("1 thread", threads=1),
)


@dataclass
class Outcome:
    """What the three steps made, the label of each instruction, and what it cost."""

    requests: int
    instructions: list[MachineInstruction]
    answers: list[ClassificationAnswer]
    labels: dict[str, bool]
    instances: list[MachineInstances]
    tokens: int
    seconds: float


# running the steps


@contextlib.contextmanager
def open_client(setting: Setting) -> Iterator[Any]:
    """A client of a server of its own, with an empty store: every answer is asked."""
    import xllamacpp

    from selfinstruct.models import embedded
    from selfinstruct.models.connection import connect

    params = embedded.build_params(embedded.find_weights(), setting.slots)
    if setting.flash_attention:
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    if setting.threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = setting.threads
    server = xllamacpp.Server(params)
    url = f"{server.listening_address}/v1"
    with (
        tempfile.TemporaryDirectory() as folder,
        connect("bench", url, store=Path(folder) / "store.sqlite", concurrency=4) as client,
    ):
        yield client


def run_steps(
    client: Any, setting: Setting, random_seed: int, instructions: int, max_rounds: int = 0
) -> Outcome:  # fmt: skip
    """Steps 1 to 3 as the notebooks run them."""
    from selfinstruct.steps import classification, generate_instances, generate_instructions

    def settle(step: str) -> dict[str, Any]:
        return {**request_settings(step, embedded=True), **setting.requests.get(step, {})}

    prompts, shape = load_prompts(setting.prompts), {**EMBEDDED_ROUNDS, **setting.rounds}
    before, started = client.usage.completion_tokens, time.perf_counter()
    rounds = list(
        generate_instructions(
            client, prompts.seed_tasks, settle("instructions"), random_seed=random_seed,
            num_instructions_to_generate=instructions, max_rounds=max_rounds, **shape,
        )
    )  # fmt: skip
    records = [record for one in rounds for record in one.admitted]
    texts = [record.instruction for record in records]
    threshold = classification.choose_threshold("embedded", prompts)
    answers = classification.identify_classification(client, texts, prompts, settle("classification"), threshold)
    labels = classification.parse_labels(answers)
    instances = generate_instances(client, records, labels, prompts, settle("instances"))
    seconds = time.perf_counter() - started
    tokens = client.usage.completion_tokens - before
    return Outcome(sum(len(one.requests) for one in rounds), records, answers, labels, instances, tokens, seconds)


# what came of it


def measure(outcome: Outcome, prompts: PromptSet) -> dict[str, float]:
    """The row of the table."""
    from selfinstruct.analysis.verbs import find_verb_noun, load_parser, parse_texts
    from selfinstruct.steps import parse_task

    texts = [record.instruction for record in outcome.instructions]
    tasks = [parse_task(one, outcome.labels[one.instruction]) for one in outcome.instances]
    kept = [task for task in tasks if task.kept]
    classes = [task for task in tasks if task.is_classification]
    found = [find_verb_noun(sentence) for sentence in parse_texts(texts, load_parser())]
    total, faults = count_faults(outcome, prompts)
    return {
        "tokens/s": outcome.tokens / outcome.seconds, "seconds": outcome.seconds, "requests": outcome.requests,
        "admitted": len(texts), "admitted/request": len(texts) / outcome.requests,
        "verb + noun %": share(one.noun is not None for one in found),
        "instance %": share(bool(task.kept) for task in tasks), "with instance": len(kept),
        "input %": share(bool(one.input) for task in kept for one in task.kept),
        "copied %": 100 * faults["copied_from_prompt"] / max(total, 1), "copied short": faults["short_copy"],
        "classification": len(classes), "of these with instance": sum(bool(task.kept) for task in classes),
        "with two labels": sum(len({one.output.casefold() for one in task.kept}) > 1 for task in classes),
    }  # fmt: skip


def share(values: Iterable[bool]) -> float:
    """The share of true values in percent, 0 where there are none."""
    return 100 * mean([*values] or [0])


def count_faults(outcome: Outcome, prompts: PromptSet) -> tuple[int, Counter[str]]:
    """(instances before any filter, how many of them have each fault), against all that stood in their prompts."""
    from selfinstruct.parsing import parse_instances
    from selfinstruct.steps.quality import list_prompt_texts, measure_quality

    demonstrations = list_prompt_texts(prompts)
    lists = {one.instruction: one.metadata["prompt"].split("\n")[1:-1] for one in outcome.instructions}
    total, faults = 0, Counter()
    for record in outcome.instances:
        text = record.instruction
        shown = [line.partition(". ")[2] for line in lists[text]]
        pairs = [(text, one) for one in parse_instances(record.raw_instances, text, outcome.labels[text], None)]
        found = measure_quality(pairs, demonstrations + shown)
        total += len(found)
        faults.update(fault for one in found for fault in one.faults)
    return total, faults


# step 2: the threshold


def measure_threshold(client: Any, prompts: PromptSet) -> dict[str, float]:
    """How well the margin tells the seed tasks' labels apart, with the best threshold and with one left out at a time."""
    from selfinstruct.steps.classification import identify_classification

    tasks = [task for task in prompts.seed_tasks if f"Task: {task.instruction}\n" not in prompts.classification]
    texts = [task.instruction for task in tasks]
    answers = identify_classification(client, texts, prompts, request_settings("classification", True), threshold=0.0)
    scored = [(answer.margin, task.is_classification) for answer, task in zip(answers, tasks, strict=True)]
    accuracy, threshold = find_threshold(scored)
    left_out = [
        (margin - find_threshold(scored[:i] + scored[i + 1 :])[1], label) for i, (margin, label) in enumerate(scored)
    ]
    return {
        "classification tasks": sum(label for _, label in scored), "others": sum(not label for _, label in scored),
        "area under the curve": mean((a > b) + 0.5 * (a == b) for a, yes in scored if yes for b, no in scored if not no),
        "threshold": threshold, "balanced accuracy with it": accuracy,
        "balanced accuracy, one left out": balance(left_out, 0.0), "balanced accuracy of the bare answer": balance(scored, 0.0),
    }  # fmt: skip


def balance(scored: Sequence[tuple[float, bool]], threshold: float) -> float:
    """The mean of the shares of both kinds that are labelled rightly."""
    return mean(
        mean((margin > threshold) == kind for margin, label in scored if label is kind) for kind in (True, False)
    )


def find_threshold(scored: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """(balanced accuracy, threshold) of the best cut between two margins."""
    margins = sorted({margin for margin, _ in scored})
    return max((balance(scored, cut), cut) for cut in ((a + b) / 2 for a, b in pairwise(margins)))


# the table


def show_rows(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows of figures as a Markdown table, and keep them as outputs/bench/embedded.json."""
    for row in ([*rows[0]], ["---"] * len(rows[0]), *(row.values() for row in rows)):
        print("| " + " | ".join(f"{one:.3g}" if isinstance(one, float) else str(one) for one in row) + " |")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "embedded.json").write_text(json.dumps({"machine": MACHINE, "rows": rows}, indent=1) + "\n")


def main() -> None:
    """Every setting with every random seed, one server each; or the threshold of step 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[one.name for one in SETTINGS], help="names of settings")
    parser.add_argument("--random-seeds", type=int, nargs="*", default=[42])
    parser.add_argument("--instructions", type=int, default=0, help="admit so many, in place of 10 requests")
    parser.add_argument("--threshold", action="store_true")
    chosen = parser.parse_args()
    rows = [_try_threshold()] if chosen.threshold else []
    for setting in () if chosen.threshold else (one for one in SETTINGS if one.name in chosen.only):
        rows += [_try_setting(setting, random_seed, chosen.instructions) for random_seed in chosen.random_seeds]
    show_rows(rows)


def _try_threshold() -> dict[str, Any]:
    with open_client(Setting("threshold")) as client:
        return {"setting": "step 2 on the seed tasks", **measure_threshold(client, load_prompts("short"))}


def _try_setting(setting: Setting, random_seed: int, instructions: int) -> dict[str, Any]:
    with open_client(setting) as client:
        rounds = 0 if instructions else math.ceil(REQUESTS / setting.rounds[0])
        outcome = run_steps(client, setting, random_seed, instructions or 10**6, rounds)
    row = measure(outcome, load_prompts(setting.prompts))
    return {"setting": setting.name, "random seed": random_seed, **row}


if __name__ == "__main__":
    main()
