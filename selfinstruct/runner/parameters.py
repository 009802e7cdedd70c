"""Parameters of notebooks, checked before anything runs: papermill itself lets unknown names and wrong types pass.

    declared = notebook_parameters("notebooks/02_generate_instructions.ipynb")
    declared["temperature"].checked("1e-3")         # 0.001
    declared["temperature"].checked("warm")         # ParameterError: temperature takes a float ...

The type is the annotation in the notebook's parameters cell, whoever gives the value: the command line and YAML files
give text, so `false` is False for a bool and "false" for a str, `1e-3` is a float, and `0123` stays text for a str.
What a value may be beyond its type is in CHOICES, RANGES and FILES: one table for all notebooks, by the parameter's name.
"""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..data.datasets import check_data
from ..files import InputError, ParameterError, project_path, shown_path
from ..models.endpoint import find_endpoint, provider_for
from ..models.protocol import APIS
from ..paper.release import check_published
from ..parsing import QUIRKS
from ..prompts import PAPER_REQUESTS, PROMPT_SOURCES
from ..runfolder import parameter_nodes

CHOICES = {"api": APIS, "prompt_source": tuple(PROMPT_SOURCES), "quirks": QUIRKS, "show_form": ("auto", "yes", "no")}
# from the lowest to the highest value that the notebooks can work with; None: no end
RANGES: dict[str, tuple[int, int | None]] = {
    **dict.fromkeys(("rouge_threshold", "top_p"), (0, 1)),
    "temperature": (0, 2),
    "num_prompt_instructions": (2, None),  # two of them are machine-written
    "min_count": (-1, None),
    **dict.fromkeys(
        "concurrency draws max_instances_to_generate num_instructions_to_generate requests_per_round size".split(),
        (1, None),
    ),
    **dict.fromkeys(
        "check_against_seed_tasks max_cost_usd max_tokens max_tokens_total num_instructions random_seed requests_per_minute "
        "show show_rows tokens_per_minute top_nouns top_verbs".split(),
        (0, None),
    ),
}
FILES = ("price_table", "seed_tasks_path")

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
        """`value` as this parameter's type.

        Raises ParameterError that says what the type is and shows an example, or what values there are; InputError where
        it names a file that is not there.
        """
        kind = self.type
        if isinstance(value, bool) and kind in (int, float):
            raise self._wrong(value)
        if isinstance(value, str) and (get_origin(kind) or kind) in (list, dict):
            value = _parsed(value)
        try:
            typed = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            raise self._wrong(value) from error
        check_value(self.name, typed)
        return typed

    def _wrong(self, value: Any) -> ParameterError:
        example = json.dumps(self.default, ensure_ascii=False)
        article = "an" if self.annotation[0] in "aeio" else "a"
        return ParameterError(f"{self.name} takes {article} {self.annotation}, such as {example}; got {value!r}")


def check_value(name: str, value: Any) -> None:
    """Raise ParameterError where the code behind the parameter `name` cannot work with `value`, saying what it takes.

    Raises InputError where it names a file that is not there. A name that the table does not have may be anything.
    """
    if name in CHOICES and value not in CHOICES[name]:
        raise ParameterError(f"{name}={value!r}: choose one of {', '.join(CHOICES[name])}")
    if name in RANGES and type(value) in (int, float):
        _check_range(name, value)
    if name == "base_url" and value:
        provider_for(value)
    if name in FILES and value and not project_path(value).is_file():
        raise InputError(f"{name}={value!r}: no such file; a relative path starts at the project's root")
    if name == "sampling" and isinstance(value, dict):
        check_names(value, PAPER_REQUESTS["instructions"], "sampling")
        for inner in value:
            check_value(inner, value[inner])


def _check_range(name: str, value: float) -> None:
    lowest, highest = RANGES[name]
    if value < lowest or (highest is not None and value > highest):
        allowed = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise ParameterError(f"{name}={value}: must be {allowed}")


def _parsed(text: str) -> Any:
    """The list or dict that `text` spells in JSON or Python; `text` itself where it spells neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: brackets in brackets in brackets
            continue
    return text


def check_prerequisites(notebook: str, given: Mapping[str, Any]) -> None:
    """Raise what `notebook` would raise minutes later, once it reads its data or the published files or looks for its model.

    InputError where nothing that `data` names is there, and where files of `prompt_source="published"` are missing or
    altered; ParameterError or EndpointError where no endpoint is as `model`, `base_url` and `api` say. Nothing is started.
    """
    if isinstance(given.get("data"), str):
        check_data(given["data"])
    if given.get("prompt_source") == "published":
        check_published()
    model = given.get("model") or given.get("rater_model")
    if model and "concurrency" in given:  # 00 has none: its four questions go live, whatever `api` says
        _check_endpoint(model, given.get("base_url", ""), given.get("api", "completions"))


@cache
def _check_endpoint(model: str, base_url: str, api: str) -> None:
    """Once for all notebooks of a run: the embedded weights are hashed for it."""
    find_endpoint(model, base_url, api)


def notebook_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters that a notebook's cell tagged `parameters` declares, in its order.

    Raises InputError where the file is no notebook.
    """
    source, nodes = parameter_nodes(path)
    lines = source.splitlines()
    return {name: _declared(name, node, lines) for name, node in nodes}


def _declared(name: str, node: ast.Assign | ast.AnnAssign, lines: list[str]) -> Parameter:
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError):  # not a literal: the notebook alone knows its value
        default = None
    annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else type(default).__name__
    comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()  # the parser counts bytes
    return Parameter(name, annotation, default, comment.lstrip(" #"))


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
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{shown_path(path)}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else 1
        raise InputError(f"{shown_path(path)}:{line}: not YAML ({getattr(error, 'problem', error)})") from error
    if value in (None, ""):
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{shown_path(path)}:1: must be lines of `name: value`")
    return value
