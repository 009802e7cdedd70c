"""What an endpoint can do, found out by a few tiny calls: completions, chat, logprobs, stop, seed.

for finding in probe_endpoint("a-model", "vllm"):
    print(finding.line())
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..files import EndpointError
from ..records import Request
from ..servers.adaptation import Adaptation
from .answers import read_text
from .endpoint import Endpoint, RequestFailed, find_endpoint
from .protocol import build_body

PROBE = Request(prompt="1, 2, 3, 4, 5,", max_tokens=12, temperature=0.0, top_p=1.0)
FaultFinder = Callable[[dict[str, Any]], str]  # a choice of the answer -> what is wrong with it, "" if it is right


class Finding(NamedTuple):
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
        findings = [_try_call(one.api, one) for one in endpoints]
        working = [one for one, finding in zip(endpoints, findings, strict=True) if finding.works]
        if not working:
            raise EndpointError("; ".join(f"{finding.name}: {finding.says}" for finding in findings))
        return [*findings, *_try_details(working[0])]
    finally:
        for endpoint in endpoints:
            endpoint.close()


def _try_details(endpoint: Endpoint) -> Iterator[Finding]:
    """logprobs, stop and seed, on the api that the kit would use."""
    yield _try_call("logprobs", endpoint, _find_no_logprobs, logprobs=1)
    yield _try_call("stop", endpoint, _find_ignored_stop, stop=(" 7", "7"))
    first, second = (_try_call("seed", endpoint, seed=7, temperature=1.0) for _ in range(2))
    if first.works and second.works and first.says != second.says:
        first = Finding("seed", False, "accepted, but two equal calls gave different texts: replay from the store")
    yield first


def _find_no_logprobs(choice: dict[str, Any]) -> str:
    return "" if choice.get("logprobs") else "accepted, but none came back"


def _find_ignored_stop(choice: dict[str, Any]) -> str:
    text = read_text(choice)
    return f"ignored ({text[:30]!r}); the kit applies stops itself, too" if "7" in text else ""


def _find_no_text(choice: dict[str, Any]) -> str:
    return "" if read_text(choice).strip() else "an empty text came back"


def _try_call(name: str, endpoint: Endpoint, find_fault: FaultFinder = _find_no_text, **changes: Any) -> Finding:
    """One call. A refused parameter counts as not working, although the client would adapt to it."""
    endpoint.adaptation = Adaptation()
    body = build_body(PROBE.model_copy(update=changes), endpoint.model, endpoint.api)
    try:
        with warnings.catch_warnings(action="ignore"):
            choice = endpoint.ask(body, threading.Event())["choices"][0]
    except (RequestFailed, EndpointError) as error:
        if isinstance(error, EndpointError) and not (name == endpoint.api and "(404" in str(error)):
            raise
        return Finding(name, False, str(error))
    adapted = endpoint.adaptation.changes
    if name in adapted:
        return Finding(name, False, "the model refuses the parameter; the kit does without it")
    if fault := find_fault(choice):
        return Finding(name, False, fault)
    others = ", ".join(sorted(adapted))
    return Finding(name, True, repr(read_text(choice)[:60]) + (f" (adapted: {others})" if others else ""))
