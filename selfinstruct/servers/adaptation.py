"""Adapting to models that refuse parameters: each adaptation is learnt once, warned about once, and never silent.

Models that reason refuse `stop`, `temperature` or `max_tokens`; small servers know no `logprobs`. Only what is refused is
changed: left out, shortened (stops are applied on our side as well), or renamed. A change that does not help is undone, and
the server's own words are the error.
"""

from __future__ import annotations

import math
import re
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .refusal import Refusal, find_refused, read_refusal

TOO_LONG = re.compile(
    r"context[_ ](?:length|size)|context window|reduce (?:your prompt|the length)|maximum context|too many tokens|"
    r"tokens`? \+ `?max|(?:prompt|input) is too long",
    re.IGNORECASE,
)
# values that are wrong for any model: an error for the person, and nothing to adapt
RANGES = {
    "temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2),
    "logprobs": (0, 20), "top_logprobs": (0, 20), "max_tokens": (1, 10**9),
}  # fmt: skip
MOST = re.compile(
    r"(?:at most|maximum|\bmax\b|more than|less than|fewer than|[<>≤]=?|up to|exceed|limit|supports?|above|greater than)"
    r"(?:\D{0,40}?)(\d+)",
    re.IGNORECASE,
)
LEAST = re.compile(
    r"(?:at least|minimum|greater than|[>≥]=?|below|positive|non-?zero)(?:\D{0,40}?(\d+(?:\.\d+)?))?", re.IGNORECASE
)
STRICTLY = re.compile(r"(?:less|fewer) than (?!or equal)|<(?!=)", re.IGNORECASE)
TOO_MANY = re.compile(r"too (?:many|long)|array_above", re.IGNORECASE)
BLANK = re.compile(r"white ?space|blank|empty|new ?line|line break|\\n", re.IGNORECASE)
LEAST_TEMPERATURE = 0.01
HEAD_START_S = 5.0
MOST_FOR_LEAST = 64  # tokens more than asked for, which the stops cut off
USUAL_STOPS = 4  # as many as most servers take
ONLY_STOPS_WITH_TEXT, IN_USER_MESSAGE, NEW_NAME = "without blanks", "user", "max_completion_tokens"


class Adaptation:
    """What one model has been found to refuse. For any number of threads."""

    def __init__(self, changes: Mapping[str, str] | None = None) -> None:
        self._changes = dict(changes or {})  # refused name -> what is done; see `changes`
        self._settled = dict(self._changes)
        self._trials: dict[
            str, tuple[dict[str, str], list[dict[str, str]]]
        ] = {}  # gist -> changes before it, those tried
        self._known: set[str] = set()
        self._others_go = math.inf  # when the others no longer wait for the first
        self._lock, self._first = threading.RLock(), threading.Lock()

    @property
    def changes(self) -> dict[str, str]:
        """refused parameter -> what is sent instead: "" = nothing, another name, "at most 2", ...; for run.json."""
        return dict(self._changes)

    def adapt(self, body: dict[str, Any]) -> dict[str, Any]:
        """`body` as this model takes it."""
        sent = dict(body)
        for name, how in sorted(self._changes.items(), key=lambda change: change[1] != NEW_NAME):  # first the new name
            if name == "system" and "messages" in sent:
                sent["messages"] = _merge_system(sent["messages"])
            elif name in sent:
                value = sent.pop(name)
                if how == NEW_NAME:
                    sent[NEW_NAME] = value
                elif how and (changed := _change_value(value, how)):
                    sent[name] = changed
        return sent if sent != body else body

    @contextmanager
    def one_at_first(self, body: dict[str, Any], stopped: threading.Event) -> Iterator[None]:
        """Within it the first request with new settings is alone: what the model refuses is refused once, and not once each.

        For some seconds, since servers refuse before they generate.
        """
        settings = str([(name, value) for name, value in body.items() if name not in ("prompt", "messages", "seed")])
        is_first = self._become_first(settings, stopped)
        try:
            yield
        finally:
            if is_first:
                self._known.add(settings)
                self._others_go = math.inf
                self._first.release()

    def _become_first(self, settings: str, stopped: threading.Event) -> bool:
        """Wait for who goes first, or become it: then True."""
        while settings not in self._known and not stopped.is_set() and time.monotonic() < self._others_go:
            if self._first.acquire(timeout=0.05):
                if settings not in self._known:
                    self._others_go = time.monotonic() + HEAD_START_S
                    return True
                self._first.release()
        return False

    def learn(self, error: Any, sent: dict[str, Any], body: dict[str, Any]) -> bool:
        """True if `body` is worth sending again: the server refuses a parameter that can be adapted, or was adapted meanwhile."""
        with self._lock:
            if self.adapt(body) != sent:
                return True
            learnt = self._try_next(read_refusal(error), body)
            if not hasattr(error, "response"):  # a line of a batch job, of which there is no second try
                self.settle()
            return learnt

    def _try_next(self, refusal: Refusal, body: dict[str, Any]) -> bool:
        """Change what the refusal is about; where the last guess has not helped, undo it and make the next one."""
        before, tried = self._trials.setdefault(refusal.gist, (dict(self._changes), []))
        self._changes = dict(before)
        sent = self.adapt(body)
        for changes in _list_options(refusal, sent):
            if changes not in tried:
                tried.append(changes)
                for name, how in changes.items():
                    self._note(name, how)
                return True
        return False

    def _note(self, name: str, how: str) -> None:
        if name == "max_tokens" and self._changes.get(name) == NEW_NAME:
            name = NEW_NAME
        before = self._changes.get(name, "")
        self._changes[name] = f"{before}, {how}" if before and how else how
        if name == "logprobs":
            self._changes["top_logprobs"] = ""

    def settle(self) -> None:
        """The changes hold: the model has answered. Warns of the new ones."""
        if self._changes == self._settled and not self._trials:
            return
        with self._lock:
            new = {name: how for name, how in self._changes.items() if self._settled.get(name) != how}
            self._settled, self._trials = dict(self._changes), {}
        for name, how in new.items():
            if not (name == "top_logprobs" and "logprobs" in new):
                warnings.warn(f"the model refuses {name}: the kit {_describe(name, how)}", stacklevel=2)

    def detect_too_long(self, error: Any, sent: dict[str, Any]) -> bool:
        """True if the prompt and its completion do not fit the model; the released code then asks for four fifths."""
        asked = sent.get("max_tokens", sent.get(NEW_NAME, 0))
        refusal = read_refusal(error)
        if asked < 2 or refusal.status not in (400, 413, 422) or not TOO_LONG.search(f"{refusal.text} {refusal.code}"):
            return False
        text = "a prompt and its completion do not fit the model together: the kit asks for fewer tokens"
        warnings.warn(text, stacklevel=2)  # Python shows an equal warning once
        return True


def _merge_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if messages[0]["role"] != "system":
        return messages
    system, user, *rest = messages
    return [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]


def _change_value(value: Any, how: str) -> Any:
    for change in how.split(", "):
        if change == ONLY_STOPS_WITH_TEXT:
            value = [stop for stop in value if stop.strip()]
        elif change.startswith("at most "):
            most = int(change[8:])
            value = value[:most] if isinstance(value, list) else min(value, most)
        elif change.startswith("at least "):
            least = float(change[9:])
            value = max(value, int(least) if least.is_integer() else least)
    return value


def _list_options(refusal: Refusal, sent: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The changes that may satisfy a refusal, the smallest first."""
    for names in find_refused(refusal, sent):
        plans = {name: list(_plan(name, refusal.text, sent)) for name in names}
        if all(plans.values()):
            for number in range(max(map(len, plans.values()))):
                yield {name: ways[min(number, len(ways) - 1)] for name, ways in plans.items()}


def _plan(name: str, text: str, sent: dict[str, Any]) -> Iterator[str]:
    """What can be done about `name`, which the server refuses in the words of `text`, the smallest change first."""
    value = sent.get(name, sent.get(NEW_NAME) if name == "max_tokens" else None)
    if name in RANGES and not isinstance(value, bool) and not RANGES[name][0] <= value <= RANGES[name][1]:
        return
    if name == "max_tokens":
        yield from _plan_tokens(value, text, sent)
    elif name == "system":
        yield IN_USER_MESSAGE
    else:
        if name == "stop":
            yield from _plan_stops(value, text)
        elif name == "temperature" and value == 0 and LEAST.search(text):
            least = _find_least(text)
            yield f"at least {least if 0 < least <= 0.5 else LEAST_TEMPERATURE}"
        yield ""


def _plan_stops(stops: list[str], text: str) -> Iterator[str]:
    with_text = [stop for stop in stops if stop.strip()]
    if BLANK.search(text) and with_text and len(with_text) < len(stops):
        yield ONLY_STOPS_WITH_TEXT
    elif most := _find_limit(text, len(stops)):
        yield f"at most {most}"
    elif len(stops) > 1 and TOO_MANY.search(text):
        yield f"at most {USUAL_STOPS if len(stops) > USUAL_STOPS else 1}"


def _plan_tokens(value: int, text: str, sent: dict[str, Any]) -> Iterator[str]:
    renamed = "messages" in sent and "max_tokens" in sent
    if renamed and NEW_NAME in text:
        yield NEW_NAME
    elif most := _find_limit(text, value):
        yield f"at most {most}"
    elif value < (least := _find_least(text)) <= MOST_FOR_LEAST:
        yield f"at least {least:g}"
    if renamed and NEW_NAME not in text:
        yield NEW_NAME


def _find_limit(text: str, value: int) -> int | None:
    """The largest number below `value` that `text` calls a limit."""
    limits = [int(found[1]) - bool(STRICTLY.match(found[0])) for found in MOST.finditer(text)]
    return max((limit for limit in limits if 0 < limit < value), default=None)


def _find_least(text: str) -> float:
    """The first number that `text` calls the least, 0 without one."""
    return next((float(found[1]) for found in LEAST.finditer(text) if found[1]), 0.0)


def _describe(name: str, how: str) -> str:
    if name == "system":
        return "puts its sentence in front of the user's message"
    if how in ("", NEW_NAME):
        also = " and applies the stops itself" if name == "stop" else ", so its own default holds"
        return f"sends {how} instead" if how else f"leaves it out{also}"
    return f"sends {'those ' * (how == ONLY_STOPS_WITH_TEXT)}{how}" + (
        " and applies all stops itself" * (name == "stop")
    )
