"""The paper's statistics of a data set (Table 1, Figures 4 and 5), and those that people look at today.

A word is what stands between white space, as everywhere in the paper. Averages over instructions count each instruction
once, averages over inputs and outputs each instance.

    describe_dataset(load_dataset("seeds/seed_tasks.jsonl"))["instructions"]      # 175
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ..data.datasets import Dataset
from ..data.origin import find_quirks
from ..data.scripts import find_script
from ..display import show_number
from ..paper_numbers import paper_number, paper_numbers
from ..similarity.words import count_words, split_ascii, split_unicode
from .agreement import share_interval

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


PARTS = ("instruction", "input", "output")
LONG = paper_number("fig5.words").value  # words: the right end of the paper's Figure 5
TABLE_1 = {one.id.removeprefix("table1."): one.value for one in paper_numbers() if one.id.startswith("table1.")}
for _share, _part, _whole in (  # derived from what is printed: here with all their digits
    ("classification_share", "classification", "instructions"),
    ("instances_per_instruction", "instances", "instructions"),
    ("empty_input_share", "empty_input", "instances"),
):
    TABLE_1[_share] = TABLE_1[_part] / TABLE_1[_whole]


def word_counts(dataset: Dataset) -> dict[str, np.ndarray]:
    """Words of each instruction (counted once), each input that is not empty, and each output: int arrays by PARTS.

    A run with quirks="fixed" also counts the words of scripts that set no spaces; else a word stands between white space, as
    the paper counts. Raises nothing; a part that the data set does not have is an empty array.
    """
    import numpy as np

    texts = dataset.parts
    quirks = find_quirks(dataset.run) if dataset.run else "published"
    return {part: np.array([count_words(text, quirks) for text in texts[part]], dtype=int) for part in PARTS}


def describe_dataset(dataset: Dataset) -> dict[str, float | None]:
    """Table 1 in the paper's definitions; None where the data set does not say (labels, or anything on instances)."""
    values, count = collect_table_1(dataset), len(dataset.instructions)
    means = {name: float(one.mean()) if one.size else None for name, one in values.items()}
    labels, empty = values["classification_share"], values["empty_input_share"]
    return {
        "instructions": count,
        "classification": int(labels.sum()) if labels.size else None,
        "not_classification": int((~labels).sum()) if labels.size else None,
        "classification_share": means.pop("classification_share"),
        "instances": empty.size or None,
        "instances_per_instruction": means.pop("instances_per_instruction"),
        "empty_input": int(empty.sum()) if empty.size else None,
        **means,
    }


def collect_table_1(dataset: Dataset) -> dict[str, np.ndarray]:
    """The single values that the shares and averages of Table 1 are means of: what a bootstrap draws from."""
    import numpy as np

    lengths = word_counts(dataset)
    labels = {row.instruction: row.is_classification for row in dataset.rows}.values()
    rows = dataset.rows if dataset.has_instances else []
    empty = [not row.input for row in rows]
    return {
        "classification_share": np.array([] if None in labels else list(labels), dtype=bool),
        "instances_per_instruction": np.array([*Counter(row.instruction for row in rows).values()], dtype=int),
        "empty_input_share": np.array(empty, dtype=bool),
        **{f"mean_{part}_words": lengths[part] for part in PARTS},
    }


def _find_owners(dataset: Dataset) -> dict[str, list[str]]:
    """The instruction that each single value belongs to, for the numbers of which an instruction may have several values."""
    inputs = [row.instruction for row in dataset.rows if row.input]
    outputs = [row.instruction for row in dataset.rows if row.output is not None]
    of = {"empty_input_share": [row.instruction for row in dataset.rows], "input": inputs, "output": outputs}
    return {**of, "mean_input_words": inputs, "mean_output_words": outputs}


def summarise_lengths(dataset: Dataset) -> dict[str, dict[str, float]]:
    """By part: how many, mean, median, smallest, largest, 90th and 99th percentile, and the share over 60 words."""
    import numpy as np

    return {
        part: {
            "count": int(words.size), "mean": float(words.mean()), "median": float(np.median(words)),
            "min": int(words.min()), "p90": float(np.quantile(words, 0.9)), "p99": float(np.quantile(words, 0.99)),
            "max": int(words.max()), "over_60": float((words > LONG).mean()),
        }
        for part, words in word_counts(dataset).items() if words.size
    }  # fmt: skip


def summarise_scores(scores: np.ndarray, threshold: float = 0.7) -> dict[str, float]:
    """Of ROUGE-L scores (n,): how many, mean, quartiles, smallest, largest, and the share above `threshold`."""
    import numpy as np

    low, median, high = np.quantile(scores, [0.25, 0.5, 0.75])
    return {
        "count": int(scores.size), "mean": float(scores.mean()), "min": float(scores.min()), "p25": float(low),
        "median": float(median), "p75": float(high), "max": float(scores.max()),
        "share_above": float((scores > threshold).mean()),
    }  # fmt: skip


def count_duplicates(dataset: Dataset) -> dict[str, int]:
    """Rows that say again what an earlier row said.

    `repeated_rows`: all three fields equal; `alike_instructions`: unique instructions that differ from an earlier one
    only in case, punctuation or spacing; `repeated_outputs`: instances whose output stood in an earlier instance.
    """
    rows = [(row.instruction, row.input, row.output) for row in dataset.rows]
    words = [" ".join(split_unicode(text)) for text in dataset.instructions]
    outputs = [row.output for row in dataset.rows if row.output]
    return {
        "repeated_rows": len(rows) - len(set(rows)),
        "alike_instructions": len(words) - len(set(words)),
        "repeated_outputs": len(outputs) - len(set(outputs)),
    }


def measure_distinct(texts: Iterable[str], n: int) -> float | None:
    """Different n-grams over all n-grams (distinct-n, Li et al. 2016); None where no text has n words.

    It falls as a data set grows: compare sets of equal size.
    """
    different: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = split_ascii(text)
        grams = list(zip(*(words[k:] for k in range(n)), strict=False))
        different.update(grams)
        total += len(grams)
    return len(different) / total if total else None


def measure_vocabulary(texts: Sequence[str], sample: int = 1000, random_seed: int = 42) -> dict[str, float | None]:
    """Different words, and distinct-1 and distinct-2 of all texts and of `sample` of them drawn at random.

    The sampled ones compare across sizes; None where there are fewer texts than that.
    """
    import random

    drawn = random.Random(random_seed).sample(list(texts), sample) if len(texts) >= sample else []
    return {
        "vocabulary": len({word for text in texts for word in split_unicode(text)}),
        **{f"distinct_{n}": measure_distinct(texts, n) for n in (1, 2)},
        **{f"distinct_{n}_of_{sample}": measure_distinct(drawn, n) for n in (1, 2)},
    }


def count_scripts(texts: Iterable[str]) -> dict[str, int]:
    """Texts by the script most of their letters are in ("Latin", "Cyrillic", "Cjk", ...), the most frequent first.

    A script is not a language: English and French are both Latin. It does tell Chinese from English, without a model.
    """
    return dict(Counter(map(find_script, texts)).most_common())


def count_languages(texts: Iterable[str]) -> dict[str, int]:
    """Texts by language (ISO 639 code), the most frequent first; "und" (undetermined) where the guess is less than even.

    py3langid guesses from letter sequences: a sentence is enough, three words or a proper name may not be.
    """
    return dict(Counter(_language_identifier().classify(text)[0] for text in texts).most_common())


@cache
def _language_identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=0.5)


def compare_table_1(datasets: Sequence[Dataset]) -> dict[str, dict[str, float | None]]:
    """Table 1 by column: the paper's first, then one for each data set."""
    return {"paper": TABLE_1, **{dataset.name: describe_dataset(dataset) for dataset in datasets}}


def show_table(columns: Mapping[str, Mapping[str, float | None]]) -> pd.DataFrame:
    """Columns of named numbers as a table for reading: one row a name, every number by `show_number`, shares in per cent."""
    import pandas as pd

    shown = {
        title: {name: show_number(value, find_unit(name)) for name, value in column.items()}
        for title, column in columns.items()
    }
    return pd.DataFrame(shown)


def find_unit(name: str) -> str:
    """How a number of this name is read: "%" for a share, "" for any other."""
    return "%" if "share" in name or name.startswith("over_") else ""


def bootstrap_interval(
    values: Sequence[int] | np.ndarray,
    statistic: str = "mean",
    draws: int = 2000,
    random_seed: int = 42,
    of: Sequence[str] | None = None,
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the mean or the median of whole numbers, or of a share (True and False).

    `of` says which instruction each value belongs to. Then instructions are resampled, each with all its values: those of
    one belong together, and as single draws they would make the interval too narrow. A share of none or all has no spread
    to draw from; there it is the Wilson interval. None where there are no values.
    """
    import numpy as np

    values = np.asarray(values)
    if not values.size:
        return None
    owner = np.arange(values.size) if of is None else np.unique(of, return_inverse=True)[1]
    count = int(owner.max()) + 1
    if values.dtype == bool and values.min() == values.max():
        return share_interval(count * int(values[0]), count)
    resample = _resample_means if statistic == "mean" else _resample_medians
    low, high = np.quantile(resample(values, owner, draws, np.random.default_rng(random_seed)), [0.025, 0.975])
    return float(low), float(high)


def _resample_means(values: np.ndarray, owner: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """The mean of each resample. Owners are alike whose values come to the same sum and number, and are drawn as a histogram:
    the same distribution, and 52K values cost no more than 60.
    """
    # scipy.stats.bootstrap draws value by value: for 2,000 draws of 52K values 1.5 s, 200 times as long as this
    import numpy as np

    sums = np.stack([np.bincount(owner, values), np.bincount(owner)], axis=1)
    kinds, times = np.unique(sums, axis=0, return_counts=True)
    drawn = rng.multinomial(times.sum(), times / times.sum(), size=draws)
    return (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])


def _resample_medians(values: np.ndarray, owner: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """The median of each resample, from how often each level came in it."""
    import numpy as np

    levels, place, times = np.unique(values, return_inverse=True, return_counts=True)
    count, medians = int(owner.max()) + 1, np.empty(draws)
    for draw in range(draws):
        if count == values.size:  # one value each: the histogram is enough
            drawn = rng.multinomial(count, times / count)
        else:
            drawn = np.bincount(place, np.bincount(rng.integers(count, size=count), minlength=count)[owner])
        below = drawn.cumsum()
        ranks = (below[-1] - 1) // 2, below[-1] // 2
        medians[draw] = levels[np.searchsorted(below, ranks, side="right")].mean()
    return medians


def measure_intervals(dataset: Dataset, draws: int = 2000, random_seed: int = 42) -> list[dict[str, Any]]:
    """The shares and averages of Table 1, one record each: its interval, the paper's value, and whether that lies inside.

    `n` counts the instructions that have such a value. Numbers that the data set does not have are left out.
    """
    records, owners = [], _find_owners(dataset)
    for number, values in collect_table_1(dataset).items():
        of, paper = owners.get(number), TABLE_1[number]
        if interval := bootstrap_interval(values, draws=draws, random_seed=random_seed, of=of):
            low, high = (round(end, 4) for end in interval)
            records.append({
                "data_set": dataset.name, "number": number, "n": len(set(of)) if of else len(values), "value": round(float(values.mean()), 4),
                "low": low, "high": high, "paper": paper, "covers_paper": low <= paper <= high,
            })  # fmt: skip
    return records


def measure_medians(dataset: Dataset, draws: int = 2000, random_seed: int = 42) -> list[dict[str, Any]]:
    """The median length of each part in words, one record each, with its interval."""
    import numpy as np

    records, owners = [], _find_owners(dataset)
    for part, words in word_counts(dataset).items():
        interval = bootstrap_interval(words, "median", draws=draws, random_seed=random_seed, of=owners.get(part))
        if interval:
            record = {"data_set": dataset.name, "part": part, "n": len(words), "median": float(np.median(words))}
            records.append({**record, "low": interval[0], "high": interval[1]})
    return records
