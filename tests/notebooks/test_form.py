"""Every notebook in notebooks/ keeps the anatomy and the budgets that make them one kit."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import nbformat
import pytest

from selfinstruct.files import PROJECT_ROOT
from selfinstruct.runfolder import NOTEBOOKS
from selfinstruct.runner.parameters import notebook_parameters

PATHS = sorted((PROJECT_ROOT / "notebooks").glob("*.ipynb"))
VERBS = set(
    "start read generate identify filter fine-tune finetune evaluate describe parse measure review rate scale compare ablate "
    "sweep meet".split()
)
# what JupyterLab writes when it saves: opening a notebook in it and saving is then no change
SAVED_BY_JUPYTERLAB = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": "3.11.7",  # saved with another Python, this line alone changes
    },
}
LONGEST_LINE = 100  # JupyterLab scrolls sideways beyond


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_there_are_notebooks():
    assert len(PATHS) >= 10


def test_stored_clean(notebook, path):
    nbformat.validate(notebook)
    assert notebook.metadata == SAVED_BY_JUPYTERLAB
    for cell in code_cells(notebook):
        assert not cell.outputs and cell.execution_count is None, f"stored outputs: {cell.source[:60]}"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert "papermill" not in notebook.metadata
    assert f"{nbformat.writes(notebook)}\n" == path.read_text(encoding="utf-8"), "not as nbformat writes it"


def test_title_and_promise(notebook):
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    title = first.source.splitlines()[0]
    assert title.startswith("# ")
    assert title[2:].split()[0].lower() in VERBS, "the title begins with a verb"
    for promise in ("**You will**", "**You need**", "**It writes**"):
        assert promise in first.source


def test_parameters_cell(notebook, path):
    cell = code_cells(notebook)[0]
    assert cell.metadata.get("tags") == ["parameters"]
    assert len(tagged(notebook, "parameters")) == 1
    lines, statements = cell.source.splitlines(), ast.parse(cell.source).body
    assert len(lines) == len(statements)
    for line, statement in zip(lines, statements, strict=True):
        assert isinstance(statement, ast.AnnAssign), line
        assert "  # " in line[statement.value.end_col_offset :], f"no trailing comment: {line}"
        ast.literal_eval(statement.value)  # a literal, nothing derived
        assert statement.target.id == statement.target.id.lower()
    assert lines[0].startswith("run_dir: str = ")
    assert list(notebook_parameters(path)) == [statement.target.id for statement in statements]


def test_imports_come_once_and_second(notebook):
    cells = code_cells(notebook)
    importing = [
        index
        for index, cell in enumerate(cells)
        if any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(cell.source).body)
    ]
    assert importing == [1]


def test_opens_its_own_run_with_its_own_parameters(notebook, path):
    calls = [
        node
        for cell in code_cells(notebook)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open_run"
    ]
    assert len(calls) == 1
    assert [ast.unparse(argument) for argument in calls[0].args] == [repr(path.stem), "locals()"]
    assert path.stem in NOTEBOOKS


def test_results_come_last(notebook):
    assert notebook.cells[-1].metadata.get("tags") == ["results"]
    assert len(tagged(notebook, "results")) == 1
    assert "run.record(" in notebook.cells[-1].source


def test_exercise_with_solution(notebook):
    assert "## Exercise" in prose(notebook)
    assert len(tagged(notebook, "solution")) >= 1


def test_sections_say_what_one_should_see(notebook):
    text = prose(notebook)
    sections = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(sections) >= 3
    assert text.count("**What you should see:**") >= len(sections) - 1  # the exercise has none
    assert "**What to notice**" in text


def test_budgets(notebook):
    assert 15 <= len(notebook.cells) <= 35
    cells = code_cells(notebook)
    sizes = sorted(len(cell.source.strip().splitlines()) for cell in cells)
    assert all(sizes), "an empty cell"
    assert sizes[-1] <= 25
    assert len(prose(notebook).split()) >= 5 * sum(sizes), "too little prose for its code"
    for cell in cells:
        functions = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.FunctionDef)]
        assert len(functions) <= 1


def test_code_fits_the_page(notebook):
    lines = [line for cell in code_cells(notebook) for line in cell.source.splitlines()]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


def test_tables_and_texts_are_shown_in_one_way(notebook):
    """What display does is done by display: no options of pandas, no frame as a last value, no text of a model printed raw."""
    code = "\n".join(cell.source for cell in code_cells(notebook))
    assert "pd.options" not in code and "set_option" not in code and "to_frame(" not in code
    last = [ast.parse(cell.source).body[-1] for cell in code_cells(notebook)]
    assert [ast.unparse(node) for node in last if ast.unparse(node).startswith("pd.")] == []
    printed = [node for node in calls(code) if getattr(node.func, "id", "") == "print"]
    texts = {"text", "prompt", "raw_instances", "instruction", "input", "output", "completion"}
    attributes = {one.attr for node in printed for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    assert attributes & texts == set()


def test_a_parameter_travels_by_its_name(notebook):
    """`f(**run.arguments(f))`, and not f(store=store, concurrency=concurrency, ...): plumbing is not shown to readers."""
    declared = {node.target.id for node in ast.parse(code_cells(notebook)[0].source).body}
    code = "\n".join(cell.source for cell in code_cells(notebook)[1:])
    passed = [
        keyword.arg
        for call in calls(code)
        for keyword in call.keywords
        if isinstance(keyword.value, ast.Name) and keyword.value.id == keyword.arg and keyword.arg in declared
    ]
    assert len(passed) <= 1, passed


def test_imports_come_from_faces(notebook):
    """`from selfinstruct.steps import ...`: a folder's face hands out what notebooks need."""
    modules = [
        node.module
        for node in ast.walk(ast.parse(code_cells(notebook)[1].source))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("selfinstruct")
    ]
    assert [name for name in modules if name.count(".") > 1] == []


def calls(code):
    return [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]


def test_budgets_of_all_together():
    notebooks = [nbformat.read(path, as_version=4) for path in PATHS]
    sizes = sorted(len(cell.source.strip().splitlines()) for notebook in notebooks for cell in code_cells(notebook))
    assert sum(len(prose(notebook).split()) for notebook in notebooks) >= 6 * sum(sizes)
    assert statistics.median(sizes) <= 4
    assert sizes[int(0.9 * len(sizes))] <= 12


def test_no_installs_downloads_or_local_paths(notebook, path):
    text = "\n".join(cell.source for cell in notebook.cells)
    for phrase in (
        "pip install",
        "!wget",
        "!curl",
        "urlretrieve",
        "![",
        "<img",
        "/home/",
        "/root",
        "/tmp/",
        "sys.path",
    ):
        assert phrase not in text, f"{path.name}: {phrase}"


def test_main_notebooks_of_the_table_exist():
    stems = {path.stem for path in PATHS}
    assert stems <= set(NOTEBOOKS), "a notebook that the table in runfolder.py does not know"


def test_no_cell_ends_in_a_path(notebook):
    """Its value would show where the project lies on this machine."""
    last = [cell.source.rstrip().splitlines()[-1] for cell in code_cells(notebook) if cell.source.strip()]
    assert [line for line in last if line.startswith(("write_", "run.save_figure(")) and not line.endswith(";")] == []
