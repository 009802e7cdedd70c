"""The tests' own order: they mirror the package, share by helpers/ and conftest.py alone, and need nothing outside the clone."""

from __future__ import annotations

import ast

from helpers.places import TESTS

from selfinstruct.files import PROJECT_ROOT

PAGES = sorted(TESTS.rglob("*.py"))
FOLDERS = {"golden", "helpers", "notebooks", "samples"}  # beside those of the package


def test_the_folders_are_those_of_the_package():
    rooms = {path.parent.name for path in (PROJECT_ROOT / "selfinstruct").glob("*/__init__.py")}
    ours = {path.name for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert ours - FOLDERS <= rooms and ours >= FOLDERS


def test_every_page_has_a_name_of_its_own_and_says_what_it_tests():
    names = [path.name for path in PAGES if path.name.startswith("test_")]
    assert sorted(set(names)) == sorted(names)
    assert [path.name for path in PAGES if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


def test_no_test_imports_from_another_test_file():
    for path in PAGES:
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        parts = {part for module in modules for part in module.split(".")}
        assert [part for part in parts if part.startswith("test_") or part in ("tests", "conftest")] == [], path


def test_no_test_looks_outside_the_clone():
    for path in PAGES:
        outside = [
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and node.attr == "parent" and "PROJECT_ROOT" in ast.unparse(node.value)
        ]
        assert outside == [], path
