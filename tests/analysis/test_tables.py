"""How a comparison shows its cells: one tidy table, means, verdicts, funnels, and what the arms do differently."""

from __future__ import annotations

import csv

import pytest
from helpers.sweeping import write_sweep

from selfinstruct.analysis.cells import collect_values, load_cells, measure_cells
from selfinstruct.analysis.tables import (
    build_funnels,
    find_differing_parameters,
    tabulate_cells,
    tabulate_means,
    tabulate_verdicts,
    write_tables,
)
from selfinstruct.analysis.verdicts import compare_numbers
from selfinstruct.runfolder import RunFolder

EXAMPLE = RunFolder("outputs/example")


@pytest.fixture
def sweep(tmp_path):
    """Two arms, three seeds; one cell failed."""
    return write_sweep(tmp_path)


def test_only_what_the_arms_do_differently_is_named(sweep):
    cells, _ = load_cells(sweep)
    assert find_differing_parameters(cells) == [{"parameter": "rouge_threshold", "low": "0.7", "high": "0.5"}]


def test_one_tidy_table(sweep, tmp_path):
    cells, _ = load_cells(sweep)
    rows = tabulate_cells(cells, measure_cells(cells))
    assert rows[0] == {"arm": "low", "random_seed": 1, "number": "admitted_per_request", "value": 1.1}
    assert write_tables(rows, sweep) == ["comparison.csv", "comparison.parquet"]
    back = list(csv.DictReader((sweep / "comparison.csv").open()))
    assert [float(row["value"]) for row in back] == [row["value"] for row in rows]
    from pyarrow import parquet

    assert parquet.read_table(sweep / "comparison.parquet").to_pylist() == rows


def test_without_pyarrow_there_is_a_csv(sweep, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    cells, _ = load_cells(sweep)
    assert write_tables(tabulate_cells(cells, measure_cells(cells)), sweep) == ["comparison.csv"]


def test_funnel_beside_funnel(sweep):
    rows = {(row["step"], row[""]): row for row in build_funnels(load_cells(sweep)[0])}
    assert rows["1", "requests"]["low"] == "30" and rows["1", "requests"]["high"] == "20"
    assert rows["1", "accepted"]["low"] == "36 (75.0%)" and rows["1", "too similar"]["low"] == "12 (25.0%)"
    assert [key[1] for key in rows] == ["requests", "candidates", "too similar", "accepted"]
    both = build_funnels(load_cells(EXAMPLE)[0])
    assert {row["step"] for row in both} == {"1", "4"}


def test_the_tables_of_every_number(sweep):
    cells, _ = load_cells(sweep)
    values = collect_values(cells, measure_cells(cells))
    means = {row["number"]: row for row in tabulate_means(values)}
    assert means["admitted"] == {"number": "admitted", "low": "12", "high": "21.5"}
    apart = {row["number"]: row for row in tabulate_verdicts(compare_numbers(values, "low"))}
    assert set(apart["admitted"]) == {"number", "high"} and apart["admitted"]["high"].startswith("+10")
