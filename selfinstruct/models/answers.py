"""Any model's answer in the form of a completion: the text that follows the prompt, as a completion model would write it.

    read_answer({"message": {"content": "Sure!\\n\\n1) Name a colour."}, "finish_reason": "end_turn"}, prompt, is_chat=True)
    # Answer(text=" Name a colour.", finish_reason="stop", taken_off=("greeting", "numbers"))

The store keeps what the server sent. This is done whenever it is read, before stops are applied, since a stop such as a blank
line would strike in a thought or behind a greeting. What a completion model wrote loses only its thoughts and a prompt that
the server sent back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ..numbering import find_markers, is_canonical, split_items

SHORTEST_ECHO = 20  # characters: a shorter line of the prompt may well begin an answer
LONGEST_GREETING = 300


class Answer(NamedTuple):
    """A choice in the form of a completion, and the names of what was taken off its text."""

    text: str
    finish_reason: str
    taken_off: tuple[str, ...] = ()


def read_answer(choice: dict[str, Any], prompt: str, is_chat: bool, is_full: bool = False) -> Answer:
    """`choice` as the completion of `prompt`; `is_full` if it has all the tokens it may have, for servers that give no reason."""
    text, taken_off = read_text(choice), {}
    for name, take_off in _CHAT_LAYERS if is_chat else _LAYERS:
        rest = take_off(text, prompt)
        if rest != text:
            taken_off[name] = None
            text = rest
    return Answer(text, read_finish_reason(choice, is_full), tuple(taken_off))


# where the text is, and why it ends

_TEXT_KEYS = ("text", "content", "value", "parts", "message", "delta", "output_text", "generated_text", "output")
_THOUGHT_TYPES = re.compile(r"think|thought|reason|refusal|tool|function")
_DEEPEST = 8


def read_text(choice: dict[str, Any], missing: Any = "") -> Any:
    """The raw text of a choice in whatever form it has, `missing` where it has none. Thoughts and refusals are none.

    >>> read_text({"message": {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes"}]}})
    'Yes'
    """
    text = _find_text(choice, _DEEPEST)
    return missing if text is None else text


def _find_text(value: Any, depth: int) -> str | None:
    if isinstance(value, str) or not depth:
        return value if isinstance(value, str) else None
    if isinstance(value, list):
        texts = [text for part in value if (text := _find_text(part, depth - 1)) is not None]
        return "".join(texts) if texts else None
    if not isinstance(value, dict) or _THOUGHT_TYPES.search(str(value.get("type"))) or value.get("thought") is True:
        return None
    texts = [text for key in _TEXT_KEYS if (text := _find_text(value.get(key), depth - 1)) is not None]
    return next((text for text in texts if text), texts[0] if texts else None)


_REASON_KEYS = ("finish_reason", "finishReason", "native_finish_reason", "stop_type", "stop_reason", "done_reason")
# tried in this order; what was broken off is as unfinished as what ran out of tokens
_REASONS = {
    "content_filter": re.compile(
        "filter|safety|recitation|blocklist|prohibited|spii|refus|guardrail|moderat|toxic|sensitive|flagged|blocked|policy"
    ),
    "tool_calls": re.compile("tool|function"),
    "length": re.compile(
        "length|limit|max_|max$|trunc|incomplete|not_finished|context|budget|out_of|abort|cancel|error|interrupt|timeout|exceed"
    ),
    "stop": re.compile("eos|stop|(?:^|_)end(?:_|$)|finish|complete|done"),
}


def read_finish_reason(choice: dict[str, Any], is_full: bool = False) -> str:
    """Why a text ends, in one of OpenAI's four words: stop, length, content_filter, tool_calls.

    >>> [read_finish_reason({"finish_reason": name}) for name in ("MAX_TOKENS", "eos_token", "model_length", "SAFETY", None)]
    ['length', 'stop', 'length', 'content_filter', 'stop']
    """
    given = (choice.get(key) for key in _REASON_KEYS)
    reason = next((one for one in given if one not in (None, "")), "")
    if isinstance(reason, dict):
        reason = reason.get("type") or reason.get("reason") or ""
    word = str(reason).lower().replace("-", "_").replace(" ", "_").removeprefix("finish_reason_")
    unknown = "length" if is_full else "stop"
    return next((name for name, pattern in _REASONS.items() if pattern.search(word)), unknown)


# thoughts

_THINK = r"(?:\w{1,12}:)?(?:think(?:ing)?|thoughts?|reasoning)"  # names that tags have for nothing else
_THINK_FIRST = rf"(?:{_THINK}|reason|reflection|scratchpad|analysis|(?:inner_?)?monologue|plan(?:ning)?)"
_OPENS, _OPENS_FIRST = (
    re.compile(
        rf"(?:^|(?<=[>\]▷]))[ \t]*(?:[<◁]\|?{names}\b[^<>▷\n]{{0,80}}[>▷]|(?-i:\[THINK\])|<\|(?:begin_of|start)_{names}\|>)",
        re.MULTILINE | re.IGNORECASE,
    )
    for names in (_THINK, _THINK_FIRST)
)
_CLOSES, _CLOSES_FIRST = (
    re.compile(rf"[<◁]\|?/[ ]?{names}[ ]?\|?[>▷]|(?-i:\[/THINK\])|<\|end(?:_of)?_{names}\|>", re.IGNORECASE)
    for names in (_THINK, _THINK_FIRST)
)
_OPENS_ANYWHERE = re.compile(rf"[<◁]\|?{_THINK}\b|(?-i:\[THINK\])|<\|(?:begin_of|start)_{_THINK}\|>", re.IGNORECASE)
_CHANNEL = re.compile(r"(?:<\|start\|>\w{0,20})?<\|channel\|>[ ]?(\w{1,20})[^<]{0,80}<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call)\|>")
_SPACE = re.compile(r"\s*")
_BARE_CHANNEL = re.compile(r"\Aanalysis(?=[A-Z\s]).*?assistant\s?final", re.DOTALL)
_WRAPPED = re.compile(
    r"\A\s*(?:<(answer|response|final|solution|output)>|<\|(?:begin_of|start)_(?:solution|response)\|>)", re.I
)
_WRAPPED_END = re.compile(r"</(?:answer|response|final|solution|output)>|<\|end(?:_of)?_(?:solution|response)\|>", re.I)


def _drop_thoughts(text: str, prompt: str) -> str:
    """A text without what the model thought first; nothing is left of one that never came to an end of it."""
    start, at = 0, _SPACE.match(text).end()
    while opened := _OPENS_FIRST.match(text, at):
        closed = _CLOSES_FIRST.search(text, opened.end())
        start = closed.end() if closed else len(text)
        at = _SPACE.match(text, start).end()
    rest = _drop_to_close(text[start:])
    return _drop_channels(rest if rest == text else _drop_answer_tags(rest.lstrip(), prompt))


def _drop_to_close(text: str) -> str:
    """A text behind the end of a thought whose beginning stood in the server's own template, or within another thought."""
    at = 0
    while (closed := _CLOSES.search(text, at)) and not _OPENS_ANYWHERE.search(text, at, closed.start()):
        at = closed.end()
    return text[at:]


def _drop_later_thoughts(text: str, prompt: str) -> str:
    """A text without the thoughts of a model that greeted before it thought, or thinks again between two items."""
    kept, at = [], 0
    while opened := _OPENS.search(text, at):
        closed = _CLOSES.search(text, opened.end())
        kept.append(text[at : opened.start()])
        at = closed.end() if closed else len(text)
    return "".join([*kept, text[at:]])


def _drop_answer_tags(text: str, prompt: str) -> str:
    """A text without the tags of an answer around it."""
    if opened := _WRAPPED.match(text):
        return _WRAPPED_END.split(text[opened.end() :], maxsplit=1)[0].strip()
    return text


def _drop_channels(text: str) -> str:
    """What a model wrote in its last channel, "final"; also where the server took the marks of the channels for no text."""
    if found := _BARE_CHANNEL.match(text):
        return text[found.end() :]
    pieces = _CHANNEL.split(text)
    if len(pieces) == 1:
        return text
    names, texts = pieces[1::2], pieces[2::2]
    return "".join(_CHANNEL_END.split(one)[0] for name, one in zip(names, texts, strict=True) if name == "final")


# the prompt again


_START_TOKEN = re.compile(r"\A\s*(?:<s>|<bos>|<\|\w{1,30}\|>)")


def _drop_prompt(text: str, prompt: str) -> str:
    """A text without the whole prompt, which some servers send back with the completion."""
    start = _START_TOKEN.sub("", text)
    end = _measure_echo(start, prompt) if len(prompt) >= SHORTEST_ECHO else 0
    return start[end:] if end else text


def _drop_echo(text: str, prompt: str) -> str:
    """An answer without the prompt's last lines, or all of them: "9. Name a colour" after a prompt ending "9."."""
    lines = prompt.rstrip().split("\n")
    start = text.lstrip()
    for first, line in enumerate(lines):
        if not line.strip() or not start.startswith(line.strip()[:SHORTEST_ECHO]):
            continue
        echo = "\n".join(lines[first:])
        is_distinct = len(echo) >= SHORTEST_ECHO or not echo[-1:].isalnum()
        if is_distinct and (end := _measure_echo(start, echo)):
            return start[end:]
    return text


def _measure_echo(text: str, echo: str) -> int:
    """How much of `text` is `echo`, 0 if it does not begin with it; white space may differ."""
    if not echo.strip() or not text.lstrip().startswith(echo.split(maxsplit=1)[0]):
        return 0  # as good as always
    wanted = "".join(echo.split())
    seen = [at for at, character in enumerate(text[: 2 * len(echo) + 100]) if not character.isspace()][: len(wanted)]
    if "".join(text[at] for at in seen) != wanted:
        return 0
    return seen[-1] + 1


# what chat models write around an answer

_PLEASANTRY = re.compile(
    r"\W{0,3}(?:sure|certainly|of course|absolutely|okay|ok|alright|all right|got it|no problem|understood|as requested|happy to|glad to"
    r"|i(?:['’]d| would) be (?:happy|glad)|i(?:['’]ll| will| can) (?:gladly|happily|help|continue|provide|generate|complete|give you)"
    r"|bien sûr|volontiers|avec plaisir|d['’]accord|claro|por supuesto|con gusto|natürlich|gerne?\b|selbstverständlich|certo\b"
    r"|certamente|con piacere|com certeza|конечно|хорошо|好的|当然|當然|没问题|はい|もちろん|承知|わかりました|물론|알겠|네[,!. ]"
    r"|بالتأكيد|ज़रूर)",
    re.IGNORECASE,
)
_ANNOUNCEMENT = re.compile(
    r"\W{0,3}(?:here|below|these|the following|following|continu|next|more|additional|further|new|tasks?\b|answer|voici|ci-dessous|aquí"
    r"|a continuación|estas|hier|nachfolgend|im folgenden|weitere|ecco|di seguito|aqui|a seguir|вот|ниже|以下|下面|这里|這裡|接下来"
    r"|こちら|次の|다음|여기|إليك|यहाँ)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t]*(?P<fence>```+|~~~+)[ \t]{0,9}(?P<language>[\w+.-]{0,20})[ \t]*(?:\n|\Z)", re.MULTILINE)
_END_TOKEN = re.compile(
    r"</s>|<\|(?:im_end|eot_id|end|endoftext|end_of_text|eom_id|return)\|>|<end_of_turn>|<\|?[\w|]{1,12}▁of▁sentence\|?>|<EOS>"
)


def _is_greeting(text: str) -> bool:
    """True for a line or two that only say that the answer follows."""
    text = text.strip().strip("*_# ")
    if not text or len(text) > LONGEST_GREETING or text.count("\n") > 2:
        return False
    if _PLEASANTRY.match(text) and text[-1] in ":：!！.。…":
        return True
    return _ANNOUNCEMENT.match(text) is not None and text[-1] in ":："


def _drop_end_token(text: str, prompt: str) -> str:
    """An answer up to the mark of its end, which the server should have kept to itself."""
    return _END_TOKEN.split(text, maxsplit=1)[0]


def _drop_blank_lines(text: str, prompt: str) -> str:
    """An answer that begins with its first line that is not empty, since a blank line is a stop."""
    start = len(text) - len(text.lstrip())
    return text[start:] if "\n" in text[:start] else text


def _drop_fence(text: str, prompt: str) -> str:
    """What stands in a code fence around the answer, if nothing but a greeting precedes it; other fences may be within it."""
    opened = _FENCE.search(text)
    if opened is None or not (not text[: opened.start()].strip() or _is_greeting(text[: opened.start()])):
        return text
    inside = text[opened.end() :]
    bare = [one for one in _FENCE.finditer(inside) if one["fence"] == opened["fence"] and not one["language"]]
    return inside[: bare[-1].start()].rstrip() if bare else inside


def _drop_greeting(text: str, prompt: str) -> str:
    """An answer without "Here are some more tasks:"; nothing is left of one that has no more than that.

    Before a list that is to go on with 9, whatever precedes a 9 is none of its items, nor is what precedes a 1 as a title does.
    """
    number = _find_next_number(prompt)
    markers = find_markers(text) if number is not None else []
    start = markers[0].start if markers else len(text)
    numbers = [one.number for one in markers]
    starts_again = numbers[:1] == [1] and (number or 0) + 1 not in numbers and _ends_openly(text[:start])
    if (numbers[:1] == [number] or starts_again) and text[:start].strip():
        return text[start:]
    end = _measure_greeting(text[:start])
    is_item = numbers[:1] == [(number or 0) + 1] and end == start and text[end - 2 : end] != "\n\n"
    return text if is_item else text[end:]


def _measure_greeting(text: str) -> int:
    """How much of a text is a greeting, with the line breaks behind it: its first paragraph, or its first line."""
    start = len(text) - len(text.lstrip())
    for ending in ("\n\n", "\n"):
        first = text[start:].partition(ending)[0]
        if _is_greeting(first):
            rest = text[start + len(first) :]
            return len(text) - len(rest.lstrip("\n"))
    return 0


def _ends_openly(text: str) -> bool:
    return text.endswith("\n\n") or text.rstrip(" \n*_").endswith((":", "："))


_MARKER = re.compile(
    r"^[ \t]{0,9}(?:#{1,6}[ \t]{0,9}(?:\*\*)?|\*\*)(Example[ \t]?\d{0,3}|(?:Input|Output)[ \t]?\d{0,3}|Class label)(:?)(?:\*\*)?(:?)",
    re.MULTILINE,
)
_FIELD = re.compile(r"^\*\*([A-Za-z][\w ]{0,30})(?::\*\*|\*\*:)", re.MULTILINE)


def _drop_emphasis(text: str, prompt: str) -> str:
    """An answer of step 3 whose markers, and with them the names of its fields, are neither bold nor headings."""
    plain, count = _MARKER.subn(r"\1\2\3", text)
    return _FIELD.sub(r"\1:", plain) if count and _find_next_number(prompt) is None else text


def _find_next_number(prompt: str) -> int | None:
    """The number that a list of tasks is to go on with, None where the prompt asks for something else."""
    last_line = prompt.rstrip().rsplit("\n", 1)[-1]
    return int(last_line[:-1]) if re.fullmatch(r"\d{1,6}\.", last_line) else None


def _renumber(text: str, prompt: str) -> str:
    """A list in any style as it goes on from the prompt: the first item without a number, the others each on the next line."""
    number = _find_next_number(prompt)
    if number is None or is_canonical(text):
        return text
    *others, last = split_items(text) or [""]  # a blank line may end the last one only
    items = [*(re.sub(r"\n\s*\n", "\n", item) for item in others), last]
    return "\n".join(f"{number + place}. {item}" for place, item in enumerate(items)).removeprefix(f"{number}.")


Layer = tuple[str, Callable[[str, str], str]]
_LAYERS: tuple[Layer, ...] = (("prompt", _drop_prompt), ("thoughts", _drop_thoughts))
_CHAT_LAYERS: tuple[Layer, ...] = (
    ("prompt", _drop_prompt),
    ("thoughts", _drop_thoughts),
    ("thoughts", _drop_later_thoughts),
    ("answer tags", _drop_answer_tags),
    ("end token", _drop_end_token),
    ("blank lines", _drop_blank_lines),
    ("code fence", _drop_fence),
    ("greeting", _drop_greeting),
    ("prompt", _drop_echo),
    ("blank lines", _drop_blank_lines),
    ("numbers", _renumber),
    ("emphasis", _drop_emphasis),
)
