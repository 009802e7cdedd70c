"""Before a run: how many calls, tokens and dollars the chosen parameters come to, from the real prompts.

    estimate = estimate_run({"02_generate_instructions": {"num_instructions_to_generate": 10_000}}, model="gpt-4o-mini")
    print(estimate.table())

The parameters are those of the notebooks 02, 03 and 04; whatever is not given has the notebook's default meaning. Prompts are
built by the pipeline itself, seed tasks standing in for the machine-written ones that do not exist yet.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..display import count_of, show_duration, show_number
from ..models.endpoint import is_embedded
from ..models.protocol import CONTINUE_TEXT, approximate_tokens, sends_chat
from ..models.spending import Price, load_price
from ..prompts import PromptSet, load_prompts, request_settings
from ..records import Request, SeedTask
from .classification import build_classification_requests
from .instances import build_instance_requests, choose_tasks
from .instructions import build_round, choose_seed_instructions, list_classification_seeds, settle_rounds

STEPS = ("02_generate_instructions", "03_identify_classification", "04_generate_instances")
SAMPLED_PROMPTS = 200  # prompts whose tokens are counted; their mean stands for all

# Another model gets the long prompts; the embedded model's completions after those had 130, 2 and 48 to 110 tokens.
EXPECTED_COMPLETION = {STEPS[0]: 130, STEPS[1]: 2, STEPS[2]: 110}
DEFAULT_INSTRUCTIONS = 60
# The embedded model with its own prompts and settings, as in outputs/example (a test compares them): 60 instructions of 21
# requests, and the mean completion of each step.
ADMITTED_PER_REQUEST = 2.9
EMBEDDED_COMPLETION = {STEPS[0]: 85, STEPS[1]: 1, STEPS[2]: 65}
# On two quiet cores step 3 of that run took 118 s, for 67 prompts to read and 3,961 tokens to write.
EMBEDDED_TOKENS_PER_SECOND, EMBEDDED_SECONDS_PER_PROMPT = 36, 0.13
EMBEDDED_PROMPT_TOKENS = 250  # of those prompts; longer ones take longer in proportion


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
    """All steps, and the price that was applied."""

    model: str
    steps: tuple[StepEstimate, ...]
    price: Price | None
    admitted_per_request: float
    embedded: bool

    @property
    def total(self) -> StepEstimate:
        """The sum of the steps."""
        columns = zip(*(list(vars(step).values())[1:] for step in self.steps), strict=True)
        return StepEstimate("all", *(None if None in column else sum(column) for column in columns))

    def table(self) -> str:
        """The estimate as the terminal and notebooks show it."""
        head = f"{'step':28}{'calls':>9}{'prompt tokens':>16}{'completion tokens':>20}{'dollars':>12}{'at most':>12}"
        return "\n".join([head, *(step.line() for step in (*self.steps, self.total)), "", *self.list_notes()])

    def list_notes(self) -> list[str]:
        """What the figures rest on."""
        priced = "no price known: give price_table=FILE to see dollars"
        if self.price:
            priced = f"prices of {self.price.as_of or 'no date'}"
        return [
            *self._list_time(),
            f"{self.model}: {priced}. Tokens: about 4 characters each.",
            f"Assumed: {show_number(self.admitted_per_request)} instructions admitted per request of step 1, and completions as long as "
            "the embedded model's; `most` is if every completion used its max_tokens.",
        ]

    def _list_time(self) -> list[str]:
        """How long the embedded model takes; of any other model's speed nothing is known."""
        if not self.embedded:
            return []
        writing = self.total.completion_tokens / EMBEDDED_TOKENS_PER_SECOND
        seconds = writing + self.total.calls * EMBEDDED_SECONDS_PER_PROMPT
        speed = (
            f"{EMBEDDED_TOKENS_PER_SECOND} tokens written a second, {EMBEDDED_SECONDS_PER_PROMPT} s to read each prompt"
        )
        return [f"About {show_duration(seconds)} on two quiet cores: {speed}."]


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
    parameters = {step: {} for step in STEPS} if parameters is None else parameters
    chosen = {step: parameters[step] for step in STEPS if step in parameters}
    base_url = ""
    for given in chosen.values():
        model, api = given.get("model", model), given.get("api", api)
        price_table, base_url = given.get("price_table", price_table), given.get("base_url", base_url)
    price, embedded = load_price(model, price_table, base_url), is_embedded(model, base_url)
    first = parameters.get(STEPS[0], {})
    prompts = load_prompts(first.get("prompt_set", ""), first.get("seed_tasks_path", ""))
    first, seeds = {**settle_rounds(embedded, prompts), **first}, prompts.seed_tasks
    instructions = _count_instructions(first, admitted_per_request)
    expected, steps = EMBEDDED_COMPLETION if embedded else EXPECTED_COMPLETION, []
    for step, given in {**chosen, **({STEPS[0]: first} if STEPS[0] in chosen else {})}.items():
        calls, requests = _sample_requests(step, given, seeds, instructions, embedded, admitted_per_request)
        steps.append(estimate_step(step, calls, requests, prompts.choose_api(api), price, expected[step]))
    return Estimate(model, tuple(steps), price, admitted_per_request, embedded)


def _count_requests(given: Mapping[str, Any], admitted: float) -> int:
    """The requests of step 1, which come in whole rounds."""
    per_round = given["requests_per_round"]
    wanted = given.get("num_instructions_to_generate", DEFAULT_INSTRUCTIONS)
    rounds = math.ceil(wanted / admitted / per_round)
    return min(rounds, given.get("max_rounds") or rounds) * per_round


def _count_instructions(given: Mapping[str, Any], admitted: float) -> int:
    """The instructions that steps 2 and 3 get: all of the last round, which may be more than were wanted, or fewer."""
    return round(_count_requests(given, admitted) * admitted)


def estimate_step(
    step: str, calls: int, requests: Sequence[Request], api: str, price: Price | None, completion: int
) -> StepEstimate:
    """What `calls` requests come to, from the sample `requests`, with `completion` tokens expected of each."""
    if not requests:
        return StepEstimate(step, 0, 0, 0, 0, *([0.0, 0.0] if price else [None, None]))
    # in a chat the system line, and the tokens between messages
    extra = approximate_tokens(CONTINUE_TEXT) + 8 if sends_chat(api) else 0
    mean = sum(approximate_tokens(request.prompt) for request in requests) / len(requests)
    prompt_tokens = round(calls * (extra + mean))
    each = sum(request.max_tokens for request in requests) / len(requests)
    most = round(calls * each)
    expected = round(calls * min(each, completion))
    transport = "batch" if api.startswith("batch") else "live"
    costs = [price.cost(prompt_tokens, tokens, transport) if price else None for tokens in (expected, most)]
    return StepEstimate(step, calls, prompt_tokens, expected, most, *costs)


def _sample_requests(
    step: str, given: Mapping[str, Any], seeds: Sequence[SeedTask], instructions: int, embedded: bool, admitted: float
) -> tuple[int, list[Request]]:
    """(calls of a step, a sample of its requests), seed tasks standing in for `instructions` machine-written ones."""
    quirks = given.get("quirks", "published")
    names = ("max_tokens", "temperature", "top_p", "presence_penalty", "max_instances_to_generate")
    chosen = {name: given[name] for name in names if name in given} | given.get("sampling", {})
    prompts = load_prompts(given.get("prompt_set", ""), embedded=embedded and step != STEPS[0])
    settings = request_settings(step.split("_")[-1], embedded, quirks, prompts=prompts, **chosen)
    if step == STEPS[0]:
        return _count_requests(given, admitted), _sample_round(given, seeds, settings, prompts)
    texts = [task.instruction for task in seeds]
    tasks = min(instructions, given.get("num_instructions") or instructions)
    if step == STEPS[1]:
        tasks += min(len(seeds), given.get("check_against_seed_tasks", 0))
        return tasks, build_classification_requests(texts[:SAMPLED_PROMPTS], prompts, settings)
    labels = {task.instruction: task.is_classification for task in seeds}
    only = {name: given.get(name, False) for name in ("generation_tasks_only", "classification_tasks_only")}
    texts = [task.instruction for task in choose_tasks(seeds, labels, **only)]
    requests = build_instance_requests(texts[:SAMPLED_PROMPTS], labels, prompts, settings, quirks=quirks)
    return round(tasks * len(texts) / len(seeds)), requests


def _sample_round(
    given: Mapping[str, Any], seeds: Sequence[SeedTask], settings: dict[str, Any], prompts: PromptSet
) -> list[Request]:
    """A sample of step 1's requests."""
    only_classification = given.get("use_clf_seed_tasks_only", False) or prompts.layout.classification_only
    texts = choose_seed_instructions(seeds, only_classification, given.get("quirks", "published"))
    share = given["classification_requests"] / given["requests_per_round"]
    special = list_classification_seeds(seeds)
    return build_round(
        random.Random(given.get("random_seed", 42)), texts, texts, settings, requests_per_round=SAMPLED_PROMPTS,
        num_prompt_instructions=given.get("num_prompt_instructions", -1), use_clf_seed_tasks_only=only_classification,
        num_machine_instructions=given.get("num_machine_instructions", -1), prompts=prompts,
        classification_requests=round(share * SAMPLED_PROMPTS), classification_human=special, classification_machine=special,
    )  # fmt: skip


def estimate_requests(requests: Sequence[Request], model: str, base_url: str = "", price_table: str = "") -> str:
    """What requests that are there already come to, in a line: tokens, and dollars (where a price is known) or minutes.

    Answers at most, since every completion may use its `max_tokens`; what the store knows costs nothing.
    """
    prompt_tokens = sum(approximate_tokens(request.prompt) for request in requests)
    most = sum(request.max_tokens for request in requests)
    line = (
        f"{count_of('request', len(requests))}, about {prompt_tokens:,} prompt tokens and at most {most:,} of answers"
    )
    if is_embedded(model, base_url):
        reading = EMBEDDED_SECONDS_PER_PROMPT * prompt_tokens / EMBEDDED_PROMPT_TOKENS
        return f"{line}; about {show_duration(reading + most / EMBEDDED_TOKENS_PER_SECOND)} on two quiet cores"
    price = load_price(model, price_table, base_url)
    dollars = f"at most ${price.cost(prompt_tokens, most):,.2f}" if price else "no price known (price_table=FILE)"
    return f"{line}; {dollars}; what the store knows costs nothing"
