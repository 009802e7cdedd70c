"""Parameters of notebooks, checked before anything runs: papermill itself lets unknown names and wrong types pass.

    declared = notebook_parameters("notebooks/02_generate_instructions.ipynb")
    declared["temperature"].checked("1e-3")         # 0.001
    declared["temperature"].checked("warm")         # ParameterError: temperature takes a float ...

The type is the annotation in the notebook's parameters cell, whoever gives the value: the command line and YAML files
give text, so `false` is False for a bool and "false" for a str, `1e-3` is a float, and `0123` stays text for a str.
"""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from .records import InputError, ParameterError, shown_path

_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict, "None": None}


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell."""

    name: str
    annotation: str
    default: Any
    help: str

    @property
    def type(self) -> Any:
        """The annotation as a type; where there is none, the type of the default."""
        try:
            return eval(self.annotation, {"__builtins__": {}}, _TYPES)
        except Exception:  # an annotation in words of its own: the default still tells
            return type(self.default)

    def checked(self, value: Any) -> Any:
        """`value` as this parameter's type; raises ParameterError that says what the type is and shows an example."""
        kind = self.type
        if isinstance(value, bool) and kind in (int, float):
            raise self._wrong(value)
        if isinstance(value, str) and (get_origin(kind) or kind) in (list, dict):
            value = _parsed(value)
        try:
            return TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            raise self._wrong(value) from error

    def _wrong(self, value: Any) -> ParameterError:
        example = json.dumps(self.default, ensure_ascii=False)
        article = "an" if self.annotation[0] in "aeio" else "a"
        return ParameterError(f"{self.name} takes {article} {self.annotation}, such as {example}; got {value!r}")


def _parsed(text: str) -> Any:
    """The list or dict that `text` spells in JSON or Python; `text` itself where it spells neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError):
            continue
    return text


def notebook_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters that a notebook's cell tagged `parameters` declares, in its order.

    Read with Python's own parser: papermill's inspection loses every line whose comment holds a `=`. Raises InputError
    where the file is no notebook.
    """
    import nbformat

    try:
        cells = nbformat.read(path, as_version=4).cells
        source = next((cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])), "")
        lines, nodes = source.splitlines(), ast.parse(source).body
    except (OSError, ValueError, AttributeError, SyntaxError, nbformat.ValidationError) as error:
        raise InputError(f"{shown_path(path)}: not a notebook ({_first_line(error)}); restore it from the repository") from error
    declared = (_declared(node, lines) for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign))
    return {parameter.name: parameter for parameter in declared}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:80]


def _declared(node: ast.Assign | ast.AnnAssign, lines: list[str]) -> Parameter:
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError):  # not a literal: the notebook alone knows its value
        default = None
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else type(default).__name__
    comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()  # the parser counts bytes
    return Parameter(ast.unparse(target), annotation, default, comment.lstrip(" #"))


def check_names(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise ParameterError for the first of `names` that is not `known`, with the name that may have been meant."""
    known = sorted(set(known))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            advice = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"
            raise ParameterError(f'unknown parameter "{name}" of {where}; {advice}')


def load_parameters(path: Path) -> dict[str, Any]:
    """The parameters of a YAML file, every value as text, so that no YAML rule turns `no`, `0123` or `1e-3` into another.

    Raises InputError with file:line where it is not a YAML mapping of names to values.
    """
    import yaml

    try:
        value = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{shown_path(path)}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else 1
        raise InputError(f"{shown_path(path)}:{line}: not YAML ({getattr(error, 'problem', error)})") from error
    if value in (None, ""):
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{shown_path(path)}:1: must be lines of `name: value`")
    return value
