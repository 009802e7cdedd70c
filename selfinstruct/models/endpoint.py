"""An endpoint: where a model answers, with which key, and what each of its errors means.

    endpoint = find_endpoint("gpt-4o-mini", "openai", "chat")
    endpoint.ask(body, stopped)         # {"choices": [...], "usage": {...}} or RequestFailed / EndpointError

Errors that concern one request are RequestFailed; those that no other request would escape (no server, a refused key, an
unknown model) are EndpointError. No message ever holds the key, or a password of the address.
"""

from __future__ import annotations

import json
import os
import re
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from ..files import EndpointError, ParameterError
from ..servers.adaptation import Adaptation
from ..servers.credentials import Address, Secrets, read_address, read_key
from ..servers.deadline import Deadline, find_deadline, keep_deadlines
from ..servers.network import (
    CONNECT_SECONDS,
    decode_body,
    explain_broken_way,
    find_proxy,
    list_proxy_passwords,
    open_http,
)
from ..servers.refusal import read_refusal
from ..servers.retries import find_pause
from .embedded import Adapter
from .protocol import find_fault, sends_chat

LIBRARY_RETRIES = 4  # the openai library's, in calls for batch jobs; those for answers are ours
BAD_ANSWER_RETRIES = 4  # not JSON, cut short, no choices
BAD_ANSWER_PAUSE_S = 0.25
PATIENCE_S = 300.0  # how long a whole request may take where timeout_s=0: this, and so much for each of its max_tokens
PATIENCE_A_TOKEN_S = 0.5
SHORTENINGS = 3  # how often a request that is too long for the model is tried with fewer tokens
MESSAGE_LENGTH = 300
MAX_DEPTH = 100  # lists and objects within one another in an answer; those of servers have ten


# where a model is


@dataclass(frozen=True)
class Provider:
    """A server known by name: its address, and the environment variable that holds its key."""

    base_url: str
    key_variable: str
    needs_key: bool = False
    address: Address | None = field(default=None, repr=False)  # `base_url` with what may be secret in it


PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", needs_key=True),
    "vllm": Provider("http://127.0.0.1:8000/v1", "VLLM_API_KEY"),
    "llama.cpp": Provider("http://127.0.0.1:8080/v1", "LLAMA_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434/v1", "OLLAMA_API_KEY"),
}


def provider_for(base_url: str) -> Provider:
    """The preset of that name, or any other address; "" is OPENAI_BASE_URL, else openai.

    Raises ParameterError for what is neither a name nor an address.
    """
    name = "base_url" if base_url else "OPENAI_BASE_URL"
    base_url = (base_url or os.environ.get(name, "")).strip() or "openai"
    if base_url in PROVIDERS:
        return PROVIDERS[base_url]
    address = read_address(base_url, name, f", or one of {', '.join(PROVIDERS)}")
    needs_key = ".openai.com" in (urlsplit(address.url).hostname or "") and not address.passwords
    return Provider(address.url, "OPENAI_API_KEY", needs_key, address)


def is_embedded(model: str, base_url: str = "") -> bool:
    """True if `model` names the embedded model or a GGUF file; at a `base_url`, NAME.gguf is what the server calls its model."""
    return model == "embedded" or (model.endswith(".gguf") and not base_url)


def find_endpoint(model: str, base_url: str, api: str, **settings: Any) -> Endpoint:
    """The endpoint that `model`, `base_url` and `api` name. Raises EndpointError where the weights of an embedded one are missing."""
    if not is_embedded(model, base_url):
        provider = provider_for(base_url)
        settings.pop("deterministic", None)
        if settings.get("adapters"):
            raise ParameterError(
                f"model={model!r}: only the embedded server loads adapters; name a GGUF file as the model"
            )
        return Endpoint(model, api, provider.base_url, provider, **settings)
    settings.pop("adaptation", None)  # what some server refuses is nothing to it
    if base_url:
        advice = f"name the model that {provider_for(base_url).base_url} serves"
        raise ParameterError(f"model={model!r} is embedded and needs no base_url; {advice}")
    if api not in ("completions", "chat"):
        raise ParameterError(f"api={api!r}: the embedded model has no batch jobs; use completions")
    from .embedded import find_weights, weights_sha256

    weights = find_weights(None if model == "embedded" else model)
    sha256 = weights_sha256(weights)
    # with flash attention, as stores of before have it, the same weights give other texts
    identity = f"embedded:{sha256}:no-flash-attention" + (":deterministic" if settings.get("deterministic") else "")
    if adapter := settings.get("adapter"):
        identity += f":{adapter.identity}"
    return Endpoint(weights.stem, api, identity, Provider("", ""), weights, sha256, **settings)


# asking it


class RequestFailed(Exception):
    """One request that failed for good; the run goes on. `body` is what was answered, kept as evidence."""

    def __init__(self, reason: str, body: str = ""):
        super().__init__(reason)
        self.body = body


class _NotThere(Exception):
    """The server answers, and has no completions at this address."""


@dataclass
class Endpoint:
    """A model at an address. `identity` is what the store's keys hold of it; nothing is contacted before the first `ask`."""

    model: str
    api: str
    identity: str
    provider: Provider
    weights: Path | None = None
    weights_sha256: str | None = None
    slots: int = 1  # of the embedded server
    threads: int | None = None  # of the embedded server, once it runs
    deterministic: bool = False
    adapters: tuple[Adapter, ...] = ()  # what the embedded server loads
    adapter: Adapter | None = None  # the one of them that answers; None: the weights alone
    timeout_s: float = 0.0  # for a whole request, retries and pauses included; 0: depends on its max_tokens
    adaptation: Adaptation = field(default_factory=Adaptation)
    _openai: Any = None
    _once: Any = None  # the same, without retries of its own
    _is_found: bool = False  # if it has answered, or was tried with /v1 as well
    _secrets: Secrets = field(default_factory=Secrets, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def embedded(self) -> bool:
        return self.weights_sha256 is not None

    @property
    def key(self) -> str:
        """The provider's key from the environment, "" where there is none; never stored or printed."""
        return "" if self.embedded else read_key(self.provider.key_variable)

    @property
    def client(self) -> Any:
        """The openai library's client, opened at first use; the embedded server is started then, too."""
        with self._lock:
            if self._openai is None:
                self._openai = self._open_client()
                self._once = self._openai.with_options(max_retries=0)
            return self._openai

    def _open_client(self) -> Any:
        from openai import OpenAI

        key, address = self.key, Address(self.provider.base_url)
        if self.provider.address:
            address = self.provider.address._replace(url=self.provider.base_url)
        if self.embedded:
            from .embedded import serve

            loaded = [(one.path, one.sha256) for one in self.adapters]
            server = serve(self.weights, self.slots, self.deterministic, loaded)
            address, self.threads = Address(server.base_url), server.threads
        elif self.provider.needs_key and not key:
            advice = f"put it into the environment: export {self.provider.key_variable}=..."
            raise EndpointError(f"{address.url}: no key; {advice}")
        self._secrets = Secrets(key, [*address.passwords, *list_proxy_passwords()])
        http = open_http(address, PATIENCE_S, self._secrets.hide)
        keep_deadlines(http)
        return OpenAI(
            base_url=address.url, api_key=key or "none", max_retries=LIBRARY_RETRIES, http_client=http,
            default_query=address.query,
        )  # fmt: skip

    def close(self) -> None:
        """Close the connections; the embedded server stays for others and ends with its owner."""
        with self._lock:
            if self._openai is not None:
                self._openai.close()
                self._openai = None

    def ask(self, body: dict[str, Any], stopped: threading.Event) -> dict[str, Any]:
        """The decoded answer to `body`, after all retries; from the address with /v1, and with a warning, if only that has any.

        Raises RequestFailed where this request failed for good, EndpointError where every other would fail as well.
        """
        _ = self.client  # opened before the time runs: an embedded server starts with it
        with Deadline(self.find_patience(body)):
            return self._ask_there(body, stopped)

    def find_patience(self, body: dict[str, Any]) -> float:
        """How many seconds a whole request may take, retries and pauses included."""
        return self.timeout_s or PATIENCE_S + PATIENCE_A_TOKEN_S * body["max_tokens"]

    def _ask_there(self, body: dict[str, Any], stopped: threading.Event) -> dict[str, Any]:
        here, reason = self.provider, ""
        try:
            return self._ask(body, stopped)
        except _NotThere as error:
            reason = str(error)
        if not self._can_move:
            raise EndpointError(reason)
        self._move(replace(here, base_url=f"{here.base_url}/v1"))
        try:
            answer = self._ask(body, stopped)
        except _NotThere:
            self._move(here)
            raise EndpointError(f"{reason} (nor is there one at {here.base_url}/v1)") from None
        there = f"{here.base_url} has no completions, {here.base_url}/v1 does"
        warnings.warn(f"{there}: the kit asks there; give that as base_url", stacklevel=2)
        return answer

    def _ask(self, body: dict[str, Any], stopped: threading.Event) -> dict[str, Any]:
        fault = text = ""
        for attempt in range(BAD_ANSWER_RETRIES + 1):
            pause = BAD_ANSWER_PAUSE_S * 2 ** (attempt - 1) if attempt else 0
            if pause and (pause > find_deadline().left_s or stopped.wait(pause)):
                break
            text = self.hide_key(self._send(body, stopped), answer=True)
            try:
                answer = self._hide_in(decode_answer(text))
                fault = find_fault(answer)
            except ValueError:
                answer, fault = None, f"the answer is not JSON: {text[:80]!r}"
            except RecursionError:
                raise self._fail("the answer is nested too deeply to be read", text) from None
            if fault is None:
                self._is_found = True
                self.adaptation.settle()
                return answer
            if isinstance(answer, dict) and answer.get("error") and self._learn(answer, body):
                continue
            self._check_form(text, answer, fault)
        raise self._fail(fault, text)

    def _fail(self, fault: str, text: str) -> RequestFailed:
        return RequestFailed(self.hide_key(fault), self.hide_key(text))

    def _learn(self, answer: dict[str, Any], body: dict[str, Any]) -> bool:
        """As `Adaptation.learn`, from a refusal that came with the status of an answer."""
        refusal = SimpleNamespace(body=answer, response=None, status_code=400)
        return self.adaptation.learn(refusal, self.adaptation.adapt(body), body)

    def _check_form(self, text: str, answer: Any, fault: str) -> None:
        """Raise _NotThere where what came is no completion but well formed: a page, or the answer of some other service."""
        is_other = isinstance(answer, dict) and "choices" not in answer and "error" not in answer
        if is_other or (self._can_move and (isinstance(answer, dict) or text.lstrip().startswith("<"))):
            came = f", but {', '.join(map(repr, list(answer)[:6]))}" if is_other else ""
            url = self.provider.base_url
            raise _NotThere(f"{url}: {fault}{came}; check base_url, which ends in /v1 for most servers")

    @property
    def _can_move(self) -> bool:
        """True if the address has no version, has not answered, and was not tried with one yet."""
        return not (self.embedded or self._is_found or re.search(r"/v\d", urlsplit(self.provider.base_url).path))

    def _move(self, provider: Provider) -> None:
        self.close()
        self.provider, self._is_found = provider, True

    def one_at_first(self, body: dict[str, Any], stopped: threading.Event) -> AbstractContextManager[None]:
        """Within it the first request with new settings is alone; the embedded model refuses nothing."""
        return nullcontext() if self.embedded else self.adaptation.one_at_first(body, stopped)

    def _send(self, body: dict[str, Any], stopped: threading.Event) -> str:
        """The raw body of the answer, after pauses where the server is busy; what the model refuses is adapted on the way."""
        import openai

        shortenings = retries = 0
        while True:
            sent = self.adaptation.adapt(body)
            try:
                return self._post(sent)
            except openai.OpenAIError as error:
                if shortenings < SHORTENINGS and self.adaptation.detect_too_long(error, sent):
                    body, shortenings = {**body, "max_tokens": int(body["max_tokens"] * 0.8)}, shortenings + 1
                elif not self.adaptation.learn(error, sent, body):
                    pause = find_pause(error, retries)
                    if pause is None or pause > find_deadline().left_s or stopped.wait(pause):
                        # from None: the library's own message may quote the server's, key included
                        raise self._explain_place(error) from None
                    retries += 1

    def _post(self, sent: dict[str, Any]) -> str:
        import httpx2

        client = self.client and self._once  # the first is opened at first use
        resource = client.chat.completions if sends_chat(self.api) else client.completions
        # a server that says nothing for half of the time has hung: there is time for a second try
        timeout = httpx2.Timeout(find_deadline().seconds / 2, connect=CONNECT_SECONDS)
        raw = resource.with_raw_response.create(**sent, **self._choose_adapter(), timeout=timeout)
        return decode_body(raw.content, raw.headers.get("content-type", ""))

    def _choose_adapter(self) -> dict[str, Any]:
        """The field of a request that sets the scale of each adapter of the server; none where it has no adapter."""
        if not self.adapters:
            return {}
        wanted = self.adapter
        scales = [wanted.scale if wanted and one.path == wanted.path else 0.0 for one in self.adapters]
        return {"extra_body": {"lora": [{"id": number, "scale": scale} for number, scale in enumerate(scales)]}}

    def _explain_place(self, error: Any) -> Exception:
        """As `explain_error`, but _NotThere where the server has nothing at that address."""
        reason = self.explain_error(error)
        return _NotThere(str(reason)) if getattr(error, "status_code", None) in (404, 405) else reason

    def hide_key(self, text: str, answer: bool = False) -> str:
        """`text` without the key and passwords, whoever wrote them there, also cut; in an `answer` short pieces stay."""
        return self._secrets.hide(text, answer)

    def _hide_in(self, answer: Any) -> Any:
        """`answer` without the key, where JSON had it in escapes."""
        text = json.dumps(answer, ensure_ascii=False)
        hidden = self.hide_key(text, answer=True)
        return answer if hidden == text else json.loads(hidden)

    @property
    def _public_url(self) -> str:
        return "the embedded model" if self.embedded else self.provider.base_url

    def explain_error(self, error: Exception) -> Exception:
        """RequestFailed or EndpointError for an error of the library."""
        import openai

        url = self._public_url
        message = self.hide_key(read_refusal(error).text)[:MESSAGE_LENGTH]
        if isinstance(error, openai.APITimeoutError):
            seconds = find_deadline().seconds
            return RequestFailed(f"no answer within {seconds:g} s, retries included; timeout_s sets another deadline")
        if isinstance(error, openai.APIConnectionError):
            return self._explain_connection_error(error, url)
        return self._explain_status(error, getattr(error, "status_code", None), message, url)

    def _explain_status(self, error: Any, status: int | None, message: str, url: str) -> Exception:
        if status in (401, 403):
            advice = f"check {self.provider.key_variable} in the environment"
            also = f" (the server: {message})" if status == 403 else ""  # it may be a country, or an account
            return EndpointError(f"{url}: the key was refused ({status}); {advice}{also}")
        if status == 404:
            other = "completions" if sends_chat(self.api) else "chat"
            what = f"no model {self.model!r} there for api={self.api!r} (404: {message})"
            return EndpointError(f"{url}: {what}; check model and base_url, or try api={other!r}")
        if status == 402 or (status == 429 and "insufficient_quota" in f"{error.code} {message}"):
            return EndpointError(f"{url}: no credit left ({message}); nothing that was received is lost")
        if status == 407:
            advice = f"check the name and password in {find_proxy(url) or 'the proxy of the environment'}"
            return EndpointError(f"{url}: the proxy asks who you are (407); {advice}")
        if status == 429:
            advice = "too fast for this server: set requests_per_minute, and run the same command again"
            return RequestFailed(f"429: {message}; {advice}")
        return RequestFailed(f"{status}: {message}" if status else message)

    def _explain_connection_error(self, error: Exception, url: str) -> Exception:
        import httpx2

        cause = error.__cause__
        why = self.hide_key(str(cause or error))
        if self.embedded and isinstance(cause, httpx2.ConnectError):
            return EndpointError(f"{url} has stopped ({why}); the same command starts it again and goes on")
        if not self.embedded and (reason := explain_broken_way(cause, why, url)):
            return EndpointError(reason)
        return RequestFailed(f"the connection broke: {type(cause).__name__}: {why}")


def decode_answer(text: str) -> Any:
    """The JSON value of `text`; half an emoji, as a cut completion may end in, becomes U+FFFD, since no file can hold it.

    NaN, infinities and numbers of 400 digits stay text: JSON has none, and whoever reads our files must not stumble.
    Raises RecursionError for what is nested more than MAX_DEPTH levels deep.
    """
    text = text.removeprefix("\ufeff")
    if "\\ud" in text.lower():
        whole = json.dumps(json.loads(text), ensure_ascii=False)
        text = whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    value = json.loads(text, parse_constant=str, parse_int=lambda digits: int(digits) if len(digits) < 400 else digits)
    if measure_depth(value) > MAX_DEPTH:
        raise RecursionError
    return value


def measure_depth(value: Any) -> int:
    """How many lists and objects are within one another; it stops counting where they are too many."""
    level, depth = [value], -1
    while level and depth <= MAX_DEPTH:
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level, depth = [part for parts in inner for part in parts], depth + 1
    return depth
