"""Completion text to data, as released and as fixed."""

import pytest

from selfinstruct.files import ParameterError
from selfinstruct.parsing import parse_instances, parse_instructions, parse_is_classification, split_instructions
from selfinstruct.records import Instance

COMPLETION = (
    " Sort these   names.\n10. Translate the NASA motto.\n11 . What do I owe?\n12.Glued on\n13) Glued too\n14. "
)


def test_items_split_at_number_dot_space_only():
    assert parse_instructions(COMPLETION, "stop") == [
        "Sort these names.",
        "Translate the nasa motto.",
        "What do i owe? 12.glued on 13) glued too",
    ]


def test_fixed_keeps_capitals():
    assert parse_instructions(COMPLETION, "stop", quirks="fixed")[1] == "Translate the NASA motto."
    assert parse_instructions("write it in Python", "stop", quirks="fixed") == ["Write it in Python"]


def test_cut_by_length_discards_all_or_the_last():
    text = " First whole one.\n10. Second whole one.\n11. Third is cu"
    assert parse_instructions(text, "length") == []
    assert parse_instructions(text, "length", quirks="fixed") == ["First whole one.", "Second whole one."]
    assert len(split_instructions(text)) == 3


@pytest.mark.parametrize("text", ["", "  \n ", None])
def test_nothing_gives_nothing(text):
    assert parse_instructions(text, "stop") == []


def test_unknown_quirks_are_refused():
    with pytest.raises(ParameterError, match="published, fixed"):
        parse_instructions("x", "stop", quirks="both")


@pytest.mark.parametrize(
    ("text", "published", "fixed"),
    [(" Yes", True, True), ("YES\n", True, True), ("yes", True, True), ("yes.", False, True), ("Yes, it is", False, True),
     ("No", False, False), ("", False, False), ("yesterday", False, False)],
)  # fmt: skip
def test_is_classification(text, published, fixed):
    assert parse_is_classification(text) is published
    assert parse_is_classification(text, "fixed") is fixed


def pairs(text, is_classification=False, finish_reason="stop", quirks="published"):
    instances = parse_instances(text, "Do it.", is_classification, finish_reason, quirks)
    return [(instance.input, instance.output) for instance in instances]


def test_examples_with_input_and_output():
    text = "Example 1\nList: [3, 1]\nOutput: [1, 3]\n\nExample 2\nInput: [2]\nOutput: [2]"
    assert pairs(text) == [("List: [3, 1]", "[1, 3]"), ("[2]", "[2]")]


def test_output_alone_is_one_instance_and_prose_is_none():
    assert pairs("Output: A haiku\nabout rain") == [("", "A haiku\nabout rain")]
    assert pairs("A haiku about rain") == []


def test_an_example_without_marker_is_all_output():
    assert pairs("Example 1\nJust text") == [("", "Just text")]


def test_second_output_is_lost_and_a_following_input_is_cut():
    text = "Example 1\nInput 1: a\nOutput 1: b\nOutput 2: c\nInput 2: d"
    assert pairs(text) == [("a", "b")]
    assert pairs(text, quirks="fixed") == [("a", "b\nOutput 2: c")]
    assert pairs("Output: b Input: next") == [("", "b")]


def test_example_inside_the_content_splits_when_published():
    text = "Output: For Example 5 apples."
    assert pairs(text) == [("", "For"), ("", "apples.")]
    assert pairs(text, quirks="fixed") == [("", "For Example 5 apples.")]


def test_length_drops_the_last_instance():
    text = "Example 1\nOutput: a\nExample 2\nOutput: b"
    assert pairs(text, finish_reason="length") == [("", "a")]


def test_class_labels_become_outputs():
    text = "ignored\nClass label: Positive\nSentence: I love it.\nSecond line\nClass label: Negative"
    assert pairs(text, is_classification=True) == [("Sentence: I love it.\nSecond line", "Positive"), ("", "Negative")]
    assert pairs("Positive", is_classification=True) == []
    assert pairs(text, is_classification=True, finish_reason="length") == [
        ("Sentence: I love it.\nSecond line", "Positive")
    ]


def test_fixed_spells_a_label_one_way():
    text = "Class label: Spam\nEmail: win\nClass label: spam\nEmail: prize"
    assert [output for _, output in pairs(text, True)] == ["Spam", "spam"]
    assert [output for _, output in pairs(text, True, quirks="fixed")] == ["Spam", "Spam"]


def test_instances_are_records():
    assert parse_instances("Output: x", "Do it.", False, "stop") == [Instance(input="", output="x")]


def test_a_set_says_how_the_answer_of_step_1_is_read():
    """Fields as Alpaca and Unnatural Instructions have them, what a small model makes of them, and one whole instruction."""
    alpaca = " Sort the names.\n4. Input:\nMia, Ben\n4. Output:\nBen, Mia\n###\n5. Instruction: Name a colour.\n5. Input:\n<noinput>"
    assert split_instructions(alpaca, parser="fields") == ["Sort the names.", "Name a colour."]
    unnatural = (
        "Instructions: Find the longest word.\nInput: cat, house\nConstraints: None.\n\nExample 5\nInstruction: Say it."
    )
    assert split_instructions(unnatural, parser="fields") == ["Find the longest word.", "Say it."]
    assert split_instructions("1. Write a poem\n2. about  NASA", "fixed", "whole") == ["1. Write a poem 2. about NASA"]
    assert split_instructions("", parser="whole") == [] == split_instructions("", parser="fields")
