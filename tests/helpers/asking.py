"""Requests for tests, and the simplest model that answers them."""

from __future__ import annotations

from helpers.scripted import prompt_of

from selfinstruct.models.protocol import build_stored_response, make_job
from selfinstruct.records import Request

ANSWER = {
    "choices": [{"text": " é 漢", "index": 0, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def ask(prompt: str = "p", **changes) -> Request:
    return Request(prompt=prompt, **{"max_tokens": 8, "temperature": 0.5, "top_p": 1.0, **changes})


def asks(count: int, **changes) -> list[Request]:
    return [ask(f"prompt {number}", **changes) for number in range(count)]


def echo(body: dict) -> str:
    return f" {prompt_of(body)}!"


def row(prompt: str = "p", **changes):
    request = Request(prompt=prompt, **{"max_tokens": 5, "temperature": 0.5, "top_p": 1.0, **changes})
    job = make_job(request, "m", "completions", "http://host/v1")
    return build_stored_response(
        job, ANSWER, endpoint="http://host/v1", step="1", latency_s=0.1, transport="live", session="s"
    )
