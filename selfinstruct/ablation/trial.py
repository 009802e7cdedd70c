"""A trial: one prompt set, one step, some draws, and all that becomes of the answers. No widgets; not in the paper.

    trial = run_trial(client, "seeds-only", "instructions", n_draws=20, random_seed=42)
    trial.summary()["accepted_per_request"]             # (2.1, 1.4, 2.8): the mean over draws and its 95 % interval
    compare_trials(trial, run_trial(client, "ours", "instructions", 20, 42)).sentence

A draw is one request. In step 1 it draws its own in-context instructions, in steps 2 and 3 a labelled seed task that no
demonstration shows. Draws do not know of one another: each is judged against the same pool, so an interval over draws holds.
Equal arguments ask equal requests, and the store answers them; equal prompts of one trial differ in their sample index.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import ParameterError, load_records
from ..models.protocol import approximate_tokens
from ..models.spending import EMBEDDED_PRICE, Price
from ..parsing import parse_is_classification, split_instructions
from ..prompts import STEPS, PromptSet, load_prompts, request_settings
from ..records import Client, Completion, MachineInstruction, Request, SeedTask
from ..runfolder import INSTRUCTIONS, RunFolder
from ..similarity import InstructionPool
from ..steps.classification import build_answer, build_classification_requests, choose_threshold
from ..steps.export import parse_task
from ..steps.instances import build_instance_requests, build_record
from ..steps.instructions import Round, build_pool, build_round, choose_seed_instructions, judge_round
from ..steps.quality import COPIED, COPIED_THRESHOLD, measure_tasks
from .draws import Draw, Trial, TrialEstimate, Verdict


def run_trial(
    client: Client,
    prompt_set: str | Path | PromptSet = "",
    step: str = "instructions",
    n_draws: int = 20,
    random_seed: int = 42,
    *,
    machine: Sequence[str] = (),
    quirks: str = "published",
    rouge_threshold: float = 0.7,
    one_prompt: bool = False,
    price: Price | None = None,
    before: Callable[[TrialEstimate], None] = lambda estimate: None,
    on_draws: Callable[[Trial], None] | None = None,
    **chosen: Any,
) -> Trial:
    """Ask `n_draws` requests of one step and judge what comes back.

    `machine` are machine-written instructions that step 1 may show; `one_prompt` asks one and the same prompt so many times;
    `chosen` are sampling parameters. `before` gets the estimate and may raise; `on_draws` gets the trial after every few answers.
    Steps 2 and 3 have no more draws than there are seed tasks for. Raises ParameterError for an unknown step.
    """
    if step not in STEPS:
        raise ParameterError(f"step={step!r}: choose one of {', '.join(STEPS)}")
    plan = plan_trial(client, prompt_set, step, n_draws, random_seed, machine, quirks, one_prompt, **chosen)
    price = EMBEDDED_PRICE if price is None and is_embedded_client(client) else price
    estimate = estimate_trial(client, plan.requests, price)
    before(estimate)
    judge = _JUDGES[step](plan, quirks, rouge_threshold)
    trial = Trial(plan.prompts.name, plan.prompts.sha256, step, random_seed, price)
    at_once = getattr(client, "concurrency", 4) if on_draws and estimate.new else n_draws  # nobody waits for the store
    for start, stop in _split(len(plan.requests), at_once):
        requests = plan.requests[start:stop]
        for index, completion in enumerate(client.complete(requests), start):
            trial.draws.append(judge(index, plan.requests[index], completion))
        if on_draws:
            on_draws(trial)
    return trial


def _split(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size, count)) for start in range(0, count, max(size, 1)))


@dataclass(frozen=True)
class Plan:
    """The requests of a trial, and what they are judged against."""

    prompts: PromptSet
    requests: list[Request]
    tasks: list[SeedTask]
    known: list[str]
    embedded: bool


def plan_trial(
    client: Client,
    prompt_set: str | Path | PromptSet,
    step: str,
    n_draws: int,
    random_seed: int,
    machine: Sequence[str] = (),
    quirks: str = "published",
    one_prompt: bool = False,
    **chosen: Any,
) -> Plan:
    """The requests that `run_trial` would send; nothing is asked."""
    embedded = is_embedded_client(client)
    prompts = prompt_set
    if not isinstance(prompts, PromptSet):
        prompts = load_prompts(prompts, embedded=embedded and step != "instructions")
    settings = request_settings(step, embedded, quirks, prompts=prompts, **chosen)
    human = choose_seed_instructions(prompts.seed_tasks, prompts.layout.classification_only, quirks)
    if step == "instructions":
        asked: Counter[str] = Counter()
        seeds = [f"{random_seed}/{0 if one_prompt else number}" for number in range(n_draws)]
        common = {"requests_per_round": 1, "prompts": prompts, "asked": asked}
        requests = [build_round(random.Random(seed), human, machine, settings, **common)[0] for seed in seeds]
        return Plan(prompts, requests, [], [*human, *machine], embedded)
    tasks = _draw_tasks(prompts, step, n_draws, random_seed)
    texts = [task.instruction for task in tasks]
    labels = {task.instruction: task.is_classification for task in tasks}
    if step == "classification":
        requests = build_classification_requests(texts, prompts, settings)
    else:
        requests = build_instance_requests(texts, labels, prompts, settings, quirks=quirks)
    return Plan(prompts, requests, tasks, human, embedded)


def load_machine_instructions(run_dir: str | Path) -> list[str]:
    """The instructions that a run wrote, which step 1 may show as machine-written; [] for "". Raises InputError if it has none."""
    if not run_dir:
        return []
    return [one.instruction for one in load_records(RunFolder(run_dir).require(INSTRUCTIONS), MachineInstruction)]


def is_embedded_client(client: Client) -> bool:
    """True if the client asks the embedded model."""
    return bool(getattr(getattr(client, "endpoint", None), "embedded", False))


def _draw_tasks(prompts: PromptSet, step: str, count: int, random_seed: int) -> list[SeedTask]:
    """Labelled seed tasks that no demonstration of the step shows; for step 2 as many of either kind."""
    words = prompts.layout.words
    shown = prompts.classification if step == "classification" else prompts.input_first + prompts.output_first
    unseen = [task for task in prompts.seed_tasks if f"{words.task}: {task.instruction}\n" not in shown]
    rng = random.Random(random_seed)
    if step == "instances":
        return rng.sample(unseen, min(count, len(unseen)))
    kinds = [[task for task in unseen if task.is_classification is kind] for kind in (True, False)]
    half = min(math.ceil(count / 2), *map(len, kinds))
    pairs = zip(*(rng.sample(tasks, half) for tasks in kinds), strict=True)
    return [task for pair in pairs for task in pair][:count]


def estimate_trial(client: Client, requests: Sequence[Request], price: Price | None) -> TrialEstimate:
    """What these requests may come to, those aside that the store has; all count as new for a client without a store."""
    find_missing = getattr(client, "find_missing", None)
    new = find_missing(requests) if find_missing else list(requests)
    prompt = sum(approximate_tokens(request.system + request.prompt) for request in new)
    most = sum(request.max_tokens for request in new)
    return TrialEstimate(len(requests), len(new), prompt, most, price.cost(prompt, most) if price else None)


# what becomes of one answer


def _judge_instructions(plan: Plan, quirks: str, threshold: float) -> Callable[..., Draw]:
    known = build_pool(plan.known, quirks)

    def judge(number: int, request: Request, completion: Completion) -> Draw:
        round_ = Round(number, [request], [completion])
        judge_round(round_, known.copy(), threshold, quirks, None, plan.prompts.parser)
        shown = build_pool([text for text in plan.known if _is_shown(text, request.prompt)], quirks)
        verdicts = [_describe_admitted(one, shown) for one in round_.admitted]
        verdicts += [
            Verdict(one.candidate, one.reason, one.nearest or "", one.score, _is_copied(one.candidate, shown))
            for one in round_.rejected
        ]
        order = split_instructions(completion.text, quirks, plan.prompts.parser)
        place = {text: index for index, text in reversed([*enumerate(order)])}
        return Draw(number, request, completion, tuple(sorted(verdicts, key=lambda one: place.get(one.candidate, 0))))

    return judge


def _is_shown(text: str, prompt: str) -> bool:
    return " ".join(text.split()).rstrip(":") in prompt


def _describe_admitted(record: MachineInstruction, shown: InstructionPool) -> Verdict:
    nearest, score = next(iter(record.most_similar.items()), ("", None))
    return Verdict(record.instruction, "", nearest, score, _is_copied(record.instruction, shown))


def _is_copied(text: str, shown: InstructionPool) -> bool:
    return bool(text) and len(shown) > 0 and shown.max_score(text) > COPIED_THRESHOLD


def _judge_classification(plan: Plan, quirks: str, threshold: float) -> Callable[..., Draw]:
    margin = choose_threshold("embedded" if plan.embedded else "", plan.prompts)

    def judge(number: int, request: Request, completion: Completion) -> Draw:
        task = plan.tasks[number]
        answer = build_answer(task.instruction, completion, margin, plan.prompts).is_classification
        right = parse_is_classification(answer, quirks) == task.is_classification
        verdict = Verdict(answer.strip() or completion.text, "" if right else "wrong")
        return Draw(number, request, completion, (verdict,), task.instruction, task.is_classification, right)

    return judge


def _judge_instances(plan: Plan, quirks: str, threshold: float) -> Callable[..., Draw]:
    def judge(number: int, request: Request, completion: Completion) -> Draw:
        task = plan.tasks[number]
        start = plan.prompts.answer_start(task.is_classification)
        record = build_record(
            MachineInstruction(instruction=task.instruction), request, completion, plan.prompts, start
        )
        parsed = parse_task(record, task.is_classification, quirks)
        found = measure_tasks([parsed], plan.prompts)
        copied = {repr(one): COPIED in quality.faults for one, quality in zip(parsed.candidates, found, strict=True)}
        verdicts = [
            Verdict(f"Input: {one.input}\nOutput: {one.output}", copied=copied.get(repr(one), False))
            for one in parsed.kept
        ]
        verdicts += [
            Verdict("" if one.reason.startswith("no_") else one.candidate, one.reason) for one in parsed.rejected
        ]
        return Draw(number, request, completion, tuple(verdicts), task.instruction, task.is_classification)

    return judge


_JUDGES = {
    "instructions": _judge_instructions,
    "classification": _judge_classification,
    "instances": _judge_instances,
}
