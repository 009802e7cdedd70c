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
from .answers import read_answer, read_text

APIS = ("completions", "chat", "batch", "batch-completions")

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
    messages = [{"role": "system", "content": CONTINUE_TEXT}, {"role": "user", "content": request.prompt}]
    return {**body, "messages": messages}


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
    prompt_tokens, completion_tokens = read_usage(answer, job.request.prompt)
    choice = answer["choices"][0]
    return StoredResponse(
        key=job.key, model=job.body["model"], api=job.canonical["api"], request=job.canonical,
        response={"choices": answer["choices"]}, finish_reason=str(choice.get("finish_reason") or "stop"),
        prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, created_at=_read_time(answer), **facts,
    )  # fmt: skip


def find_row_fault(row: StoredResponse) -> str | None:
    """What is wrong with a stored response, or None: its key must be its request's, and it must hold an answer."""
    if row.key != request_key(row.request):
        return f"key {row.key[:12]} is not the hash of its request"
    if not isinstance(row.response.get("choices"), list) or not row.response["choices"]:
        return f"response {row.key[:12]} holds no choices"
    return None


def find_fault(response: Any) -> str | None:
    """Why a decoded response body is not an answer, or None."""
    if not isinstance(response, dict):
        return f"the answer is a {type(response).__name__}, not an object"
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "the answer has no choices" + (f": {str(response['error'])[:200]}" if response.get("error") else "")
    choice = choices[0]
    if not isinstance(choice.get("text"), str) and not isinstance(choice.get("message"), dict):
        return "the answer's choice has no text"
    return None


def read_usage(response: dict[str, Any], prompt: str) -> tuple[int, int]:
    """(prompt tokens, completion tokens) as the server counts them; about 4 characters a token where it does not say."""
    usage = response.get("usage") if isinstance(response.get("usage"), dict) else {}
    prompt_tokens, completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not isinstance(prompt_tokens, int):
        prompt_tokens = approximate_tokens(prompt)
    if not isinstance(completion_tokens, int):
        completion_tokens = approximate_tokens(read_text(response["choices"][0]))
    return prompt_tokens, completion_tokens


def approximate_tokens(text: str) -> int:
    """Tokens of an English text, roughly: one for every four characters."""
    return -(-len(text) // 4)


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
    answer = read_answer(choice, request.prompt, sends_chat(stored.api), is_full)
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
