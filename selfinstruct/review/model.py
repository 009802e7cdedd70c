"""A model as rater of the quality review: only ever next to a person's answers, and only worth what they make of it.

answers = rate_with_model(client, items)                 # rater "model: NAME"
calibrate(review.answers, answers)                       # how often it agrees with the person, kappa, and more
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..parsing import parse_is_classification
from ..records import Request
from .items import Answer, ReviewItem, collect_judgements, measure_agreement, measure_share, pair_judgements
from .questions import QUESTIONS

if TYPE_CHECKING:
    from ..models.client import ModelClient


PROMPT = (
    "Below is one training example for a language model. Answer the question about it with Yes or No.\n\n"
    "Task: {instruction}\nInput: {input}\nOutput: {output}\n\nQuestion: {question}\nAnswer:"
)
MAX_CHARACTERS = 4000  # of each text: a longer one would push the question out of a small model's sight


def build_rating_requests(items: Sequence[ReviewItem]) -> list[Request]:
    """One request for each item and question, item by item."""
    return [
        Request(prompt=rating_prompt(item, question), max_tokens=3, temperature=0.0, top_p=1.0, stop=("\n",))
        for item in items
        for question in QUESTIONS
    ]


def rating_prompt(item: ReviewItem, question: str) -> str:
    """What the model is asked about one item; an empty input is shown as "(none)"."""
    texts = {name: getattr(item, name)[:MAX_CHARACTERS] for name in ("instruction", "input", "output")}
    return PROMPT.format(**{**texts, "input": texts["input"] or "(none)"}, question=QUESTIONS[question])


def rate_with_model(client: ModelClient, items: Sequence[ReviewItem]) -> dict[str, Answer]:
    """id -> the model's answer; a question is left open where it answers neither yes nor no, or its request failed."""
    completions = iter(client.complete(build_rating_requests(items), desc="review by a model"))
    rater = f"model: {client.describe().get('model', 'unknown')}"
    return {
        item.id: Answer(
            id=item.id, rater=rater, **{question: _parse_yes_no(next(completions).text) for question in QUESTIONS}
        )
        for item in items
    }


def _parse_yes_no(text: str) -> bool | None:
    if parse_is_classification(text, "fixed"):
        return True
    return False if text.strip().lower().lstrip("\"'*( ").startswith("no") else None


def calibrate(person: dict[str, Answer], model: dict[str, Answer]) -> dict[str, dict[str, Any]]:
    """By question: agreement with the person, how often the model says yes where the person does and where not, and the
    model's share of yes corrected for both (Rogan and Gladen 1978).

    The corrected share is None where the model says yes as often to bad items as to good ones: it then knows nothing.
    """
    agreement = measure_agreement(person, model)
    for question, row in agreement.items():
        pairs = pair_judgements(person, model, question)
        row["yes_when_yes"] = measure_share([answer for truth, answer in pairs if truth])
        row["yes_when_no"] = measure_share([answer for truth, answer in pairs if not truth])
        row["model_share"] = measure_share(collect_judgements(model, question))
        row["corrected_share"] = _correct_share(row["model_share"], row["yes_when_yes"], row["yes_when_no"])
    return agreement


def _correct_share(share: float | None, when_yes: float | None, when_no: float | None) -> float | None:
    if share is None or when_yes is None or when_no is None or when_yes <= when_no:
        return None
    return min(1.0, max(0.0, (share - when_no) / (when_yes - when_no)))
