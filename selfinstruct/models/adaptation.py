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
        self._lock = threading.Lock()

    @property
    def changes(self) -> dict[str, str]:
        """refused parameter -> what is sent instead ("" = nothing); for run.json."""
        return dict(self._changes)

    def adapt(self, body: dict[str, Any]) -> dict[str, Any]:
        """`body` as this model takes it."""
        if not self._changes:
            return body
        renamed = {self._changes.get(name, name): value for name, value in body.items()}
        renamed.pop("", None)
        return renamed

    def learn(self, error: Any, sent: dict[str, Any], body: dict[str, Any]) -> bool:
        """True if `body` is worth sending again: the server refuses a parameter that can be adapted, or was adapted meanwhile."""
        if self.adapt(body) != sent:
            return True
        name = find_refused(error, sent)
        if name is None:
            return False
        instead = "max_completion_tokens" if name == "max_tokens" else ""
        with self._lock:
            if name in self._changes:
                return True
            self._changes[name] = instead
            if name == "logprobs":
                self._changes["top_logprobs"] = ""
        does = f"sends {instead} instead" if instead else "leaves it out, so its own default holds"
        if name == "stop":
            does = "leaves it out and applies the stops itself"
        warnings.warn(f"the model refuses {name}: the kit {does}", stacklevel=2)
        return True

    def detect_too_long(self, error: Any, sent: dict[str, Any]) -> bool:
        """True if the prompt and its completion do not fit the model; the released code then asks for four fifths."""
        asked = sent.get("max_tokens", sent.get("max_completion_tokens", 0))
        if asked < 2 or not TOO_LONG.search(_read_message(error)):
            return False
        text = "a prompt and its completion do not fit the model together: the kit asks for fewer tokens"
        warnings.warn(text, stacklevel=2)  # Python shows an equal warning once
        return True


def find_refused(error: Any, sent: dict[str, Any]) -> str | None:
    """The parameter of `sent` that the server's error refuses and that can be adapted, or None."""
    message = _read_message(error)
    name = _find_named(error, message, sent)
    if name == "max_tokens" and "messages" not in sent:
        return None
    out_of_range = name == "top_p" and not sent["top_p"] and OUT_OF_RANGE.search(message)
    return name if out_of_range or REFUSAL.search(message) else None


def _find_named(error: Any, message: str, sent: dict[str, Any]) -> str | None:
    """The parameter an error is about: its `param` field, else the first one that its message names."""
    candidates = [name for name in ("max_tokens", *OPTIONAL) if name in sent]
    param = str(getattr(error, "param", None) or "")
    if param in candidates:
        return param
    places = [(found.start(), name) for name in candidates if (found := re.search(rf"(?<!\w){name}(?!\w)", message))]
    return min(places)[1] if places else None


def _read_message(error: Any) -> str:
    return f"{getattr(error, 'message', '')} {getattr(error, 'code', '') or ''} {getattr(error, 'body', '') or ''}"
