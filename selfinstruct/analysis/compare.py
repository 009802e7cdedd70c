"""Several data sets next to one another: by how much their numbers differ, and what only one of them has.

    differences = compare_datasets([mine, theirs])            # records: number, value, reference, difference, low, high
    show(tabulate_differences(differences))
    find_twins([mine, theirs], threshold=0.7)                 # instructions that are nearly the same in both

An interval says how far a difference would move with other rows of the same origin, no more. It speaks of these rows and
not of the next run: that a *model* or a *prompt* does better is to be seen over several runs, with several random seeds.

What is resampled is instructions (in notebook 13 seed tasks, too), each with all its instances: two instances of one
instruction are not two independent rows. Where two data sets share instructions, as the answers of two models to the same
questions do, those are drawn together, so that what is common to both cancels out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from ..data.datasets import Dataset
from ..data.scripts import find_script, note_scripts
from ..display import show_number
from ..similarity import best_matches
from ..similarity.words import split_ascii, split_unicode
from .agreement import share_interval
from .statistics import LONG, PARTS, collect_table_1, find_unit, word_counts
from .verbs import VerbNoun, common_verbs

if TYPE_CHECKING:
    import numpy as np

DRAWS = 10_000
MOST_DRAWN = (
    50_000_000  # units drawn in all: above 5,000 instructions fewer resamples, about 1,000 for the paper's data
)
FEWEST_DRAWS = 500
BLOCK = 4_000_000  # units drawn at a time
HALVES, LARGEST_HALF = 500, 1000  # resamples of a share of different words, and how many texts each takes at most


class Sample(NamedTuple):
    """What one number of a data set is made of: its values, and the unit (an instruction) that each belongs to.

    statistic: "mean" of the values, "distinct" (how many different ones, over all), or a quantile such as 0.5.

    >>> Sample([True, False], ["Go.", "Stay."])
    Sample(values=[True, False], units=['Go.', 'Stay.'], statistic='mean')
    """

    values: Sequence[Any] | np.ndarray
    units: Sequence[str]
    statistic: str | float = "mean"


Samples = Mapping[str, Sample]  # number -> what it is made of


def compare_datasets(
    datasets: Sequence[Dataset], more: Mapping[str, Samples] = {}, draws: int = DRAWS, random_seed: int = 42
) -> list[dict[str, Any]]:
    """The differences of Table 1's numbers, of repetition and of scripts, each data set against the first; see
    `compare_samples`. `more` has further numbers of each data set by its name; [] for a single data set.
    """
    samples = {one.name: {**collect_samples(one), **more.get(one.name, {})} for one in datasets}
    return compare_samples(samples, draws, random_seed)


def compare_lengths(datasets: Sequence[Dataset], draws: int = DRAWS, random_seed: int = 42) -> list[dict[str, Any]]:
    """The differences of the numbers of notebook 12: means, medians, 90th and 99th percentiles, and the shares over 60 words."""
    return compare_samples({one.name: collect_lengths(one) for one in datasets}, draws, random_seed)


def collect_samples(dataset: Dataset) -> dict[str, Sample]:
    """The numbers of notebook 10, but for those that `compare_datasets` is given."""
    rows, texts = [row.instruction for row in dataset.rows], dataset.instructions
    units = {
        "classification_share": texts, "empty_input_share": rows, "mean_instruction_words": texts,
        "mean_input_words": [row.instruction for row in dataset.rows if row.input],
        "mean_output_words": [row.instruction for row in dataset.rows if row.output is not None],
        "instances_per_instruction": texts,
    }  # fmt: skip
    samples = {name: Sample(values, units[name]) for name, values in collect_table_1(dataset).items()}
    times = Counter(rows) if dataset.has_instances else {}
    samples["instances_per_instruction"] = Sample([times[text] for text in texts if times], texts)
    samples["latin_share"] = Sample([find_script(text) == "Latin" for text in texts], texts)
    outputs = [(row.output, row.instruction) for row in dataset.rows if row.output]
    samples["different_outputs_share"] = Sample(*zip(*outputs, strict=True), "distinct") if outputs else Sample([], [])
    alike = [" ".join(split_unicode(text)) for text in texts]
    samples["different_instructions_share"] = Sample(alike, texts, "distinct")
    return {**samples, **{f"distinct_{n}": _collect_grams(texts, n) for n in (1, 2)}}


def _collect_grams(texts: Sequence[str], n: int) -> Sample:
    words = ((text, split_ascii(text)) for text in texts)
    grams = [(gram, text) for text, found in words for gram in zip(*(found[k:] for k in range(n)), strict=False)]
    return Sample([gram for gram, _ in grams], [text for _, text in grams], "distinct")


def collect_lengths(dataset: Dataset) -> dict[str, Sample]:
    """The numbers of notebook 12."""
    units = {
        "instruction": dataset.instructions,
        "input": [row.instruction for row in dataset.rows if row.input],
        "output": [row.instruction for row in dataset.rows if row.output is not None],
    }
    words, samples = word_counts(dataset), {}
    for part in PARTS:
        for name, statistic in (("mean", "mean"), ("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
            samples[f"{name}_{part}_words"] = Sample(words[part], units[part], statistic)
        samples[f"over_{LONG}_{part}_share"] = Sample(words[part] > LONG, units[part])
    return samples


def collect_flags(found: Sequence[Iterable[str]], units: Sequence[str], names: Iterable[str]) -> dict[str, Sample]:
    """A share for each of `names`: how many of the things in `found` have it.

    >>> collect_flags([["refusal"], []], ["Go.", "Stay."], ["refusal"])
    {'refusal_share': Sample(values=[True, False], units=['Go.', 'Stay.'], statistic='mean')}
    """
    sets = [set(one) for one in found]
    return {f"{name}_share": Sample([name in one for one in sets], units) for name in names}


def compare_samples(samples: Mapping[str, Samples], draws: int = DRAWS, random_seed: int = 42) -> list[dict[str, Any]]:
    """The differences of all numbers that a data set and the first one both have, one record each.

    samples: data set -> number -> Sample; all units of a call are of one kind. `low` and `high` are the ends of the middle
    95 % of the resampled differences, `shared` counts the units that both have. A number of different words is compared
    for equally many texts. Equal seeds give equal intervals.

    >>> both = {"a": {"share": Sample([True] * 30 + [False] * 70, range(100))}, "b": {"share": Sample([True] * 80, range(80))}}
    >>> [found] = compare_samples(both, draws=1000)
    >>> found["difference"], found["shared"], found["excludes_zero"]
    (0.7, 80, True)
    """
    import numpy as np

    (reference, base), *others = samples.items()
    records = []
    for name, other in others:
        rng = np.random.default_rng(random_seed)
        pair = {number: (base[number], other[number]) for number in base if number in other}
        pair = {number: two for number, two in pair.items() if all(len(one.values) for one in two)}
        shared = len({*_list_units(base)} & {*_list_units(other)})
        for number, found in _compare_pair(pair, draws, rng).items():
            records.append({"number": number, "data_set": name, "against": reference, **found, "shared": shared})
    return records


def _list_units(samples: Samples) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(sample.units for sample in samples.values())))


def _compare_pair(pair: Mapping[str, tuple[Sample, Sample]], draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """number -> value, reference, difference and the ends of its interval."""
    import numpy as np

    plain = {number: two for number, two in pair.items() if two[0].statistic != "distinct"}
    drawn = _resample_pair(plain, draws, rng)
    found = {}
    for number, (first, second) in pair.items():
        if first.statistic == "distinct":
            reference, value, differences = _halve_pair(first, second, rng)
        else:
            reference, value, differences = _measure(first), _measure(second), drawn[number]
        low, high = _newcombe(first, second) or np.nanquantile(differences, [0.025, 0.975])
        found[number] = {
            "value": round(value, 4), "reference": round(reference, 4), "difference": round(value - reference, 4),
            "low": round(float(low), 4), "high": round(float(high), 4), "excludes_zero": bool(low > 0 or high < 0),
        }  # fmt: skip
    return found


def _measure(sample: Sample) -> float:
    import numpy as np

    values = np.asarray(sample.values)
    return float(values.mean() if sample.statistic == "mean" else np.quantile(values, sample.statistic))


def _newcombe(first: Sample, second: Sample) -> tuple[float, float] | None:
    """Newcombe's interval (1998) for the difference of two shares where one is none or all, and has no spread to draw from."""
    import numpy as np

    values = [np.asarray(one.values) for one in (first, second)]
    if any(one.dtype != bool for one in values) or not any(one.mean() in (0, 1) for one in values):
        return None
    (p, (low, high)), (q, (least, most)) = ((one.mean(), share_interval(int(one.sum()), len(one))) for one in values)
    return q - p - sqrt((q - least) ** 2 + (high - p) ** 2), q - p + sqrt((most - q) ** 2 + (p - low) ** 2)


def _resample_pair(
    pair: Mapping[str, tuple[Sample, Sample]], draws: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """number -> the difference in each resample (draws,)."""
    import numpy as np

    sides = [{number: two[side] for number, two in pair.items()} for side in (0, 1)]
    units = [_list_units(side) for side in sides]
    common = set(units[0]) & set(units[1])
    shared = [unit for unit in units[0] if unit in common]
    own = [[unit for unit in side if unit not in common] for side in units]
    places = [{unit: place for place, unit in enumerate([*shared, *alone])} for alone in own]
    counted = [
        {number: _Resampled(sample, place) for number, sample in side.items()}
        for side, place in zip(sides, places, strict=True)
    ]
    found: dict[str, list[np.ndarray]] = {number: [] for number in pair}
    for both, *alone in draw_times(rng, (len(shared), len(own[0]), len(own[1])), draws):
        times = [np.hstack([both, one]) for one in alone]
        for number in pair:
            first, second = (side[number].measure(one) for side, one in zip(counted, times, strict=True))
            found[number].append(second - first)
    return {number: np.concatenate(parts) for number, parts in found.items()}


def draw_times(rng: np.random.Generator, sizes: Sequence[int], draws: int) -> Iterator[list[np.ndarray]]:
    """Blocks of resamples: how often each unit of each group came, arrays (resamples, size) that sum to the size."""
    import numpy as np

    draws = min(draws, max(FEWEST_DRAWS, MOST_DRAWN // max(sum(sizes), 1)))
    block = max(1, BLOCK // max(sum(sizes), 1))
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        times = []
        for size in sizes:
            cells = rng.integers(0, max(size, 1), (rows, size)) + size * np.arange(rows)[:, None]
            times.append(np.bincount(cells.ravel(), minlength=rows * size).reshape(rows, size).astype(float))
        yield times


class _Resampled:
    """A sample by its units, ready to be measured in many resamples at once."""

    def __init__(self, sample: Sample, places: Mapping[str, int]):
        import numpy as np
        from scipy.sparse import csr_array

        self.statistic = sample.statistic
        at = np.array([places[unit] for unit in sample.units])
        self.levels, level = np.unique(np.asarray(sample.values, dtype=float), return_inverse=True)
        if self.statistic == "mean":  # the sum of a unit's values, and how many they are
            self.sums = np.bincount(at, self.levels[level], minlength=len(places))
            self.counts = np.bincount(at, minlength=len(places)).astype(float)
        else:  # how often it has each value
            shape = (len(self.levels), len(places))
            self.table = csr_array((np.ones(len(at)), (level, at)), shape=shape)

    def measure(self, times: np.ndarray) -> np.ndarray:
        """The statistic in each resample; nan in one that drew no value."""
        import numpy as np

        if self.statistic == "mean":
            counts = times @ self.counts
            return np.divide(times @ self.sums, counts, out=np.full(len(times), np.nan), where=counts > 0)
        below = (self.table @ times.T).T.cumsum(axis=1)
        total = below[:, -1]
        rank = np.maximum(total - 1, 0) * self.statistic
        low, high = (self.levels[(below > edge[:, None]).argmax(axis=1)] for edge in (np.floor(rank), np.ceil(rank)))
        return np.where(total > 0, low + (high - low) * (rank % 1), np.nan)


def _halve_pair(first: Sample, second: Sample, rng: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """The share of different values in equally many units of each (means over resamples), and differences around theirs.

    Drawing a unit twice would repeat its words, so each resample takes m of n units, without repetition. What moves with m
    of n is scaled to what moves with n: by the square root of m / (n - m), which is 1 for halves (the delete-d jackknife).
    """
    sizes = [len(set(one.units)) for one in (first, second)]
    half = max(1, min(*sizes, 2 * LARGEST_HALF) // 2)
    means, moves, random_seed = [], [], int(rng.integers(2**32))
    for sample, size in zip((first, second), sizes, strict=True):
        shares = _draw_distinct(sample, half, random_seed)  # the same units of both where they are the same
        means.append(float(shares.mean()))
        moves.append((shares - shares.mean()) * sqrt(half / max(size - half, 1)))
    return means[0], means[1], means[1] - means[0] + moves[1] - moves[0]


def _draw_distinct(sample: Sample, size: int, random_seed: int) -> np.ndarray:
    import numpy as np

    rng, numbers, units = np.random.default_rng(random_seed), {}, {}
    for value, unit in zip(sample.values, sample.units, strict=True):
        units.setdefault(unit, []).append(numbers.setdefault(value, len(numbers)))
    by_unit, shares = [np.array(found) for found in units.values()], []
    for _ in range(HALVES):
        chosen = rng.choice(len(by_unit), size, replace=False, shuffle=False)
        drawn = np.concatenate([by_unit[place] for place in chosen])
        shares.append(len(np.unique(drawn)) / len(drawn))
    return np.array(shares)


def tabulate_differences(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of `compare_samples` as rows to look at: shares in per cent, the interval as a text."""
    several = len({record["data_set"] for record in records}) > 1
    rows = []
    for record in records:
        unit = find_unit(record["number"])
        value, reference, difference, low, high = (
            show_number(record[name], unit).replace("-0.0%", "0.0%")
            for name in ("value", "reference", "difference", "low", "high")
        )
        points = " pp" if unit else ""  # percentage points
        named = {"data set": record["data_set"]} if several else {}
        ours = "value" if several else record["data_set"]
        rows.append({
            "number": record["number"].replace("_", " "), **named, record["against"]: reference, ours: value,
            "difference": difference.rstrip("%") + points,
            "95 % interval": f"{low.rstrip('%')} to {high.rstrip('%')}{points}",
            "0 outside": "yes" if record["excludes_zero"] else "",
        })  # fmt: skip
    return rows


def find_twins(
    datasets: Sequence[Dataset], threshold: float = 0.7, **reading: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(a record for each two data sets, the twins): instructions whose ROUGE-L with one of the other set is above `threshold`.

    Each instruction of the later data set is looked for in the earlier one. `reading` is how `best_matches` reads words.
    """
    import numpy as np

    records, twins = [], []
    for first, second in combinations(datasets, 2):
        texts, others = second.instructions, first.instructions
        match = best_matches(texts, others, **reading)
        above = np.flatnonzero(match.scores > threshold)
        records.append({
            "data_set": second.name, "against": first.name, "instructions": len(texts), "twins": len(above),
            "share": len(above) / len(texts), "identical": len({*texts} & {*others}),
            "mean_rouge_l": float(match.scores.mean()),
        })  # fmt: skip
        twins += [
            {"ROUGE-L": float(match.scores[i]), second.name: texts[i], first.name: others[match.positions[i]]}
            for i in above[np.argsort(-match.scores[above], kind="stable")]
        ]
    return records, twins


def find_own_verbs(found: Mapping[str, Sequence[VerbNoun]], count: int = 10) -> dict[str, list[str]]:
    """Data set -> its commonest verbs that no other one has, each with its count.

    >>> find_own_verbs({"a": [VerbNoun("write"), VerbNoun("sing")], "b": [VerbNoun("write")]})
    {'a': ['sing 1'], 'b': []}
    """
    verbs = {name: {pair.verb for pair in pairs if pair.verb} for name, pairs in found.items()}
    own = {name: verbs[name].difference(*(verbs[other] for other in verbs if other != name)) for name in verbs}
    return {name: common_verbs([pair for pair in found[name] if pair.verb in own[name]], count) for name in found}


def note_unseen(datasets: Sequence[Dataset], measure: str) -> list[str]:
    """What `measure` ("words", "rouge" or "verbs") cannot see for the script it is in, a line for each part of each data set."""
    parts = PARTS if measure == "words" else PARTS[:1]
    several = len(datasets) > 1
    return [
        f"{one.name}: {line}" if several else line
        for one in datasets
        for line in note_scripts({part: one.parts[part] for part in parts}, measure)
    ]


def label_rows(rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of all data sets as one table, with the data set's name first where there are several.

    >>> label_rows({"a": [{"words": 3}], "b": [{"words": 4}]})
    [{'data set': 'a', 'words': 3}, {'data set': 'b', 'words': 4}]
    """
    named = len(rows) > 1
    return [{**({"data set": name} if named else {}), **row} for name, found in rows.items() for row in found]


def join_headlines(headlines: Mapping[str, str]) -> str:
    """One line for all data sets, each with its name where there are several.

    >>> join_headlines({"a": "3 words"}), join_headlines({"a": "3 words", "b": "4 words"})
    ('3 words', 'a: 3 words; b: 4 words')
    """
    several = len(headlines) > 1
    return "; ".join(f"{name}: {text}" if several else text for name, text in headlines.items())
