"""Any model's answer in the form of a completion: its text, the end of it, and what was around it."""

from __future__ import annotations

import random
import re
import time

import pytest
from helpers.asking import ask
from helpers.bootstrapping import seed_tasks
from helpers.scripted import ScriptedServer, answer, prompt_of
from helpers.scripted_method import respond

from selfinstruct.models.answers import read_answer, read_finish_reason, read_text
from selfinstruct.models.connection import connect
from selfinstruct.models.store import ResponseStore
from selfinstruct.prompts import request_settings
from selfinstruct.records import Request
from selfinstruct.steps.instructions import generate_instructions, judge_completion

PROMPT = "Come up with a series of tasks:\n1. Sort the words.\n2. Name a river in Asia, please.\n9."
STEP_2 = (
    "Is this classification?\n\nTask: Sort a.\nIs it classification? No\n\nTask: Name the river.\nIs it classification?"
)
STEP_3 = "Come up with examples.\n\nTask: Sort a.\nOutput: b\n\nTask: Name the long river.\n"
A, B = "Describe a calm lake at dawn.", "List five ways to save water."
GOES_ON, STARTS_AGAIN, COMPLETION = f"9. {A}\n10. {B}", f"1. {A}\n2. {B}", f" {A}\n10. {B}"


def read(content, prompt=PROMPT, is_chat=True):
    return read_answer({"message": {"content": content}} if is_chat else {"text": content}, prompt, is_chat)


# step 1: whatever a chat model writes around a list, the list is what a completion model would write

THOUGHTS = [
    f"<think>\nHm.\n1. Something about water at home\n</think>\n\n{GOES_ON}", f"<think></think>\n\n{STARTS_AGAIN}",
    f"<thinking>\nHm.\n\n</thinking>{COMPLETION}", f"<reasoning>a\n\nb</reasoning>\n{GOES_ON}", f"<THINK>a</THINK>{GOES_ON}",
    f"Hm, so be it.\n\n</think>\n\n{GOES_ON}", f"<think>a<think>b</think>c</think>\n{GOES_ON}", f"<seed:think>a</seed:think>{GOES_ON}",
    f"<think>a</think>\n<think>b</think>\n{GOES_ON}", f"Sure!\n<think>a</think>\n{GOES_ON}", f"[THINK]a[/THINK]{GOES_ON}",
    f"◁think▷a\n◁/think▷{GOES_ON}", f"<|begin_of_thought|>a<|end_of_thought|>\n\n<|begin_of_solution|>{GOES_ON}<|end_of_solution|>",
    f"<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>{GOES_ON}<|END_RESPONSE|>", f"<think>a</think><answer>{GOES_ON}</answer>",
    f"<|channel|>analysis<|message|>1. a<|end|><|start|>assistant<|channel|>final<|message|>{GOES_ON}<|return|>",
    f"analysisWe go on.assistantfinal{GOES_ON}",
]  # fmt: skip
GREETINGS = [
    f"Here are some more tasks for you:\n\n{GOES_ON}", f"Sure! Here are more tasks:\n{GOES_ON}", f"Certainly!\n\n{STARTS_AGAIN}",
    f"More tasks:\n{STARTS_AGAIN}", f"**Here are more tasks:**\n\n{GOES_ON}", f"当然，以下是更多任务：\n\n{GOES_ON}",
    f"Voici la suite :\n\n{STARTS_AGAIN}", f"Claro, aquí tienes más tareas:\n{STARTS_AGAIN}", f"Вот ещё задачи:\n{STARTS_AGAIN}",
    f"I'd be happy to. Below is the list.\n\n{GOES_ON}", f"Words of no known kind\n\n{GOES_ON}", f"### Tasks\n\n{GOES_ON}",
    f"Sure, here it goes:\n\n{A}\n10. {B}", f"Of course!\n\n- {A}\n- {B}", f"Here are more:\n{A}\n10. {B}",
]  # fmt: skip
FENCES = [
    f"```\n{GOES_ON}\n```", f"```markdown\n{STARTS_AGAIN}\n```\n\nHope this helps!", f"~~~\n{GOES_ON}\n~~~", f"```\n{GOES_ON}",
    f"Here is the list:\n```text\n{STARTS_AGAIN}\n```\nLet me know!", f"<think>\na\n</think>\n\nHere you go:\n\n```\n{STARTS_AGAIN}\n```",
]  # fmt: skip
ECHOES = [
    GOES_ON, f"\n\n{GOES_ON}", f"{PROMPT} {A}\n10. {B}", PROMPT.replace("\n", " ") + COMPLETION, f"<s> {PROMPT}{COMPLETION}",
    f"2. Name a river in Asia, please.\n{GOES_ON}", f"Sure!\n\n2. Name a river in Asia, please.\n{GOES_ON}",
]  # fmt: skip
LAYOUTS = [
    COMPLETION, STARTS_AGAIN, f"9. {A}\n\n10. {B}", f"{A}\n\n10. {B}", f"**9.** {A}\n**10.** {B}", f"9. **{A}**\n10. **{B}**",
    f"- {A}\n- {B}", f"Task 9: {A}\nTask 10: {B}", f"① {A}\n② {B}", f"9) {A}\n10) {B}", f"{GOES_ON}<|im_end|>", f"{GOES_ON}</s>",
    f"<answer>\n{GOES_ON}\n</answer>", f"９、{A}\n１０、{B}",
]  # fmt: skip


@pytest.mark.parametrize("content", THOUGHTS + GREETINGS + FENCES + ECHOES + LAYOUTS)
def test_a_list_goes_on_from_the_prompt(content):
    found = read(content)
    assert found.text.split("\n\n")[0].strip() == COMPLETION.strip()
    assert found.taken_off or content == COMPLETION


@pytest.mark.parametrize(
    "text", [*(one.replace(GOES_ON, COMPLETION) for one in (*THOUGHTS[:1], *THOUGHTS[3:9])), *ECHOES[2:5]]
)
def test_a_completion_loses_its_thoughts_and_a_prompt_that_came_back(text):
    assert read(text, is_chat=False).text.strip() == COMPLETION.strip()


@pytest.mark.parametrize("text", [*GREETINGS, *FENCES[:5], *LAYOUTS, "", " ", "\n\n", GOES_ON])
def test_all_else_in_a_completion_stays_as_it_is(text):
    assert read(text, is_chat=False) == (text, "stop", ())


@pytest.mark.parametrize(
    "content", ["Here are some more tasks for you:", "Sure! Here are more tasks:", "<think>Hm", "<think>\nHm\n1. Name it\n", "```\n"]
)  # fmt: skip
def test_nothing_is_left_of_a_greeting_or_a_thought_that_nothing_follows(content):
    assert read(content).text == ""


@pytest.mark.parametrize(
    "content",
    ["Sort these steps:\n1. Boil it\n2. Pour it\n10. Next task now", "Here is a list of words. Sort them:\n10. Next task",
     " Sort it:\n- a\n- b\n10. Next", "Say 3.14 in words.\n10. Next", " Name a colour.\n10. In 2016. Name one.\n11. Next", "Sure thing or not?"],
)  # fmt: skip
def test_what_looks_like_a_greeting_or_a_number_and_is_an_item_stays(content):
    assert read(content) == (content, "stop", ())


# steps 2 and 3


@pytest.mark.parametrize(
    ("content", "text"),
    [("Is it classification? Yes", " Yes"), ("Task: Name the river.\nIs it classification? Yes", " Yes"), ("\n\nYes", "Yes"),
     ("Sure!\n\nYes", "Yes"), ("<think>\nHm.\n</think>\n\nNo", "No"), ("Here is the answer:\nYes", "Yes"), (" Yes.", " Yes.")],
)  # fmt: skip
def test_step_2_is_read_behind_what_precedes_it(content, text):
    assert read(content, STEP_2).text == text


@pytest.mark.parametrize(
    ("content", "text"),
    [("Here is an example:\n\nExample 1\nInput: a\nOutput: b", "Example 1\nInput: a\nOutput: b"), ("Sure!\n\nOutput: b", "Output: b"),
     ("```\nExample 1\nOutput:\n```python\nx\n```\n```", "Example 1\nOutput:\n```python\nx\n```"),
     ("Task: Name the long river.\nOutput: b", "Output: b"), ("### Example 1\n### Output:\nb", "Example 1\nOutput:\nb"),
     ("**Example 1**\n**Input:** a\n**Output:** b", "Example 1\nInput: a\nOutput: b"), ("**Output**: b **c**", "Output: b **c**"),
     ("Sure!\n\n**Class label:** Yes\n**Text:** a", "Class label: Yes\nText: a")],
)  # fmt: skip
def test_step_3_is_read_behind_what_precedes_it(content, text):
    assert read(content, STEP_3).text == text


@pytest.mark.parametrize(
    "content",
    ["Output:\n```python\nx = 1\n```", "Text:\n\nsome\nOutput: b", "Example 1\nInput: Hi there!\nOutput: b", "Output: use </reason>",
     "Output:\n<order>\n<reason>Late</reason>\n</order>", "Output:\n[Thinking about it] Well.", "1. a\n2. b",
     "Output:\n**Note:** keep it", "# Report\nOutput: b"],
)  # fmt: skip
def test_what_belongs_to_an_instance_stays(content):
    assert read(content, STEP_3) == (content, "stop", ())


# where the text is, and why it ends


@pytest.mark.parametrize(
    ("message", "text"),
    [("bare", "bare"), ({"content": ["a", "b"]}, "ab"), ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
     ({"content": [{"type": "text", "text": {"value": "x"}}]}, "x"), ({"content": {"parts": [{"text": "t", "thought": True}, {"text": "u"}]}}, "u"),
     ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "u"}]}, "u"),
     ({"content": [{"type": "output_text", "output_text": "z"}]}, "z"), ({"content": "", "text": "z"}, "z"), ({"content": ""}, ""),
     ({"content": "a", "reasoning_content": "r"}, "a"), ({"content": "a", "tool_calls": [{"function": {"name": "f"}}]}, "a"),
     ({"content": None, "refusal": "no"}, None), ({"content": None, "reasoning_content": "r"}, None), ({"content": []}, None),
     ({"content": 5}, None), ({}, None), (None, None)],
)  # fmt: skip
def test_the_text_of_a_message_in_any_form(message, text):
    assert read_text({"message": message}, None) == text
    assert read_text({"message": message}) == (text or "")


def test_the_text_of_a_choice_without_a_message_and_of_one_too_deep():
    choices = [{"text": "a"}, {"text": ["a", "b"]}, {"delta": {"content": "d"}}, {"generated_text": "g"}]
    assert [read_text(one) for one in choices] == ["a", "ab", "d", "g"]
    deep = {"text": "x"}
    for _ in range(5000):
        deep = {"content": [deep]}
    assert read_text(deep) == ""


REASONS = {
    "stop": ["stop", "STOP", "eos", "eos_token", "EOS_TOKEN", "end_turn", "stop_sequence", "COMPLETE", "word", "FINISH_REASON_STOP",
             None, "", "pause_turn", 1, True, {"type": "stop", "matched": 2}, "finished"],
    "length": ["length", "max_tokens", "MAX_TOKENS", "max-tokens", "model_length", "length_limit", "limit", "max_new_tokens", "incomplete",
               "FINISH_REASON_MAX_TOKENS", {"type": "length", "length": 3}, "abort", "ERROR", "model_context_window_exceeded"],
    "content_filter": ["content_filter", "SAFETY", "RECITATION", "refusal", "ERROR_TOXIC", "PROHIBITED_CONTENT"],
    "tool_calls": ["tool_calls", "tool_use", "function_call"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "given"), [(name, one) for name, given in REASONS.items() for one in given])
def test_the_reason_for_an_end_has_one_of_four_names(name, given):
    assert read_finish_reason({"finish_reason": given}) == name


def test_a_reason_under_another_key_and_none_at_all():
    assert read_finish_reason({"finish_reason": None, "native_finish_reason": "MAX_TOKENS"}) == "length"
    assert read_finish_reason({"finishReason": "MAX_TOKENS"}) == read_finish_reason({"stop_type": "limit"}) == "length"
    assert read_finish_reason({"finish_reason": None}, is_full=True) == read_finish_reason({}, is_full=True) == "length"
    assert read_finish_reason({"finish_reason": "eos"}, is_full=True) == "stop"


# in a run


def ask_step_1(server, store, api, quirks="published"):
    request = Request(prompt=PROMPT, **request_settings("instructions", False, quirks))
    with connect("m", server.url, api, store=store) as client:
        [completion] = client.complete([request])
    return completion, client


def test_the_store_keeps_what_came_and_the_run_says_what_was_taken_off(tmp_path, capsys):
    content = f"<think>a\n\nb</think>\n\nSure! Here are more tasks:\n\n{STARTS_AGAIN}"
    with ScriptedServer(lambda body: answer(body, content)) as server:
        first, client = ask_step_1(server, tmp_path / "s.sqlite", "chat")
        again, _ = ask_step_1(server, tmp_path / "s.sqlite", "chat")
        assert len(server.bodies) == 1
    assert first.text == COMPLETION and first.taken_off == ("thoughts", "greeting", "numbers")
    assert first.response["choices"][0]["text"] == COMPLETION and first.metadata("p") == again.metadata("p")
    assert client.describe()["taken_off"] == {"thoughts": 1, "greeting": 1, "numbers": 1}
    assert "Taken off before the answers were read: thoughts (of 1 answer)" in capsys.readouterr().out
    with ResponseStore(tmp_path / "s.sqlite") as store:
        assert [row.response["choices"][0]["message"]["content"] for row in store.rows()] == [content]


def test_nothing_is_said_where_nothing_was_taken_off(tmp_path, capsys):
    with (
        ScriptedServer(lambda body: answer(body, " Yes")) as server,
        connect("m", server.url, store=tmp_path / "s.sqlite") as client,
    ):
        assert client.complete([ask()])[0].taken_off == ()
    assert "taken_off" not in client.describe() and capsys.readouterr().out == ""


@pytest.mark.parametrize("reason", ["max_tokens", "model_length", "content_filter", "abort", {"type": "length"}])
@pytest.mark.parametrize(("quirks", "kept"), [("fixed", [A]), ("published", [])])
def test_an_unfinished_item_is_dropped_whatever_the_server_calls_it(tmp_path, reason, quirks, kept):
    with ScriptedServer(lambda body: answer(body, f" {A}\n10. Explain how to bake a", reason)) as server:
        completion, _ = ask_step_1(server, tmp_path / "s.sqlite", "chat", quirks)
    judged = judge_completion(completion, quirks)
    assert [text for text, why in judged if why is None] == kept
    assert {why for _, why in judged} - {None} <= {"cut_by_length", "cut_by_filter"}


CHATTY = [
    "{}", "<think>\nHm.\n\n1. No.\n</think>\n\n{}", "Sure! Here are some more tasks:\n\n{}", "```\n{}\n```\nAnything else?",
    "Of course:\n{}<|im_end|>",
]  # fmt: skip


def chat_about(body):
    """What the scripted model says, numbered from 1 in some style, with something around it: by the prompt, as all it says."""
    items = respond(body).split("\n")
    rng = random.Random(prompt_of(body))
    style = rng.choice(["{}. {}", "{}) {}", "**{}.** {}", "Task {}: {}", "{}、{}", "({}) {}"])
    numbered = [style.format(number, re.sub(r"^(\d+\.)? ", "", item)) for number, item in enumerate(items, 1)]
    return rng.choice(CHATTY).format(rng.choice(["\n", "\n\n"]).join(numbered))


@pytest.mark.parametrize("quirks", ["published", "fixed"])
def test_a_chatty_model_gives_the_instructions_of_a_completion_model(tmp_path, quirks):
    found = {}
    for api, says in (("completions", respond), ("chat", chat_about)):
        with ScriptedServer(says) as server, connect("m", server.url, api, store=tmp_path / f"{api}.sqlite") as client:
            rounds = generate_instructions(
                client, seed_tasks(), request_settings("instructions", False, quirks), quirks=quirks, max_rounds=4
            )
            found[api] = [one.instruction for round_ in rounds for one in round_.admitted]
    assert found["chat"] == found["completions"] and len(found["chat"]) > 20


# nothing breaks it, and nothing takes long

MARKS = "<think> </think> ``` 9. ** Sure! <|channel|> <|message|> é\u0300 1. Output: ① \ufe0f # > - Task \x00 \u2028 第 (9) : ~~~ ９、".split(
    " "
)
PIECES = [*THOUGHTS, *GREETINGS, *FENCES, *ECHOES, *LAYOUTS, *MARKS, " ", "\n", "\n\n"]
REPEATED = [
    "a", " ", "\n", "<", "9", "1. ", "\n1. ", "*", "`", "```\n", "<think>", "</think>", "<think></think>", "- ", "\n- ", "#", ">", ">  ", "一",
    "①", "9.\n", "[", "<|", "Here ", "Sure: ", "\t", "(", "\n> ", "Task ", "\nTask 1", "9. **", "\n**9", "<|end|>", "<|channel|>a<|message|>",
]  # fmt: skip


def test_no_mixture_of_it_all_breaks_the_reading():
    rng = random.Random(1)
    for _ in range(1500):
        text = "".join(rng.choices(PIECES, k=rng.randint(1, 9)))[: rng.randint(1, 400)]
        for prompt in (PROMPT, STEP_2, STEP_3, "", " " * 30):
            assert isinstance(read(text, prompt, rng.random() < 0.7).text, str)


@pytest.mark.parametrize("piece", REPEATED)
def test_the_time_grows_with_the_text_alone(piece):
    text = piece * (100_000 // len(piece))
    for prompt in (PROMPT, STEP_3):
        started = time.process_time()
        read(text, prompt)
        assert time.process_time() - started < 5.0  # squared it would be minutes
