"""Conversations as rows: the first question and the first answer to it, in whatever form people write them.

    take_turns([{"from": "human", "value": "Hi!"}, {"from": "gpt", "value": "Hello."}], "conversations")

Messages may be {role, content} or {from, value} with any of the usual roles, plain texts in turn, a list of parts, one text
with "### Human:" before each turn, one in ChatML, or a tree of replies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from .rows import Row, Unreadable, take_instruction, take_text

ROLE, WORDS = ("role", "from", "speaker", "author"), ("content", "value", "text", "parts")
USERS = {"user", "human", "prompter", "questioner"}
MODELS = {"assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "ai", "bing", "bard", "claude"}
NO_ANSWER = {"thinking", "redacted_thinking", "reasoning", "tool_use", "tool_call", "function_call"}  # kinds of parts
SPOKEN = re.compile(r"(?:###\s*|(?:^|\n\n))(Human|User|Assistant)\s?:")

CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n?", re.DOTALL)  # a message: its role, its text


def read_chat(*names: str) -> Callable[[Mapping[str, Any]], Iterator[Row]]:
    """A reader of the messages in one field, or of a prompt and its completion: each a text or messages."""

    def read(row: Mapping[str, Any]) -> Iterator[Row]:
        *before, last = [row[name] for name in names]
        before = [[{"role": "user", "content": one}] if isinstance(one, str) else one for one in before]
        lists = [last] if _has_question(last) else [*before, last]  # many repeat the prompt in the completion
        messages = list(chain.from_iterable(lists)) if all(isinstance(one, list) for one in lists) else [None]
        if all(isinstance(one, str) for one in messages):
            messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(messages)]
        if not all(isinstance(one, Mapping) for one in messages):
            raise Unreadable(f'"{names[0]}" must be a list of {{role, content}} or {{from, value}}')
        yield take_turns(messages, names[0])

    return read


def _has_question(messages: Any) -> bool:
    return isinstance(messages, list) and any(isinstance(m, Mapping) and find_role(m) in USERS for m in messages)


def read_tree(row: Mapping[str, Any]) -> Iterator[Row]:
    """OpenAssistant's tree: the prompt and the reply that people ranked first."""
    prompt = row["prompt"]
    replies = sorted(prompt["replies"], key=lambda one: (one.get("rank") is None, one.get("rank") or 0))
    yield take_turns([prompt, *replies[:1]], "prompt")


def read_transcript(name: str) -> Callable[[Mapping[str, Any]], Iterator[Row]]:
    """A reader of a text such as "### Human: Hi!### Assistant: Hello."."""

    def read(row: Mapping[str, Any]) -> Iterator[Row]:
        _, *parts = SPOKEN.split(row[name])
        turns = zip(parts[::2], parts[1::2], strict=True)
        yield take_turns([{"role": role, "text": text.strip()} for role, text in turns], name)

    return read


def read_chatml(row: Mapping[str, Any]) -> Iterator[Row]:
    """A text of <|im_start|>role, a line break, the words and <|im_end|>, for each message in turn."""
    yield take_turns([{"role": role, "text": text} for role, text in CHATML.findall(row["text"])], "text")


def join_messages(objects: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Rows of one message each, as OpenAssistant's, as trees: every prompt with its replies, at the prompt's place."""
    rows = [(where, {**row, "replies": []}) for where, row in objects]
    known = {row["message_id"]: row for _, row in rows}
    for _, row in rows:
        if parent := known.get(row.get("parent_id")):
            parent["replies"].append(row)
    return ((where, {"prompt": row}) for where, row in rows if row.get("parent_id") not in known)


def take_turns(messages: list[Mapping[str, Any]], name: str) -> Row:
    """The first question and the first answer to it: what the user says, in a row, and then the model's next words.

    A model that calls a tool first says nothing then; its words come after. `name` is the field, for messages.
    """
    asked, answers, remarks = [], [], []
    for message in messages:
        role = find_role(message)
        if role in USERS:
            if answers:
                break
            asked.append(message)
        elif role in MODELS:
            answers += [message] if asked else []
            remarks += [] if asked else ["in which the model speaks first, read from the question on"]
        else:
            remarks.append(f"with {role or 'nameless'} messages, not used")
    if not asked or not answers:
        roles = ", ".join(dict.fromkeys(map(find_role, messages))) or "none"
        raise Unreadable(f"\"{name}\" needs a user's and an assistant's message, in this order; its roles: {roles}")
    texts = [join_parts(one, remarks) for one in answers]
    answer = next((text for text in texts if text), texts[0])
    remarks += ["without an output (null)"] if answer is None else []
    question = {name: "\n".join(join_parts(one, remarks) or "" for one in asked)}
    return Row(take_instruction(question, name, remarks), "", answer or "", remarks=tuple(dict.fromkeys(remarks)))


def find_role(message: Mapping[str, Any]) -> str:
    """Who speaks, in lower case; "" where the message does not say."""
    return str(next((message[key] for key in ROLE if key in message), "")).strip().casefold()


def join_parts(message: Mapping[str, Any], remarks: list[str]) -> str | None:
    """A message's text, its parts as one with a line each; None where it has none (null)."""
    key = next((key for key in WORDS if key in message), WORDS[0])
    parts = message.get(key)
    if not isinstance(parts, list):
        return None if parts is None else take_text(message, key, remarks)
    texts = []
    for part in parts:
        fields = part if isinstance(part, Mapping) else {"text": part}
        if fields.get("type") in NO_ANSWER:
            remarks.append(f"with {fields['type']} parts, not used")
            continue
        words = next((fields[one] for one in ("text", "value") if one in fields), None)
        if not isinstance(words, str):
            expected = 'expected parts {"type": "text", "text": ...}; "value" may stand for "text"'
            raise Unreadable(f'"{key}" has a part that is no text ({repr(part)[:60]}); {expected}')
        texts.append(words)
    return take_text({key: "\n".join(texts)}, key, remarks)
