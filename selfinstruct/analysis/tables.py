"""What cells come to as tables: a row for each number of each cell, the means of arms, what differs between them, their funnels.

rows = tabulate_cells(cells, measure_cells(cells))          # arm, random_seed, number, value
write_tables(rows, run)                                     # comparison.csv
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..display import show_number
from ..files import write_text
from ..runfolder import FREE_PARAMETERS, RunFolder
from .cells import STEP_1, STEP_4, TRIAL, Cell, read_parameters
from .statistics import find_unit

if TYPE_CHECKING:
    from .verdicts import Values, Verdict


def tabulate_cells(cells: Sequence[Cell], numbers: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """One tidy table: a row for each number of each cell."""
    return [
        {"arm": cell.arm, "random_seed": cell.random_seed, "number": name, "value": float(value)}
        for cell, found in zip(cells, numbers, strict=True)
        for name, value in found.items()
    ]


def find_differing_parameters(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """A row for each parameter that is not the same in all runs but for the random seed: what each arm has. `–` where an arm has
    none; data of others, which has no parameters at all, does not differ by that.
    """
    arms: dict[str, dict[str, set[str]]] = {}
    for cell in cells:
        found = arms.setdefault(cell.arm, {})
        named = {name: value for given in read_parameters(cell).values() for name, value in given.items()}
        model = cell.run.state.get("model", {}) if cell.run else {}
        named |= {"model": model["model"]} if "model" in model else {}
        for name, value in named.items():
            if name not in {*FREE_PARAMETERS, "random_seed"}:
                found.setdefault(name, set()).add(str(value))
    names = list(dict.fromkeys(name for found in arms.values() for name in found))
    rows = [
        {"parameter": name, **{arm: _join_values(found.get(name, set())) for arm, found in arms.items()}}
        for name in names
    ]
    return [row for row in rows if len({row[arm] for arm, known in arms.items() if known}) > 1]


def _join_values(values: set[str]) -> str:
    return show_number(None) if not values else " / ".join(sorted(values))


def tabulate_means(values: Mapping[str, Values]) -> list[dict[str, Any]]:
    """A row for each number, with the mean of every arm's runs."""
    arms = list(dict.fromkeys(arm for found in values.values() for arm in found))
    return [
        {"number": name.replace("_", " "), **{arm: _show_mean(found.get(arm, {}), name) for arm in arms}}
        for name, found in values.items()
    ]


def _show_mean(found: Mapping[int, float], number: str) -> str:
    return show_number(fmean(found.values()) if found else None, find_unit(number))


def tabulate_verdicts(verdicts: Mapping[str, Sequence[Verdict]]) -> list[dict[str, Any]]:
    """A row for each number, with every arm's difference from the reference and its interval."""
    return [
        {"number": name.replace("_", " "), **{one.arm: one.show_difference() for one in found}}
        for name, found in verdicts.items()
        if found
    ]


def build_funnels(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Funnel beside funnel: what became of the candidates of steps 1 and 4 and of trials, over all runs of an arm, a row for each
    rule.
    """
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for cell in cells:
        if cell.run:
            counts.setdefault(cell.arm, Counter()).update(_count_funnel(cell))
    rows = dict.fromkeys(key for found in counts.values() for key in found)
    order = {"requests": 0, "candidates": 1, "accepted": 3}
    keys = sorted(rows, key=lambda key: (key[0], order.get(key[1], 2)))
    return [
        {"step": step, "": rule.replace("_", " "), **{
            arm: _show_part(found, step, rule) for arm, found in counts.items()
        }}
        for step, rule in keys
    ]  # fmt: skip


def _count_funnel(cell: Cell) -> Counter[tuple[str, str]]:
    first, fourth = (cell.run.results(name) if cell.run else {} for name in (STEP_1, STEP_4))
    found = {"1": {**cell.dropped}, "4": {**fourth.get("rejected", {})}}
    if cell.rounds:
        admitted = sum(one.admitted for one in cell.rounds)
        found["1"] |= {"candidates": sum(one.candidates for one in cell.rounds), "accepted": admitted}
        found["1"] |= {"requests": first["requested"]} if "requested" in first else {}
    if fourth:
        found["4"] |= {name: fourth[name] for name in ("candidates", "accepted")}
    if trial := cell.run.results(TRIAL) if cell.run else {}:
        found["trial"] = {**trial["rejected"], **{name: trial[name] for name in ("requests", "candidates", "accepted")}}
    return Counter({(step, rule): count for step, rules in found.items() for rule, count in rules.items()})


def _show_part(found: Mapping[tuple[str, str], int], step: str, rule: str) -> str:
    count, whole = found[step, rule], found[step, "candidates"]
    share = f" ({count / whole:.1%})" if whole and rule not in ("requests", "candidates") else ""
    return f"{count:,}{share}"


def write_tables(rows: Sequence[Mapping[str, Any]], run: RunFolder) -> list[str]:
    """Write the tidy table as `comparison.csv`, and as `comparison.parquet` where pyarrow is installed; returns their names."""
    lines = io.StringIO()
    writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(run / "comparison.csv", lines.getvalue())
    try:
        from pyarrow import Table, parquet
    except ImportError:
        return ["comparison.csv"]
    parquet.write_table(Table.from_pylist(list(rows)), run / "comparison.parquet")
    return ["comparison.csv", "comparison.parquet"]
