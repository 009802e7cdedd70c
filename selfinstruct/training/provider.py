"""The provider's backend of notebook 06, in the form of `local`: the same questions, answered of a job at a provider.

    training = plan_provider(run)           # the notebook's parameters decide; nothing is sent
    print(training.estimate())
    records = training.train()

A provider shows no tokens, so words stand for them; it sends no losses that compare with ours, so there is no curve.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import iter_lines
from ..runfolder import RunFolder
from .jobs import ProviderJob, plan_job
from .rows import TokenRow, load_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN = "run_data"  # what a provider is given: the export of the run, as the paper gave it to OpenAI
WORD = re.compile(r"\s*\S+")


def plan_provider(run: RunFolder) -> ProviderTraining:
    """The job of the run folder as the notebook's parameters have it; raises ParameterError where one is missing."""
    given = run.parameters
    return ProviderTraining(plan_job(run, **run.arguments(plan_job)), given["max_cost_usd"], given["job_wait_s"])


class ProviderTraining:
    """One job, planned; `rows` are the words of what is uploaded."""

    def __init__(self, job: ProviderJob, max_cost_usd: float = 0.0, job_wait_s: float = 0.0):
        self.job, self.max_cost_usd, self.job_wait_s = job, max_cost_usd, job_wait_s

    @property
    def planned(self) -> list[ProviderTraining]:
        return [self]

    @cached_property
    def rows(self) -> dict[str, list[TokenRow]]:
        """The column's rows: words, of which those after `prompt_length` carry loss."""
        lines = (line["messages"] for _, line in iter_lines(self.job.path("train")))
        return {COLUMN: [_split_words(*(message["content"] for message in messages)) for messages in lines]}

    def key(self) -> dict[str, str]:
        """Column and training seed, which tables begin with."""
        return {"column": COLUMN, "training seed": str(self.job.settings["random_seed"])}

    def mark_row(self, column: str = COLUMN, length: int = 40) -> list[tuple[str, bool]]:
        """(word, True if it carries loss) of the row whose length is nearest to `length` words."""
        row = min(self.rows[column], key=lambda row: abs(len(row.ids) - length))
        return [(word, place >= row.prompt_length) for place, word in enumerate(row.ids)]

    def read_first(self, files: Mapping[str, Path]) -> list[dict[str, Any]]:
        """How many rows are uploaded, and the first of the run's."""
        prompt, completion = load_pairs(files[COLUMN])[0]
        row = {"column": COLUMN, "rows": len(self.rows[COLUMN])}
        return [{**row, "first prompt": prompt, "its completion": completion}]

    def describe(self) -> list[dict[str, Any]]:
        """How much is trained on, and what has become of the job."""
        words = sum(len(row.ids) for row in self.rows[COLUMN])
        state = f"{self.job.state['job_id']} {self.job.state['status']}".strip()
        row = {"rows": len(self.rows[COLUMN]), "words": words, "epochs": self.job.settings["n_epochs"], "state": state}
        return [{**self.key(), **row}]

    def estimate(self, heldout: Sequence[tuple[str, str]] = ()) -> str:
        """The price in words, and what is known of the service; raises StoppedEarly where the limit leaves no room."""
        return self.job.estimate(self.max_cost_usd)

    def train(
        self, heldout: Sequence[tuple[str, str]] = (), source: Mapping[str, Any] | None = None, merge: bool = False
    ) -> list[dict[str, Any]]:
        """The record of the job, once it has succeeded; see `ProviderJob.work_off`."""
        return [{**self.job.work_off(self.job_wait_s), "source": source}]

    def tabulate(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The tuned model, with what the provider says of its training."""
        names = ("model", "trained_tokens", "estimated_cost_usd", "seconds")
        return [{**self.key(), **{name.replace("_", " "): record[name] for name in names}} for record in records]

    def headline(self, records: Sequence[Mapping[str, Any]]) -> str:
        """What was trained, in a few words."""
        return f"{records[0]['model']}, tuned by its provider"

    def caption(self, source: Mapping[str, Any]) -> str:
        """What the figure is of."""
        return f"Trained on {source['file']}, {source['rows']} rows, by the provider of {self.job.state['model']}."

    def plot_losses(self, axes: Sequence[Axes]) -> None:
        """A word in each panel: a provider's losses are over its own tokens, and on no held-out task of ours."""
        for panel in axes:
            panel.set_axis_off()
            panel.text(0.5, 0.5, "trained by a provider: no losses here", ha="center", va="center")


def _split_words(question: str, answer: str) -> TokenRow:
    before, after = WORD.findall(question), WORD.findall(answer)
    return TokenRow([*before, "\n", *after], len(before) + 1)
