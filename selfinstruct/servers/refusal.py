"""What a server's error says: in which words, and which parameters of the request it is about, in whatever field and language.

refusal = read_refusal(error)       # .text, for people, and .params, what its fields name
find_refused(refusal, sent)         # [("top_p",)]: what to do without, the likeliest first
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any, NamedTuple

ADAPTABLE_STATUS = (400, 404, 405, 406, 415, 422, 500, 501)
PENALTIES = ("frequency_penalty", "presence_penalty")
# a parameter's names in the dialects of servers; the plain word "penalty" is either of the two
SPELLINGS = {
    "max_tokens": r"max[_ -]?(?:(?:completion|new|output|gen)[_ -]?)?tokens|max_?length|n(?:um)?_predict",
    "stop": r"stops?(?:[_ -]?(?:sequences?|words?|strings?|tokens?|list))?",
    "temperature": r"temperature",
    "top_p": r"top[_ -]?p|nucleus(?:[_ -]sampling)?",
    "frequency_penalty": r"frequency[_ -]?penalty|penalt(?:y|ies)",
    "presence_penalty": r"presence[_ -]?penalty|penalt(?:y|ies)",
    "top_logprobs": r"top[_ -]?log[_ -]?probs?",
    "logprobs": r"(?:response[_ -]?)?log[_ -]?prob(?:s|abilities)?",
    "seed": r"(?:random[_ -]?)?seed",
    "system": r"(?:system|developer)['\"`]?[_ -]?(?:role|message|prompt|instruction)s?|roles?['\"`]?[ :=]*['\"`]?system|"
    r"roles? must alternate|only (?:the )?(?:roles? )?['\"`]?user['\"`]? and ['\"`]?assistant|messages?\W*0\W*role",
}  # fmt: skip
PATTERNS = {
    name: re.compile(rf"(?<![A-Za-z0-9_])(?<![A-Za-z0-9]-)(?:{spelling})(?![A-Za-z0-9_]|-[A-Za-z0-9])", re.IGNORECASE)
    for name, spelling in SPELLINGS.items()
}
NOT_ALLOWED = re.compile(
    r"unsupport|not\b|n't\b|unknown|unrecogni|unexpected|invalid|extra|forbid|refuse", re.IGNORECASE
)
TOGETHER = re.compile(
    r"both|together|simultan|same time|mutually|only one|either|one of|combin|conjunction|alongside|\bwhen\b|same request",
    re.IGNORECASE,
)
WHAT_IS_ALLOWED = re.compile(
    r"(?:allowed|valid|accepted|supported|known|available|permitted|expected)\s+(?:\w+\s+)?(?:are|is|:|one of)|did you mean",
    re.IGNORECASE,
)
BETWEEN = re.compile(r"[\s'\"`*(),/&、，]*(?:and|or|und|oder|et|ou|y|o|e|и|и|和|与|及|と)?[\s'\"`*(),/&、，]*")
# where one of several has to go: those that the kit can do without come first
DISPENSABLE = ("stop", "top_p", "seed", "top_logprobs", *PENALTIES, "logprobs", "temperature", "max_tokens", "system")
PARAM_FIELDS = ("param", "parameter", "params", "loc", "field", "path", "property")
ECHOES = (
    "input",
    "input_value",
    "ctx",
    "url",
    "type",
    "code",
    "status",
    "object",
    "id",
    "request_id",
    "request",
    "model",
    "trace",
)
NOWHERE = ("body", "request", "parameters", "params", "input", "json", "query")


class Refusal(NamedTuple):
    """A server's error: its texts as one, what its fields call the parameter, its code and status (None: in a batch job)."""

    text: str
    params: tuple[str, ...] = ()
    code: str = ""
    status: int | None = None

    @property
    def gist(self) -> str:
        """What two refusals for the same reason have in common."""
        return f"{self.params} {re.sub(r'[0-9a-f]{8,}|[0-9]+', '', self.text)}"


def read_refusal(error: Any) -> Refusal:
    """The refusal in an error of the library, or in anything that has its fields."""
    body, response = getattr(error, "body", None), getattr(error, "response", None)
    if response is not None:
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            body = response.text
    found: list[tuple[str, str]] = []
    with suppress(RecursionError):
        found = list(dict.fromkeys(_read_parts(body)))
    texts = [text for kind, text in found if kind == "text"] or [str(body or getattr(error, "message", "") or error)]
    params = [text for kind, text in found if kind == "param" and text.lower() not in NOWHERE]
    status = getattr(error, "status_code", None)
    return Refusal(" ".join("; ".join(texts).split()), tuple(params), str(getattr(error, "code", None) or ""), status)


def _read_parts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """("text" or "param", its words) of everything in an error's body that is not an echo of the request."""
    if name in PARAM_FIELDS and value:
        place = value if isinstance(value, list) else [value]
        if words := ".".join(str(part) for part in place if str(part) not in NOWHERE):
            yield "param", words
    elif isinstance(value, dict):
        for key, inner in value.items():
            if str(key).lower() not in ECHOES:
                yield from _read_parts(inner, str(key).lower())
    elif isinstance(value, list):
        for inner in value:
            yield from _read_parts(inner)
    elif isinstance(value, str) and value.lstrip().startswith(("{", "[{")):
        try:
            yield from _read_parts(json.loads(value))
        except (ValueError, RecursionError):
            yield "text", value
    elif isinstance(value, str) and value:
        yield "text", value


def find_refused(refusal: Refusal, sent: dict[str, Any]) -> list[tuple[str, ...]]:
    """The parameters of `sent` that a refusal may be about, those to change at once in one tuple, the likeliest first.

    A field that names the parameter is believed; else the message is searched for names, first for those in quotes.
    """
    if refusal.status not in (*ADAPTABLE_STATUS, None):
        return []
    names = [name for name in SPELLINGS if _is_sent(name, sent)]
    if refusal.params:
        named = dict.fromkeys(name for param in refusal.params for name in _order(_find_mentions(param, names))[:1])
        return [tuple(named)] if named else []
    model = re.escape(str(sent.get("model", "")))  # whose name may hold such a word
    text = re.sub(rf"(?<![\w-]){model}(?![\w-])", "", refusal.text) if model else refusal.text
    cut = found.start() if (found := WHAT_IS_ALLOWED.search(text)) else len(text)
    groups = [*_find_groups(text[:cut], names), *_find_groups(text[cut:], names)]
    return list(dict.fromkeys(choice for group in groups for choice in _choose(group, text, groups)))


def _is_sent(name: str, sent: dict[str, Any]) -> bool:
    if name == "system":
        return bool(sent.get("messages")) and sent["messages"][0]["role"] == "system"
    return name in sent or (name == "max_tokens" and "max_completion_tokens" in sent)


class Mention(NamedTuple):
    """Where a text names a parameter, and if it does so in a way that no sentence would."""

    start: int
    end: int
    name: str
    clear: bool


def _find_mentions(text: str, names: list[str]) -> list[Mention]:
    mentions = []
    for name in names:
        for found in PATTERNS[name].finditer(text):
            before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
            quoted = before in tuple("'\"`.") or (after == ":" and found[0].islower())
            mentions.append(Mention(found.start(), found.end(), name, quoted or "_" in found[0]))
    return sorted(mentions)


def _order(mentions: list[Mention]) -> list[str]:
    return [mention.name for mention in mentions]


def _find_groups(text: str, names: list[str]) -> list[tuple[str, ...]]:
    """The names in `text`, enumerations together; those that are clearly names first."""
    mentions = _find_mentions(text, names)
    groups: list[list[Mention]] = [mentions[:1]] if mentions else []
    for last, mention in pairwise(mentions):
        if mention.start <= last.end or BETWEEN.fullmatch(text, last.end, mention.start):
            groups[-1].append(mention)
        else:
            groups.append([mention])
    groups.sort(key=lambda group: not any(mention.clear for mention in group))
    return [tuple(dict.fromkeys(_order(group))) for group in groups]


def _choose(group: tuple[str, ...], text: str, groups: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """What to change for an enumeration: all of it, or one where they exclude one another."""
    named = {name for one in groups for name in one}
    if {"temperature", "top_p"} <= named and TOGETHER.search(text) and group[0] in ("temperature", "top_p"):
        return [("top_p",), group]
    if len(group) == 1 or set(group) == set(PENALTIES):
        return [group]
    if TOGETHER.search(text):
        return [(min(group, key=DISPENSABLE.index),), group]
    if set(group) == {"temperature", "top_p"} and not NOT_ALLOWED.search(text):
        return [("top_p",), group]
    return [group]
