"""The paper's numbers: each stands once, in paper_numbers.json, and what is set by them elsewhere agrees with it."""

import json
import re
from pathlib import Path

import pytest

import selfinstruct
from selfinstruct.analysis import verbs
from selfinstruct.analysis.figures import PAPER_AXES
from selfinstruct.analysis.statistics import TABLE_1
from selfinstruct.paper_numbers import paper_number, paper_numbers
from selfinstruct.prompts import CLASSIFICATION_INSTANCE_MAX_TOKENS, PAPER_REQUESTS
from selfinstruct.review.items import PAPER

PACKAGE = Path(selfinstruct.__file__).parent
# those that are the paper's and nothing else's, whatever line they stand in
UNMISTAKABLE = [f"table1.{name}" for name in ("instructions", "classification", "not_classification", "instances")]
UNMISTAKABLE += ["table1.empty_input", "fig3.verb_noun"]


def test_a_number_is_found_by_its_id_as_it_is_printed():
    assert paper_number("table1.instructions").value == 52_445 and paper_number("fig3.covered").unit == "%"
    assert type(paper_number("table1.instructions").value) is int  # counts divide as counts
    with pytest.raises(KeyError, match=r"table1\.mistyped"):
        paper_number("table1.mistyped")


def written_again(number: int, text: str) -> list[str]:
    """The places in `text` that write `number`, in any of the ways Python and people write it."""
    thousands, rest = divmod(number, 1000)
    return re.findall(rf"(?<![\d,_.]){thousands}[,_]?{rest:03d}(?!\d)", text)


@pytest.mark.parametrize("name", UNMISTAKABLE)
def test_no_module_writes_a_number_of_the_paper_a_second_time(name):
    number = paper_number(name).value
    modules = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.jinja")]
    assert len(modules) > 40
    assert [path.name for path in modules if written_again(number, path.read_text(encoding="utf-8"))] == []
    assert [one.id for one in paper_numbers() if one.value == number] == [name]


@pytest.mark.parametrize("text", ["n = 52,445", "{52_445: 1}", "52445 / 2"])
def test_a_second_time_would_be_found_however_it_is_written(text):
    assert written_again(52_445, text) and not written_again(52_445, text.replace("5", "6"))


def test_the_analyses_and_the_review_use_what_the_file_says():
    rows = json.loads((PACKAGE / "paper_numbers.json").read_text(encoding="utf-8"))["numbers"]
    value = {row["id"]: row["value"] for row in rows}
    for name, number in TABLE_1.items():
        printed, percent = value[f"table1.{name}"], name.endswith("share")
        assert round(100 * number, 1) == printed if percent else round(number, 2) == printed, name
    assert TABLE_1["classification_share"] == 11_584 / 52_445  # exact, where the paper prints a rounded share
    assert {f"table2.{name}": round(100 * share) for name, share in PAPER.items()}.items() <= value.items()
    assert (verbs.PAPER_MIN_COUNT, verbs.PAPER_VERBS, verbs.PAPER_NOUNS) == (30, 20, 4)
    assert PAPER_AXES["input"] == (3_000, 82_439 - 35_878) and PAPER_AXES["overlap"] == (3_000, 52_445)


# where the released code sends another value than Table 4 prints
CODE_DIFFERS = {
    "table4.classification.stop": ("\n", "Task"),
    "table4.instances.stop": ("Example 6", "Task:"),
    "table4.instances.max_tokens": 350,
}


def test_the_settings_of_the_requests_are_those_of_table_4_but_where_the_code_differs():
    sent = {f"table4.{step}.{name}": value for step, one in PAPER_REQUESTS.items() for name, value in one.items()}
    printed = {one.id: one.value for one in paper_numbers() if one.id.startswith("table4.") and one.id in sent}
    assert set(sent) - set(printed) == {f"table4.{step}.logprobs" for step in PAPER_REQUESTS}
    same = {name: tuple(value) if isinstance(value, list) else value for name, value in printed.items()}
    assert {name: value for name, value in sent.items() if name in same and value != same[name]} == CODE_DIFFERS
    assert paper_number("table4.instances.max_tokens").value == CLASSIFICATION_INSTANCE_MAX_TOKENS
