"""The way to a server and back: what the environment says about proxies and certificates, and bytes read as what they are.

http = open_http(read_address("http://host:8000/v1"), timeout_s=600)
explain_broken_way(error, url)      # why a connection could not be made, and which variable to look at
"""

from __future__ import annotations

import codecs
import gzip
import json
import logging
import os
import socket
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..files import EndpointError
from .credentials import Address

CONNECT_SECONDS = 10.0
GZIP = b"\x1f\x8b"
NO_SERVER = "{url}: no server answers there ({why}); start it, or check base_url"
LOGGERS = ("httpx2", "openai", "openai._base_client")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def open_http(address: Address, timeout_s: float, hide: Callable[[str], str]) -> Any:
    """The library's HTTP client for `address`; `hide` is applied to what it logs.

    Raises EndpointError if nobody listens, or if the environment's proxies or certificates cannot be used.
    """
    import httpx2
    from openai import DefaultHttpxClient

    if address.query:  # it is in every line of the log
        _hide_in_logs(hide)
    on_loopback = (urlsplit(address.url).hostname or "") in ("127.0.0.1", "localhost", "::1")
    if on_loopback or not getproxies():
        _check_listening(address.url)
    try:
        return DefaultHttpxClient(
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_SECONDS, timeout_s)),
            trust_env=not on_loopback,  # loopback never goes through a proxy
            auth=(address.user, address.password) if address.user or address.password else None,
            event_hooks={"response": [_correct_encoding]},
        )
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        raise EndpointError(f"{address.url}: {_blame_environment(error)}") from None


def _check_listening(url: str) -> None:
    """Raise EndpointError where nobody listens, before patient retries begin."""
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise EndpointError(NO_SERVER.format(url=url, why=error)) from None


def _hide_in_logs(hide: Callable[[str], str]) -> None:
    def hide_in(record: logging.LogRecord) -> bool:
        record.msg, record.args = hide(record.getMessage()), ()
        return True

    for name in LOGGERS:
        logging.getLogger(name).addFilter(hide_in)


def _blame_environment(error: Exception) -> str:
    """Which variable of the environment no client can be made with, and what to do."""
    if isinstance(error, OSError):
        names = " and ".join(name for name in CERTIFICATES if os.environ.get(name)) or "the machine's store"
        return f"{names}: the certificates cannot be read ({error.strerror or type(error).__name__}); correct it, or unset it"
    proxies = {
        _find_variable(scheme): value for scheme, value in getproxies().items() if scheme in ("http", "https", "all")
    }
    socks = [name for name, value in proxies.items() if value.startswith("socks")]
    names = " and ".join(sorted(socks or proxies)) or "NO_PROXY"
    if isinstance(error, ImportError):
        return f"{names} names a SOCKS proxy; run `pip install socksio`, or unset it"
    return f"{names} is no address of a proxy; give one such as http://host:8080, or unset it"


def _find_variable(scheme: str) -> str:
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), names[1])


def find_proxy(url: str) -> str:
    """The variable that sends requests for `url` through a proxy, "" if none does."""
    parts, proxies = urlsplit(url), getproxies()
    if parts.hostname in ("127.0.0.1", "localhost", "::1") or proxy_bypass(parts.netloc):
        return ""
    return next((_find_variable(scheme) for scheme in (parts.scheme, "all") if scheme in proxies), "")


def list_proxy_passwords() -> list[str]:
    """The passwords in the environment's proxies."""
    return [part.rpartition("@")[0].rpartition(":")[2] for value in getproxies().values() if "@" in (part := value)]


def explain_broken_way(cause: Any, why: str, url: str) -> str:
    """Why no connection came about, where every other request would fail too; "" where the next may pass."""
    import httpx2

    proxy = find_proxy(url)
    if isinstance(cause, httpx2.ProxyError) or (
        proxy and isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
    ):
        return f"{url}: the proxy of {proxy or 'the environment'} does not let it through ({why}); correct {proxy}, or name the host in NO_PROXY"
    if isinstance(cause, httpx2.LocalProtocolError):  # a header of the environment's, such as OPENAI_ORG_ID
        return f"{url}: a setting in the environment cannot be sent (OPENAI_ORG_ID, OPENAI_PROJECT_ID); correct it, or unset it"
    if not isinstance(cause, httpx2.ConnectError):
        return ""
    if "CERTIFICATE_VERIFY" in why:
        return f"{url}: its certificate is not trusted ({why}); name the right certificates in SSL_CERT_FILE"
    return NO_SERVER.format(url=url, why=why)


# what comes back


def _correct_encoding(response: Any) -> None:
    """Read the body here where its header and its bytes disagree on compression: some proxies unpack and keep the header."""
    import httpx2

    if "content-encoding" not in response.headers:
        return
    body = b"".join(response.stream)
    response.stream.close()
    if "gzip" in response.headers["content-encoding"] and not body.startswith(GZIP):
        del response.headers["content-encoding"]
    response.stream = httpx2.ByteStream(body)


def decode_body(body: bytes, content_type: str) -> str:
    """`body` as text: JSON is UTF-8, or UTF-16 as its bytes show, whatever its header says; the header counts where it is not."""
    if body.startswith(GZIP):
        with suppress(OSError, EOFError, zlib.error):
            body = gzip.decompress(body)
    encodings = [json.detect_encoding(body), content_type.partition("charset=")[2].partition(";")[0].strip(" \"'")]
    for encoding in filter(None, encodings):
        with suppress(UnicodeDecodeError, LookupError):
            return body.decode(codecs.lookup(encoding).name)
    return body.decode("utf-8", "replace")
