"""Draw `architecture.svg`: the rooms of the package, floor by floor, with the modules that lie in them today.

    python docs/draw_architecture.py

FLOORS is the order in which the rooms may import one another; tests/test_imports.py holds every import against it, and
tests/test_architecture.py holds the committed picture against what this draws.
"""

from __future__ import annotations

import textwrap
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "selfinstruct"
PICTURE = Path(__file__).with_name("architecture.svg")

# from the ground up: a room imports from the floors below it, and from no other room of its own floor
FLOORS: list[dict[str, str]] = [
    {"files": "paths, JSON lines, errors", "session": "for whom a process works"},
    {
        "records": "rows, Request, Completion",
        "promptfile": "prompt.yaml",
        "bars": "bars and news",
        "locks": "one command a folder",
        "workers": "here, processes, Dask",
    },
    {
        "prompts": "a prompt set is a folder",
        "numbering": "lists as models write them",
        "similarity": "ROUGE-L, exact and fast",
        "servers": "keys, ways, refusals",
        "display": "tables, numbers, text",
    },
    {
        "parsing": "text back to data",
        "paper_numbers": "every number, once",
        "runfolder": "one run: files, run.json",
        "models": "asking, storing, paying",
    },
    {"filters": "a named rule a reason", "data": "data sets of any origin"},
    {"steps": "notebooks 02 to 05", "analysis": "notebooks 10 to 13, 21"},
    {"paper": "release, scorecard, quirks: 17, 22"},
    {
        "review": "what people judge: 14, 15",
        "training": "fine-tuning: 06",
        "ablation": "one prompt, some draws: 20",
    },
    {"evaluation": "did it help? 07, 16"},
    {"runner": "notebooks, headless"},
    {"cli": "commands"},
]
METHOD = {"files", "records", "promptfile", "prompts", "numbering", "parsing", "filters", "similarity", "steps"}

WIDTH, MARGIN, GAP, LINE = 960, 24, 14, 15
LEFT = 90  # room for the arrow
METHOD_FILL, OTHER_FILL, EDGE = "#fdf0d5", "#eef2f6", "#5b6b7a"


def draw() -> str:
    """The picture as SVG; the same package gives the same text."""
    parts, top = [], MARGIN
    for floor in reversed(FLOORS):
        room_width = (WIDTH - LEFT - MARGIN - GAP * (len(floor) - 1)) / len(floor)
        height = max(_height(room, room_width) for room in floor)
        for number, (room, purpose) in enumerate(floor.items()):
            parts.append(_draw_room(room, purpose, LEFT + number * (room_width + GAP), top, room_width, height))
        top += height + GAP
    bottom = top + 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" role="img" '
        'font-family="DejaVu Sans, Helvetica, Arial, sans-serif">\n'
        "<title>The rooms of the package: imports run only downwards</title>\n"
        f'<rect width="{WIDTH}" height="{bottom}" fill="white"/>\n{_arrow(top)}\n'
        + "\n".join(parts)
        + f"\n{_legend(top + 8)}\n</svg>\n"
    )


def _modules(room: str) -> list[str]:
    """The modules of a room's folder; a room that is one file has none."""
    return sorted(path.stem for path in (PACKAGE / room).glob("*.py") if path.stem != "__init__")


def _rows(room: str, width: float) -> list[str]:
    """The modules of a room in lines that fit into its width."""
    return textwrap.wrap(", ".join(_modules(room)), int((width - 20) / 6.3))


def _height(room: str, width: float) -> int:
    return 46 + LINE * len(_rows(room, width))


def _draw_room(room: str, purpose: str, x: float, y: float, width: float, height: float) -> str:
    folder = bool(_modules(room))
    fill = METHOD_FILL if room in METHOD else OTHER_FILL
    lines = [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6" fill="{fill}" stroke="{EDGE}"/>',
        _text(x + 12, y + 20, f"{room}/" if folder else f"{room}.py", 14, "bold"),
        _text(x + 12, y + 37, purpose, 11.5),
    ]
    lines += [
        _text(x + 12, y + 55 + LINE * number, row, 11, fill=EDGE) for number, row in enumerate(_rows(room, width))
    ]
    return "\n".join(lines)


def _text(x: float, y: float, text: str, size: float, weight: str = "normal", fill: str = "#1c2733") -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _arrow(bottom: float) -> str:
    x, end = LEFT / 2, bottom - GAP
    turned = f'transform="rotate(-90 {x - 12:.1f} {end / 2:.1f})" text-anchor="middle" font-size="12" fill="{EDGE}"'
    return (
        f'<path d="M{x} {MARGIN} V{end - 8}" stroke="{EDGE}" stroke-width="2" fill="none"/>'
        f'<path d="M{x - 6} {end - 10} L{x} {end} L{x + 6} {end - 10} Z" fill="{EDGE}"/>'
        f'<text x="{x - 12:.1f}" y="{end / 2:.1f}" {turned}>imports run only downwards</text>'
    )


def _legend(y: float) -> str:
    return "".join(
        f'<rect x="{x}" y="{y}" width="14" height="14" rx="3" fill="{fill}" stroke="{EDGE}"/>'
        + _text(x + 20, y + 12, text, 12)
        for x, fill, text in (
            (LEFT, METHOD_FILL, "the method: what a reader of the paper looks for"),
            (LEFT + 360, OTHER_FILL, "what it needs around it, one thing a folder"),
        )
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(f"wrote {PICTURE.name}")
