"""Each prompt set of seeds/prompts/ end to end on the embedded model: two rounds of step 1, then steps 2 to 4 on three instructions.

    python -m bench.bench_prompt_sets                   # all, a few minutes on two idle processors
    python -m bench.bench_prompt_sets alpaca magpie     # the table of seeds/prompts/README.md is made of these lines

No target: a set may admit nothing on a model of this size, and then the line says so.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from selfinstruct.models import connect
from selfinstruct.prompts import PromptSet, list_prompt_sets, load_prompts, request_settings
from selfinstruct.steps import (
    Round,
    generate_instances,
    generate_instructions,
    identify_classification,
    parse_labels,
    parse_task,
)

STORE = Path(__file__).resolve().parent.parent / "outputs/bench/prompt_sets.sqlite"
ROUNDS, FOLLOWED = 2, 3


def measure(name: str) -> dict[str, Any]:
    """What two rounds of a set bring, and how many of the first instructions get an instance that step 4 keeps."""
    prompts, quirks = load_prompts(name), "fixed" if name == "german" else "published"
    with connect(store=STORE, api=prompts.choose_api("completions"), step=f"bench {name}") as client:
        settings = request_settings("instructions", True, quirks, prompts=prompts)
        asked = {"num_instructions_to_generate": 1000, "max_rounds": ROUNDS, "quirks": quirks, "prompts": prompts}
        rounds = list(generate_instructions(client, prompts.seed_tasks, settings, **asked))
        kept = follow(client, rounds, prompts, quirks)
    admitted, requests = sum(len(one.admitted) for one in rounds), sum(len(one.requests) for one in rounds)
    reasons = Counter(row.reason for one in rounds for row in one.rejected)
    first = [row.instruction for one in rounds for row in one.admitted][:FOLLOWED]
    return {
        "set": name, "requests": requests, "admitted": admitted, "a request": round(admitted / requests, 2),
        "dropped": dict(reasons.most_common()), "with an instance": f"{sum(map(bool, kept))} of {len(kept)}", "such as": first,
    }  # fmt: skip


def follow(client: Any, rounds: list[Round], prompts: PromptSet, quirks: str) -> list[int]:
    """Steps 2 to 4 on the first instructions: how many instances of each are kept."""
    records = [row for one in rounds for row in one.admitted][:FOLLOWED]
    texts = [row.instruction for row in records]
    answers = identify_classification(client, texts, prompts, request_settings("classification", True, prompts=prompts))
    labels = parse_labels(answers)
    made = generate_instances(client, records, labels, prompts, request_settings("instances", True, prompts=prompts))
    return [len(parse_task(one, labels[one.instruction], quirks).kept) for one in made]


if __name__ == "__main__":
    for chosen in sys.argv[1:] or list_prompt_sets():
        print(json.dumps(measure(chosen), ensure_ascii=False), flush=True)
