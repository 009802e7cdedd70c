"""A request on its way to a model: its body for each kind of API, its key in the store, and what is read from the answer.

The same request can go to a completions endpoint, which continues its prompt, or to a chat endpoint, which is asked to.
The key is the sha256 of the request in canonical form: all that can change the answer, and which of several equal samples.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from ..records import Completion, Request
from .answers import read_answer, read_finish_reason, read_text

APIS = ("completions", "chat", "batch", "batch-completions")

NO_TEXT = "the answer has no text"  # how the reason begins why an answer is not stored
ABOUT_A_MESSAGE = ("role", "name", "id", "type", "annotations")  # what else a message has, the model wrote
LONGEST_TOKEN = 128  # characters, of blanks say
TOKENS_BETWEEN = 4  # around a message of a chat
# the most that a server counts beside the texts: thoughts that it does not send, a prompt of its own
UNSEEN_TOKENS = 200_000

# Chat models answer rather than continue; this makes them do what the prompts of the paper expect of a completion model.
CONTINUE_TEXT = (
    "You are a text completion engine. The user's message is the beginning of a document. Reply with the text that follows "
    "directly after its last character, in the same layout and numbering, and with nothing else: no greeting, no remark, no "
    "Markdown, no repetition of the beginning. Where the document is a numbered list, go on with items for as long as it "
    "makes sense, each on a line of its own and with no blank lines between them."
)


# the way there


class Job(NamedTuple):
    """A request on its way: its key in the store, its body, and the canonical form that the key is made of."""

    key: str
    request: Request
    body: dict[str, Any]
    canonical: dict[str, Any]


def make_job(request: Request, model: str, api: str, endpoint: str) -> Job:
    """`request` ready to be looked up and sent."""
    body = build_body(request, model, api)
    # all that can change the answer; a batch job and a live call ask for the same one, so that one can continue the other
    kind = "chat" if sends_chat(api) else "completions"
    canonical = {**body, "api": kind, "endpoint": endpoint, "sample_index": request.sample_index}
    return Job(request_key(canonical), request, body, canonical)


def build_body(request: Request, model: str, api: str) -> dict[str, Any]:
    """The JSON body that asks for `request`. What is neutral (no penalty, no stop, no seed) is left out."""
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens, "temperature": request.temperature}
    body["top_p"] = request.top_p
    for name in ("frequency_penalty", "presence_penalty"):
        if value := getattr(request, name):
            body[name] = value
    if request.stop:
        body["stop"] = list(request.stop)
    if request.seed is not None:
        body["seed"] = request.seed
    if not sends_chat(api):
        logprobs = {} if request.logprobs is None else {"logprobs": request.logprobs}
        return {**body, "prompt": request.prompt, **logprobs}
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.logprobs}
    instruction = [] if request.as_message else [{"role": "system", "content": request.system or CONTINUE_TEXT}]
    return {**body, "messages": [*instruction, {"role": "user", "content": request.prompt}]}


def sends_chat(api: str) -> bool:
    """True if requests of this api go to a chat endpoint; `batch` does, since that is what providers still offer."""
    return api in ("chat", "batch")


def request_key(canonical: dict[str, Any]) -> str:
    """sha256 of the canonical request.

    >>> request_key({"b": 1, "a": "x"}) == request_key({"a": "x", "b": 1})
    True
    """
    return hashlib.sha256(dump_canonical(canonical).encode("utf-8", "surrogatepass")).hexdigest()


def dump_canonical(canonical: dict[str, Any]) -> str:
    """The one text of a request: keys sorted, no spaces, so that equal requests are equal texts."""
    return json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


# the answer


class StoredResponse(BaseModel):
    """A row of the store: the canonical request and what the model answered to it, raw."""

    model_config = ConfigDict(frozen=True)
    key: str
    model: str
    api: str
    endpoint: str  # base_url, or embedded:<sha256 of the weights>:<what else changes its answers>
    step: str = ""
    request: dict[str, Any]
    response: dict[str, Any]  # {"choices": [...]} as the server sent them
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    created_at: str  # the server's time where it gives one, else the time of arrival
    latency_s: float
    transport: str = "live"  # or "batch", which providers bill at another price
    session: str = ""  # which command fetched it: limits count the spending of one command
    answer_sha256: str = ""  # filled in by the store: the hash of all but the request, whose hash the key is


def build_stored_response(job: Job, answer: dict[str, Any], **facts: Any) -> StoredResponse:
    """The row of the store for `answer`; `facts` are endpoint, step, latency_s, transport and session."""
    usage = read_usage(answer, job.request)
    return StoredResponse(
        key=job.key, model=job.body["model"], api=job.canonical["api"], request=job.canonical,
        response={"choices": answer["choices"]}, finish_reason=read_finish_reason(answer["choices"][0]),
        prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, created_at=_read_time(answer), **facts,
    )  # fmt: skip


def find_row_fault(row: StoredResponse) -> str | None:
    """What is wrong with a stored response, or None: its key must be its request's, and it must hold an answer."""
    if row.key != request_key(row.request):
        return f"key {row.key[:12]} is not the hash of its request"
    if find_fault(row.response):
        return f"response {row.key[:12]} holds no choices"
    return None


def find_fault(response: Any) -> str | None:
    """Why a decoded response body is not an answer, or None. What is one may still be of no use: `find_unusable`."""
    if not isinstance(response, dict):
        return f"the answer is a {type(response).__name__}, not an object"
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "the answer has no choices" + (f": {str(response['error'])[:200]}" if response.get("error") else "")
    return None


def find_unusable(answer: dict[str, Any], job: Job) -> str | None:
    """Why an answer without a fault cannot be stored, with the server's own hint, or None.

    An empty text where the model came to its end is an answer. No text, or an empty one next to thoughts, a refusal or a tool
    call, or cut by a limit or a filter before its first letter, is none: stored, it would be replayed for ever.
    """
    choice = answer["choices"][0]
    text, elsewhere = read_text(choice, None), _find_elsewhere(choice)
    read = read_answer(choice, job.request.prompt, is_chat=False)
    if "thoughts" in read.taken_off and not read.text:
        text, elsewhere = None, {"thoughts": text}
    reason = read_finish_reason(choice)
    has_ended = reason == "stop" and not any(isinstance(value, str | list) for value in elsewhere.values())
    if text or (text == "" and has_ended):
        return None
    hints = [f"finish_reason {reason!r}"]
    hints += [f"{name}: {_shorten(value)}" for name, value in elsewhere.items()]
    hints += [f"{name}: {_shorten(answer[name])}" for name in ("error", "detail", "warning") if answer.get(name)]
    advice = f"; raise max_tokens ({job.request.max_tokens})" if reason == "length" else ""
    return f"{NO_TEXT} ({'; '.join(hints)}){advice}"


def _find_elsewhere(choice: dict[str, Any]) -> dict[str, Any]:
    """What a model wrote besides the text, by its name: thoughts, a refusal, tool calls, a text in a form that is not read."""
    message = choice.get("message") if isinstance(choice.get("message"), dict) else {"message": choice.get("message")}
    found = {"reasoning": choice.get("reasoning"), "text": choice.get("text"), **message}
    others = ABOUT_A_MESSAGE if read_text(choice, None) is None else (*ABOUT_A_MESSAGE, "text", "content", "message")
    return {name: value for name, value in found.items() if value and name not in others}


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return repr(" ".join(text.split())[:120])


class TokenCounts(NamedTuple):
    """What a request used; `doubt` says which figures of the server cannot be, "" if none."""

    prompt_tokens: int
    completion_tokens: int
    doubt: str = ""


def read_usage(answer: dict[str, Any], request: Request) -> TokenCounts:
    """The tokens as the server counts them. Where it does not, or its figure cannot be, the text itself is counted."""
    usage = answer.get("usage")
    texts = {"prompt_tokens": request.prompt, "completion_tokens": _read_everything(answer["choices"][0])}
    if not isinstance(usage, dict):
        usage = {} if usage is None else dict.fromkeys(texts, str(usage))
    counts, doubts = [], []
    for name, text in texts.items():
        count = usage.get(name)
        if not _is_possible(count, text):
            doubts += [f"{name}={json.dumps(count)[:30]} for {len(text)} characters"] if count is not None else []
            count = approximate_tokens(text)
        counts.append(int(count))
    return TokenCounts(*counts, ", ".join(doubts))


def _is_possible(count: Any, text: str) -> bool:
    """True if `count` is a number of tokens that this text may have, with others that we do not see."""
    if isinstance(count, bool) or not isinstance(count, int | float) or count % 1 != 0:
        return False
    return len(text) / LONGEST_TOKEN <= count <= UNSEEN_TOKENS + len(text.encode("utf-8", "replace"))


def _read_everything(choice: dict[str, Any]) -> str:
    """The text of a choice and what the model wrote elsewhere in it: all of it is paid for."""
    others = (one if isinstance(one, str) else json.dumps(one) for one in _find_elsewhere(choice).values())
    return "".join([read_text(choice), *others])


def expect_tokens(job: Job) -> tuple[int, int]:
    """(prompt tokens, completion tokens) that a request may come to."""
    messages = job.body.get("messages", [])
    text = "".join(message["content"] for message in messages) or job.request.prompt
    return approximate_tokens(text) + len(messages) * TOKENS_BETWEEN, job.request.max_tokens


def approximate_tokens(text: str) -> int:
    """Tokens of a text, roughly: one for every four characters of English, for two Greek or Cyrillic ones, for one Chinese one.

    >>> approximate_tokens("A short text"), approximate_tokens("Краткий текст"), approximate_tokens("一篇短文")
    (3, 7, 4)
    """
    if text.isascii():
        return -(-len(text) // 4)
    quarters = len(text) + sum(
        1 if char < "\u0800" else 3 if char < "\U00010000" else 7 for char in text if char > "\x7f"
    )
    return -(-quarters // 4)


def _read_time(answer: dict[str, Any]) -> str:
    """When the server says that it answered, else now; the server's word keeps equal answers equal bytes."""
    created = answer.get("created")
    if isinstance(created, int | float) and 0 < created < 1e11:
        return str(datetime.fromtimestamp(int(created), UTC).replace(tzinfo=None))
    return utc_now()


def utc_now() -> str:
    """The time as the store writes it."""
    return str(datetime.now(UTC).replace(tzinfo=None, microsecond=0))


def read_completion(stored: StoredResponse, request: Request, cached: bool) -> Completion:
    """The completion of `request` from its stored response, stops applied here too and chat answers in completion form."""
    choice = stored.response["choices"][0]
    is_full = stored.completion_tokens >= request.max_tokens
    answer = read_answer(choice, request.prompt, sends_chat(stored.api) and not request.as_message, is_full)
    text, finish_reason = answer.text, answer.finish_reason
    cut = min((at for stop in request.stop if (at := text.find(stop)) >= 0), default=None)
    if cut is not None:
        text, finish_reason = text[:cut], "stop"
    choice = {**choice, "text": text, "finish_reason": finish_reason}
    choice.pop("message", None)
    return Completion(
        text=text, finish_reason=finish_reason, cached=cached, response={"choices": [choice]}, taken_off=answer.taken_off,
        **{name: getattr(stored, name) for name in ("prompt_tokens", "completion_tokens", "created_at", "latency_s")},
    )  # fmt: skip
