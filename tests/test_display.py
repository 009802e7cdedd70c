"""What a reader sees: model text in a table or in print is text, whatever characters are in it."""

from __future__ import annotations

import doctest
from collections import namedtuple
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from selfinstruct import display
from selfinstruct.display import (
    MOST_CHARACTERS,
    MOST_ROWS,
    count_of,
    reveal,
    show,
    show_duration,
    show_number,
    show_problems,
    show_text,
)
from selfinstruct.records import FinetuningRow


class Cells(HTMLParser):
    """The cells of a table as a browser reads them: (tag, text, style)."""

    def __init__(self, table):
        super().__init__()
        self.cells, self.tags = [], []
        self.feed(table._repr_html_())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append([tag, "", dict(attrs)["style"]])

    def handle_data(self, data):
        if self.cells and data.strip():
            self.cells[-1][1] += data


def texts(table, tag="td"):
    return [text for name, text, _ in Cells(table).cells if name == tag]


def styles(table):
    return [style for name, _, style in Cells(table).cells if name == "td"]


@pytest.mark.parametrize(
    ("noun", "count", "text"),
    [("instruction", 1, "1 instruction"), ("instruction", 0, "0 instructions"), ("row", 1234, "1,234 rows"),
     ("instance of 2 instructions", 1, "1 instance of 2 instructions")],
)  # fmt: skip
def test_a_count_has_its_noun_in_the_right_number(noun, count, text):
    assert count_of(noun, count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 second"), (1.4, "1 second"), (89, "89 seconds"), (89.6, "1.5 minutes"), (600, "10 minutes"), (5340, "89 minutes"),
     (5400, "1.5 hours"), (8370 * 60, "140 hours"), (239 * 3600, "239 hours"), (864_000, "10 days"), (4e8, "4,630 days")],
)  # fmt: skip
def test_an_estimated_time_is_in_the_unit_that_people_use(seconds, text):
    assert show_duration(seconds) == text


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(display).failed == 0


def test_markup_stays_text():
    table = show([{"<b>name</b>": "<script>alert(1)</script> & <img src=x>"}])
    assert texts(table) == ["<script>alert(1)</script> & <img src=x>"]
    assert texts(table, "th") == ["<b>name</b>"]
    assert set(Cells(table).tags) == {"table", "thead", "tbody", "tr", "th", "td"}


def test_dollars_are_no_formula():
    page = show([{"text": "$100 to ... $1000"}])._repr_html_()
    assert "$100 to ... $1000" in page
    assert "tex2jax_ignore" in page and "mathjax_ignore" in page


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\rb", "a\\rb"),
        ("a\x08\x08b\x00", "a\\x08\\x08b\\x00"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\u202eevil\u2066 \u200b\ufeff", "\\u202eevil\\u2066 \\u200b\\ufeff"),
        ("\u2028\xad\U000e0041", "\\u2028\\xad\\U000e0041"),
        ("\ud83d", "\\ud83d"),
        ("two\nlines\tand 😀 é 写", "two\nlines\tand 😀 é 写"),
    ],
)
def test_what_is_obeyed_is_written_out(text, seen, capsys):
    assert reveal(text) == seen
    show_text(text, 1, sep="|")
    assert capsys.readouterr().out == f"{seen}|1\n"
    assert texts(show([{"text": text}])) == [seen]
    assert texts(show({text: 1}))[0] == seen
    repr(show([{"text": text}])).encode()


@pytest.mark.parametrize(
    "nothing", [[], {}, (), iter([]), pd.DataFrame(), pd.DataFrame(columns=["a"]), pd.Series(dtype=int)]
)
def test_nothing_says_so(nothing):
    table = show(nothing, "a", "b") if isinstance(nothing, dict) else show(nothing)
    assert table._repr_html_() == "<p>(nothing)</p>" and repr(table) == "(nothing)"


def test_numbers_right_and_text_left():
    rows = [{"n": np.int64(52445), "x": np.float32(0.5), "share": "43.5%", "text": "a", "mixed": 1}]
    rows.append({"n": None, "x": float("nan"), "share": "–", "text": "7 up", "mixed": "one"})
    assert texts(show(rows)) == ["52,445", "0.5", "43.5%", "a", "1", "–", "–", "–", "7 up", "one"]
    assert [style.split(";")[0] for style in styles(show(rows))] == [
        f"text-align:{side}" for side in ["right", "right", "right", "left", "left"] * 2
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "True"), (np.True_, "True"), (None, "–"), (float("nan"), "–"), (np.nan, "–"), (np.int64(1234567), "1,234,567"),
        (np.float64(0.33333), "0.333"), (12.3456, "12.35"), (7.0, "7"), (0, "0"), (-0.5, "-0.5"), (0.00004, "4e-05"),
        (float("inf"), "inf"), (2**70, "1,180,591,620,717,411,303,424"), ("", ""), (("a", "\n"), "('a', '\\n')"), ([1], "[1]"),
    ],
)  # fmt: skip
def test_a_value_as_text(value, text):
    assert show_number(value) == text
    assert texts(show([{"value": value}])) == [text]


def test_missing_values_of_pandas():
    frame = pd.DataFrame({"a": [pd.NA, 1], "b": [pd.NaT, pd.NaT], "c": ["x", None]})
    assert texts(show(frame)) == ["–", "–", "x", "1", "–", "–"]


def test_only_long_words_may_break():
    short, long, lines = styles(show([{"a": "a few words", "b": "w" * 300, "c": "one\n  two"}]))
    assert "overflow-wrap" not in short and "white-space" not in short
    assert "overflow-wrap:anywhere" in long
    assert "white-space:pre-wrap" in lines


def test_a_column_is_as_wide_as_its_name():
    heads = [style for tag, _, style in Cells(show([{"ROUGE-L": 0.4, "a name " * 20: 1}])).cells if tag == "th"]
    assert "nowrap" in heads[0] and "nowrap" not in heads[1]


def test_a_long_text_is_cut_and_a_long_table_too():
    [text] = texts(show([{"a": "x" * 5000}]))
    assert len(text) == MOST_CHARACTERS and text.endswith("…")
    table = show({"a": n} for n in range(MOST_ROWS + 1500))
    assert len(texts(table)) == MOST_ROWS
    assert "and 1,500 more rows" in table._repr_html_() and "and 1,500 more rows" in repr(table)


Pair = namedtuple("Pair", "verb noun")


@dataclass(frozen=True, slots=True)
class Step:
    verb: str
    noun: str


@pytest.mark.parametrize("row", [Pair("write", "poem"), Step("write", "poem"), {"verb": "write", "noun": "poem"}])
def test_rows_of_any_kind(row):
    assert texts(show([row]), "th") == ["verb", "noun"] and texts(show([row])) == ["write", "poem"]
    assert texts(show([row], "noun")) == ["poem"]


def test_a_record_and_fields_that_are_missing():
    rows = [*map(vars, [FinetuningRow(prompt="p", completion=" c")]), {"reason": "empty"}]
    assert texts(show([FinetuningRow(prompt="p", completion=" c")])) == ["p", " c"]
    assert texts(show(rows)) == ["p", " c", "–", "–", "–", "empty"]


def test_a_dict_is_two_columns_and_a_dict_of_dicts_is_columns():
    assert texts(show({"a": 1, "b": 2}, "name", "value"), "th") == ["name", "value"]
    assert "<thead>" not in show({"a": 1})._repr_html_()
    table = show({"paper": {"x": 1, "y": 2}, "mine": {"y": 3, "z": 4}})
    assert texts(table, "th") == ["", "paper", "mine"]
    assert texts(table) == ["x", "1", "–", "y", "2", "3", "z", "–", "4"]


def test_what_pandas_makes():
    cross = pd.crosstab(pd.Series([True, False], name="really"), pd.Series([True, True], name="says"))
    assert texts(show(cross), "th") == ["really", "says: True"] and texts(show(cross)) == ["False", "1", "True", "1"]
    levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["name", None])
    frame = pd.DataFrame({("mine", "all"): [1, 2], ("mine", "some"): [3, 4]}, index=levels)
    assert texts(show(frame), "th") == ["name", "", "mine: all", "mine: some"]
    assert texts(show(frame)) == ["a", "1", "1", "3", "b", "2", "2", "4"]
    assert texts(show(pd.Series({"write": 2}, name="count")), "th") == ["", "count"]
    assert texts(show(pd.DataFrame({"a": [5, 6]})[::-1])) == ["6", "5"]  # positions say nothing


def test_plain_text_lines_up():
    rows = [{"name": "a", "n": 1}, {"name": "long\nname", "n": 1000}]
    assert repr(show(rows)) == "name           n\na              1\nlong name  1,000"


def test_problems_have_a_line_each(capsys):
    show_problems(["a.jsonl:1: not\rJSON"])
    show_problems(["b"], "NOT PARSED")
    show_problems([])
    assert capsys.readouterr().out == "NOT READ a.jsonl:1: not\\rJSON\nNOT PARSED b\n"


def test_marked_pieces_are_escaped_framed_and_told_apart_without_colour():
    marked = display.MarkedText([("a <b>\n", False), ("\x1b&c", True)])
    page = marked._repr_html_()
    assert "a &lt;b&gt;↵<br>" in page and "\\x1b&amp;c" in page and "<b>" not in page
    assert page.count("font-weight: bold") == 1 and page.count("<span") == 2
    assert repr(marked) == "a <b>\n[\\x1b&c]"


def test_a_long_name_of_a_column_breaks_at_its_underscores():
    page = show([{"most_completion_tokens": 8, "calls": 2}])._repr_html_()
    assert "most_<wbr>completion_<wbr>tokens" in page
    assert page.count("nowrap") == 1  # a short one stays in one line
