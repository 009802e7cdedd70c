"""Adapters of the embedded server: all loaded at scale 0, one chosen by each client, known to the store by their content."""

from __future__ import annotations

import pytest
from helpers.asking import ask
from helpers.scripted import ScriptedServer
from helpers.trained import write_adapter, write_base

from selfinstruct.files import EndpointError, ParameterError
from selfinstruct.models import embedded
from selfinstruct.models.connection import connect
from selfinstruct.models.embedded import EmbeddedServer, build_params, find_adapter


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path)


@pytest.fixture
def served(monkeypatch):
    """A scripted server in the place of llama.cpp's; `starts` has the arguments of every start."""
    starts = []
    with ScriptedServer(lambda body: " yes") as server:

        def serve(weights, slots, deterministic, adapters=()):
            starts.append(adapters)
            return EmbeddedServer(server.url, weights, slots, 1, 0)

        monkeypatch.setattr(embedded, "serve", serve)
        server.starts = starts
        yield server


def ask_all(base, store, **which):
    with connect(str(base), store=store, **which) as client:
        client.complete([ask()])
        return client


def test_a_client_chooses_one_of_all_adapters_and_the_base_none(base, store, tmp_path, served):
    one, two = (write_adapter(tmp_path / f"{n}.gguf", n.encode()) for n in "ab")
    ask_all(base, store, adapters=[one, two])
    ask_all(base, store, adapter=two, adapters=[one, two])
    ask_all(base, store, adapter=one, adapters=[one, two], adapter_scale=0.5)
    scales = [[(entry["id"], entry["scale"]) for entry in body["lora"]] for body in served.bodies]
    assert scales == [[(0, 0.0), (1, 0.0)], [(0, 0.0), (1, 1.0)], [(0, 0.5), (1, 0.0)]]
    assert [[path for path, _ in start] for start in served.starts] == [[one, two]] * 3


def test_without_adapters_a_request_is_what_it_was(base, store, served):
    ask_all(base, store)
    assert "lora" not in served.bodies[0] and served.starts == [[]]


def test_the_key_has_content_and_scale_and_neither_number_nor_place(base, store, tmp_path, served):
    one, other = (write_adapter(tmp_path / f"{n}.gguf", n.encode()) for n in "ab")
    moved = write_adapter(tmp_path / "elsewhere/adapter.gguf", b"a")
    keys = [
        ask_all(base, store, **which).keys
        for which in (
            {"adapter": one}, {"adapter": one, "adapters": [other, one]}, {"adapter": moved, "adapters": [other]},
            {"adapter": other}, {"adapter": one, "adapter_scale": 0.5}, {"adapters": [one, other]}, {},
        )
    ]  # fmt: skip
    assert keys[0] == keys[1] == keys[2]
    assert keys[5] == keys[6]
    assert len({key for (key,) in keys}) == 4
    assert len(served.bodies) == 4, "what is in the store is not asked again"


def test_a_server_is_started_only_for_what_the_store_does_not_hold(base, store, tmp_path, served):
    adapter = write_adapter(tmp_path / "a.gguf")
    ask_all(base, store, adapter=adapter)
    served.starts.clear()
    assert ask_all(base, store, adapter=adapter).replayed
    assert served.starts == []


def test_run_json_gets_the_adapter(base, store, tmp_path, served):
    adapter = write_adapter(tmp_path / "a.gguf")
    client = ask_all(base, store, adapter=adapter)
    assert client.describe()["adapter"] == {"sha256": find_adapter(adapter).sha256, "scale": 1.0}
    assert str(tmp_path) not in str(client.describe())
    assert "adapter" not in ask_all(base, store).describe()


def test_a_retrained_adapter_gets_another_server(tmp_path, base, monkeypatch):
    """Under the same name lies other content, and the server that runs has the old one."""
    entries = []
    monkeypatch.setattr(embedded, "_registry", lambda: tmp_path)
    monkeypatch.setattr(embedded, "_find_running", lambda entry: entries.append(entry) or True)
    path = write_adapter(tmp_path / "a.gguf")
    for sha256 in ("one", "two", "one"):
        embedded.serve(base, adapters=[(path, sha256)])
    assert entries[0] == entries[2] != entries[1]


def test_the_server_loads_them_at_scale_0(base, tmp_path):
    path = write_adapter(tmp_path / "a.gguf")
    (loaded,) = build_params(base, adapters=[str(path)]).lora_adapters
    assert loaded.scale == 0.0 and str(loaded.path) == str(path)


def test_what_is_no_adapter_is_refused_before_anything_starts(base, store, tmp_path):
    with pytest.raises(EndpointError, match=r"none\.gguf: no such adapter; notebook 06"):
        connect(str(base), store=store, adapter=tmp_path / "none.gguf")
    with pytest.raises(EndpointError, match="not an adapter in GGUF form"):
        connect(str(base), store=store, adapter=base)
    adapter = write_adapter(tmp_path / "a.gguf")
    with pytest.raises(ParameterError, match="adapter_scale=-1"):
        connect(str(base), store=store, adapter=adapter, adapter_scale=-1)
    with pytest.raises(ParameterError, match="only the embedded server loads adapters"):
        connect("gpt", "http://127.0.0.1:9/v1", store=store, adapter=adapter)


def test_as_message_sends_a_chat_the_bare_prompt_and_keeps_its_answer(store):
    with ScriptedServer(lambda body: "Sure! Here it is:\n\nNile") as server:
        with connect("m", server.url, api="chat", store=store) as client:
            texts = [one.text for one in client.complete([ask("Name a river."), ask("Name a river.", as_message=True)])]
        sent = {len(body["messages"]): body["messages"][-1]["content"] for body in server.bodies}
    assert sent == {2: "Name a river.", 1: "Name a river."}
    assert texts[1] == "Sure! Here it is:\n\nNile" != texts[0]
