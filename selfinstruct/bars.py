"""Where the person is who waits: bars and news of work that takes a while.

    with progress_bar(total=42, desc="training", unit="step") as bar:
        bar.update()
    tell_person("Ctrl-C: 3 answers are in flight.")

In Jupyter and in a script that is below the cell or in the terminal. A notebook that a command runs has nobody at its cells: its
bars go to the command's own terminal. Where there is no terminal but a log, each bar is a line now and then.
"""

from __future__ import annotations

import io
import os
import sys
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from .session import works_for_another

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0  # of a bar in a log


def progress_bar(**given: Any) -> tqdm:
    """A tqdm bar, of tqdm's own arguments, that is seen where the person is."""
    if not works_for_another():
        from tqdm.auto import tqdm

        seen = "ipykernel" in sys.modules or sys.stderr.isatty()  # below a cell, or in a terminal
        return tqdm(**given) if seen else _make_lines()(**given, leave=False)
    if given.get("disable", False) is None:  # tqdm: if nobody sees it; here somebody does
        given["disable"] = False
    number = find_stderr()
    file = os.fdopen(os.dup(number), "w", encoding="utf-8")
    return (_make_plain if os.isatty(number) else _make_lines())(**given, file=file, leave=False)


def _make_plain(**given: Any) -> tqdm:
    from tqdm import tqdm

    return tqdm(**given, dynamic_ncols=True)


@cache
def _make_lines() -> type[tqdm]:
    """The class of bars for a log."""
    from tqdm import tqdm

    class Lines(tqdm):
        """A bar that says where it stands in a line of its own, every half a minute."""

        _last_line = 0.0

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            now = time.monotonic()
            self._last_line = self._last_line or now  # what is over sooner needs no line
            if msg != "" and now - self._last_line >= SECONDS_BETWEEN_LINES:
                self._last_line = now
                self.fp.write(f"  {self.format_line()}\n")
                self.fp.flush()

        def format_line(self) -> str:
            """The bar's figures without its drawing."""
            given = {**self.format_dict, "bar_format": self.bar_format and self.bar_format.replace("|{bar}|", "")}
            return self.format_meter(**{**given, "ncols": 0 if not self.bar_format else None}).strip()

    return Lines


def tell_person(line: str) -> None:
    """Show `line` at once where the person is who waits: above the bars in a terminal, below the cell in a notebook.

    Under the runner that is the runner's terminal: of a cell that is being stopped nobody reads the output any more.
    """
    if works_for_another():
        first = find_stderr()
        over_its_bar = "\r" + line.ljust(os.get_terminal_size(first).columns - 1) if os.isatty(first) else line
        os.write(first, (over_its_bar + "\n").encode())
        return
    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)


def find_stderr() -> int:
    """The stderr that this process was started with, also in a kernel, whose own goes to the cell."""
    try:
        return sys.stderr.fileno()  # a kernel keeps it under this number
    except io.UnsupportedOperation:  # on Windows it leaves the process's own alone
        return 2
