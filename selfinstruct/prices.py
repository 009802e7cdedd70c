"""Prices: dollars per million tokens, from a dated table that anybody can replace with a file of the same form.

    load_price("gpt-4o-mini").cost(prompt_tokens=1_000_000, completion_tokens=0)    # 0.15
    load_price("a-model-nobody-knows")                                              # None: tokens only, never a guess
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .records import InputError, project_path, read_json, shown_path

PRICE_TABLE = Path(__file__).with_name("prices.json")
PER = 1_000_000


class Price(BaseModel):
    """Dollars per million prompt and completion tokens; `batch` is the factor for batch jobs, `as_of` the table's date."""

    model_config = ConfigDict(frozen=True)
    prompt: float = Field(ge=0)
    completion: float = Field(ge=0)
    batch: float = Field(default=1.0, ge=0)
    as_of: str = ""

    def cost(self, prompt_tokens: int, completion_tokens: int, transport: str = "live") -> float:
        """Dollars for these tokens.

        >>> Price(prompt=1, completion=4, batch=0.5).cost(1_000_000, 500_000, "batch")
        1.5
        """
        factor = self.batch if transport == "batch" else 1.0
        return factor * (prompt_tokens * self.prompt + completion_tokens * self.completion) / PER


def load_price(model: str, price_table: str | Path = "") -> Price | None:
    """The price of `model`, or None where the table does not have it. A dated name such as `gpt-4o-2024-08-06` has its family's price.

    `price_table` is a JSON file like `selfinstruct/prices.json`; its models stand before the kit's own. Raises InputError
    where it is missing or malformed.
    """
    tables = [project_path(price_table)] if price_table else []
    for path in [*tables, PRICE_TABLE]:
        table = _read_table(path)
        entry = table["models"].get(model) or table["models"].get(re.sub(r"-\d{4}-\d{2}-\d{2}$|-\d{4}$", "", model))
        if entry is not None:
            return _price(entry, str(table.get("as_of", "")), f"{shown_path(path)}: {model}")
    return None


def _read_table(path: Path) -> dict[str, Any]:
    table = read_json(path)
    if not isinstance(table, dict) or not isinstance(table.get("models"), dict):
        raise InputError(f'{shown_path(path)}: no "models"; a price table looks like selfinstruct/prices.json')
    return table


def _price(entry: Any, as_of: str, where: str) -> Price:
    try:
        return Price.model_validate({**entry, "as_of": as_of})
    except (ValidationError, TypeError) as error:
        raise InputError(f"{where}: needs prompt and completion, dollars per million tokens, 0 or more") from error
