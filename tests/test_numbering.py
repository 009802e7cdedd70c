"""The items of a list, however it is numbered."""

import pytest

from selfinstruct.numbering import find_markers, is_canonical, split_items
from selfinstruct.parsing import parse_instructions, split_instructions

A, B = "Describe a calm lake at dawn.", "List five ways to save water."
STYLES = (
    "{}. ", "{} . ", "{}) ", "({}) ", "（{}）", "[{}] ", "【{}】", "{}] ", "{}、", "{}.", "{}．", "{}。", "{}: ", "{}：", "{} - ", "{} – ", "#{} ",
    "#{}. ", "  {}. ", "> {}. ", "- {}. ", "* **{}.** ", "**{}.** ", "**{}**. ", "**{})** ", "__{}.__ ", "***{}.*** ", "### {}. ", "# {}: ",
    "Task {}: ", "Task {}. ", "TASK {} - ", "**Task {}:** ", "**Task {}**: ", "### Task {}: ", "Task #{}: ", "Task {}\n", "**Task {}**\n",
    "No. {}: ", "Question {}: ", "Aufgabe {}: ", "Tâche {} : ", "Задание {}. ", "任务{}：", "タスク{}：", "第{}题：",
)  # fmt: skip
ROWS = (
    "①{}\n②{}", "⑨ {}\n⑩ {}", "❾ {}\n❿ {}", "⑴{}\n⑵{}", "⒈{}\n⒉{}", "㈠{}\n㈡{}", "一、{}\n二、{}", "九、{}\n十、{}", "（九）{}\n（十）{}",
    "十、{}\n十一、{}", "第九、{}\n第十、{}", "9️⃣ {}\n🔟 {}", "1️⃣ {}\n2️⃣ {}", "９．{}\n１０．{}", "９、{}\n１０、{}", "٩. {}\n١٠. {}", "IX. {}\nX. {}",
    "- {}\n- {}", "* {}\n* {}", "• {}\n• {}", "– {}\n– {}", "**9. {}**\n**10. {}**", "9. **{}**\n10. **{}**", "{}\n10. {}", "{}\n10) {}",
    "{}\n10、{}",     "{}\n\n**10.** {}", "9. {}\r\n10. {}", "{}\nTask 10: {}", "{}\n⑩{}",
)  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("first", [1, 9])
def test_a_number_in_any_style_from_any_start(style, first):
    text = f"{style.format(first)}{A}\n{style.format(first + 1)}{B}"
    assert split_items(text) == [A, B]
    assert [one.number for one in find_markers(text)] == [first, first + 1]
    assert parse_instructions(text, "stop", "fixed") == [A, B]


@pytest.mark.parametrize("row", ROWS)
def test_numbers_that_are_no_digits_and_lists_that_begin_in_the_middle(row):
    assert split_items(row.format(A, B)) == split_instructions(row.format(A, B), "fixed") == [A, B]


@pytest.mark.parametrize(
    "text",
    ["3.14 is the number pi", "10:30 is late", "Sort these:\n- a\n- b", "Which?\nA) cat\nB) dog", "In 2016. Name one", "2016. A good year",
     "Note: this is long", "Notes", "I am here. You?", "no. It is", "Tasks are many", "5 - 3 = 2", "1.5 litres", "It is #1 in a list", "i) a\nii) b"],
)  # fmt: skip
def test_what_is_no_number_of_an_item(text):
    assert split_items(text) == [text]


@pytest.mark.parametrize("text", [f" {A}\n10. {B}", f" {A}", "", f"{A}\n10 . {B}\n11. {A}"])
def test_what_a_completion_model_writes_is_canonical(text):
    assert is_canonical(text)


@pytest.mark.parametrize("text", [f"9. {A}", f"{A}\n\n10. {B}", f"{A}\n10) {B}", f" **{A}**\n10. {B}", f"{A}\n10.{B}"])
def test_what_is_not_canonical(text):
    assert not is_canonical(text)


def test_published_knows_one_style():
    assert len(split_instructions(f" {A}\n10. {B}")) == 2
    for style in ("\n10) ", "\n10.", "\n**10.** ", "\n⑩ ", "\n- ", "\n10、"):
        assert len(split_instructions(f" {A}{style}{B}")) == 1


def test_stars_inside_an_item_stay():
    assert split_items("9. Say **this** now.\n10. **Say** it.") == ["Say **this** now.", "**Say** it."]
