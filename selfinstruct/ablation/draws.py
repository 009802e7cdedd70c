"""What a trial comes to: draws and their verdicts, numbers with intervals over draws, and two trials compared. Not in the paper.

    trial.summary()["accepted_per_request"]             # (2.1, 1.4, 2.8): the mean over draws and its 95 % interval
    compare_trials(trial, other).sentence               # the paired difference over the draws that both have

Draws are independent, so an interval over them holds; it speaks of these draws, not of other runs.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..analysis.agreement import share_interval
from ..analysis.verdicts import find_t_quantile
from ..files import ParameterError
from ..models.spending import Price
from ..records import Completion, Request

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
            value, low, high = measure_mean([draw.value for draw in self.measured])
            found = {name: (value, low and max(low, 0.0), high)}
            found["copied_share"] = self._measure_copied()
        if self.step == "instances":
            parsed = sum(any(one.candidate for one in draw.verdicts) for draw in self.measured)
            found["parse_rate"] = _measure_share(parsed, len(self.measured))
        return found | {"cost_per_accepted_usd": self._measure_cost()}

    def _measure_copied(self) -> Interval:
        """Candidates of one answer are alike, so they are not counted one by one, unless none or all were copied."""
        candidates = [[one for one in draw.verdicts if one.candidate] for draw in self.measured]
        copied = [sum(one.copied for one in found) for found in candidates]
        counts = [len(found) for found in candidates]
        if sum(copied) in (0, sum(counts)):
            return _measure_share(sum(copied), sum(counts))
        share, low, high = measure_ratio(copied, counts)
        return (share, low, high and min(high, 1.0))

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
