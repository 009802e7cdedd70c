"""An endpoint: where a model answers, with which key, and what each of its errors means.

    endpoint = find_endpoint("gpt-4o-mini", "openai", "chat")
    endpoint.ask(body, stopped)         # {"choices": [...], "usage": {...}} or RequestFailed / EndpointError

Errors that concern one request are RequestFailed; those that no other request would escape (no server, a refused key, an
unknown model) are EndpointError. No message ever holds the key.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies

from ..files import EndpointError, ParameterError
from .adaptation import Adaptation
from .protocol import find_fault, sends_chat

LIBRARY_RETRIES = 4  # the openai library's: 408, 409, 429 (with Retry-After), 5xx, timeouts and dropped connections
BAD_ANSWER_RETRIES = 4  # ours: not JSON, cut short, no choices
BAD_ANSWER_PAUSE_S = 0.25
CONNECT_SECONDS = 10.0
SHORTENINGS = 3  # how often a request that is too long for the model is tried with fewer tokens
SHORTEST_SECRET = 8
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
    """One request that failed for good; the run goes on."""


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
    timeout_s: float = 600.0
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

            server = serve(self.weights, self.slots, self.deterministic)
            base_url, self.threads = server.base_url, server.threads
        elif self.provider.needs_key and not key:
            advice = f"put it into the environment: export {self.provider.key_variable}=..."
            raise EndpointError(f"{public_url(base_url)}: no key; {advice}")
        on_loopback = (urlsplit(base_url).hostname or "") in ("127.0.0.1", "localhost", "::1")
        if on_loopback or not getproxies():
            _check_listening(base_url)
        http = DefaultHttpxClient(
            timeout=httpx2.Timeout(self.timeout_s, connect=min(CONNECT_SECONDS, self.timeout_s)),
            trust_env=not on_loopback,  # loopback never goes through a proxy
        )
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
        fault = ""
        for attempt in range(BAD_ANSWER_RETRIES + 1):
            if attempt and stopped.wait(BAD_ANSWER_PAUSE_S * 2 ** (attempt - 1)):
                break
            text = self.hide_key(self._send(body))
            try:
                answer = decode_answer(text)
                fault = find_fault(answer)
            except ValueError:
                fault = f"the answer is not JSON: {text[:80]!r}"
            if fault is None:
                return answer
        raise RequestFailed(fault)

    def _send(self, body: dict[str, Any]) -> str:
        """The raw body of the answer; parameters that the model refuses are adapted on the way."""
        import openai

        refusals, shortenings = (openai.BadRequestError, openai.UnprocessableEntityError), 0
        while True:
            sent = self.adaptation.adapt(body)
            try:
                resource = self.client.chat.completions if sends_chat(self.api) else self.client.completions
                return resource.with_raw_response.create(**sent).text
            except openai.OpenAIError as error:
                too_long = isinstance(error, openai.BadRequestError) and self.adaptation.detect_too_long(error, sent)
                if too_long and shortenings < SHORTENINGS:
                    body, shortenings = {**body, "max_tokens": int(body["max_tokens"] * 0.8)}, shortenings + 1
                elif not (isinstance(error, refusals) and self.adaptation.learn(error, sent, body)):
                    # from None: the library's own message may quote the server's, key included
                    raise self.explain_error(error) from None

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
            return RequestFailed(f"no answer within {self.timeout_s:g} s")
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


def decode_answer(text: str) -> Any:
    """The JSON value of `text`; half an emoji, as a cut completion may end in, becomes U+FFFD, since no file can hold it."""
    if "\\ud" in text.lower():
        whole = json.dumps(json.loads(text), ensure_ascii=False)
        text = whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.loads(text)
