"""Answers: which are stored and which are failures, what is read from odd ones, and how their tokens are counted."""

# ruff: noqa: SIM117  a server, and within it its client: nesting reads better than one long line
from __future__ import annotations

import json
import re
import warnings

import pytest
from helpers.asking import ask
from helpers.scripted import Reply, ScriptedServer, prompt_of

from selfinstruct.models.connection import connect
from selfinstruct.models.protocol import find_unusable, make_job
from selfinstruct.models.store import ResponseStore
from selfinstruct.models.upkeep import verify_store
from selfinstruct.records import Request

# answers that are of no use


def message(**fields) -> dict:
    """A choice of a chat, its text missing."""
    return {"finish_reason": "stop", "message": {"role": "assistant", "content": None, **fields}}


USELESS = {
    "thoughts, and then no tokens left": (
        {**message(reasoning_content="Okay, the user"), "finish_reason": "length"},
        r"no text \(finish_reason 'length'; reasoning_content: 'Okay, the user'\); raise max_tokens \(8\)",
    ),
    "thoughts beside an empty text": (message(content="", reasoning="Well"), "reasoning: 'Well'"),
    "all tokens gone for thoughts that stay with the server": (
        {**message(content=""), "finish_reason": "length"},
        r"no text \(finish_reason 'length'\); raise max_tokens \(8\)",
    ),
    "filtered, the text empty": ({"text": "", "finish_reason": "content_filter"}, "finish_reason 'content_filter'"),
    "an error, the text empty": ({"text": "", "finish_reason": "error"}, "no text"),
    "a refusal": (message(refusal="I cannot help"), "refusal: 'I cannot help'"),
    "a tool call": (message(tool_calls=[{"id": "t", "function": {"name": "f"}}]), "tool_calls: .*function"),
    "filtered": ({**message(), "finish_reason": "content_filter"}, r"no text \(finish_reason 'content_filter'\)"),
    "a message that is a number": ({"message": 7}, "message: '7'"),
    "a message that is null": ({"message": None}, r"no text \(finish_reason 'stop'\)"),
    "no message": ({}, "no text"),
    "a text that is null": ({"text": None, "finish_reason": "length"}, "raise max_tokens"),
    "a text that is an object": ({"text": {"a": 1}}, "text: .*a"),
    "thoughts of a completions server": ({"text": "", "reasoning": "Hm"}, "reasoning: 'Hm'"),
}


@pytest.mark.parametrize(("choice", "reason"), USELESS.values(), ids=USELESS)
def test_an_answer_of_no_use_is_a_failure_with_the_server_s_hint_that_a_new_command_asks_again(store, choice, reason):
    with ScriptedServer(lambda body: {"choices": [choice]} if prompt_of(body) == "p" else "fine") as server:
        with connect("scripted", server.url, api="chat", store=store) as client:
            for _ in range(2):
                completions = client.complete([ask("p"), ask("q")])
                assert re.search(reason, completions[0].error) and completions[1].text == "fine"
        assert len(server.bodies) == 2
        with ResponseStore(store) as rows:
            (failure,) = rows.failures()
            assert len(rows) == 1 and re.search(reason, failure["error"])
            assert json.loads(failure["response"]) == {"choices": [choice]}  # the evidence
        server.respond = lambda body: "better"
        with connect("scripted", server.url, api="chat", store=store) as client:
            assert client.complete([ask("p")])[0].text == "better"


@pytest.mark.parametrize("depth", [101, 5_000, 100_000])
def test_an_answer_that_nests_without_end_is_a_failure_and_not_a_crash(store, depth):
    nested = b'{"choices": [{"text": "x", "logprobs": ' + b"[" * depth + b"]" * depth + b"}]}"
    with ScriptedServer(lambda body: Reply(body=nested) if prompt_of(body) == "p" else "fine") as server:
        with connect("scripted", server.url, store=store) as client:
            completions = client.complete([ask("p"), ask("q")])
    assert (completions[0].error, completions[1].text) == ("the answer is nested too deeply to be read", "fine")
    assert len(server.bodies) == 2
    with ResponseStore(store) as rows:
        assert rows.failures()[0]["response"].startswith('{"choices"')


@pytest.mark.parametrize("sent", ["length", "", None, 1, 0, True, 2.5, ["stop"], {"a": [1]}])
def test_a_finish_reason_of_any_type_is_read_as_a_word_now_and_at_every_restart(store, sent):
    answer = {"choices": [{"text": "so", "finish_reason": sent}], "created": 1}
    with ScriptedServer(lambda body: answer) as server:
        words = []
        for _ in range(2):
            with connect("scripted", server.url, store=store) as client:
                (completion,) = client.complete([ask()])
            words.append(completion.finish_reason)
            assert completion.text == "so" and isinstance(words[-1], str)
        assert len(server.bodies) == 1 and words[0] == words[1] and (words[0] == sent or sent != "length")
    assert verify_store(store) == (1, [])


def test_numbers_that_json_does_not_have_are_stored_as_text(store):
    answer = b'{"choices": [{"text": "so", "logprobs": {"a": [-Infinity, NaN], "b": %s}}]}' % (b"9" * 5000)
    with (
        ScriptedServer(lambda body: Reply(body=answer)) as server,
        connect("scripted", server.url, store=store) as client,
    ):
        logprobs = client.complete([ask()])[0].response["choices"][0]["logprobs"]
    assert logprobs == {"a": ["-Infinity", "NaN"], "b": "9" * 5000}


IMPOSSIBLE = ["0", "-3", "true", '"12"', "1e999", "9" * 31, "9" * 5000, "2.5", "[4]", '{"a": 1}', "NaN"]


@pytest.mark.parametrize("count", IMPOSSIBLE, ids=lambda count: count[:8])
def test_a_usage_that_cannot_be_is_replaced_by_the_count_of_the_text_and_said_once(store, count):
    usage = f'{{"prompt_tokens": {count}, "completion_tokens": {count}}}'
    raw = f'{{"choices": [{{"text": "{"x" * 40}"}}], "usage": {usage}}}'.encode()
    with ScriptedServer(lambda body: Reply(body=raw)) as server, connect("scripted", server.url, store=store) as client:
        with pytest.warns(
            UserWarning, match=r"usage cannot be \(prompt_tokens=.* for 20 char.*completion_tokens="
        ) as told:
            completions = client.complete([ask("y" * 20, sample_index=number) for number in range(3)])
    assert [(one.prompt_tokens, one.completion_tokens) for one in completions] == [(5, 10)] * 3
    assert len(told) == 1


@pytest.mark.parametrize("usage", [[], "many", 7, True])
def test_a_usage_that_is_no_object_is_said_too(store, usage):
    answer = {"choices": [{"text": "x" * 40}], "usage": usage}
    with ScriptedServer(lambda body: answer) as server, connect("scripted", server.url, store=store) as client:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert client.complete([ask()])[0].completion_tokens == 10
    assert len(told) == 1


def test_a_count_that_may_be_is_believed(store):
    """Thoughts are counted and not sent; some servers send whole numbers as floats."""
    answer = {"choices": [{"text": ""}], "usage": {"prompt_tokens": 3.0, "completion_tokens": 900}}
    with ScriptedServer(lambda body: answer) as server, connect("scripted", server.url, store=store) as client:
        (completion,) = client.complete([ask()])
    assert (completion.prompt_tokens, completion.completion_tokens) == (3, 900)


SCRIPTS = {
    "A plain English text": 5, "Краткий русский текст": 10, "写一首关于秋天的短诗": 10, "秋の短い詩を書いて": 9, "가을에 관한 시": 7,
    "لماذا السماء زرقاء": 9, "आकाश नीला क्यों है": 16, "naïve café": 3, "👋👋": 4, "": 0,
}  # fmt: skip


@pytest.mark.parametrize(("text", "tokens"), SCRIPTS.items())
def test_without_usage_tokens_are_counted_as_the_script_needs(store, text, tokens):
    with ScriptedServer(lambda body: {"choices": [{"text": text}]}) as server:
        with connect("scripted", server.url, store=store) as client:
            (completion,) = client.complete([ask(text)])
    assert (completion.prompt_tokens, completion.completion_tokens) == (tokens, tokens)


def test_an_answer_of_thoughts_alone_is_of_no_use():
    job = make_job(
        Request(prompt="1. Name a colour.\n2.", max_tokens=50, temperature=0, top_p=1),
        "m",
        "completions",
        "http://here",
    )
    answer = {"choices": [{"text": "<think>A short list, then.</think>", "finish_reason": "length"}]}
    assert "thoughts: '<think>A short list" in find_unusable(answer, job)
    assert "raise max_tokens (50)" in find_unusable(answer, job)
    assert find_unusable({"choices": [{"text": "<think>Hm.</think> Name a fruit."}]}, job) is None
