"""Faults of generated instances: each is found where it is, and nowhere else."""

from __future__ import annotations

import pytest

from selfinstruct.prompts import PromptSet, load_prompts
from selfinstruct.records import Instance
from selfinstruct.similarity import rouge_l
from selfinstruct.steps.export import ParsedTask
from selfinstruct.steps.quality import count_faults, drop_copied, list_prompt_texts, measure_quality, measure_tasks

SHOWN = ["Ines is a baker who plays the cello and is afraid of heights.", "late", "List three rivers in Asia."]


def faults_of(output: str, input: str = "", instruction: str = "Describe a person.") -> tuple[str, ...]:
    (found,) = measure_quality([(instruction, Instance(input=input, output=output))], SHOWN)
    return found.faults


@pytest.mark.parametrize(
    ("output", "input", "faults"),
    [
        ("Ines is a baker who plays the cello.", "", ("copied_from_prompt",)),
        ("A sentence of its own about nothing.", "Ines is a baker who plays the cello", ("copied_from_prompt",)),
        ("Late.", "", ("short_copy",)),
        ("early", "", ()),
        ("It is red. It is red! It is red.", "", ("repeats_itself",)),
        ("It is red. It is red. It is blue.", "", ()),
        ("I'm sorry, but I cannot help with that.", "", ("refusal",)),
        ("As an AI, I have no opinion.", "", ("refusal",)),
        ("Sorry seems to be the hardest word", "", ()),
        ("Sorry, I do not know.", "", ("refusal",)),
        ("He said that he was sorry.", "", ()),
        ("describe a PERSON", "", ("echoes_instruction",)),
    ],
)
def test_each_fault_has_its_name(output, input, faults):
    assert faults_of(output, input) == faults


def test_a_text_cut_in_a_word_is_told_by_the_words_of_the_others():
    outputs = ["The river flows to the sea", "He saw a riv", "He saw a cat", "A sea is wide"]
    found = measure_quality([("x", Instance(input="", output=text)) for text in outputs])
    assert [one.faults for one in found] == [(), ("cut_in_word",), (), ()]
    assert count_faults(found)["cut_in_word"] == 1 and count_faults(found)["refusal"] == 0


def test_the_nearest_text_and_its_score_are_rouge_l():
    text = "Ines is a tall baker who plays the drums."
    (found,) = measure_quality([("x", Instance(input="", output=text))], SHOWN)
    assert (found.nearest, found.score) == (SHOWN[0], rouge_l(text, SHOWN[0]))


def test_the_threshold_is_a_limit_that_may_be_reached():
    (found,) = measure_quality([("x", Instance(input="", output="a b x y"))], ["a b c d"], threshold=0.5)
    assert found.score == 0.5 and found.faults == ()


def test_all_texts_of_the_few_shot_prompts_are_listed_once():
    prompts = PromptSet(
        classification="",
        input_first="Header\n\nTask: One.\nExample 1\nText: a\nOutput: b\nExample 2\nText: c\nOutput: d\n\nTask: Two.\nOutput: b\n\nTask:",
        output_first="Header\n\nTask: Three.\nClass label: Yes\nText: e\nClass label: No\nText: f\n\nTask:",
    )
    assert list_prompt_texts(prompts) == [
        "One.", "Text: a", "b", "Text: c", "d", "Two.", "Three.", "Text: e", "Yes", "Text: f", "No",
    ]  # fmt: skip
    assert len(list_prompt_texts(load_prompts())) > 50


def test_what_is_copied_is_counted_before_any_filter_and_dropped_by_name():
    prompts = PromptSet(
        classification="", output_first="", input_first=f"Header\n\nTask: One.\nOutput: {SHOWN[0]}\n\nTask:"
    )
    copy, own = Instance(input="", output=SHOWN[0]), Instance(input="", output="A text of its own, as asked.")
    task = ParsedTask("Describe Ines.", False, [copy, own, own], [copy, own])
    assert count_faults(measure_tasks([task], prompts))["copied_from_prompt"] == 1
    drop_copied([task], prompts)
    assert (task.kept, [one.reason for one in task.rejected]) == ([own], ["copied_from_prompt"])
    drop_copied([task], prompts, threshold=1.0)
    assert task.kept == [own]
