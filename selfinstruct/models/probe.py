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
from .protocol import build_body, read_text

PROBE = Request(prompt="1, 2, 3, 4, 5,", max_tokens=12, temperature=0.0, top_p=1.0)
Judge = Callable[[dict[str, Any]], tuple[bool, str]]  # a choice of the answer -> (does it work, what came)


@dataclass(frozen=True)
class Finding:
    """One capability: does it work, and what came back."""

    name: str
    works: bool
    says: str

    def line(self) -> str:
        """The finding as the terminal shows it."""
        return f"{'works' if self.works else 'no':8} {self.name:12} {self.says}"


def probe_endpoint(model: str = "embedded", base_url: str = "", timeout_s: float = 60.0) -> list[Finding]:
    """What `model` at `base_url` can do; nothing is written to the store. At most seven calls of 12 tokens.

    Raises EndpointError if neither completions nor chat works, with what the server answered to both.
    """
    endpoints = [find_endpoint(model, base_url, api, timeout_s=timeout_s) for api in ("completions", "chat")]
    try:
        findings = [_try_call(one.api, one, _judge_text) for one in endpoints]
        working = [one for one, finding in zip(endpoints, findings, strict=True) if finding.works]
        if not working:
            raise EndpointError("; ".join(f"{finding.name}: {finding.says}" for finding in findings))
        return [*findings, *_try_details(working[0])]
    finally:
        for endpoint in endpoints:
            endpoint.close()


def _try_details(endpoint: Endpoint) -> Iterator[Finding]:
    """logprobs, stop and seed, on the api that the kit would use."""
    yield _try_call("logprobs", endpoint, _judge_logprobs, logprobs=1)
    yield _try_call("stop", endpoint, _judge_stop, stop=(" 7", "7"))
    first, second = (_try_call("seed", endpoint, _judge_text, seed=7, temperature=1.0) for _ in range(2))
    if not (first.works and second.works):
        yield first
    elif first.says == second.says:
        yield Finding("seed", True, "two equal calls gave equal texts")
    else:
        yield Finding("seed", False, "accepted, but two equal calls gave different texts: replay from the store")


def _try_call(name: str, endpoint: Endpoint, judge: Judge, **changes: Any) -> Finding:
    """One call. A refused parameter counts as not working, although the client would adapt to it."""
    endpoint.adaptation = Adaptation()
    body = build_body(PROBE.model_copy(update=changes), endpoint.model, endpoint.api)
    try:
        with warnings.catch_warnings(action="ignore"):
            answer = endpoint.ask(body, threading.Event())
    except (RequestFailed, EndpointError) as error:
        if isinstance(error, EndpointError) and not (name == endpoint.api and "(404" in str(error)):
            raise
        return Finding(name, False, str(error))
    adapted = endpoint.adaptation.changes
    if name in adapted:
        return Finding(name, False, "the model refuses the parameter; the kit does without it")
    works, says = judge(answer["choices"][0])
    others = ", ".join(sorted({"max_tokens", "temperature"} & set(adapted)))
    return Finding(name, works, says + (f" (adapted: {others})" if others else ""))


def _judge_text(choice: dict[str, Any]) -> tuple[bool, str]:
    text = read_text(choice)
    return bool(text.strip()), repr(text[:60]) if text.strip() else "an empty text came back"


def _judge_logprobs(choice: dict[str, Any]) -> tuple[bool, str]:
    came = bool(choice.get("logprobs"))
    return came, "log-probabilities came back" if came else "accepted, but none came back"


def _judge_stop(choice: dict[str, Any]) -> tuple[bool, str]:
    text = read_text(choice)
    if "7" not in text:
        return True, "the text ends before the stop"
    return False, f"ignored ({text[:30]!r}); the kit applies stops itself, too"
