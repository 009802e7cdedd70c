"""The way of a sweep's worker to the one store: in a cell that runs on a cluster, the sweep's command asks and keeps the answers.

The runner sets the environment variable SELFINSTRUCT_DOOR to an address on loopback, and SELFINSTRUCT_STORE to a scratch file of
the worker's own. The worker needs no key then, the limits hold for the whole sweep, and its end loses no paid answer. The
embedded model is asked on the worker itself, and what it answers is written to the one store as well.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from typing import Any

from ..files import EndpointError, SelfInstructError, StoppedEarly
from .protocol import Job, StoredResponse

DOOR_VARIABLE, STORE_VARIABLE = "SELFINSTRUCT_DOOR", "SELFINSTRUCT_STORE"
WAIT_S, POLL_S = 900.0, 0.2
_no_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through one


class RefusedElsewhere(Exception):
    """The sweep's command asked, and the request failed for good."""


class Door:
    """Calls to the sweep's command, each a POST to the worker's own loopback address. Safe for several threads."""

    def __init__(self, url: str):
        self._url = url

    def find(self, job: Job, step: str, embedded: bool) -> StoredResponse | None:
        """The answer to `job`: asked by the sweep's command, or already in its store. None where this process is to ask its own
        embedded model, and nobody else is doing so.

        Raises RefusedElsewhere for a request that failed for good; StoppedEarly at a limit of the sweep; EndpointError.
        """
        while True:
            asked = [job.key, job.request.model_dump(), step, job.canonical["api"]]
            call = ["claim", job.key] if embedded else ["ask", *asked]
            found = self._call(*call)
            if found.get("row"):
                return StoredResponse(**found["row"])
            if found.get("mine"):
                return None
            time.sleep(POLL_S)  # another worker is at it

    def settle(self, stored: StoredResponse) -> StoredResponse:
        """Write an answer to the one store; returns what is kept there."""
        return StoredResponse(**self._call("settle", stored.model_dump())["row"])

    def _call(self, *call: Any) -> dict[str, Any]:
        try:
            with _no_proxy.open(self._url, json.dumps(call).encode(), timeout=WAIT_S) as answer:
                found = json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise SelfInstructError(f"the sweep's command does not answer ({error}); does it still run?") from error
        for name, kind in (("failed", RefusedElsewhere), ("stopped", StoppedEarly), ("error", EndpointError)):
            if name in found:
                raise kind(found[name])
        return found


def find_door() -> Door | None:
    """The door of this cell; None where nobody opened one."""
    url = os.environ.get(DOOR_VARIABLE, "")
    return Door(url) if url else None
