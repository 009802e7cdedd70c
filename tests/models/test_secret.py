"""The provider's key is sent to the provider and shows nowhere: a whole run folder is searched for it, good runs and bad."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.bootstrapping import scripted_model
from helpers.scripted import Reply, ScriptedServer

from selfinstruct.files import SelfInstructError
from selfinstruct.runner.run import run_notebooks

KEY = "sk-proj-a-very-secret-key-9876543210"


def searched(folder: Path) -> list[str]:
    """Files below `folder` that hold the key."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(url): notebooks 02 and 03 against a scripted model, with the key in the environment; what they print."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said: list[str] = []

    def start(url: str) -> str:
        parameters = {
            "model": "scripted",
            "base_url": url,
            "store": str(tmp_path / "store.sqlite"),
            "num_instructions_to_generate": "8",
        }
        parameters |= {"check_against_seed_tasks": "4"}
        try:
            run_notebooks(tmp_path / "run", parameters, only=["02", "03"], out=said.append)
        except SelfInstructError as error:
            said.append(str(error))
        return "\n".join(said)

    return start


def test_a_good_run_holds_no_key(run, tmp_path):
    def model_that_repeats_the_key(body):
        return scripted_model(body) + (f" {KEY}" if "Is it classification?" in body["prompt"] else "")

    with ScriptedServer(model_that_repeats_the_key) as server:
        said = run(server.url)
    assert any(KEY in header for headers in server.headers for header in headers.values())
    assert (tmp_path / "run" / "notebooks" / "03_identify_classification.ipynb").is_file(), said
    assert searched(tmp_path) == [] and KEY not in said


def test_a_run_that_fails_holds_no_key(run, tmp_path):
    refusals = [
        Reply(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}),
        Reply(400, {"error": {"message": f"{KEY}?"}}),
    ]
    for refusal in refusals:
        with ScriptedServer(lambda body, refusal=refusal: refusal) as server:
            said = run(server.url)
        assert "refused" in said or "every request failed" in said
    assert list((tmp_path / "run").rglob("02_*.ipynb"))  # the notebook with its error is kept
    assert searched(tmp_path) == [] and KEY not in said


def test_an_address_with_a_password_is_refused_as_a_parameter(run, tmp_path):
    with ScriptedServer(scripted_model) as server:
        said = run(server.url.replace("//", f"//ann:{KEY}@"))
    assert server.bodies == [] and "OPENAI_BASE_URL" in said
    assert searched(tmp_path) == [] and KEY not in said


def test_an_address_with_a_password_in_the_environment_shows_nowhere(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with ScriptedServer(scripted_model) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("//", f"//ann:{KEY}@") + f"?api-key={KEY}")
        said = run("")
    assert server.bodies and (tmp_path / "run" / "notebooks" / "03_identify_classification.ipynb").is_file(), said
    assert searched(tmp_path) == [] and KEY not in said
    assert not any(b"ann:" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_that_cannot_be_one_is_not_in_the_notebook(run, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n{KEY}2")
    with ScriptedServer(scripted_model) as server:
        said = run(server.url)
    assert "OPENAI_API_KEY holds a line break" in said and server.bodies == []
    assert list((tmp_path / "run").rglob("02_*.ipynb"))
    assert searched(tmp_path) == [] and KEY not in said
