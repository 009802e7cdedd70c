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
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..analysis.agreement import share_interval
from ..analysis.verdicts import find_t_quantile
from ..files import ParameterError, load_records
from ..models.protocol import approximate_tokens
from ..models.spending import EMBEDDED_PRICE, Price
from ..parsing import parse_is_classification, split_instructions
from ..prompts import PromptSet, load_prompts, request_settings
from ..records import Client, Completion, MachineInstruction, Request, SeedTask
from ..runfolder import INSTRUCTIONS, RunFolder
from ..similarity import InstructionPool
from ..steps.classification import build_answer, build_classification_requests, choose_threshold
from ..steps.export import parse_task
from ..steps.instances import build_instance_requests, build_record
from ..steps.instructions import Round, build_pool, build_round, choose_seed_instructions, judge_round
from ..steps.quality import COPIED, COPIED_THRESHOLD, measure_tasks

STEPS = ("instructions", "classification", "instances")
MEASURES = {  # step -> what its draws are compared by, and in words
    "instructions": ("accepted_per_request", "accepted instructions a request"),
    "classification": ("accuracy", "right answers a task"),
    "instances": ("valid_instances_per_task", "valid instances a task"),
}
Interval = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Verdict:
    """What became of one candidate: `reason` is the rule that dropped it, "" where it was accepted."""

    candidate: str
    reason: str = ""
    nearest: str = ""
    score: float | None = None
    copied: bool = False


@dataclass(frozen=True)
class Draw:
    """One request of a trial. `task` is the seed task of steps 2 and 3; `right` is None but for step 2."""

    number: int
    request: Request
    completion: Completion
    verdicts: tuple[Verdict, ...] = ()
    task: str = ""
    really: bool | None = None
    right: bool | None = None

    @property
    def accepted(self) -> int:
        """Candidates that no rule dropped."""
        return sum(not verdict.reason for verdict in self.verdicts)

    @property
    def value(self) -> float:
        """What draws are compared by: candidates accepted, or in step 2 a right answer."""
        return float(self.accepted if self.right is None else self.right)


@dataclass(frozen=True)
class TrialEstimate:
    """What a trial will ask before it asks: `new` of its requests are not in the store; dollars None where no price is known."""

    requests: int
    new: int
    prompt_tokens: int
    most_completion_tokens: int
    most_cost_usd: float | None

    def __str__(self) -> str:
        if not self.new:
            return f"{self.requests} requests, all of them in the store: no model is called"
        cost = "no price known" if self.most_cost_usd is None else f"at most ${self.most_cost_usd:,.4f}"
        tokens = f"about {self.prompt_tokens:,} prompt tokens and at most {self.most_completion_tokens:,} to write"
        return f"{self.new} of {self.requests} requests are new: {tokens}, {cost}"


@dataclass
class Trial:
    """All draws of a trial so far, and what they come to."""

    name: str
    sha256: str
    step: str
    random_seed: int
    price: Price | None = None
    draws: list[Draw] = field(default_factory=list)

    @property
    def measured(self) -> list[Draw]:
        """The draws that a model answered."""
        return [draw for draw in self.draws if draw.completion.error is None]

    @property
    def verdicts(self) -> list[Verdict]:
        """Every candidate, in order."""
        return [verdict for draw in self.draws for verdict in draw.verdicts]

    @property
    def costs(self) -> list[float | None]:
        """Dollars of each measured draw, as if it were asked now; None where no price is known."""
        counts = [(draw.completion.prompt_tokens, draw.completion.completion_tokens) for draw in self.measured]
        return [self.price.cost(*count) if self.price else None for count in counts]

    def count_reasons(self) -> dict[str, int]:
        """reason -> candidates it dropped, most frequent first."""
        return dict(Counter(one.reason for one in self.verdicts if one.reason).most_common())

    def count_answers(self) -> Counter[tuple[bool, bool]]:
        """The confusion of step 2: (is really a classification task, was called one) -> tasks."""
        return Counter((draw.really, draw.really == draw.right) for draw in self.measured if draw.right is not None)

    def summary(self) -> dict[str, Interval]:
        """number -> (value, low, high): the ends of its 95 % interval over draws, None where there is too little to tell."""
        name, _ = MEASURES[self.step]
        if self.step == "classification":
            right = sum(bool(draw.right) for draw in self.measured)
            found = {name: _measure_share(right, len(self.measured))}
        else:
            found = {name: measure_mean([draw.value for draw in self.measured])}
            candidates = [one for one in self.verdicts if one.candidate]
            found["copied_share"] = _measure_share(sum(one.copied for one in candidates), len(candidates))
        if self.step == "instances":
            parsed = sum(any(one.candidate for one in draw.verdicts) for draw in self.measured)
            found["parse_rate"] = _measure_share(parsed, len(self.measured))
        return found | {"cost_per_accepted_usd": self._measure_cost()}

    def _measure_cost(self) -> Interval:
        if None in self.costs or not self.costs:
            return (None, None, None)
        return measure_ratio([cost or 0.0 for cost in self.costs], [draw.value for draw in self.measured])


@dataclass(frozen=True)
class Comparison:
    """The paired difference B minus A over the draws that both have, with its 95 % interval."""

    a: Trial
    b: Trial
    difference: float | None
    low: float | None
    high: float | None
    draws: int

    @property
    def sentence(self) -> str:
        """What was seen on these draws, and no more: another random seed draws other seed tasks."""
        what = MEASURES[self.a.step][1]
        if self.difference is None or self.low is None or self.high is None:
            return f"{self.draws} shared draws are too few to tell anything about {what}."
        size = f"{abs(self.difference):.2f} {'more' if self.difference >= 0 else 'fewer'} {what}"
        return (
            f"On the same {self.draws} draws (random seed {self.a.random_seed}) B, {self.b.name}, brought {size} than A, {self.a.name}; "
            f"paired over draws, 95 % interval [{self.low:.2f}, {self.high:.2f}]. This is about these draws, not about other runs: "
            "a sweep over random seeds can tell."
        )


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


# intervals over draws


def measure_mean(values: Sequence[float]) -> Interval:
    """(mean, low, high): Student's t interval at 95 %; the ends are None for fewer than two values.

    >>> [round(end, 2) for end in measure_mean([1, 2, 3])]
    [2.0, -0.48, 4.48]
    """
    if len(values) < 2:
        return (values[0] if values else None, None, None)
    mean = statistics.fmean(values)
    half = find_t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return (mean, mean - half, mean + half)


def measure_ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """(sum of above / sum of below, low, high), the interval of a ratio estimator over pairs; None where nothing stands below."""
    if not sum(below):
        return (None, None, None)
    ratio = sum(above) / sum(below)
    if len(above) < 2:
        return (ratio, None, None)
    rests = [one - ratio * other for one, other in zip(above, below, strict=True)]
    half = find_t_quantile(len(rests) - 1) * statistics.stdev(rests) / math.sqrt(len(rests)) / statistics.fmean(below)
    return (ratio, max(ratio - half, 0.0), ratio + half)


def _measure_share(yes: int, count: int) -> Interval:
    ends = share_interval(yes, count)
    return (yes / count, *ends) if ends else (None, None, None)


def compare_trials(a: Trial, b: Trial) -> Comparison:
    """B minus A, draw by draw. Raises ParameterError where they are not of one step and random seed."""
    if (a.step, a.random_seed) != (b.step, b.random_seed):
        what = f"step {a.step}, random_seed {a.random_seed} and step {b.step}, random_seed {b.random_seed}"
        raise ParameterError(
            f"A and B are trials of {what}: run both with the same ones, so that they have the same draws"
        )
    values = [{draw.number: (draw.task, draw.value) for draw in trial.measured} for trial in (a, b)]
    shared = [number for number in values[0] if number in values[1] and values[0][number][0] == values[1][number][0]]
    differences = [values[1][number][1] - values[0][number][1] for number in shared]
    return Comparison(a, b, *measure_mean(differences), len(shared))
