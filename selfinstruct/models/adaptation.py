"""Adapting to models that refuse parameters: each adaptation is learnt once, warned about once, and never silent.

Models that reason refuse `stop`, `temperature` or `max_tokens`; small servers know no `logprobs`. What can be done
without (stops are applied on our side as well) is left out; `max_tokens` becomes `max_completion_tokens`.
"""

from __future__ import annotations

import re
import threading
import warnings
from typing import Any

# left out when refused; the order is that of the search in the server's message
OPTIONAL = ("stop", "temperature", "top_p", "frequency_penalty", "presence_penalty", "top_logprobs", "logprobs", "seed")
REFUSAL = re.compile(
    r"unsupported|not\s+(?:be\s+)?(?:support|permit|allow|recogni|accept|available|compatible)|unknown|unrecogni|unexpected|"
    r"only the default|extra inputs?|(?:does|do|did)(?:n't| not) (?:support|accept|allow|take)|refuse|invalid (?:parameter|field|argument)",
    re.IGNORECASE,
)
OUT_OF_RANGE = re.compile(r"must be|greater than|should be", re.IGNORECASE)
TOO_LONG = re.compile(
    r"context[_ ](?:length|window|size)|reduce (?:your prompt|the length)|maximum context|too many tokens",
    re.IGNORECASE,
)


class Adaptation:
    """What one model has been found to refuse. For any number of threads."""

    def __init__(self, changes: dict[str, str] | None = None) -> None:
        self._changes = dict(changes or {})  # refused name -> the name to send instead, "" to leave it out
        self._warned: set[str] = set()
        self._lock = threading.Lock()

    @property
    def changes(self) -> dict[str, str]:
        """refused parameter -> what is sent instead ("" = nothing); for run.json."""
        return dict(self._changes)

    def applied(self, body: dict[str, Any]) -> dict[str, Any]:
        """`body` as this model takes it."""
        if not self._changes:
            return body
        renamed = {self._changes.get(name, name): value for name, value in body.items()}
        renamed.pop("", None)
        return renamed

    def learn(self, error: Any, sent: dict[str, Any], body: dict[str, Any]) -> bool:
        """Whether sending `body` again is worth it: the server refuses a parameter that can be adapted, or was adapted meanwhile."""
        if self.applied(body) != sent:
            return True
        name = refused_parameter(error, sent)
        if name is None:
            return False
        instead = "max_completion_tokens" if name == "max_tokens" else ""
        with self._lock:
            self._changes[name] = instead
            if name == "logprobs":
                self._changes["top_logprobs"] = ""
        self._warn(
            name, f"the model refuses {name}: the kit " + (f"sends {instead} instead" if instead else _without(name))
        )
        return True

    def too_long(self, error: Any, sent: dict[str, Any]) -> bool:
        """Whether the prompt and its completion do not fit the model; the released code then asks for four fifths."""
        if not TOO_LONG.search(_said(error)) or sent.get("max_tokens", sent.get("max_completion_tokens", 0)) < 2:
            return False
        self._warn("length", "a prompt and its completion do not fit the model together: the kit asks for fewer tokens")
        return True

    def _warn(self, name: str, text: str) -> None:
        with self._lock:
            if name in self._warned:
                return
            self._warned.add(name)
        warnings.warn(text, stacklevel=2)


def _without(name: str) -> str:
    return "leaves it out and applies the stops itself" if name == "stop" else "leaves it out, so its own default holds"


def refused_parameter(error: Any, sent: dict[str, Any]) -> str | None:
    """The parameter of `sent` that the server's error refuses and that can be adapted, or None."""
    said = _said(error)
    named = _named(error, said, sent)
    if named is None or (named == "max_tokens" and "messages" not in sent):
        return None
    if REFUSAL.search(said):
        return named
    return named if named == "top_p" and not sent["top_p"] and OUT_OF_RANGE.search(said) else None


def _named(error: Any, said: str, sent: dict[str, Any]) -> str | None:
    """The parameter an error is about: its `param` field, else the first one that its message names."""
    candidates = [name for name in ("max_tokens", *OPTIONAL) if name in sent]
    param = str(getattr(error, "param", None) or "")
    if param in candidates:
        return param
    places = [(match.start(), name) for name in candidates if (match := re.search(rf"(?<![\w]){name}(?![\w])", said))]
    return min(places)[1] if places else None


def _said(error: Any) -> str:
    return f"{getattr(error, 'message', '')} {getattr(error, 'code', '') or ''} {getattr(error, 'body', '') or ''}"
