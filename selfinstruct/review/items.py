"""The quality review of Table 2 (paper section 3.3): 200 random instructions, three yes-or-no questions each.

    items = draw_sample(load_dataset("outputs/run"), size=200, random_seed=42)
    review = Review(items, run.path, rater="ann")            # answers in review/answers_ann.jsonl of the run folder
    review.answer(items[0].id, valid_task=True)              # saved at once
    summarise_review(review.answers)["valid_task"]["share"]

`form` is the form for a notebook, `sheet` the same as a spreadsheet, `model` a model as rater; `ratings` and `blind` are two
more kinds of review, of responses of models and of several data sets mixed.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ..analysis.agreement import cohen_kappa, kappa_interval, share_interval
from ..data.datasets import Dataset
from ..data.formats import Row
from ..files import InputError, ParameterError, append_record, load_records, show_path, write_records
from ..paper_numbers import paper_number
from ..records import Record
from .questions import QUALITY, QUESTIONS, QuestionSet

T = TypeVar("T", bound="Identified")
PAPER = {name: paper_number(f"table2.{name}").value / 100 for name in (*QUESTIONS, "all_fields_valid")}


class Identified(Record):
    """Something under review; `id` is a hash of its texts, so that answers find it wherever it stands."""

    id: str


class ReviewItem(Identified):
    """One instance under review."""

    instruction: str
    input: str
    output: str
    is_classification: bool | None = None


class Judgement(Record):
    """What a rater says of one item; None is a question still open."""

    asked: ClassVar[QuestionSet]
    id: str
    rater: str
    notes: str = ""

    @property
    def given(self) -> list[Any]:
        return [getattr(self, name) for name in self.asked.names]

    @property
    def is_complete(self) -> bool:
        return None not in self.given


class Answer(Judgement):
    """A rater's answers to the three questions of Table 2."""

    asked = QUALITY
    valid_task: bool | None = None
    input_appropriate: bool | None = None
    output_correct: bool | None = None

    @property
    def all_fields_valid(self) -> bool | None:
        """Table 2's last row: yes to all three; None while a question is open.

        One no would decide it early, one yes would not: to count half-answered items by it would draw the share towards 0.
        """
        return all(self.given) if self.is_complete else None


def draw_sample(dataset: Dataset, size: int = 200, random_seed: int = 42, stratified: bool = False) -> list[ReviewItem]:
    """`size` random instructions with one random instance each, in random order; all of them where there are fewer.

    `stratified` keeps the data's share of classification tasks. Raises InputError where the rows have no outputs or
    (stratified) no labels.
    """
    tasks: dict[str, list[Row]] = {}
    for row in dataset.rows:
        if row.output is not None:
            tasks.setdefault(row.instruction, []).append(row)
    if not tasks:
        raise InputError(f"{dataset.source}: no outputs in it; a review needs instances, not only instructions")
    if stratified and any(rows[0].is_classification is None for rows in tasks.values()):
        raise InputError(f"{dataset.source}: no classification labels in it; draw the sample with stratified off")
    rng, size = random.Random(random_seed), min(size, len(tasks))
    chosen = _draw_stratified(tasks, size, rng) if stratified else rng.sample(list(tasks), size)
    return [_build_item(rng.choice(tasks[text])) for text in chosen]


def _draw_stratified(tasks: dict[str, list[Row]], size: int, rng: random.Random) -> list[str]:
    kinds: dict[bool | None, list[str]] = {True: [], False: []}
    for text, rows in tasks.items():
        kinds[rows[0].is_classification].append(text)
    classification = round(size * len(kinds[True]) / len(tasks))
    chosen = rng.sample(kinds[True], classification) + rng.sample(kinds[False], size - classification)
    rng.shuffle(chosen)
    return chosen


def _build_item(row: Row) -> ReviewItem:
    texts = {"instruction": row.instruction, "input": row.input or "", "output": row.output or ""}
    return ReviewItem(id=hash_texts(*texts.values()), **texts, is_classification=row.is_classification)


def hash_texts(*texts: str) -> str:
    """Twelve hex digits of the texts, in their order."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def keep_sample(path: str | Path, drawn: Sequence[T]) -> list[T]:
    """`drawn`, written to `path` at the first call: every rater judges the same items in the same order.

    Raises ParameterError where an earlier call drew others, since the answers to those would be lost from sight.
    """
    path = Path(path)
    if not path.is_file():
        write_records(path, drawn)
    elif [item.id for item in load_records(path, Identified)] != [item.id for item in drawn]:
        raise ParameterError(
            f"{show_path(path)} was drawn from other data or with other parameters; go back to those, or delete that file "
            "to draw anew (answers to items that are drawn again are kept)"
        )
    return list(drawn)


def answers_path(folder: str | Path, rater: str, stem: str = "review/answers") -> Path:
    """Where the answers of `rater` lie in the run folder; raises ParameterError for a name that no file can have."""
    if not re.fullmatch(r"[\w.@ -]{1,60}", rater):
        raise ParameterError(f"rater={rater!r}: a name of letters, digits, spaces and . _ - @, please")
    return Path(folder) / f"{stem}_{rater}.jsonl"


class Review:
    """The items of a sample and the answers of one rater, each answer on disk before `answer` returns.

    A kind of review of its own says what its answers are (`record`) and where they lie (`stem`, before the rater's name).
    """

    record: ClassVar[type[Judgement]] = Answer
    stem: ClassVar[str] = "review/answers"

    def __init__(self, items: Sequence[Any], folder: str | Path, rater: str) -> None:
        """Take up the answers in the run folder `folder` where there are some.

        Raises InputError for a sample without items, ParameterError for a rater whose name no file can have.
        """
        self.folder, self.rater = Path(folder), rater
        self.path = answers_path(folder, rater, self.stem)
        if not items:
            raise InputError(f"{show_path(self.path)}: nothing to review, the sample is empty")
        self.items, known = list(items), load_answers(self.path, self.record)
        # the file may hold answers to another sample, too
        self.answers = {item.id: known[item.id] for item in items if item.id in known}
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def of(self, item_id: str) -> Any:
        """The answer to an item so far, all open where there is none."""
        return self.answers.get(item_id) or self.record(id=item_id, rater=self.rater)

    def answer(self, item_id: str, **given: Any) -> Any:
        """Change some fields of the answer to an item, and save it."""
        answer = self.of(item_id).model_copy(update=given)
        append_record(self.path, answer)
        self.answers[item_id] = answer
        return answer

    @property
    def complete(self) -> int:
        """How many items have all their answers."""
        return sum(self.of(item.id).is_complete for item in self.items)

    def first_open(self) -> int:
        """The position of the first item with a question open; the last item where there is none."""
        positions = (index for index, item in enumerate(self.items) if not self.of(item.id).is_complete)
        return next(positions, len(self.items) - 1)


def load_answers(path: str | Path, record: type[Any] = Answer) -> dict[str, Any]:
    """id -> the newest answer in `path`, {} where there is none; a last line that a crash cut short is left out."""
    answers = load_records(path, record, unfinished=True) if Path(path).is_file() else []
    return {answer.id: answer for answer in answers}


def collect_judgements(answers: dict[str, Answer], question: str) -> list[bool]:
    """The answers given to one question, or to all fields together."""
    return [value for answer in answers.values() if (value := getattr(answer, question)) is not None]


def summarise_review(answers: dict[str, Answer]) -> dict[str, dict[str, Any]]:
    """By question, and for all fields together: yes, answered, share and its 95 % interval (None without answers).

    A question counts wherever it is answered, all fields together where all three are.
    """
    summary = {}
    for question in PAPER:
        given = collect_judgements(answers, question)
        yes, count = sum(given), len(given)
        summary[question] = {
            "yes": yes, "answered": count, "share": measure_share(given), "interval": share_interval(yes, count),
        }  # fmt: skip
    return summary


def measure_share(answers: Sequence[bool]) -> float | None:
    """The share of yes; None without answers."""
    return sum(answers) / len(answers) if answers else None


def pair_judgements(first: dict[str, Answer], second: dict[str, Answer], question: str) -> list[tuple[bool, bool]]:
    """The answers of two raters to one question, for each item that both answered."""
    pairs = [(getattr(first[key], question), getattr(second[key], question)) for key in first if key in second]
    return [pair for pair in pairs if None not in pair]


def measure_agreement(first: dict[str, Answer], second: dict[str, Answer]) -> dict[str, dict[str, Any]]:
    """By question, over the items that both answered: how many, the share of equal answers, kappa and its 95 % interval."""
    agreement = {}
    for question in PAPER:
        pairs = pair_judgements(first, second, question)
        a, b = [one for one, _ in pairs], [other for _, other in pairs]
        agreement[question] = {
            "both": len(pairs), "equal": measure_share([one == other for one, other in pairs]),
            "kappa": cohen_kappa(a, b), "interval": kappa_interval(a, b),
        }  # fmt: skip
    return agreement
