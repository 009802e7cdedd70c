"""An endpoint: where a model answers, with which key, and what each of its errors means.

    endpoint = find_endpoint("gpt-4o-mini", "openai", "chat")
    endpoint.ask(body, stopped)         # {"choices": [...], "usage": {...}} or RequestFailed / EndpointError

Errors that concern one request are RequestFailed; those that no other request would escape (no server, a refused key, an
unknown model) are EndpointError. No message ever holds the key.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies

from ..files import EndpointError, ParameterError
from .adaptation import Adaptation
from .deadline import Deadline, find_deadline, keep_deadlines
from .protocol import find_fault, sends_chat

LIBRARY_RETRIES = 4  # the openai library's, in calls for batch jobs; those for answers are ours
RETRIES, FIRST_PAUSE_S, LONGEST_PAUSE_S = 4, 0.5, 8.0  # after 408, 409, 429, 5xx, silence and dropped connections
BAD_ANSWER_RETRIES = 4  # not JSON, cut short, no choices
BAD_ANSWER_PAUSE_S = 0.25
CONNECT_SECONDS = 10.0
PATIENCE_S = 300.0  # how long a whole request may take where timeout_s=0: this, and so much for each of its max_tokens
PATIENCE_A_TOKEN_S = 0.5
SHORTENINGS = 3  # how often a request that is too long for the model is tried with fewer tokens
SHORTEST_SECRET = 8
MAX_DEPTH = 100  # lists and objects within one another in an answer; those of servers have ten
NO_SERVER = "{url}: no server answers there ({why}); start it, or check base_url"


# where a model is


@dataclass(frozen=True)
class Provider:
    """A server known by name: its address, and the environment variable that holds its key."""

    base_url: str
    key_variable: str
    needs_key: bool = False


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
    base_url = (base_url or os.environ.get("OPENAI_BASE_URL", "") or "openai").strip()
    if base_url in PROVIDERS:
        return PROVIDERS[base_url]
    if not base_url.startswith(("http://", "https://")):
        advice = f"give an address such as http://127.0.0.1:8000/v1, or one of {', '.join(PROVIDERS)}"
        raise ParameterError(f"base_url={base_url!r}: {advice}")
    is_openai = ".openai.com" in (urlsplit(base_url).hostname or "")
    return Provider(base_url.rstrip("/"), "OPENAI_API_KEY", needs_key=is_openai)


def is_embedded(model: str) -> bool:
    """True if `model` names the embedded model or a GGUF file, rather than a model of some server."""
    return model == "embedded" or model.endswith(".gguf")


def find_endpoint(model: str, base_url: str, api: str, **settings: Any) -> Endpoint:
    """The endpoint that `model`, `base_url` and `api` name. Raises EndpointError where the weights of an embedded one are missing."""
    if not is_embedded(model):
        provider = provider_for(base_url)
        settings.pop("deterministic", None)
        return Endpoint(model, api, public_url(provider.base_url), provider, **settings)
    if base_url:
        advice = f"name the model that {public_url(base_url)} serves"
        raise ParameterError(f"model={model!r} is embedded and needs no base_url; {advice}")
    if api not in ("completions", "chat"):
        raise ParameterError(f"api={api!r}: the embedded model has no batch jobs; use completions")
    from .embedded import find_weights, weights_sha256

    weights = find_weights(None if model == "embedded" else model)
    sha256 = weights_sha256(weights)
    # with flash attention, as stores of before have it, the same weights give other texts
    identity = f"embedded:{sha256}:no-flash-attention" + (":deterministic" if settings.get("deterministic") else "")
    return Endpoint(weights.stem, api, identity, Provider("", ""), weights, sha256, **settings)


def public_url(base_url: str) -> str:
    """`base_url` without user, password and query: these may be secret, and this is what is stored and printed."""
    parts = urlsplit(base_url)
    host = parts.netloc.rsplit("@", 1)[-1]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


# asking it


class RequestFailed(Exception):
    """One request that failed for good; the run goes on. `body` is what was answered, kept as evidence."""

    def __init__(self, reason: str, body: str = ""):
        super().__init__(reason)
        self.body = body


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
    deterministic: bool = False
    timeout_s: float = 0.0  # for a whole request, retries and pauses included; 0: depends on its max_tokens
    adaptation: Adaptation = field(default_factory=Adaptation)
    _openai: Any = None
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def embedded(self) -> bool:
        return self.weights_sha256 is not None

    @property
    def key(self) -> str:
        """The provider's key from the environment, "" where there is none; never kept, stored or printed."""
        return "" if self.embedded else os.environ.get(self.provider.key_variable, "").strip()

    @property
    def client(self) -> Any:
        """The openai library's client, opened at first use; the embedded server is started then, too."""
        with self._lock:
            if self._openai is None:
                self._openai = self._open_client()
            return self._openai

    def _open_client(self) -> Any:
        import httpx2
        from openai import DefaultHttpxClient, OpenAI

        base_url, key = self.provider.base_url, self.key
        if self.embedded:
            from .embedded import serve

            base_url = serve(self.weights, self.slots, self.deterministic).base_url
        elif self.provider.needs_key and not key:
            advice = f"put it into the environment: export {self.provider.key_variable}=..."
            raise EndpointError(f"{public_url(base_url)}: no key; {advice}")
        on_loopback = (urlsplit(base_url).hostname or "") in ("127.0.0.1", "localhost", "::1")
        if on_loopback or not getproxies():
            _check_listening(base_url)
        http = DefaultHttpxClient(
            timeout=httpx2.Timeout(PATIENCE_S, connect=CONNECT_SECONDS),
            trust_env=not on_loopback,  # loopback never goes through a proxy
        )
        keep_deadlines(http)
        return OpenAI(base_url=base_url, api_key=key or "none", max_retries=LIBRARY_RETRIES, http_client=http)

    def close(self) -> None:
        """Close the connections; the embedded server stays for others and ends with its owner."""
        with self._lock:
            if self._openai is not None:
                self._openai.close()
                self._openai = None

    def ask(self, body: dict[str, Any], stopped: threading.Event) -> dict[str, Any]:
        """The decoded answer to `body`, after all retries.

        Raises RequestFailed where this request failed for good, EndpointError where every other would fail as well.
        """
        _ = self.client  # opened before the time runs: an embedded server starts with it
        with Deadline(self.find_patience(body)):
            return self._ask(body, stopped)

    def find_patience(self, body: dict[str, Any]) -> float:
        """How many seconds a whole request may take, retries and pauses included."""
        return self.timeout_s or PATIENCE_S + PATIENCE_A_TOKEN_S * body["max_tokens"]

    def _ask(self, body: dict[str, Any], stopped: threading.Event) -> dict[str, Any]:
        fault = text = ""
        for attempt in range(BAD_ANSWER_RETRIES + 1):
            if attempt and (find_deadline().left_s < 0 or stopped.wait(BAD_ANSWER_PAUSE_S * 2 ** (attempt - 1))):
                break
            text = self.hide_key(self._send(body, stopped))
            try:
                answer = decode_answer(text)
                fault = find_fault(answer)
            except ValueError:
                fault = f"the answer is not JSON: {text[:80]!r}"
            except RecursionError:
                raise RequestFailed("the answer is nested too deeply to be read", text) from None
            if fault is None:
                return answer
        raise RequestFailed(fault, text)

    def _send(self, body: dict[str, Any], stopped: threading.Event) -> str:
        """The raw body of the answer, after pauses where the server is busy; what the model refuses is adapted on the way."""
        import openai

        refusals, shortenings, retries = (openai.BadRequestError, openai.UnprocessableEntityError), 0, 0
        while True:
            sent = self.adaptation.adapt(body)
            try:
                return self._post(sent)
            except openai.OpenAIError as error:
                too_long = isinstance(error, openai.BadRequestError) and self.adaptation.detect_too_long(error, sent)
                if too_long and shortenings < SHORTENINGS:
                    body, shortenings = {**body, "max_tokens": int(body["max_tokens"] * 0.8)}, shortenings + 1
                elif not (isinstance(error, refusals) and self.adaptation.learn(error, sent, body)):
                    pause = find_pause(error, retries)
                    if pause is None or pause > find_deadline().left_s or stopped.wait(pause):
                        # from None: the library's own message may quote the server's, key included
                        raise self.explain_error(error) from None
                    retries += 1

    def _post(self, sent: dict[str, Any]) -> str:
        import httpx2

        client = self.client.with_options(max_retries=0)
        resource = client.chat.completions if sends_chat(self.api) else client.completions
        # a server that says nothing for half of the time has hung: there is time for a second try
        timeout = httpx2.Timeout(find_deadline().seconds / 2, connect=CONNECT_SECONDS)
        return resource.with_raw_response.create(**sent, timeout=timeout).text

    def hide_key(self, text: str) -> str:
        """`text` without the key, whoever wrote it there. Words that local servers take for a key, such as "none", are no secret."""
        key = self.key
        return text.replace(key, "[key]") if len(key) >= SHORTEST_SECRET and key in text else text

    def explain_error(self, error: Exception) -> Exception:
        """RequestFailed or EndpointError for an error of the library."""
        import openai

        url = public_url(self.provider.base_url) if not self.embedded else "the embedded model"
        message = self.hide_key(_read_message(error))
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            advice = f"check {self.provider.key_variable} in the environment"
            return EndpointError(f"{url}: the key was refused ({error.status_code}); {advice}")
        if isinstance(error, openai.NotFoundError):
            other = "completions" if sends_chat(self.api) else "chat"
            what = f"no model {self.model!r} there for api={self.api!r} (404: {message})"
            return EndpointError(f"{url}: {what}; check model and base_url, or try api={other!r}")
        if isinstance(error, openai.RateLimitError) and "insufficient_quota" in (str(error.code) + message):
            return EndpointError(f"{url}: no credit left ({message}); nothing that was received is lost")
        if isinstance(error, openai.APITimeoutError):
            seconds = find_deadline().seconds
            return RequestFailed(f"no answer within {seconds:g} s, retries included; timeout_s sets another deadline")
        if isinstance(error, openai.APIConnectionError):
            return self._explain_connection_error(error, url)
        status = getattr(error, "status_code", None)
        return RequestFailed(f"{status}: {message}" if status else message)

    def _explain_connection_error(self, error: Exception, url: str) -> Exception:
        import httpx2

        cause = error.__cause__
        why = self.hide_key(str(cause or error))
        if not isinstance(cause, httpx2.ConnectError):
            return RequestFailed(f"the connection broke: {type(cause).__name__}: {why}")
        if self.embedded:
            return EndpointError(f"{url} has stopped ({why}); the same command starts it again and goes on")
        return EndpointError(NO_SERVER.format(url=url, why=why))


def _check_listening(base_url: str) -> None:
    """Raise EndpointError where nobody listens, before the library's patient retries begin."""
    parts = urlsplit(base_url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EndpointError(NO_SERVER.format(url=public_url(base_url), why=error)) from None


def _read_message(error: Exception) -> str:
    """The server's message, short; the library's error text where there is none to read."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        body = body.get("message") or body.get("error") or body
    return " ".join(str(body or error).split())[:300]


def find_pause(error: Any, retries: int) -> float | None:
    """Seconds to wait before the next try, None where none is worth it; `retries` is how many there were."""
    import openai

    status = getattr(error, "status_code", None) or 0
    if not (status in (408, 409, 429) or status >= 500 or isinstance(error, openai.APIConnectionError)):
        return None
    if retries >= RETRIES or "insufficient_quota" in str(getattr(error, "code", "")):
        return None
    headers = error.response.headers if status else {}
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers.get(name)) / unit)
        except (TypeError, ValueError):
            continue
    return min(FIRST_PAUSE_S * 2**retries, LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)


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
