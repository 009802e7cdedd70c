"""Every module of the package imports only from those above it: there is an order in which no import looks ahead."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import selfinstruct

PACKAGE = Path(selfinstruct.__file__).parent


def imported(source: str, modules: set[str]) -> set[str]:
    """The modules of the package that `source` imports anywhere, functions and TYPE_CHECKING included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            origin = ("selfinstruct." if node.level else "") + (node.module or "")
            found |= {f"{origin.rstrip('.')}.{alias.name}" for alias in node.names} | {origin}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    parts = (name.split(".") for name in found)
    return {part[1] for part in parts if part[0] == "selfinstruct" and len(part) > 1} & modules


def import_graph(folder: Path) -> dict[str, set[str]]:
    """module -> the modules of the same package that it imports."""
    sources = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    return {name: imported(source, set(sources) - {"__init__"}) for name, source in sources.items()}


def test_no_module_imports_in_a_circle():
    graph = import_graph(PACKAGE)
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert (
        order.index("records") < order.index("live") < order.index("batch") < order.index("client") < order.index("cli")
    )
    assert sum(map(len, graph.values())) > 100  # the imports were seen at all


@pytest.mark.parametrize(
    "back",
    [
        "from .one import x",
        "from . import one",
        "import selfinstruct.one",
        "def f():\n    from selfinstruct.one import x",
    ],
)
def test_a_circle_would_be_found_however_the_import_is_written(tmp_path, back):
    (tmp_path / "one.py").write_text("from .two import y")
    (tmp_path / "two.py").write_text(back)
    with pytest.raises(CycleError):
        list(TopologicalSorter(import_graph(tmp_path)).static_order())


def test_nothing_private_is_imported_from_another_module():
    for path in PACKAGE.glob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
        ours = [node for node in nodes if node.level or (node.module or "").startswith("selfinstruct")]
        names = [alias.name for node in ours for alias in node.names]
        assert [name for name in names if name.startswith("_") and not name.startswith("__")] == [], path.name
