"""The probe: what works is told as working, what is refused, ignored or missing is not."""

from __future__ import annotations

import pytest
from helpers.scripted import Reply, ScriptedServer, answer

from selfinstruct.files import EndpointError
from selfinstruct.models.probe import probe_endpoint


def capable(body: dict) -> dict:
    """A model with everything: honours stop, gives logprobs, repeats itself."""
    text = " 6," if "stop" in body else " 6, 7, 8"
    reply = answer(body, text)
    reply["choices"][0]["logprobs"] = {"tokens": [" 6"]} if body.get("logprobs") else None
    return reply


def findings(respond) -> dict[str, bool]:
    with ScriptedServer(respond) as server:
        found = probe_endpoint("scripted", server.url)
        assert len(server.bodies) <= 8
    assert all(finding.line() for finding in found)
    return {finding.name: finding.works for finding in found}


def test_a_capable_server_has_everything():
    assert findings(capable) == {"completions": True, "chat": True, "logprobs": True, "stop": True, "seed": True}


def test_what_is_ignored_is_told():
    texts = iter(range(100))
    assert findings(lambda body: answer(body, f" 6, 7, {next(texts)}")) == {
        "completions": True, "chat": True, "logprobs": False, "stop": False, "seed": False,
    }  # fmt: skip


def test_a_refused_parameter_is_told():
    def reasoning(body):
        if "stop" in body:
            return Reply(400, {"error": {"message": "Unsupported parameter: 'stop'", "param": "stop"}})
        return capable(body)

    assert findings(reasoning)["stop"] is False


def test_a_chat_only_server_is_probed_by_chat():
    def chat_only(body):
        return capable(body) if "messages" in body else Reply(404, {"error": {"message": "not a completions model"}})

    assert findings(chat_only) == {"completions": False, "chat": True, "logprobs": True, "stop": True, "seed": True}


def test_a_server_without_either_is_an_error_that_quotes_it():
    server = ScriptedServer(lambda body: Reply(404, {"error": {"message": "who?"}}))
    with server, pytest.raises(EndpointError, match=r"completions: .*who\?.*chat: .*who\?"):
        probe_endpoint("scripted", server.url)


def test_a_server_that_is_down_is_an_error():
    with pytest.raises(EndpointError, match="no server answers there"):
        probe_endpoint("scripted", "http://127.0.0.1:9/v1")


def test_what_is_adapted_on_the_way_is_told():
    def strict(body):
        if any(message["role"] == "system" for message in body.get("messages", [])):
            return Reply(400, {"error": {"message": "System role not supported"}})
        return capable(body)

    with ScriptedServer(strict) as server:
        lines = [finding.line() for finding in probe_endpoint("scripted", server.url)]
    assert any("works    chat" in line and "(adapted: system)" in line for line in lines)
