"""Imports run only downwards: the rooms of the package stand on floors, and no import looks up.

The floors are those of docs/draw_architecture.py.
"""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from draw_architecture import FLOORS, METHOD

import selfinstruct

PACKAGE = Path(selfinstruct.__file__).parent


def import_graph(package: Path) -> dict[str, set[str]]:
    """module -> the modules of the package that it imports anywhere: in functions and under TYPE_CHECKING as well.

    Modules are named as in the package ("models.store"); a folder's face has the folder's name, the package's own is "".
    """
    paths = {_module(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: _imported(name, path, set(paths)) - {name, ""} for name, path in paths.items()}


def _module(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def _imported(name: str, path: Path, modules: set[str]) -> set[str]:
    parts = name.split(".") if name else []
    here = parts if path.name == "__init__.py" else parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            origin = here[: len(here) - node.level + 1] if node.level else ["selfinstruct"]
            origin = [*origin, *(node.module or "").split(".")] if node.level else (node.module or "").split(".")
            if not node.level and origin[0] != "selfinstruct":
                continue
            base = ".".join(part for part in (origin if node.level else origin[1:]) if part)
            found |= {
                whole if (whole := f"{base}.{alias.name}".lstrip(".")) in modules else base for alias in node.names
            }
        elif isinstance(node, ast.Import):
            ours = (alias.name.partition(".")[2] for alias in node.names if alias.name.split(".")[0] == "selfinstruct")
            found |= {one for one in ours if one in modules}
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def looking_up(graph: dict[str, set[str]]) -> list[str]:
    """Every import that runs upwards, or sideways into another room of the same floor."""
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    return [
        f"{module} -> {other}"
        for module, others in graph.items()
        for other in sorted(others)
        if module and room(module) != room(other) and floor[room(other)] >= floor[room(module)]
    ]


def test_every_import_of_the_package_runs_downwards():
    graph = import_graph(PACKAGE)
    assert looking_up(graph) == []
    list(TopologicalSorter(graph).static_order())  # nor is there a circle inside a room
    assert sum(map(len, graph.values())) > 150  # the imports were seen at all


def test_the_method_knows_no_provider():
    graph = import_graph(PACKAGE)
    method = [
        name for name in graph if room(name) in METHOD and name != "steps.estimate"
    ]  # what it costs is a provider's matter
    # a bar knows none either
    others = {name: {room(other) for other in graph[name]} - METHOD - {"bars"} for name in method}
    assert {name: rooms for name, rooms in others.items() if rooms} == {}


def test_a_face_hands_out_and_defines_nothing():
    for path in PACKAGE.glob("*/__init__.py"):
        allowed = (ast.ImportFrom, ast.Expr)
        body = ast.parse(path.read_text(encoding="utf-8")).body
        made = [
            ast.unparse(node) for node in body if not isinstance(node, allowed) and "__all__" not in ast.unparse(node)
        ]
        assert made == [], path


@pytest.mark.parametrize(
    "back",
    [
        "from .one import x",
        "from . import one",
        "import selfinstruct.room.one",
        "def f():\n    from selfinstruct.room.one import x",
        "from ..room import one",
        "if TYPE_CHECKING:\n    from ..room.one import x",
    ],
)
def test_a_circle_would_be_found_however_the_import_is_written(tmp_path, back):
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / "one.py").write_text("from .two import y")
    (folder / "two.py").write_text(back)
    with pytest.raises(CycleError):
        list(TopologicalSorter(import_graph(tmp_path)).static_order())


@pytest.mark.parametrize(
    ("where", "source"),
    [
        ("records.py", "from .prompts import x"),
        ("models/store.py", "def f():\n    from ..paper.release import x"),
        ("data/deep/reader.py", "from ...steps import export"),
        ("analysis/verbs.py", "from ..steps.export import x"),
        ("prompts.py", "from selfinstruct.similarity.pool import x"),
    ],
)
def test_an_import_that_looks_up_would_be_found_at_any_depth(tmp_path, where, source):
    for name in ["prompts.py", "paper/release.py", "steps/export.py", "similarity/pool.py", where]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source if name == where else "")
    assert len(looking_up(import_graph(tmp_path))) == 1


def test_nothing_private_is_imported_from_another_module():
    for path in PACKAGE.rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
        ours = [node for node in nodes if node.level or (node.module or "").startswith("selfinstruct")]
        names = [alias.name for node in ours for alias in node.names]
        assert [name for name in names if name.startswith("_") and not name.startswith("__")] == [], path.name
