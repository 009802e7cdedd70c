"""The table of a benchmark: each figure beside its target, printed and kept under outputs/bench/."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

OUTPUT = Path(__file__).resolve().parent.parent / "outputs/bench"
MACHINE = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


@dataclass(frozen=True)
class Figure:
    """One measurement; `target` is the most it may be, or the least where `more_is_better`; None for none."""

    what: str
    value: float
    unit: str
    target: float | None = None
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times as good as the target: 2.0 is half the time allowed, below 1 is a target missed."""
        if self.target is None:
            return None
        return self.value / self.target if self.more_is_better else self.target / self.value

    def line(self) -> str:
        """The figure's row of the table."""
        value = f"{self.value:,.2f} {self.unit}"
        if self.target is None:
            return f"{self.what:66} {value:>18}"
        target = f"{'>=' if self.more_is_better else '<='} {self.target:g} {self.unit}"
        return f"{self.what:66} {value:>18} {target:>18} {self.ratio:7.2f}" + "  MISSED" * (self.ratio < 1)


def show_table(name: str, setting: str, figures: list[Figure]) -> None:
    """Print the table of `figures`, and keep it as outputs/bench/NAME.txt and .json."""
    head = f"{'':66} {'measured':>18} {'target':>18} {'ratio*':>7}"
    foot = "* how many times as good as the target"
    text = "\n".join([f"{setting}; {MACHINE}", "", head, *(figure.line() for figure in figures), foot]) + "\n"
    result = {"setting": setting, "machine": MACHINE, "rows": [asdict(one) | {"ratio": one.ratio} for one in figures]}
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (OUTPUT / f"{name}.txt").write_text(text)
    print(text, end="")
