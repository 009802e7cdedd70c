"""A client in a cell on a cluster: the sweep's command answers for it, without a key here, and what it says is obeyed."""

from __future__ import annotations

import json

import pytest
from helpers.scripted import MODEL, Reply, ScriptedServer

from selfinstruct.files import EndpointError, SelfInstructError, StoppedEarly
from selfinstruct.models import connect
from selfinstruct.models.door import DOOR_VARIABLE, STORE_VARIABLE
from selfinstruct.models.protocol import StoredResponse
from selfinstruct.models.store import ResponseStore
from selfinstruct.records import Request

ASK = Request(prompt="Name a bird.", max_tokens=5, temperature=0, top_p=1)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A stand-in for the sweep's command: (its store, the calls that came, what it says instead, or {})."""
    store, calls, says = ResponseStore(tmp_path / "one.sqlite"), [], {}

    def respond(method: str, path: str, raw: bytes) -> Reply:
        name, *arguments = json.loads(raw)
        calls.append(name)
        if says:
            return Reply(body=dict(says))
        if name == "settle":
            return Reply(body={"row": store.settle(StoredResponse(**arguments[0])).model_dump()})
        found = store.get_many([arguments[0]])
        return Reply(body={"row": found[arguments[0]].model_dump()} if found else {"mine": True})

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ScriptedServer(lambda body: " A wren.") as server, ScriptedServer(str, route=respond) as door:
        with connect(MODEL, server.url, store=tmp_path / "one.sqlite") as client:
            client.complete([ASK])
        monkeypatch.setenv(DOOR_VARIABLE, door.url)
        monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "scratch.sqlite"))
        server.bodies.clear()
        yield server, calls, says


def test_the_command_answers_and_no_model_is_asked_here(command, tmp_path):
    server, calls, _ = command
    with connect(MODEL, server.url, store=tmp_path / "named.sqlite") as client:
        [completion] = client.complete([ASK])
    assert completion.text == " A wren." and calls == ["ask"] and server.bodies == []
    assert not (tmp_path / "named.sqlite").exists()  # the worker keeps its answers in a scratch file
    assert len(ResponseStore(tmp_path / "scratch.sqlite")) == 1


@pytest.mark.parametrize(("word", "kind"), [("stopped", StoppedEarly), ("error", EndpointError)])
def test_a_limit_and_a_missing_model_end_the_cell(command, word, kind):
    server, _, says = command
    says[word] = "max_tokens_total reached"
    with connect(MODEL, server.url) as client, pytest.raises(kind, match="max_tokens_total reached"):
        client.complete([ASK])


def test_a_request_that_failed_is_a_failure_here_too(command):
    server, _, says = command
    says["failed"] = "the server answered 422"
    with connect(MODEL, server.url) as client, pytest.raises(EndpointError, match=r"every request failed.*422"):
        client.complete([ASK])


def test_the_embedded_model_is_asked_here_and_its_answer_goes_to_the_one_store(command, tmp_path, monkeypatch):
    _, calls, _ = command
    with connect("embedded") as client:
        answer = {"choices": [{"text": " A lark.", "finish_reason": "stop"}], "usage": {}}
        monkeypatch.setattr(client.endpoint, "ask", lambda body, stopped: answer)
        assert client.complete([ASK])[0].text == " A lark."
    assert calls == ["claim", "settle"] and len(ResponseStore(tmp_path / "one.sqlite")) == 2
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "another.sqlite"))
    with connect("embedded") as client:
        monkeypatch.setattr(client.endpoint, "ask", lambda body, stopped: pytest.fail("it is known"))
        assert client.complete([ASK])[0].text == " A lark."


def test_a_command_that_is_gone_is_named(command, monkeypatch):
    monkeypatch.setenv(DOOR_VARIABLE, "http://127.0.0.1:9/none")
    with (
        connect(MODEL, command[0].url) as client,
        pytest.raises(SelfInstructError, match="sweep's command does not answer"),
    ):
        client.complete([ASK])
