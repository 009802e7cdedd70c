"""Several data sets reviewed as one: the three questions of Table 2, without knowing which set an item is from.

items, key = draw_mixed(datasets, size=50)
review = BlindReview(items, run.path, rater="ann")
summarise_mixed(review.answers, key)              # shares by set
compare_sets(review.answers, key)                 # and their differences
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ..analysis.agreement import adjust_holm, fisher_p
from ..analysis.compare import Sample, compare_samples
from ..data.datasets import Dataset, load_datasets
from ..files import InputError, write_records
from ..records import Record
from ..runfolder import RunFolder
from .items import PAPER, Answer, Review, ReviewItem, draw_sample, keep_sample, summarise_review

SAMPLE, KEY = "review/blind_sample.jsonl", "review/blind_key.jsonl"


class SetRow(Record):
    """Which data set an item is from; an instance that two sets hold is one item with two rows."""

    id: str
    data_set: str


class BlindReview(Review):
    """A review whose answers lie apart from those of notebook 14, which knows where an item is from."""

    stem = "review/blind_answers"


def draw_mixed(
    datasets: Sequence[Dataset], size: int = 50, random_seed: int = 42
) -> tuple[list[ReviewItem], list[SetRow]]:
    """`size` instructions of each data set with one instance each, shuffled together; and which set each is from.

    Raises InputError for a data set without outputs.
    """
    samples = {one.name: draw_sample(one, size, random_seed) for one in datasets}
    key = [SetRow(id=item.id, data_set=name) for name, items in samples.items() for item in items]
    # what a set says of its labels could tell it from another
    items = {item.id: item.model_copy(update={"is_classification": None}) for one in samples.values() for item in one}
    return random.Random(random_seed).sample(list(items.values()), len(items)), key


def open_blind(
    run: RunFolder, data_sets: str, size: int = 50, random_seed: int = 42, rater: str = "me"
) -> tuple[BlindReview | None, list[SetRow]]:
    """The mixed sample of the named data sets with this rater's answers so far, and which set each item is from.

    Sample and key are written to the run folder at the first call. (None, []) where none is named; raises InputError for one that
    cannot be read.
    """
    if not data_sets.strip():
        return None, []
    datasets, problems = load_datasets(data_sets, run)
    if len(datasets) < 2:
        raise InputError(
            f'data_sets="{data_sets}": two or more, please, to review them mixed' + "; ".join(["", *problems])
        )
    items, key = draw_mixed(datasets, size, random_seed)
    keep_sample(run / SAMPLE, items)
    write_records(run / KEY, key)
    return BlindReview(items, run.path, rater), key


def split_answers(answers: Mapping[str, Answer], key: Sequence[SetRow]) -> dict[str, dict[str, Answer]]:
    """data set -> id -> answer."""
    found: dict[str, dict[str, Answer]] = {row.data_set: {} for row in key}
    for row in key:
        if row.id in answers:
            found[row.data_set][row.id] = answers[row.id]
    return found


def summarise_mixed(answers: Mapping[str, Answer], key: Sequence[SetRow]) -> dict[str, dict[str, dict[str, Any]]]:
    """data set -> question -> yes, answered, share and its 95 % interval."""
    return {name: summarise_review(given) for name, given in split_answers(answers, key).items()}


def compare_sets(answers: Mapping[str, Answer], key: Sequence[SetRow]) -> list[dict[str, Any]]:
    """Each data set against the first, by question: the difference of the shares of yes, its 95 % interval, Fisher's exact p, and
    that p adjusted by Holm for all rows of this table. Questions that one of the two has no answer to are left out.
    """
    sets = {name: _collect_samples(given) for name, given in split_answers(answers, key).items()}
    records = []
    for row in compare_samples(sets) if len(sets) > 1 else []:
        values = [list(sets[row[side]][row["number"]].values) for side in ("data_set", "against")]
        picked = {name: row[name] for name in ("data_set", "against", "difference")}
        records.append(
            {"question": row["number"], **picked, "interval": (row["low"], row["high"]), "p": fisher_p(*values)}
        )
    adjusted = adjust_holm([record["p"] for record in records])
    return [{**record, "p_holm": p} for record, p in zip(records, adjusted, strict=True)]


def _collect_samples(answers: Mapping[str, Answer]) -> dict[str, Sample]:
    """The answers by question, with the item that each belongs to; a question without answers is not among them."""
    samples = {}
    for question in PAPER:
        given = {key: value for key, answer in answers.items() if (value := getattr(answer, question)) is not None}
        if given:
            samples[question] = Sample(list(given.values()), list(given))
    return samples
