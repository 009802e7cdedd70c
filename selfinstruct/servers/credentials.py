"""Keys and addresses as people paste them: cleaned and checked when they are read, and hidden in every text.

key = read_key("OPENAI_API_KEY")                              # EndpointError if no key can look like that
address = read_address("http://ann:secret@host:8000/v1/")     # address.url == "http://host:8000/v1"
Secrets(key, address.passwords).hide(f"Bearer {key}")         # "Bearer [key]"
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit, urlunsplit

from ..files import SECRET_NAME, EndpointError, ParameterError

INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
)  # byte order marks, zero-width characters
AROUND = " \t\r\n\f\v\xa0\"'`;,"
BEFORE_KEY = re.compile(
    r"""(?:(?:export|set|setx)\s+|\$env:)?[\w-]*(?:key|token|secret)[\w-]*["']?\s*(?:=(?!=)|:\s)\s*|(?:authorization:\s*)?bearer\s+""",
    re.IGNORECASE,
)
BEFORE_ADDRESS = re.compile(r"(?:(?:export|set)\s+)?\w+\s*=\s*[\"']?(?=https?://)", re.IGNORECASE)
OPERATION = re.compile(r"/+(?:chat/completions|completions|models)$")
SHORTEST_SECRET = 8  # local servers take any word for a key, and "none" is no secret
SHORTEST_PASSWORD = 4
PART = 8  # so many characters of a secret in a row are hidden where a server has cut its message
PART_IN_ANSWER = 16  # a model's text must not lose a word that is also in a password


# reading


def read_key(variable: str) -> str:
    """The key in the environment variable, without what was pasted around it; "" where there is none.

    Raises EndpointError, which holds nothing of the key, if no key can look like that.
    """
    key = _strip(os.environ.get(variable, ""))
    while found := BEFORE_KEY.match(key):
        key = _strip(key[found.end() :])
    if fault := _find_key_fault(key):
        raise EndpointError(f"{variable} {fault}; set it to the key alone: export {variable}=...")
    return key


def _strip(text: str) -> str:
    text = INVISIBLE.sub("", text).strip(AROUND)
    return re.sub(r"(?:\\[nrt])+$", "", text).strip(AROUND)  # an escaped line break


def _find_key_fault(key: str) -> str:
    """Why `key` can be no key, "" if it can."""
    if len(key.splitlines()) > 1:
        return "holds a line break: two keys, or a whole file"
    parts = re.split(r"[\s,;]+", key)
    if len(parts) > 1 and all(len(part) >= SHORTEST_SECRET for part in parts):
        return f"holds {len(parts)} words: several keys, or more than the key"
    for character in key:
        if not "!" <= character <= "~":
            name = unicodedata.name(character, "a control character")
            return f"holds a character that no key has (U+{ord(character):04X}, {name.lower()})"
    return ""


class Address(NamedTuple):
    """A base_url taken apart; `url` is what is stored and printed."""

    url: str
    user: str = ""
    password: str = ""
    query: Mapping[str, str] = MappingProxyType({})

    @property
    def passwords(self) -> list[str]:
        """Everything in it that nobody else may read."""
        found = [value for name, value in self.query.items() if SECRET_NAME.search(name)]
        if self.user or self.password:
            pair = f"{self.user}:{self.password}"
            found += [self.password or self.user, pair, base64.b64encode(pair.encode()).decode().rstrip("=")]
        return found


def read_address(text: str, name: str = "base_url", others: str = "") -> Address:
    """The address in `text`, without what was pasted around it; `others` says what else may be given.

    Raises ParameterError, which shows no password, if it is none.
    """
    text = _strip(text)
    text = text[found.end() :] if (found := BEFORE_ADDRESS.match(text)) else text
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError:  # a bracket or a port
        parts, port, host = urlsplit(""), None, ""
    inside = "@" in parts.path and port is not None  # a password cut by its slash
    if parts.scheme not in ("http", "https") or not host or inside or re.search(r"[\s\\]", text):
        advice = "; in a user's name or password write @ / ? # as %40 %2F %3F %23" if "@" in text else ""
        raise ParameterError(f"{name}{_show(text)}: give an address such as http://127.0.0.1:8000/v1{others}{advice}")
    path = OPERATION.sub("", parts.path.rstrip("/")).rstrip("/")
    url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
    user, password = (unquote(part or "") for part in (parts.username, parts.password))
    return Address(url, user, password, dict(parse_qsl(parts.query, keep_blank_values=True)))


def _show(text: str) -> str:
    """`text` for an error message, "" where it may hold a secret: a password, a query, or a key in the wrong place."""
    is_key = len(text) >= 20 and not re.search(r"[.:/\s]", text)
    return "" if is_key or re.search(r"[@?]", text) else f"={text!r}"


# hiding


class Secrets:
    """What must not be printed or stored, in every form that a library or a server may give it."""

    def __init__(self, key: str = "", passwords: list[str] | None = None) -> None:
        keys = {form: SHORTEST_SECRET for form in _spell(key)}
        self._forms = keys | {form: SHORTEST_PASSWORD for one in passwords or [] for form in _spell(one)}

    def hide(self, text: str, answer: bool = False) -> str:
        """`text` without them, whole or cut; do it before anything else is done to `text`. `answer`: a model's own text."""
        for form in sorted(self._forms, key=len, reverse=True):
            shortest = SHORTEST_SECRET if answer else self._forms[form]
            if len(form) >= shortest:
                text = _hide_parts(text, form, min(len(form), PART_IN_ANSWER if answer else PART))
        return text


def _spell(secret: str) -> Iterator[str]:
    """`secret` as it stands in a header, a repr, JSON, JSON in JSON, an address or a page."""
    escapes = (
        lambda text: repr(text)[1:-1],
        lambda text: json.dumps(text)[1:-1],
        lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
        lambda text: repr(text.encode())[2:-1],
        lambda text: quote(text, safe=""),
        lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text, safe="")),
        quote,
        quote_plus,
        html.escape,
    )
    once = {secret, *(escape(secret) for escape in escapes)}
    return iter(once | {escape(form) for form in once for escape in escapes})


def _hide_parts(text: str, secret: str, size: int) -> str:
    """`text` with "[key]" for every run of `size` or more characters of `secret`."""
    parts = {secret[start : start + size] for start in range(len(secret) - size + 1)}
    if not any(part in text for part in parts):
        return text
    pattern, kept, at = re.compile("|".join(map(re.escape, sorted(parts)))), [], 0
    while found := pattern.search(text, at):
        end = found.end()
        while end < len(text) and text[found.start() : end + 1] in secret:
            end += 1
        kept += [text[at : found.start()], "[key]"]
        at = end
    return "".join([*kept, text[at:]])
