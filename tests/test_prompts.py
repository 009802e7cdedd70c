"""The prompts, to the letter of the released layout."""

import random
import statistics

import pytest

from selfinstruct.files import PROJECT_ROOT, InputError, ParameterError
from selfinstruct.models.protocol import approximate_tokens
from selfinstruct.prompts import (
    PAPER_REQUESTS,
    build_instruction_prompt,
    load_prompts,
    render_classification,
    render_input_first,
    render_output_first,
    request_settings,
)


def test_instruction_prompt_layout():
    prompt = build_instruction_prompt(["Name  a\ncolour:", "Sort these."])
    assert prompt == "Come up with a series of tasks:\n1. Name a colour\n2. Sort these.\n3."


def test_classification_only_header():
    prompt = build_instruction_prompt(["Is it?"], classification_only=True)
    assert prompt.startswith("Come up with a series of classification tasks. Try to specify the possible output labels")
    assert prompt.endswith("\n1. Is it?\n2.")


def test_classification_layout():
    demos = [
        {"instruction": "Is it spam?", "is_classification": True},
        {"instruction": "Sing.", "is_classification": False},
    ]
    prefix = render_classification(demos)
    assert prefix.endswith(
        "Task: Is it spam?\nIs it classification? Yes\n\nTask: Sing.\nIs it classification? No\n\nTask:"
    )


def test_output_first_layout():
    pairs = [{"class_label": "Spam", "input": "Email: win"}, {"class_label": "Ham", "input": ""}]
    prefix = render_output_first([{"instruction": "Is it spam?", "instances": pairs}])
    assert prefix.endswith("\n\nTask: Is it spam?\nClass label: Spam\nEmail: win\nClass label: Ham\n\nTask:")


def test_input_first_layout():
    pairs = [{"input": "List: 2 1", "output": "1 2"}, {"input": "List: 1", "output": "1"}]
    direct = {"instruction": "Sing.", "instances": [{"input": "", "output": "La"}], "direct": True}
    prefix = render_input_first([{"instruction": "Sort.", "instances": pairs}, direct])
    assert prefix.endswith(
        "Task: Sort.\nExample 1\nList: 2 1\nOutput: 1 2\nExample 2\nList: 1\nOutput: 1\n\nTask: Sing.\nOutput: La\n\nTask:"
    )


def test_queries():
    templates = load_prompts("ours")
    assert templates.classification_prompt(" Do it. ").endswith("\n\nTask: Do it.\nIs it classification?")
    assert templates.instance_prompt("Do it.", False).endswith("\n\nTask: Do it.\n")
    assert templates.instance_prompt("Do it.", True).startswith(templates.output_first)


def test_the_short_set_is_the_embedded_models_and_takes_the_seed_tasks_of_ours():
    short, ours = load_prompts(embedded=True), load_prompts()
    assert (short.name, ours.name, load_prompts("ours", embedded=True).name) == ("short", "ours", "ours")
    assert short.seed_tasks == ours.seed_tasks
    assert len(short.input_first) < 0.6 * len(ours.input_first)
    assert short.instance_prompt("Do it.", True).endswith("\n\nTask: Do it.\nClass label:")
    assert short.instance_prompt("Do it.", False).endswith("\n\nTask: Do it.\n")


def test_request_settings_are_the_papers():
    settings = request_settings("instructions", embedded=False)
    assert settings == PAPER_REQUESTS["instructions"]
    assert settings["stop"] == ("\n\n", "\n16", "16.", "16 .")
    assert (settings["max_tokens"], settings["presence_penalty"]) == (1024, 2)
    assert request_settings("classification", False)["max_tokens"] == 3
    assert request_settings("instances", False)["presence_penalty"] == 1.5


def test_settings_the_embedded_model_and_the_caller_change():
    assert (
        request_settings("instructions", True)["presence_penalty"] < PAPER_REQUESTS["instructions"]["presence_penalty"]
    )
    chosen = request_settings("instructions", True, max_tokens=50, temperature=0.0, top_p=None)
    assert (chosen["max_tokens"], chosen["temperature"], chosen["top_p"]) == (50, 0.0, 0.7)
    assert "16." not in request_settings("instructions", False, "fixed")["stop"]
    assert request_settings("instructions", True, "fixed") == request_settings("instructions", True)
    with pytest.raises(ParameterError, match="best_off"):
        request_settings("instructions", False, best_off=2)


def test_bad_sources(tmp_path):
    with pytest.raises(ParameterError, match="ours, short, published"):
        load_prompts("theirs")
    with pytest.raises(InputError, match="no such file"):
        load_prompts(tmp_path)
    (tmp_path / "classification_demonstrations.jsonl").write_text('{"task": 1}\n')
    with pytest.raises(InputError, match=r"demonstrations.jsonl:1.*instruction"):
        load_prompts(tmp_path)


def test_notebook_02_says_how_long_our_prompts_are():
    """Beside those of the paper, in tokens of four characters: 166 of step 1, then 890, 1,436 and 1,713."""
    page = (
        (PROJECT_ROOT / "notebooks/02_generate_instructions.ipynb")
        .read_text(encoding="utf-8")
        .replace('\\n",\n    "', " ")
    )
    prompts, rng = load_prompts("ours"), random.Random(0)
    texts = [task.instruction for task in prompts.seed_tasks]
    first = statistics.mean(approximate_tokens(build_instruction_prompt(rng.sample(texts, 8))) for _ in range(500))
    others = [approximate_tokens(text) for text in (prompts.classification, prompts.input_first, prompts.output_first)]
    assert 155 <= first <= 159 and "157 tokens on average" in page
    assert (
        "step 2 {:,} instead of 890; step 3 {:,} instead of 1,436 input-first, and {:,} instead".format(*others) in page
    )
