"""Providers: servers known by name, and what may be said of any address."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from .records import EndpointError, ParameterError

CONNECT_SECONDS = 10.0
NO_SERVER = "{url}: no server answers there ({why}); start it, or check base_url"


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
        raise ParameterError(f"base_url={base_url!r}: give an address such as http://127.0.0.1:8000/v1, or one of {', '.join(PROVIDERS)}")
    return Provider(base_url.rstrip("/"), "OPENAI_API_KEY", needs_key=".openai.com" in (urlsplit(base_url).hostname or ""))


def public_url(base_url: str) -> str:
    """`base_url` without user, password and query: these may be secret, and this is what is stored and shown."""
    parts = urlsplit(base_url)
    host = parts.netloc.rsplit("@", 1)[-1]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def is_embedded(model: str) -> bool:
    """Whether `model` names the embedded model or a GGUF file, rather than a model of some server."""
    return model == "embedded" or model.startswith("embedded:") or model.endswith(".gguf")


def check_listening(base_url: str) -> None:
    """Raise EndpointError where nobody listens, before the library's patient retries begin."""
    parts = urlsplit(base_url)
    try:
        socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EndpointError(NO_SERVER.format(url=public_url(base_url), why=error)) from None
