"""Whether a run called a model at all: what the stores know of this command, before its notebooks and after.

    before = calls_of_this_command([{"model": "embedded", "store": "outputs/responses.sqlite"}])
    ...                                             # equal afterwards: whatever was asked, the store had it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .owner import session_name
from .records import SelfInstructError, project_path
from .store import ResponseStore

REPLAYED = "Every answer came from the store: 0 new calls"


def asks_a_model(parameters: Mapping[str, Any]) -> bool:
    """Whether a notebook with these parameters has questions for a model."""
    return "store" in parameters and ("model" in parameters or bool(parameters.get("rater_model")))


def calls_of_this_command(notebooks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """store -> the answers that this command fetched into it, and all failed requests, for notebooks with these parameters.

    Counted where clients count them, so that a notebook that writes down no usage counts too.
    """
    return {store: _calls(store) for store in {given["store"] for given in notebooks if asks_a_model(given)}}


def _calls(store: str) -> Any:
    if not project_path(store).is_file():
        return [], []
    try:
        with ResponseStore(store) as opened:
            return opened.spent(session_name()), opened.failures()
    except SelfInstructError:  # the notebook that needs the store says what is wrong with it; nothing is known here
        return object()
