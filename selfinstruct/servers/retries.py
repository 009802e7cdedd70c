"""When a request that failed is sent again: after what the server asks for, else after pauses that grow.

A busy server (429) often counts by the minute: pauses for it go up to a minute; other faults pass in seconds or not at all.
"""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime
from typing import Any

RETRIED_STATUS = (408, 409, 429)  # and 5xx
RETRIES, FIRST_PAUSE_S, LONGEST_PAUSE_S = 4, 0.5, 8.0
BUSY_RETRIES, FIRST_BUSY_PAUSE_S, LONGEST_BUSY_PAUSE_S = 6, 2.0, 60.0  # together about two minutes
LONGEST_ASKED_PAUSE_S = 120.0


def find_pause(error: Any, retries: int) -> float | None:
    """Seconds to wait before the next try, None where none is worth it; `retries` is how many there were."""
    import openai

    status, headers = getattr(error, "status_code", None), _read_headers(error)
    is_busy = status == 429
    if not (isinstance(error, openai.APIConnectionError) and _may_pass(error)) and not _is_retried(status):
        return None
    if retries >= (BUSY_RETRIES if is_busy else RETRIES) or "insufficient_quota" in str(getattr(error, "code", "")):
        return None
    asked = read_retry_after(headers)
    if asked:
        return asked if asked <= LONGEST_ASKED_PAUSE_S else None
    first, longest = (FIRST_BUSY_PAUSE_S, LONGEST_BUSY_PAUSE_S) if is_busy else (FIRST_PAUSE_S, LONGEST_PAUSE_S)
    return min(first * 2**retries, longest) * random.uniform(0.75, 1.25)


def _is_retried(status: int | None) -> bool:
    return status in RETRIED_STATUS or (status or 0) >= 500


def _may_pass(error: Any) -> bool:
    import httpx2

    return not isinstance(error.__cause__, httpx2.LocalProtocolError | httpx2.ProxyError | httpx2.DecodingError)


def _read_headers(error: Any) -> Any:
    response = getattr(error, "response", None)
    return {} if response is None else response.headers


def read_retry_after(headers: Any) -> float | None:
    """The seconds that a server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date; None without.

    >>> read_retry_after({"retry-after-ms": "250"}), read_retry_after({"retry-after": "3"})
    (0.25, 3.0)
    """
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers.get(name)) / unit)
        except (TypeError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after")).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
