"""The page and the picture of the architecture say what the package is today."""

from __future__ import annotations

import re

from draw_architecture import FLOORS, PACKAGE, PICTURE, draw

PAGE = PICTURE.with_suffix(".md").read_text(encoding="utf-8")


def test_the_committed_picture_is_what_the_package_looks_like():
    assert PICTURE.read_text(encoding="utf-8") == draw(), "python docs/draw_architecture.py"


def test_every_room_stands_on_a_floor_and_in_the_table():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} == {room for floor in FLOORS for room in floor}
    table = PAGE.split("## What each room is for")[1].split("\n## ")[0]
    named = set(
        re.findall(r"`(\w+)(?:\.py|/)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    )
    assert named == rooms - {"__init__"}


def test_every_file_that_the_page_names_is_there():
    named = re.findall(r"`((?:\w+/)*\w+\.(?:py|json|md))`", PAGE)
    missing = [name for name in named if not ((PACKAGE / name).exists() or (PACKAGE.parent / name).exists())]
    assert len(named) > 20 and missing == []


def test_every_module_of_a_folder_is_named():
    table = PAGE.split("## What each room is for")[1].split("\n## ")[0]
    modules = {path.stem for path in PACKAGE.glob("*/*.py")} - {"__init__"}
    assert {module for module in modules if f"`{module}`" not in table} == set()
