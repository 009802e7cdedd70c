"""Fixtures of several test files; and for every test matplotlib without a screen, and no figure open from the one before."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")

pytest_plugins = ["helpers.tiny_fixtures"]  # a model of two layers, for tests/training and tests/evaluation


@pytest.fixture(autouse=True)
def close_figures():
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store of responses may be made."""
    return tmp_path / "responses.sqlite"


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """A price table of the user's own: the scripted model at a dollar a token, half of it as a batch."""
    path = tmp_path / "prices.json"
    path.write_text(
        '{"as_of": "2026-01-01", "models": {"scripted": {"prompt": 1000, "completion": 1000, "batch": 0.5}}}'
    )
    return path
