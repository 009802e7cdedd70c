"""Refused parameters: in the words of well-known servers only what is refused is changed, once, and the run goes on."""

# ruff: noqa: E501, SIM117  the servers' words as they are; a server, and within it its client
from __future__ import annotations

import json
import time
import warnings
from types import SimpleNamespace

import pytest
from helpers.asking import ask, asks, echo
from helpers.bootstrapping import scripted_model
from helpers.scripted import Reply, ScriptedServer, answer

from selfinstruct.files import EndpointError
from selfinstruct.models.connection import connect
from selfinstruct.runfolder import RunFolder
from selfinstruct.runner.run import run_notebooks
from selfinstruct.servers.adaptation import Adaptation
from selfinstruct.servers.refusal import read_refusal

STEP_1 = {
    "max_tokens": 1024, "temperature": 0.7, "top_p": 0.5, "frequency_penalty": 0.5, "presence_penalty": 2.0,
    "stop": ("\n\n", "\n16", "16.", "16 ."), "logprobs": 1, "seed": 7,
}  # fmt: skip
GREEDY = {**STEP_1, "temperature": 0.0, "top_p": 0.0, "max_tokens": 3, "stop": ("\n",)}


def sends(*names):
    return lambda body: all(name in body for name in names)


def message(text, **more):
    return {"error": {"message": text, "type": "invalid_request_error", **more}}


def detail(*locs, msg="Extra inputs are not permitted", kind="extra_forbidden"):
    whole = {"temperature": 0.7, "top_p": 0.5, "stop": ["x"]}
    return {"detail": [{"type": kind, "loc": list(loc), "msg": msg, "input": whole} for loc in locs]}


def stops_over(most):
    return lambda body: len(body.get("stop", [])) > most


def blank_stop(body):
    return any(not stop.strip() for stop in body.get("stop", []))


def system_role(body):
    return any(one["role"] == "system" for one in body.get("messages", []))


def tokens_over(most):
    return lambda body: body.get("max_tokens", body.get("max_completion_tokens", 0)) > most


# name: (when it refuses, its answer, the adaptation that it takes, and what is not 400, chat or step 1)
REFUSALS = {
    "openai, no stop": (
        sends("stop"), message("Unsupported parameter: 'stop' is not supported with this model.", param="stop", code="unsupported_parameter"),
        {"stop": ""}),
    "openai, no temperature": (
        sends("temperature"),
        message("Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.", param="temperature"),
        {"temperature": ""}),
    "openai, max_completion_tokens": (
        sends("max_tokens"),
        message("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", param="max_tokens"),
        {"max_tokens": "max_completion_tokens"}),
    "openai, array too long": (
        stops_over(2), message("Invalid 'stop': array too long. Expected an array with maximum length 2, but got an array with length 4 instead.", param="stop"),
        {"stop": "at most 2"}),
    "openai, too many tokens": (
        tokens_over(512), message("max_tokens is too large: 1024. This model supports at most 512 completion tokens, whereas you provided 1024.", param="max_tokens"),
        {"max_tokens": "at most 512"}),
    "openai, roles": (
        system_role, message("Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role"),
        {"system": "user"}),
    "azure, penalties of a reasoning model": (
        sends("presence_penalty"), message("Unsupported parameter: 'presence_penalty' is not supported with this model.", param="presence_penalty"),
        {"presence_penalty": ""}),
    "azure, no field": (
        sends("logprobs"), message("This model does not support logprobs", param=None, code="BadRequest"), {"logprobs": "", "top_logprobs": ""}),
    "vllm, extra field": (
        sends("seed"), {"object": "error", "type": "BadRequestError", "param": None, "code": 400,
        "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not permitted', 'input': 7}]"}, {"seed": ""}),
    "vllm, alternating roles": (
        system_role, {"object": "error", "message": "Conversation roles must alternate user/assistant/user/assistant/...", "code": 400}, {"system": "user"}),
    "vllm, pydantic list": (
        sends("seed", "top_logprobs"), detail(["body", "seed"], ["body", "top_logprobs"]), {"seed": "", "top_logprobs": ""}, {"status": 422}),
    "llama.cpp, 500": (
        sends("logprobs"), {"error": {"code": 500, "message": "logprobs is not supported with tools", "type": "server_error"}},
        {"logprobs": "", "top_logprobs": ""}, {"status": 500}),
    "llama.cpp, template": (
        system_role, {"error": {"code": 500, "message": "Jinja Exception: System role not supported", "type": "server_error"}}, {"system": "user"}, {"status": 500}),
    "tgi, temperature": (
        lambda body: body.get("temperature", 1) <= 0, {"error": "Input validation error: `temperature` must be strictly positive", "error_type": "validation"},
        {"temperature": "at least 0.01"}, {"status": 422, "request": GREEDY}),
    "tgi, top_p": (
        lambda body: not 0 < body.get("top_p", 0.9) < 1, {"error": "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"},
        {"top_p": ""}, {"status": 422, "request": GREEDY}),
    "tgi, stop sequences": (
        stops_over(3), {"error": "Input validation error: `stop` supports up to 3 stop sequences. Given: 4", "error_type": "validation"},
        {"stop": "at most 3"}, {"status": 422}),
    "ollama, text": (sends("logprobs"), "logprobs are not available for this model", {"logprobs": "", "top_logprobs": ""}),
    "ollama, error string": (sends("seed"), {"error": "invalid option provided: seed"}, {"seed": ""}),
    "lm studio": (
        sends("frequency_penalty"), {"error": "'frequency_penalty' field is not recognized"}, {"frequency_penalty": ""}),
    "mistral, seed": (
        sends("seed"), {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"],
        "msg": "Extra inputs are not permitted", "input": 7}]}, "type": "invalid_request_error"}, {"seed": ""}, {"status": 422}),
    "mistral, top_p when greedy": (
        lambda body: body.get("temperature") == 0 and "top_p" in body and body["top_p"] != 1,
        {"object": "error", "message": "top_p must be 1 when using greedy sampling.", "type": "invalid_request_message"},
        {"top_p": ""}, {"request": GREEDY}),
    "groq, logprobs": (sends("logprobs"), message("'logprobs' is not supported with this model"), {"logprobs": "", "top_logprobs": ""}),
    "groq, property": (
        sends("presence_penalty"), message("property 'presence_penalty' is unsupported, did you mean 'frequency_penalty'?"), {"presence_penalty": ""}),
    "groq, token limit": (
        tokens_over(512),
        message("`max_tokens` must be less than or equal to `512`, the maximum value for `max_tokens` is less than the `context_window` for this model"),
        {"max_tokens": "at most 512"}),
    "together": (
        sends("seed"), {"id": "x", "error": {"message": "Input validation error: seed is not allowed here", "type": "invalid_request_error", "param": None}},
        {"seed": ""}, {"status": 422}),
    "together, stops": (
        stops_over(1), {"error": {"message": "Input validation error: stop: List should have at most 1 item after validation, not 4", "param": None}},
        {"stop": "at most 1"}, {"status": 422}),
    "anthropic, both": (
        sends("temperature", "top_p"), {"type": "error", "error": {"type": "invalid_request_error",
        "message": "`temperature` and `top_p` cannot both be specified for this model. Please use only one."}}, {"top_p": ""}),
    "anthropic, blank stops": (
        blank_stop, message("stop_sequences: each stop sequence must contain non-whitespace", param=None, code=None), {"stop": "without blanks"}),
    "anthropic, extra": (
        sends("presence_penalty"), {"type": "error", "error": {"type": "invalid_request_error", "message": "presence_penalty: Extra inputs are not permitted"}},
        {"presence_penalty": ""}),
    "anthropic, tokens": (
        tokens_over(300), message("max_tokens: 1024 > 300, which is the maximum allowed number of output tokens for claude"), {"max_tokens": "at most 300"}),
    "gemini, penalty": (
        lambda body: {"presence_penalty", "frequency_penalty"} & set(body),
        [{"error": {"code": 400, "message": "Penalty is not enabled for models/m", "status": "INVALID_ARGUMENT"}}],
        {"frequency_penalty": "", "presence_penalty": ""}),
    "gemini, stops": (
        stops_over(3), [{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "* GenerateContentRequest.generation_config.stop_sequences: "
        "the number of stop sequences must be at most 3, got 4"}}], {"stop": "at most 3"}),
    "gemini, unknown name": (
        sends("seed"), [{"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}}], {"seed": ""}),
    "gemma on gemini": (
        system_role, [{"error": {"code": 400, "message": "Developer instruction is not enabled for models/gemma", "status": "INVALID_ARGUMENT"}}], {"system": "user"}),
    "gemini, camel case": (sends("top_p"), {"errors": [{"reason": "topP is not configurable for this model"}]}, {"top_p": ""}),
    "openrouter, in raw": (
        sends("logprobs"), {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": json.dumps(message("logprobs not supported"))}}},
        {"logprobs": "", "top_logprobs": ""}),
    "openrouter, 404": (
        sends("seed"), message("No endpoints found that support the parameter: seed"), {"seed": ""}, {"status": 404}),
    "with the status of an answer": (
        sends("seed"), {"error": {"message": "Provider returned error: seed is not a valid field", "code": 400}, "user_id": "x"}, {"seed": ""}, {"status": 200}),
    "bedrock behind a proxy": (
        sends("temperature", "top_p"), {"message": "The model returned the following errors: temperature and topP may not be combined"}, {"top_p": ""}),
    "cohere, several": (
        lambda body: {"seed", "top_logprobs"} & set(body), {"message": "unsupported parameters: seed, top_logprobs"}, {"seed": "", "top_logprobs": ""}),
    "deepseek, in Chinese": (sends("frequency_penalty"), message("参数frequency_penalty不受支持"), {"frequency_penalty": ""}),
    "in German": (sends("temperature"), {"detail": "Der Parameter »temperature« wird von diesem Modell nicht angenommen."}, {"temperature": ""}),
    "in Japanese, both": (sends("temperature", "top_p"), message("temperature と top_p は同時に指定できません"), {"top_p": ""}),
    "fastapi, type": (
        sends("stop"), detail(["body", "stop", "str"], msg="Input should be a valid string", kind="string_type"), {"stop": ""}, {"status": 422}),
    "allowed ones first": (
        sends("seed"), message("Supported parameters are: temperature, top_p, stop. You gave seed"), {"seed": ""}),
    "in prose and in quotes": (sends("seed"), message("Stop: the field \"seed\" has no business here"), {"seed": ""}),
    "completions, best of one": (
        sends("logprobs"), message("logprobs: 'best_of' servers give none"), {"logprobs": "", "top_logprobs": ""}, {"api": "completions"}),
    "least tokens": (
        lambda body: body["max_tokens"] < 16, message("Invalid 'max_tokens': integer below minimum value. Expected a value >= 16, but got 3 instead.", param="max_tokens"),
        {"max_tokens": "at least 16"}, {"request": GREEDY}),
}  # fmt: skip


def converse(refuses, payload, status=400, api="chat", request=STEP_1, count=1, **settings):
    """(the completions, what run.json records, the warnings, how often the server refused, the last body)."""
    refused = []

    def respond(body):
        if not refuses(body):
            return echo(body)
        refused.append(body)
        return Reply(status, payload if isinstance(payload, dict) else json.dumps(payload))

    with ScriptedServer(respond) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with connect("scripted", server.url, api=api, **settings) as client:
            completions = client.complete(asks(count, **request))
            adapted = client.describe()["adapted"]
    return completions, adapted, [str(one.message) for one in caught], refused, server.bodies[-1]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused_is_changed_and_nothing_else(store, name):
    refuses, payload, adapted, *more = REFUSALS[name]
    completions, found, said, refused, last = converse(refuses, payload, store=store, **(more[0] if more else {}))
    assert completions[0].error is None and completions[0].text
    assert found == adapted
    assert len(refused) == 1 + (name == "allowed ones first")
    assert len(said) == len(set(adapted) - ({"top_logprobs"} if "logprobs" in adapted else set()))
    untouched = {"temperature", "top_p", "stop", "seed", "frequency_penalty", "presence_penalty"} - set(adapted)
    assert untouched <= set(last)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_parameter_is_refused_once_at_any_concurrency(store, concurrency):
    refuses, payload, adapted = REFUSALS["openai, no stop"]
    completions, found, said, refused, _ = converse(refuses, payload, count=40, store=store, concurrency=concurrency)
    assert (len(completions), found, len(said), len(refused)) == (40, adapted, 1, 1)


def test_the_next_notebook_of_a_run_does_not_ask_again(store, tmp_path):
    refuses, payload, adapted = REFUSALS["openai, no stop"]
    model = {"model": "scripted", "api": "chat", "adapted": adapted}
    run = RunFolder(tmp_path, "03_identify_classification", {"model": "scripted", "api": "chat"})
    run.note(model=model)
    known = run.arguments(connect)["adapted"]
    _, found, said, refused, _ = converse(refuses, payload, store=store, adapted=known)
    assert (found, said, refused) == (adapted, [], [])
    other = RunFolder(tmp_path, "14_review_quality", {"rater_model": "scripted", "api": "chat"})
    assert other.arguments(connect)["adapted"] == {}


def test_whitespace_stops_that_are_not_sent_are_applied_here(store):
    def respond(body):
        return Reply(400, REFUSALS["anthropic, blank stops"][1]) if blank_stop(body) else " one\n\ntwo"

    with ScriptedServer(respond) as server, connect("scripted", server.url, api="chat", store=store) as client:
        with pytest.warns(UserWarning, match="refuses stop"):
            (completion,) = client.complete([ask(stop=("\n\n", "END"))])
    assert (completion.text, server.bodies[-1]["stop"]) == (" one", ["END"])


def test_a_system_message_goes_in_front_of_the_users(store):
    *_, last = converse(*REFUSALS["vllm, alternating roles"][:2], store=store)
    (only,) = last["messages"]
    assert only["role"] == "user" and only["content"].startswith("You are") and only["content"].endswith("prompt 0")


UNKNOWN = {
    "no parameter": message("The flux capacitor is cold"),
    "a field that the kit does not send": message("temperature is fine, messages are not", param="messages"),
    "a name that helps nothing": message("I stop here: the temperature of the room is 40 degrees"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_refusal_is_an_error_in_the_servers_own_words(store, name):
    words = UNKNOWN[name]["error"]["message"]
    with ScriptedServer(lambda body: Reply(400, UNKNOWN[name])) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        with connect("scripted", server.url, api="chat", store=store) as client:
            with pytest.raises(EndpointError, match=f"400: {words}"):
                client.complete([ask(**STEP_1)])
            assert client.describe()["adapted"] == {}
    assert len(server.bodies) <= 4


def test_a_wrong_guess_is_undone(store):
    """The message names what is allowed first, in words that the kit does not know."""
    refuses, payload = sends("seed"), message("temperature und stop sind recht, seed nicht")
    _, adapted, said, _, last = converse(refuses, payload, store=store)
    assert adapted == {"seed": ""} and len(said) == 1 and {"temperature", "stop"} <= set(last)


def test_a_limit_that_is_read_wrongly_costs_the_stops_and_not_the_run(store):
    _, adapted, *_ = converse(sends("stop"), message("at most 3 of 'stop' in a leap year", param="stop"), store=store)
    assert adapted == {"stop": ""}


def test_changes_of_an_older_store_are_read():
    adaptation = Adaptation({"max_tokens": "max_completion_tokens", "stop": ""})
    sent = adaptation.adapt({"max_tokens": 5, "stop": ["x"], "messages": [{"role": "user", "content": "p"}]})
    assert sent == {"max_completion_tokens": 5, "messages": [{"role": "user", "content": "p"}]}


@pytest.mark.parametrize(
    "body",
    ["", "null", "42", "[]", "[" * 100_000, "[" * 500 + "]" * 500, '{"error": {"error": {"error": null}}}', "\udcff"],
)
def test_an_error_with_nothing_to_read_is_still_an_error(store, body):
    with ScriptedServer(lambda _: Reply(400, body.encode("utf-8", "surrogateescape"))) as server:
        with (
            connect("scripted", server.url, api="chat", store=store) as client,
            pytest.raises(EndpointError, match="400: "),
        ):
            client.complete([ask(**STEP_1)])
    assert len(server.bodies) == 1


def test_the_echo_of_a_request_is_not_read():
    body = {"detail": [{"loc": ["body"], "msg": "bad", "input": {"temperature": 1}}], "model": "stop"}
    assert read_refusal(SimpleNamespace(body=body)).text == "bad"


def test_a_first_request_that_hangs_holds_the_others_for_seconds_only(store, monkeypatch):
    monkeypatch.setattr("selfinstruct.servers.adaptation.HEAD_START_S", 0.2)
    waits = iter([1.0])

    def respond(body):
        return Reply(body=json.dumps(answer(body, " x")).encode(), delay_s=next(waits, 0))

    with ScriptedServer(respond) as server, connect("scripted", server.url, store=store, concurrency=4) as client:
        started = time.monotonic()
        arrived = []
        client.on_progress = lambda answered, *_: arrived.append((answered, time.monotonic() - started))
        client.complete(asks(9))
    assert next(at for answered, at in arrived if answered == 8) < 0.9


@pytest.mark.slow
def test_a_whole_run_is_refused_once_and_says_so_in_run_json(tmp_path):
    refused = []

    def strict(body):
        if "stop" in body:
            refused.append(body)
            return Reply(400, REFUSALS["openai, no stop"][1])
        return scripted_model(body)

    with ScriptedServer(strict) as server:
        given = {
            "model": "scripted",
            "base_url": server.url,
            "store": str(tmp_path / "store.sqlite"),
            "num_instructions_to_generate": "8",
        }
        run_notebooks(
            tmp_path / "run", {**given, "check_against_seed_tasks": "4"}, only=["02", "03"], out=lambda line: None
        )
    assert len(refused) == 1
    assert RunFolder(tmp_path / "run").state["model"]["adapted"] == {"stop": ""}
    said = [
        path.read_text().count("the model refuses stop")
        for path in sorted((tmp_path / "run" / "notebooks").glob("*.ipynb"))
    ]
    assert [count > 0 for count in said] == [True, False]
