"""Quirks that no single text shows, tried out: time, an endless loop, a stop in mid-write, and the order of a set.

Each function does the thing as the released code does and, where there is one, the way the kit does it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from .bootstrap import MACHINE_INSTRUCTIONS_IN_PROMPT, generate_instructions, sample_in_context
from .completion import failed_completion
from .pipeline import choose_tasks, instance_requests
from .prompts import PAPER_REQUESTS, load_templates, request_settings
from .quirks import cut_at_stop, instances_of
from .records import MachineInstances, MachineInstruction, SeedTask, SelfInstructError, dump_line, write_records
from .runfolder import RunFolder

USUAL = 2000  # characters of an instruction; rouge_score's time and memory grow with the square of longer ones


def hours_as_published(texts: Sequence[str], sizes: Sequence[int], seed_tasks: int = 175) -> dict[str, float]:
    """Q7: size of the pool -> hours that rouge_score takes on one core to fill it, from its speed on `texts` here and now."""
    from rouge_score.rouge_scorer import RougeScorer

    usual = [text for text in texts if len(text) <= USUAL] or [text[:USUAL] for text in texts]
    scorer, began = RougeScorer(["rougeL"]), time.perf_counter()
    for text in usual:
        scorer.score(usual[0], text)
    per_pair = (time.perf_counter() - began) / len(usual)
    return {f"{size:,} instructions": size * (size / 2 + seed_tasks) * per_pair / 3600 for size in sizes}


def run_without_answers(seed_tasks: Sequence[SeedTask]) -> str:
    """Q8: what step 1 says after it has asked a model that fails every request."""
    down = SimpleNamespace(complete=lambda requests: [failed_completion("no connection", "")] * len(requests))
    failed = 0
    try:
        shown = min(8, len(seed_tasks))
        settings = request_settings("instructions", False)
        for round_ in generate_instructions(down, seed_tasks, settings, num_prompt_instructions=shown):
            failed += round_.failed
    except SelfInstructError as error:
        return f"after {failed} failed requests: {error}"
    return ""


def prompts_after_restart(human: Sequence[str], machine: Sequence[str], random_seed: int = 42) -> dict[str, list[str]]:
    """Q9: the instructions in the first two prompts of a run, and in the first after a restart as released, from one pool."""
    unbroken, again = random.Random(random_seed), random.Random(random_seed)
    draws = {"first prompt": unbroken, "second prompt": unbroken, "first after a restart": again}
    size = min(8, len(human) + min(MACHINE_INSTRUCTIONS_IN_PROMPT, len(machine)))
    return {name: sample_in_context(rng, human, machine, size) for name, rng in draws.items()}


def rows_left_after_stop(rows: int = 100, written: int = 3) -> dict[str, int]:
    """Q11: how many rows of an earlier run are on disk when its file is being written again and the run is stopped."""
    with tempfile.TemporaryDirectory() as folder:
        emptied, kept = Path(folder, "emptied.jsonl"), Path(folder, "kept.jsonl")
        for path in (emptied, kept):
            write_records(path, [{"row": number} for number in range(rows)])
        again = [{"row": number} for number in range(written)]
        with emptied.open("w") as out:
            out.writelines(dump_line(row) for row in again)
        with contextlib.suppress(KeyboardInterrupt), RunFolder(Path(folder), "").writing("kept.jsonl") as write:
            write(again)
            raise KeyboardInterrupt
        paths = {"as published": emptied, "fixed": kept}
        return {name: len(path.read_text().splitlines()) for name, path in paths.items()}


def step_3_on_unseen(labels: dict[str, bool]) -> dict[str, str]:
    """Q12: what step 3 says to an instruction that step 2 has not labelled, as released and in the kit."""
    unseen, said = MachineInstruction(instruction="Name a bird that step 2 has never seen."), {}
    try:
        said["as published"] = str(labels[unseen.instruction])
    except KeyError as error:
        said["as published"] = f"KeyError: {error}"
    try:
        said["fixed"] = str(choose_tasks([unseen], labels))
    except SelfInstructError as error:
        said["fixed"] = str(error)
    return said


def instances_before_stop(written: int = 12) -> dict[str, int]:
    """Q14: how many of so many class labels, or examples, a completion still has after step 3's stop sequences."""
    request = instance_requests(["A task"], {"A task": True}, load_templates("ours"), PAPER_REQUESTS["instances"])[0]
    texts = {
        True: "".join(f"Class label: {k}\nText: t{k}\n" for k in range(1, written + 1)),
        False: "".join(f"Example {k}\nInput: i{k}\nOutput: o{k}\n" for k in range(1, written + 1)),
    }
    cut = {
        kind: MachineInstances(instruction="A task", raw_instances=cut_at_stop(text, request.stop))
        for kind, text in texts.items()
    }
    return {
        name: len(instances_of(kind, "published")(cut[kind]))
        for name, kind in (("class labels", True), ("examples", False))
    }


def tokens_allowed(instructions: Sequence[str], labels: dict[str, bool], quirks: str) -> dict[str, int]:
    """Q13: instruction -> how many tokens its instances may take with the paper's settings."""
    requests = instance_requests(
        instructions, labels, load_templates("ours"), PAPER_REQUESTS["instances"], quirks=quirks
    )
    return {text: request.max_tokens for text, request in zip(instructions, requests, strict=True)}


def order_in_set(texts: Sequence[str], hash_seed: int) -> list[str]:
    """Q15: the order in which a new Python, started with this PYTHONHASHSEED, goes through the set of `texts`."""
    program = "import json, sys; print(json.dumps(list(set(json.load(sys.stdin)))))"
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    said = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(texts),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(said.stdout)


def sample_from_set(texts: Sequence[str], count: int = 2) -> str:
    """Q16: what `random.sample` says to a set."""
    try:
        return str(random.sample(set(texts), count))  # type: ignore[arg-type]
    except TypeError as error:
        return f"TypeError: {error}"
