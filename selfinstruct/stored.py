"""A stored response and its key: the sha256 of the request in canonical form."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class StoredResponse(BaseModel):
    """A row of the store: the canonical request and what the model answered to it, raw."""

    model_config = ConfigDict(frozen=True)
    key: str
    model: str
    api: str
    endpoint: str  # base_url, or embedded:<sha256 of the weights>
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


def canonical(request: dict[str, Any]) -> str:
    """The one text of a request: keys sorted, no spaces, so that equal requests are equal texts."""
    return json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def request_key(request: dict[str, Any]) -> str:
    """sha256 of the canonical request.

    >>> request_key({"b": 1, "a": "x"}) == request_key({"a": "x", "b": 1})
    True
    """
    return hashlib.sha256(canonical(request).encode("utf-8", "surrogatepass")).hexdigest()


def row_fault(row: StoredResponse) -> str | None:
    """What is wrong with a stored response, or None: its key must be its request's, and it must hold an answer."""
    if row.key != request_key(row.request):
        return f"key {row.key[:12]} is not the hash of its request"
    if not isinstance(row.response.get("choices"), list) or not row.response["choices"]:
        return f"response {row.key[:12]} holds no choices"
    return None
