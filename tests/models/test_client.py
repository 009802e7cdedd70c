"""The client against a scripted model on loopback: order, cache, usage, chat, adaptation, limits, and what it never tells."""

# ruff: noqa: SIM117  a server, and within it its client: nesting reads better than one long line
from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pytest
from helpers.asking import ask, asks, echo
from helpers.places import TESTS
from helpers.scripted import CREATED, Reply, ScriptedServer, answer, prompt_of

from selfinstruct.files import EndpointError, ParameterError, StoppedEarly
from selfinstruct.models.connection import connect
from selfinstruct.models.store import ResponseStore


def refusing(name: str, message: str = "Unsupported parameter: '{}' is not supported with this model."):
    """A model that refuses one parameter, as OpenAI's reasoning models do."""

    def respond(body: dict):
        if name in body:
            return Reply(
                400, {"error": {"message": message.format(name), "param": None, "code": "unsupported_parameter"}}
            )
        return echo(body)

    return respond


# order, store, usage


@pytest.mark.parametrize("concurrency", [1, 3, 32])
def test_completions_come_in_request_order_at_any_concurrency(store, concurrency):
    rng = random.Random(concurrency)

    def slowly(body):
        time.sleep(rng.random() / 50)
        return echo(body)

    with (
        ScriptedServer(slowly) as server,
        connect("scripted", server.url, store=store, concurrency=concurrency) as client,
    ):
        texts = [completion.text for completion in client.complete(asks(40))]
        assert texts == [f" prompt {number}!" for number in range(40)]
        assert server.most_at_once <= concurrency


def test_nothing_is_asked_twice(store):
    with ScriptedServer(echo) as server:
        for _ in range(2):
            with connect("scripted", server.url, store=store) as client:
                completions = client.complete(asks(6))
        assert len(server.bodies) == 6
        assert all(completion.cached for completion in completions)
        assert client.usage.model_dump(include={"requests", "cached", "failed"}) == {
            "requests": 6,
            "cached": 6,
            "failed": 0,
        }


def test_a_client_knows_the_keys_of_what_it_was_asked_replayed_or_not(store):
    with ScriptedServer(echo) as server:
        with connect("m", server.url, store=store) as client:
            client.complete(asks(3))
            first = client.keys
        with connect("m", server.url, store=store) as client:
            client.complete(asks(2))
            client.complete(asks(4))
            keys = client.keys
    with ResponseStore(store) as opened:
        assert len(first) == 3 and keys == sorted(row.key for row in opened.rows())


def test_a_replay_needs_no_server_and_says_that_it_is_one(store, capsys):
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store) as client:
        first = client.complete(asks(3))
        assert not client.describe()["replayed"]
    with connect("scripted", server.url, store=store) as client:
        again = client.complete(asks(3))
        assert client.describe()["replayed"]
    assert "no model was called (3 answers from" in capsys.readouterr().out
    assert [c.metadata("p") for c in again] == [c.metadata("p") for c in first]


def test_equal_requests_share_an_answer_and_samples_do_not(store):
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store) as client:
        client.complete([ask(), ask(), ask(sample_index=1)])
        client.complete([ask()])
        assert len(server.bodies) == 2
        assert (client.usage.requests, client.usage.cached) == (2, 0)
        assert client.usage.completion_tokens == 2 * (len(" p!") // 4 + 1)


def test_the_metadata_are_those_of_the_released_files(store):
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store) as client:
        (completion,) = client.complete([ask(logprobs=1)])
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, "text": " p!"}
    assert completion.metadata("p") == {
        "prompt": "p",
        "response": {"choices": [choice]},
        "created_at": "2022-12-21 05:20:00",
    }
    assert CREATED == 1671600000  # the time is the server's own


def test_the_body_is_the_released_request(store):
    request = ask(stop=("\n\n", "16."), logprobs=1, presence_penalty=2.0, frequency_penalty=0.5, seed=3)
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store) as client:
        client.complete([request])
    assert server.bodies == [
        {"model": "scripted", "prompt": "p", "max_tokens": 8, "temperature": 0.5, "top_p": 1.0, "presence_penalty": 2.0,
         "frequency_penalty": 0.5, "stop": ["\n\n", "16."], "logprobs": 1, "seed": 3}
    ]  # fmt: skip
    assert server.paths == ["/v1/completions"]


def test_usage_counts_tokens_and_dollars_also_of_cached_answers(store, prices):
    with ScriptedServer(echo) as server:
        for _ in range(2):
            with connect("scripted", server.url, store=store, price_table=prices) as client:
                client.complete(asks(4))
    tokens = 4 * (len("prompt 0") // 4 + 1 + len(" prompt 0!") // 4 + 1)
    assert client.usage.prompt_tokens + client.usage.completion_tokens == tokens
    assert client.usage.cost_usd == pytest.approx(tokens / 1000)
    assert client.usage.spent_usd == 0


def test_tokens_are_estimated_where_the_server_does_not_count(store):
    def without_usage(body):
        return {key: value for key, value in answer(body, "x" * 40).items() if key != "usage"}

    with ScriptedServer(without_usage) as server, connect("scripted", server.url, store=store) as client:
        (completion,) = client.complete([ask("y" * 20)])
    assert (completion.prompt_tokens, completion.completion_tokens) == (5, 10)


def test_half_an_emoji_does_not_break_the_store(store):
    with ScriptedServer(lambda body: Reply(body=b'{"choices": [{"text": "so \\ud83d"}]}')) as server:
        with connect("scripted", server.url, store=store) as client:
            (completion,) = client.complete([ask()])
    assert completion.text == "so \ufffd"
    assert completion.text.encode()


# progress


def test_progress_is_quiet_where_nobody_looks(store, capfd):
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store) as client:
        client.complete(asks(5), desc="asking")
    assert "".join(capfd.readouterr()) == ""


def test_progress_counts_what_matters(store, prices):
    news = []
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store, price_table=prices) as client:
        client.complete(asks(3))
    with ScriptedServer(echo) as other, connect("scripted", server.url, store=store, price_table=prices) as client:
        client.endpoint.provider = replace(client.endpoint.provider, base_url=other.url)
        client.on_progress = lambda *one: news.append(one)
        client.complete(asks(5))
    assert [(answered, asked) for answered, asked, _ in news] == [(0, 2), (1, 2), (2, 2)]
    assert re.fullmatch(r"0 failed, 3 cached, \d+ tokens/s, \$0\.0\d+", news[-1][2])


def test_progress_goes_on_where_no_answer_comes(store, monkeypatch):
    monkeypatch.setattr("selfinstruct.models.client.TICK_S", 0.02)
    news = []
    with ScriptedServer(echo, latency_s=0.3) as server, connect("scripted", server.url, store=store) as client:
        client.on_progress = lambda *one: news.append(one)
        client.complete(asks(1))
    assert [answered for answered, _, _ in news].count(0) > 3 and news[-1][0] == 1


SHOWS = """
import sys
sys.path.insert(0, {tests!r})
from helpers.asking import asks
from selfinstruct.models import connect
with connect("scripted", {url!r}, store={store!r}) as client:
    client.complete(asks(5), desc="asking")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_progress_shows_in_a_terminal(store):
    import pty
    import termios

    with ScriptedServer(echo) as server:
        code = SHOWS.format(tests=str(TESTS), url=server.url, store=str(store))
        terminal, its_end = pty.openpty()
        termios.tcsetwinsize(its_end, (24, 120))
        subprocess.run([sys.executable, "-c", code], stderr=its_end, timeout=30, check=True)
        shown = os.read(terminal, 100_000).decode()
    assert "asking: 100%" in shown and "5/5" in shown and re.search(r"0 failed, 0 cached, \d+ tokens/s", shown)


# chat


def test_chat_gets_the_same_prompt_and_its_answer_reads_as_a_completion(store):
    with ScriptedServer(lambda body: "9. Name a colour.\n10. Name a bird.\n\nHope this helps") as server:
        with connect("scripted", server.url, api="chat", store=store) as client:
            (completion,) = client.complete([ask("1. Sing.\n9.", stop=("\n\n",), logprobs=1)])
    (body,) = server.bodies
    assert server.paths == ["/v1/chat/completions"]
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert (body["messages"][1]["content"], body["logprobs"], body["top_logprobs"]) == ("1. Sing.\n9.", True, 1)
    assert completion.text == " Name a colour.\n10. Name a bird."
    assert completion.finish_reason == "stop"
    assert completion.response["choices"][0]["text"] == completion.text


def test_an_empty_text_is_an_answer(store):
    with ScriptedServer(lambda body: "") as server, connect("scripted", server.url, api="chat", store=store) as client:
        (completion,) = client.complete([ask()])
    assert (completion.text, completion.error) == ("", None)


def test_a_short_word_for_a_key_is_no_secret(store, monkeypatch):
    """Local servers take any; answers must not lose the word "none" for it."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with ScriptedServer(lambda body: " none of them") as server, connect("scripted", server.url, store=store) as client:
        assert client.complete([ask()])[0].text == " none of them"


# adaptation


@pytest.mark.parametrize("name", ["temperature", "top_p", "presence_penalty", "logprobs", "seed", "stop"])
def test_a_refused_parameter_is_left_out_with_one_warning(store, name):
    request = {"presence_penalty": 1.0, "logprobs": 1, "seed": 1, "stop": ("!",)}
    with (
        ScriptedServer(refusing(name)) as server,
        connect("scripted", server.url, store=store, concurrency=8) as client,
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            completions = client.complete(asks(20, **request))
        assert client.describe()["adapted"][name] == ""
    assert [str(w.message).split(":")[0] for w in caught] == [f"the model refuses {name}"]
    assert completions[7].text == " prompt 7"  # the stop is applied on our side, too


def test_max_tokens_becomes_max_completion_tokens_in_chat(store):
    message = "Unsupported parameter: '{}' is not supported with this model. Use 'max_completion_tokens' instead."
    with ScriptedServer(refusing("max_tokens", message)) as server:
        with (
            connect("scripted", server.url, api="chat", store=store) as client,
            pytest.warns(UserWarning, match="max_completion_tokens"),
        ):
            client.complete([ask()])
    assert server.bodies[-1]["max_completion_tokens"] == 8


def test_several_refusals_are_adapted_one_after_another(store):
    def strict(body):
        for name in ("max_tokens", "temperature", "stop"):
            if name in body:
                return Reply(
                    400, {"error": {"message": f"Unsupported value: '{name}' does not support 1", "param": name}}
                )
        return echo(body)

    with ScriptedServer(strict) as server, connect("scripted", server.url, api="chat", store=store) as client:
        with pytest.warns(UserWarning) as caught:
            (completion,) = client.complete([ask(stop=("!",))])
    assert (len(caught), completion.text) == (3, " p")


def test_a_wrong_value_is_an_error_and_not_adapted(store):
    def picky(body):
        return Reply(400, {"error": {"message": "temperature must be at most 2", "param": "temperature"}})

    with ScriptedServer(picky) as server, connect("scripted", server.url, store=store) as client:
        with pytest.raises(EndpointError, match="400: temperature must be at most 2"):
            client.complete([ask(temperature=9)])
    assert len(server.bodies) == 1


def test_a_prompt_that_is_too_long_gets_four_fifths_of_its_tokens(store):
    def small(body):
        if body["max_tokens"] > 70:
            return Reply(
                400,
                {"error": {"message": "This model's maximum context length is 80 tokens. Please reduce your prompt"}},
            )
        return echo(body)

    with ScriptedServer(small) as server, connect("scripted", server.url, store=store) as client:
        with pytest.warns(UserWarning, match="asks for fewer tokens"):
            (completion,) = client.complete([ask(max_tokens=100)])
    assert [body["max_tokens"] for body in server.bodies] == [100, 80, 64]
    assert completion.error is None


# limits


def test_requests_per_minute_space_the_requests(store):
    with (
        ScriptedServer(echo) as server,
        connect("scripted", server.url, store=store, concurrency=8, requests_per_minute=1200) as client,
    ):
        started = time.monotonic()
        client.complete(asks(21))
    assert 1.0 <= time.monotonic() - started < 3


def test_tokens_per_minute_space_the_requests(store):
    with ScriptedServer(lambda body: "x" * 3) as server:
        with connect("scripted", server.url, store=store, concurrency=8, tokens_per_minute=6000) as client:
            started = time.monotonic()
            client.complete(asks(26))  # 4 tokens each as counted, 10 as expected before
    assert 0.9 <= time.monotonic() - started < 4


@pytest.mark.parametrize("concurrency", [1, 8])
def test_spending_never_passes_the_cap_and_comes_within_a_request_of_it(store, prices, concurrency):
    at_most = (3 + 8) / 1000  # dollars: a prompt of 9 characters and max_tokens 8
    with ScriptedServer(lambda body: "x" * 8, latency_s=0.005) as server:
        client = connect(
            "scripted", server.url, store=store, concurrency=concurrency, max_cost_usd=0.1, price_table=prices
        )
        with (
            client,
            pytest.raises(
                StoppedEarly, match=r"max_cost_usd=0\.1 is reached: \$0\.09\d+ spent.*requests were answered"
            ),
        ):
            client.complete(asks(100))
        assert 0.1 - at_most < client.budget.spent.usd < 0.1 + 1e-9
        assert client.usage.spent_usd == pytest.approx(client.budget.spent.usd)
        with ResponseStore(store) as rows:
            assert len(rows) == len(server.bodies)  # what was in flight is kept and counted
        with connect("scripted", server.url, store=store, price_table=prices) as client:
            assert len(client.complete(asks(100))) == 100
        assert len(server.bodies) == 100


def test_the_cap_holds_for_all_clients_of_one_command(store, prices):
    """The notebooks of a run open a client each."""
    settings = {"store": store, "max_cost_usd": 0.1, "price_table": prices}
    with ScriptedServer(lambda body: "x" * 8) as server:
        with connect("scripted", server.url, **settings, step="1") as client:
            client.complete(asks(15))
        with (
            connect("scripted", server.url, **settings, step="2") as client,
            pytest.raises(StoppedEarly, match="spent by this command"),
        ):
            client.complete([ask(f"another {number}") for number in range(15)])
        assert len(server.bodies) <= 15 + 6


def test_max_tokens_total_stops_and_cached_answers_are_free(store):
    with (
        ScriptedServer(lambda body: "x" * 8) as server,
        connect("scripted", server.url, store=store, max_tokens_total=60) as client,
    ):
        with pytest.raises(StoppedEarly, match="max_tokens_total=60 is reached"):
            client.complete(asks(50))
        assert client.complete(asks(5))[4].cached


def test_a_cap_in_dollars_needs_a_price(store):
    with pytest.raises(ParameterError, match="price_table"):
        connect("scripted", "http://127.0.0.1:1/v1", store=store, max_cost_usd=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"api": "completion"}, "choose one of completions, chat"), ({"concurrency": 0}, "at least 1"),
     ({"base_url": "localhost:8000"}, "give an address such as"), ({"model": "embedded"}, "needs no base_url")],
)  # fmt: skip
def test_wrong_parameters_are_refused_before_anything_is_opened(store, settings, message):
    with pytest.raises(ParameterError, match=message):
        connect(**{"model": "scripted", "base_url": "http://127.0.0.1:1/v1", "store": store, **settings})
    assert not store.exists()


# providers and keys


def test_presets_have_an_address_and_a_variable_for_the_key(store, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "the-key-of-vllm")
    with connect("a-model", "vllm", store=store) as client:
        assert client.describe()["endpoint"] == "http://127.0.0.1:8000/v1"
        assert client.endpoint.key == "the-key-of-vllm"


def test_openai_without_a_key_says_how_to_give_one(store, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with connect("gpt-4o-mini", store=store) as client, pytest.raises(EndpointError, match="export OPENAI_API_KEY="):
        client.complete([ask()])


def test_secrets_in_an_address_are_not_stored(store):
    with connect("m", "https://user:secret@example.org/v1?token=secret", store=store) as client:
        assert client.describe()["endpoint"] == "https://example.org/v1"


def test_the_key_is_sent_and_nowhere_to_be_found(store, monkeypatch, capfd):
    """Even from a server that repeats it in its errors and its answers."""
    key = "sk-very-secret-key-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    replies = [
        f" your key is {key}",
        Reply(400, {"error": {"message": f"bad request by {key}"}}),
        Reply(body=f"<html>{key}"),
        Reply(401, {"error": {"message": f"Incorrect API key provided: {key}"}}),
    ]
    seen = []
    server = ScriptedServer(lambda body: replies[int(prompt_of(body))])
    with server, connect("scripted", server.url, store=store, max_failures=0) as client:
        seen += client.complete([ask("0")])
        assert f"Bearer {key}" in server.headers[0].values()
        seen += client.complete([ask("1"), ask("2")])
        with pytest.raises(EndpointError, match="the key was refused") as caught:
            client.complete([ask("3")])
        assert caught.value.__context__ is None or caught.value.__suppress_context__
    everything = repr(seen) + str(caught.value) + repr(client.describe()) + "".join(capfd.readouterr())
    everything += "".join(path.read_bytes().decode("latin-1") for path in store.parent.iterdir())
    assert "sk-very" not in everything
    assert "[key]" in everything


def test_a_deterministic_embedded_request_is_seeded(store, tmp_path):
    weights = tmp_path / "w.gguf"
    weights.write_bytes(b"GGUF" + b"0" * 100)
    with connect(str(weights), store=store, deterministic=True) as client:
        assert client._make_job(ask(sample_index=3)).body["seed"] == 3
        assert client.describe()["endpoint"].endswith(":deterministic")
