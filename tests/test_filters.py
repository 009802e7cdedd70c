"""Each rule keeps one text and drops another, and says which rule it was."""

import pytest
from helpers.places import USER_ORIENTED, find_published

from selfinstruct.files import iter_lines
from selfinstruct.filters import (
    BLACKLIST,
    INSTANCE_RULES,
    INSTRUCTION_RULES,
    filter_instances,
    instance_rejections,
    instruction_rejection,
)
from selfinstruct.records import Instance

CASES = {
    "empty": ("Name three old rivers.", ""),
    "too_short": ("Name three old rivers.", "Name three rivers."),
    "too_long": ("word " * 149 + "end", "word " * 150 + "end"),
    "blacklisted_word": ("Describe the mapping between them.", "Describe the map between them."),
    "write_a_program": ("Please write a program that sorts.", "Write a program that sorts."),
    "punctuation_start": ("Given (a) find the b.", "(a) find the right b."),
    "non_ascii_start": ("Was ist Épée auf Deutsch?", "Épée means what in English?"),
}


def test_every_rule_has_a_case():
    assert list(CASES) == list(INSTRUCTION_RULES)


@pytest.mark.parametrize("rule", CASES)
def test_a_kept_and_a_dropped_example(rule):
    kept, dropped = CASES[rule]
    assert instruction_rejection(kept) is None
    assert instruction_rejection(dropped) == rule


@pytest.mark.parametrize("word", BLACKLIST)
def test_blacklist_matches_whole_words_in_any_case(word):
    assert instruction_rejection(f"Please {word.upper()} it for me now") == "blacklisted_word"
    assert instruction_rejection(f"Please {word.replace(' ', '')}x it for me now") is None


def test_rules_are_tried_in_released_order():
    assert instruction_rejection("Draw it!") == "too_short"
    assert instruction_rejection("Write a program that will plot.") == "blacklisted_word"


IDIOMS = [
    "Summarise the plot of the story.", "Give a brief outline of the film or series' plot.",
    "Think of a new movie plot. Your plot should have a twist.", "Describe a plot twist nobody expects.",
    "Explain how to file a complaint.", "What happens when I file for divorce?",
    "How does one file an insurance claim?", "What conclusion can you draw from it? Draw a conclusion.",
    "Draw up a contract for a tenant.", "Which lessons can you draw here?",
    "Decide whether the match will end in a draw.", "Map out a week of meals.", "Map each word to its opposite.",
    "Write a function that maps names to ages.", "Why do cats go to bed late?", "What should I pack to go to Norway?",
    "Explain how to better your self-image.", "Look at the big picture and decide.", "What is graph theory good for?",
]  # fmt: skip
REAL_USES = [
    "Plot the sales of this year.", "Make a plot of movie ratings over time.",
    "Create a plot of the data in the story.", "Plot the length of each novel.",
    "Read the file report and sum it up.", "Save the complaint in a file.", "Draw a house near a lake.",
    "Draw a map comparison of both.", "Describe the map of Europe.", "Map the route from Rome to Paris.",
    "Use the map below to find Lima.", "Go to the website and copy the text.", "I want you to go to a page.",
    "I want to go to this web site.", "Describe what you see in the image.", "Picture the house in the picture.",
    "Draw the graph of this function.", "Explain how to file a complaint, then draw it.",
    "What conclusion can you, from this graph, draw?", "Map each word of the image to its opposite.",
]  # fmt: skip


@pytest.mark.parametrize("text", IDIOMS)
def test_fixed_knows_idioms(text):
    assert instruction_rejection(text) == "blacklisted_word"
    assert instruction_rejection(text, "fixed") is None


@pytest.mark.parametrize("text", REAL_USES)
def test_fixed_still_drops_real_uses(text):
    assert instruction_rejection(text) == instruction_rejection(text, "fixed") == "blacklisted_word"


def test_two_of_the_four_user_oriented_tasks_that_the_published_rule_drops_are_idioms():
    texts = [row["instruction"] for _, row in iter_lines(find_published(USER_ORIENTED))]
    dropped = {
        kind: [text for text in texts if INSTRUCTION_RULES["blacklisted_word"](text, kind == "fixed")]
        for kind in ("published", "fixed")
    }
    assert len(dropped["published"]) == 4 and len(dropped["fixed"]) == 2
    assert all("plot" in text for text in set(dropped["published"]) - set(dropped["fixed"]))


def test_fixed_reads_other_scripts():
    assert instruction_rejection("Épée means what in English?", "fixed") is None
    assert instruction_rejection("请把这句话翻译成英文", "fixed") is None
    assert instruction_rejection("“Quoted” start is not a letter", "fixed") == "non_ascii_start"


def one(input, output):
    return Instance(input=input, output=output)


INSTANCE_CASES = {
    "input_equals_output": one("same", "same"),
    "empty_output": one("text", ""),
    "input_ends_with_colon": one("The sentence: ", "fine"),
    "output_ends_with_colon": one("fine", "The answer is:"),
}


def test_every_instance_rule_has_a_case():
    assert list(INSTANCE_CASES) == list(INSTANCE_RULES)


@pytest.mark.parametrize("rule", INSTANCE_CASES)
def test_instance_rules(rule):
    good = one("good", "fine")
    assert instance_rejections([INSTANCE_CASES[rule], good]) == [rule, None]
    assert filter_instances([INSTANCE_CASES[rule], good]) == [good]


def test_conflicting_outputs_drop_the_whole_task():
    assert filter_instances([one("a", "1"), one("b", "2"), one("a", "3")]) == []
    assert instance_rejections([one("a", "1"), one("a", "3")]) == ["conflicting_outputs"] * 2


def test_an_invalid_instance_cannot_conflict():
    assert filter_instances([one("a", "a"), one("a", "1")]) == [one("a", "1")]


def test_different_outputs_without_input_are_kept_and_repetitions_are_not():
    assert filter_instances([one("", "1"), one("", "2"), one("", "1")]) == [one("", "1"), one("", "2")]
    assert instance_rejections([one("", "1"), one("", "1")]) == [None, "duplicate"]
