"""What an endpoint can do, found out by a few tiny calls: completions, chat, logprobs, stop, seed.

for finding in probe_endpoint("a-model", "vllm"):
    print(finding.line())
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..files import EndpointError
from ..records import Request
from .adaptation import Adaptation
from .endpoint import Endpoint, RequestFailed, find_endpoint
from .protocol import request_body

PROBE = Request(prompt="1, 2, 3, 4, 5,", max_tokens=12, temperature=0.0, top_p=1.0)


@dataclass(frozen=True)
class Finding:
    """One capability: whether it works, and what was seen."""

    name: str
    works: bool
    says: str

    def line(self) -> str:
        """The finding as the terminal shows it."""
        return f"{'works' if self.works else 'no':8} {self.name:12} {self.says}"


def probe_endpoint(model: str = "embedded", base_url: str = "", timeout_s: float = 60.0) -> list[Finding]:
    """What `model` at `base_url` can do; nothing is written to the store. At most seven calls of 12 tokens.

    Raises EndpointError where neither completions nor chat works, with what the server said to both.
    """
    open_api = {api: find_endpoint(model, base_url, api, timeout_s=timeout_s) for api in ("completions", "chat")}
    try:
        findings = [_try(api, endpoint, PROBE, _text_came) for api, endpoint in open_api.items()]
        working = [api for api, finding in zip(open_api, findings, strict=True) if finding.works]
        if not working:
            raise EndpointError("; ".join(f"{finding.name}: {finding.says}" for finding in findings))
        return findings + list(_details(open_api[working[0]], working[0]))
    finally:
        for endpoint in open_api.values():
            endpoint.close()


def _details(endpoint: Endpoint, api: str) -> Iterator[Finding]:
    """logprobs, stop and seed, on the api that the kit would use."""
    yield _try("logprobs", endpoint, PROBE.model_copy(update={"logprobs": 1}), _logprobs_came)
    yield _try("stop", endpoint, PROBE.model_copy(update={"stop": (" 7", "7")}), lambda choice: _stopped(choice, "7"))
    seeded = PROBE.model_copy(update={"seed": 7, "temperature": 1.0})
    first = _try("seed", endpoint, seeded, _text_came)
    second = _try("seed", endpoint, seeded, _text_came)
    if first.works and second.works:
        same = first.says == second.says
        says = (
            "two equal calls gave equal texts"
            if same
            else "taken, but two equal calls gave different texts: replay from the store"
        )
        first = Finding("seed", same, says)
    yield first


def _try(
    name: str, endpoint: Endpoint, request: Request, judge: Callable[[dict[str, Any]], tuple[bool, str]]
) -> Finding:
    """One call. A refused parameter counts as not working, although the client would adapt to it."""
    endpoint.adaptation = Adaptation()
    body = request_body(request, endpoint.model, endpoint.api)
    try:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            answer = endpoint.ask(body, threading.Event())
    except RequestFailed as error:
        return Finding(name, False, str(error))
    except EndpointError as error:
        if name not in ("completions", "chat") or "(404" not in str(error):
            raise
        return Finding(name, False, str(error))
    refused = sorted(set(endpoint.adaptation.changes) & {name, "max_tokens", "temperature"})
    works, says = judge(answer["choices"][0])
    if name in refused:
        return Finding(name, False, "the model refuses the parameter; the kit does without it")
    return Finding(name, works, says + (f" (adapted: {', '.join(refused)})" if refused else ""))


def _text_of(choice: dict[str, Any]) -> str:
    return choice.get("text") or (choice.get("message") or {}).get("content") or ""


def _text_came(choice: dict[str, Any]) -> tuple[bool, str]:
    text = _text_of(choice)
    return bool(text.strip()), repr(text[:60]) if text.strip() else "an empty text came back"


def _logprobs_came(choice: dict[str, Any]) -> tuple[bool, str]:
    came = bool(choice.get("logprobs"))
    return came, "log-probabilities came back" if came else "taken, but none came back"


def _stopped(choice: dict[str, Any], stop: str) -> tuple[bool, str]:
    text = _text_of(choice)
    came = stop not in text
    return (
        came,
        "the text ends before the stop" if came else f"ignored ({text[:30]!r}); the kit applies stops itself, too",
    )
