"""Before a run: how many calls, tokens and dollars the chosen parameters come to, from the real prompts.

    estimate = estimate_run({"02_generate_instructions": {"num_instructions_to_generate": 10_000}}, model="gpt-4o-mini")
    print(estimate.table())

The parameters are those of the notebooks 02, 03 and 04; whatever is not given has the notebook's default meaning. Prompts are
built by the pipeline itself, seed tasks standing in for the machine-written ones that do not exist yet.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..models.endpoint import is_embedded
from ..models.protocol import CONTINUE_TEXT, approximate_tokens, sends_chat
from ..models.spending import Price, load_price
from ..prompts import load_prompts, request_settings
from ..records import Request, SeedTask
from .classification import build_classification_requests
from .instances import build_instance_requests, choose_tasks
from .instructions import build_round, choose_seed_instructions

STEPS = ("02_generate_instructions", "03_identify_classification", "04_generate_instances")
SAMPLED_PROMPTS = 200  # prompts whose tokens are counted; their mean stands for all

# What the embedded model did: 129 instructions admitted of 40 requests (with 175 seed tasks), completions of 130, 2 and 48-110 tokens
ADMITTED_PER_REQUEST = 3.2
EXPECTED_COMPLETION = {STEPS[0]: 130, STEPS[1]: 2, STEPS[2]: 110}
DEFAULT_INSTRUCTIONS = 60


@dataclass(frozen=True)
class StepEstimate:
    """One step. `most_completion_tokens` is if every completion used its `max_tokens`; costs in dollars, None = price unknown."""

    step: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    most_completion_tokens: int
    cost_usd: float | None
    most_cost_usd: float | None

    def line(self) -> str:
        """A row of the table."""
        dollars = ["-" if cost is None else f"${cost:,.2f}" for cost in (self.cost_usd, self.most_cost_usd)]
        tokens = f"{self.prompt_tokens:>16,}{self.completion_tokens:>20,}"
        return f"{self.step:28}{self.calls:>9,}{tokens}{dollars[0]:>12}{dollars[1]:>12}"


@dataclass(frozen=True)
class Estimate:
    """All steps, how tokens were counted, and the price that was applied."""

    model: str
    steps: tuple[StepEstimate, ...]
    counter: str
    price: Price | None
    admitted_per_request: float = ADMITTED_PER_REQUEST

    @property
    def total(self) -> StepEstimate:
        """The sum of the steps."""
        columns = zip(*(list(vars(step).values())[1:] for step in self.steps), strict=True)
        return StepEstimate("all", *(None if None in column else sum(column) for column in columns))

    def table(self) -> str:
        """The estimate as the terminal and notebooks show it."""
        head = f"{'step':28}{'calls':>9}{'prompt tokens':>16}{'completion tokens':>20}{'dollars':>12}{'at most':>12}"
        return "\n".join([head, *(step.line() for step in (*self.steps, self.total)), "", *self._list_notes()])

    def _list_notes(self) -> list[str]:
        """What the figures rest on."""
        priced = "no price known: give price_table=FILE to see dollars"
        if self.price:
            priced = f"prices of {self.price.as_of or 'no date'}"
        return [
            f"{self.model}: {priced}. Tokens: {self.counter}.",
            f"Assumed: {self.admitted_per_request:g} instructions admitted per request of step 1, and completions as long as the embedded "
            "model's; `at most` is if every completion used its max_tokens.",
        ]


def estimate_run(
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    model: str = "embedded",
    api: str = "completions",
    price_table: str = "",
    admitted_per_request: float = ADMITTED_PER_REQUEST,
) -> Estimate:
    """The estimate for the notebooks named in `parameters` (None = all three steps with their defaults).

    `model`, `api` and `price_table` are overridden by a notebook's own. Raises InputError for a malformed seeds file or price table.
    """
    chosen = {
        step: dict((parameters or {}).get(step, {})) for step in STEPS if parameters is None or step in parameters
    }
    for given in chosen.values():
        model, api = given.get("model", model), given.get("api", api)
        price_table = given.get("price_table", price_table)
    price = load_price(model, price_table)
    counter, count = find_token_counter(model)
    first = (parameters or {}).get(STEPS[0], {})
    instructions = first.get("num_instructions_to_generate", DEFAULT_INSTRUCTIONS)
    seeds = load_prompts(first.get("prompt_source", ""), first.get("seed_tasks_path", "")).seed_tasks
    steps = []
    for step, given in chosen.items():
        calls, requests = _SAMPLERS[step](given, seeds, instructions, is_embedded(model), admitted_per_request)
        steps.append(_estimate_step(step, calls, requests, count, api, price))
    return Estimate(model, tuple(steps), counter, price, admitted_per_request)


def _estimate_step(
    step: str, calls: int, requests: Sequence[Request], count: Callable[[str], int], api: str, price: Price | None
) -> StepEstimate:
    """What `calls` requests come to, from the sample `requests`."""
    if not requests:
        return StepEstimate(step, 0, 0, 0, 0, *([0.0, 0.0] if price else [None, None]))
    extra = count(CONTINUE_TEXT) + 8 if sends_chat(api) else 0  # the system line, and the tokens between messages
    prompt_tokens = round(calls * (extra + sum(count(request.prompt) for request in requests) / len(requests)))
    each = sum(request.max_tokens for request in requests) / len(requests)
    most = round(calls * each)
    expected = round(calls * min(each, EXPECTED_COMPLETION[step]))
    transport = "batch" if api.startswith("batch") else "live"
    costs = [price.cost(prompt_tokens, tokens, transport) if price else None for tokens in (expected, most)]
    return StepEstimate(step, calls, prompt_tokens, expected, most, *costs)


def _build_settings(step: str, given: Mapping[str, Any], embedded: bool) -> dict[str, Any]:
    names = ("max_tokens", "temperature", "top_p", "presence_penalty")
    chosen = {name: given[name] for name in names if name in given} | given.get("sampling", {})
    return request_settings(step, embedded, given.get("quirks", "published"), **chosen)


def _sample_instructions(
    given: Mapping[str, Any], seeds: Sequence[SeedTask], instructions: int, embedded: bool, admitted_per_request: float
) -> tuple[int, list[Request]]:
    only_classification = given.get("use_clf_seed_tasks_only", False)
    texts = choose_seed_instructions(seeds, only_classification)
    per_round = given.get("requests_per_round", 5)
    rounds = math.ceil(instructions / admitted_per_request / per_round)
    rounds = min(rounds, given.get("max_rounds") or rounds)
    sample = build_round(
        random.Random(given.get("random_seed", 42)), texts, texts, _build_settings("instructions", given, embedded),
        requests_per_round=SAMPLED_PROMPTS, num_prompt_instructions=given.get("num_prompt_instructions", 8),
        use_clf_seed_tasks_only=only_classification,
    )  # fmt: skip
    return rounds * per_round, sample


def _sample_classification(
    given: Mapping[str, Any], seeds: Sequence[SeedTask], instructions: int, embedded: bool, _: float
) -> tuple[int, list[Request]]:
    prompts = load_prompts(given.get("prompt_source", ""), embedded=embedded)
    texts = [task.instruction for task in seeds][:SAMPLED_PROMPTS]
    calls = min(instructions, given.get("num_instructions") or instructions)
    calls += min(len(seeds), given.get("check_against_seed_tasks", 0))
    return calls, build_classification_requests(texts, prompts, _build_settings("classification", given, embedded))


def _sample_instances(
    given: Mapping[str, Any], seeds: Sequence[SeedTask], instructions: int, embedded: bool, _: float
) -> tuple[int, list[Request]]:
    prompts = load_prompts(given.get("prompt_source", ""), embedded=embedded)
    labels = {task.instruction: task.is_classification for task in seeds}
    only = {name: given.get(name, False) for name in ("generation_tasks_only", "classification_tasks_only")}
    texts = [task.instruction for task in choose_tasks(seeds, labels, **only)]
    requests = build_instance_requests(
        texts[:SAMPLED_PROMPTS], labels, prompts, _build_settings("instances", given, embedded),
        max_instances_to_generate=given.get("max_instances_to_generate", 5), quirks=given.get("quirks", "published"),
    )  # fmt: skip
    share = len(texts) / len(seeds)
    return round(share * min(instructions, given.get("num_instructions") or instructions)), requests


_SAMPLERS = dict(zip(STEPS, (_sample_instructions, _sample_classification, _sample_instances), strict=True))


def find_token_counter(model: str) -> tuple[str, Callable[[str], int]]:
    """(how tokens are counted, in words; the function): tiktoken where it knows the model and has its tables, else characters / 4."""
    try:
        import tiktoken

        encoding = tiktoken.encoding_for_model(model)
    except ImportError:
        reason = "tiktoken is not installed"
    except KeyError:
        reason = "tiktoken does not know the model"
    except (OSError, ValueError):
        reason = "tiktoken's tables could not be loaded"
    else:
        return f"counted with tiktoken ({encoding.name})", lambda text: len(
            encoding.encode(text, disallowed_special=())
        )
    return f"about 4 characters each, since {reason}", approximate_tokens
