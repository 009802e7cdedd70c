"""Connecting to a model: requests in, completions out, in request order, through the `openai` library, and never the same one twice.

    with connect("gpt-4o-mini", "openai", api="chat", concurrency=16, max_cost_usd=2.0) as client:
        completions = client.complete([Request(prompt="1.", max_tokens=50, temperature=0.7, top_p=0.5)])
        client.usage, client.describe()         # what it came to; what answered

What the store knows is not asked again. A request that fails for good is one Completion with an error, and the run goes
on; EndpointError means that no request could succeed, StoppedEarly that a limit or Ctrl-C ended the run in good order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ..files import ParameterError
from ..servers.adaptation import Adaptation
from .batch import BatchClient
from .client import ModelClient
from .door import STORE_VARIABLE
from .embedded import choose_adapters
from .endpoint import find_endpoint
from .protocol import APIS
from .spending import Budget, Pace, load_price
from .store import ResponseStore


def connect(
    model: str = "embedded",
    base_url: str = "",
    api: str = "completions",
    store: str | Path = "outputs/responses.sqlite",
    concurrency: int = 4,
    requests_per_minute: float = 0,
    tokens_per_minute: float = 0,
    max_cost_usd: float = 0.0,
    max_tokens_total: int = 0,
    max_failures: int = 5,
    deterministic: bool = False,
    price_table: str | Path = "",
    step: str = "",
    timeout_s: float = 0.0,
    batch_wait_s: float = 0.0,
    adapted: Mapping[str, str] | None = None,
    adapter: str | Path = "",
    adapters: Sequence[str | Path] = (),
    adapter_scale: float = 1.0,
) -> ModelClient:
    """A client for `model`: "embedded", a GGUF file, or what the server at `base_url` (or a preset's name) calls it.

    Nothing is contacted before the first request that the store cannot answer. 0 means "no limit"; `step` labels the
    responses in the store; with api="batch", `batch_wait_s` is how long to wait for a job before leaving it to a later run.
    `timeout_s` is the deadline of a whole request, retries and pauses included, and half of it the longest silence after which it
    is tried again; 0: five minutes and half a second for each of its `max_tokens`.
    `adapted` is what this model is known to refuse, as `describe` gives it and run.json holds it.
    `adapter` is the LoRA adapter (a GGUF file) that answers, at `adapter_scale`; of several clients on one embedded server each
    names all `adapters` that the others want, too.
    Raises ParameterError for a wrong parameter, EndpointError where the embedded weights are missing.
    """
    if api not in APIS:
        raise ParameterError(f"api={api!r}: choose one of {', '.join(APIS)}")
    if concurrency < 1:
        raise ParameterError(f"concurrency={concurrency}: at least 1 request must be allowed at a time")
    settings = {"deterministic": deterministic, "timeout_s": timeout_s, "adaptation": Adaptation(adapted)}
    if adapter or adapters:
        settings |= choose_adapters(adapter, adapters, adapter_scale)
    endpoint = find_endpoint(model, base_url, api, **settings)
    find_price = cache(lambda name: load_price(name, price_table, base_url))
    price = find_price(model)
    if max_cost_usd and price is None:
        what = f"max_cost_usd needs the price of {model!r}, which genai-prices does not have"
        raise ParameterError(f"{what}; give price_table=FILE")
    budget = Budget(max_cost_usd, max_tokens_total, max_failures, price, find_price)
    pace = Pace(requests_per_minute, tokens_per_minute)
    store = os.environ.get(STORE_VARIABLE) or store
    parts = (endpoint, ResponseStore(store), budget, pace, concurrency, step)
    return BatchClient(*parts, wait_s=batch_wait_s) if api.startswith("batch") else ModelClient(*parts)
