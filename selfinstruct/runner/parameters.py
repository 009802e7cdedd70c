"""Parameters of notebooks, checked before anything runs: papermill itself lets unknown names and wrong types pass.

    declared = notebook_parameters("notebooks/02_generate_instructions.ipynb")
    declared["temperature"].convert("1e-3")         # 0.001
    declared["temperature"].convert("warm")         # ParameterError: temperature takes a float ...

The type is the annotation in the notebook's parameters cell, whoever gives the value: the command line and YAML files
give text, so `false` is False for a bool and "false" for a str, `1e-3` is a float, and `0123` stays text for a str.
What a value may be beyond its type is in CHOICES, RANGES and FILES: by the parameter's name, the same for all notebooks.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..data.datasets import check_data
from ..files import InputError, ParameterError, given_path, project_path, show_path
from ..models.endpoint import find_endpoint, provider_for
from ..models.protocol import APIS
from ..paper.release import check_published
from ..parsing import QUIRKS
from ..promptfile import refuse_moved
from ..prompts import PAPER_REQUESTS, STEPS, find_folder, load_prompts
from ..runfolder import check_secrets, parameter_nodes

CHOICES = {
    "api": APIS, "step": STEPS, "quirks": QUIRKS, "show_form": ("auto", "yes", "no"),
    "precision": ("auto", "float32", "bfloat16"), "backend": ("local", "provider"), "equal": ("steps", "epochs"),
}  # fmt: skip
# (lowest, highest) value that the notebooks can work with; None: no limit
RANGES: dict[str, tuple[int, int | None]] = {
    "batch_tokens": (64, None), "epochs": (1, None), "heldout_sample": (0, None), "learning_rate": (0, None),
    "max_length": (16, None), "rank": (1, None), "steps": (0, None),
    "rouge_threshold": (0, 1), "copied_threshold": (0, 1), "top_p": (0, 1), "temperature": (0, 2),
    "num_prompt_instructions": (-1, None), "num_machine_instructions": (-1, None),  # -1: as the prompt set says
    "concurrency": (1, None), "draws": (1, None), "n_draws": (1, None), "max_instances_to_generate": (0, None),
    "num_instructions_to_generate": (1, None), "size": (1, None),
    "check_against_seed_tasks": (0, None), "max_cost_usd": (0, None), "max_tokens": (0, None),
    "max_tokens_total": (0, None), "num_instructions": (0, None), "random_seed": (0, None),
    "requests_per_minute": (0, None), "show_rows": (0, None), "timeout_s": (0, None), "tokens_per_minute": (0, None),
    "training_price": (-1, None), "job_wait_s": (0, None), "validation": (0, 1),
    "rated_tasks": (1, None), "smallest_difference": (0, None), "n_tasks": (0, None), "n_generation_tasks": (2, None), "n_resamples": (100, None),
    "n_written_tasks": (0, None), "output_tokens": (1, None),
    "top_nouns": (0, None), "top_verbs": (0, None), "min_count": (-1, None),
}  # fmt: skip
FILES = ("price_table", "seed_tasks_path")
PATHS = (  # what they name may be a path
    *FILES, "data", "data_sets", "runs", "model", "prompt_set", "other_set", "machine_from", "store", "tasks", "predictions",
    "base_model",
)  # fmt: skip

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
        """The annotation as a type; without one, the type of the default."""
        try:
            return eval(self.annotation, {"__builtins__": {}}, _TYPES)
        except Exception:  # an annotation of one's own
            return type(self.default)

    def convert(self, value: Any) -> Any:
        """`value` as this parameter's type.

        Raises ParameterError with the type and an example, or with the values there are; InputError for a missing file.
        """
        kind = self.type
        if isinstance(value, bool) and kind in (int, float):
            raise self._type_error(value)
        if isinstance(value, str) and (get_origin(kind) or kind) in (list, dict):
            value = _parse_literal(value)
        try:
            typed = TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
        except ValidationError as error:
            raise self._type_error(value) from error
        check_value(self.name, typed)
        return typed

    def _type_error(self, value: Any) -> ParameterError:
        example = json.dumps(self.default, ensure_ascii=False)
        article = "an" if self.annotation[0] in "aeio" else "a"
        return ParameterError(f"{self.name} takes {article} {self.annotation}, such as {example}; got {value!r}")


def check_value(name: str, value: Any) -> None:
    """Raise ParameterError if the notebooks cannot work with `value` of the parameter `name`, and InputError if it names a
    missing file. A name that is in none of the tables may have any value.
    """
    if name in CHOICES and value not in CHOICES[name]:
        raise ParameterError(f"{name}={value!r}: choose one of {', '.join(filter(None, CHOICES[name]))}")
    lowest, highest = RANGES.get(name, (None, None))
    if lowest is not None and type(value) in (int, float) and not lowest <= value <= (highest or value):
        allowed = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise ParameterError(f"{name}={value}: must be {allowed}")
    check_secrets({name: value})
    if name == "base_url" and value:
        provider_for(value)
    if name in ("prompt_set", "other_set") and value and value != "published":
        find_folder(value)
    if name in FILES and value and not ((path := find_named_path(value)) and path.is_file()):
        raise InputError(f"{name}={value!r}: no such file, from here or from the project's root")
    if name == "sampling" and isinstance(value, dict):
        check_names(value, PAPER_REQUESTS["instructions"], "sampling")
        for inner in value:
            check_value(inner, value[inner])


def _parse_literal(text: str) -> Any:
    """The list or dict that `text` is in JSON or Python; `text` itself if it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: brackets in brackets in brackets
            continue
    return text


def place_paths(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with every path that is there from the current folder written as seen from the project's root.

    The notebooks run in a folder of their own, and would look for it there.
    """
    return {
        name: _place(name, value) if name in PATHS and isinstance(value, str) else value
        for name, value in given.items()
    }


def _place(name: str, text: str) -> str:
    """One path, or several with commas. A bare word is no folder where it may be a name, such as "embedded" or "ours"."""
    path = find_named_path(text, given_path)
    if not path and "," in text:
        return ",".join(_place(name, part.strip()) for part in text.split(","))
    named = name in ("model", "prompt_set", "other_set", "tasks", "base_model")
    bare = named and path and path.is_dir() and Path(text).name == text
    place = show_path(path) if path and not bare and path != Path(os.path.abspath(project_path(text))) else text
    # a notebook looks for data in its own folder first; what was meant here is not what lies there under the same name
    return str(path) if name in ("data", "runs") and path and (project_path("notebooks") / place).exists() else place


def find_named_path(text: str, start: Callable[[str], Path] = project_path) -> Path | None:
    """The file or folder that a parameter's text names, None if there is none; `start` says where a relative path starts."""
    try:
        path = start(text)
        return path if text and path.exists() else None
    except (OSError, RuntimeError):  # too long for a name; the home of a user who does not exist
        return None


def check_prerequisites(given: Mapping[str, Any]) -> None:
    """Raise now what a notebook with these parameters would raise later: for its data, the published files, its model.

    InputError if nothing that `data` names exists, if files of `prompt_set="published"` are missing or altered, if a file of
    the prompt set is malformed, or if held-out tasks or predictions are not there;
    ParameterError or EndpointError if `model`, `base_url` and `api` name no endpoint. Nothing is started.
    """
    if "rated_tasks" in given:  # 15: its data are responses
        from ..review.responses import find_responses

        find_responses(given.get("data", ""))
    for name in ("data", "runs"):
        if isinstance(given.get(name), str) and "rated_tasks" not in given:
            check_data(given[name])
    if given.get("prompt_set") == "published":
        check_published()
    for name in ("prompt_set", "other_set"):
        if given.get(name):
            load_prompts(given[name])
    if "tasks" in given:
        from ..evaluation.evaluate import check_evaluation

        check_evaluation(**given)
    model = given.get("model") or given.get("rater_model")
    if model and "concurrency" in given:  # 00 has none: its four questions go live, whatever `api` says
        _find_endpoint(model, given.get("base_url", ""), given.get("api", "completions"))


_find_endpoint = cache(find_endpoint)  # once for all notebooks of a run: it hashes the embedded weights


def notebook_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters that a notebook's cell tagged `parameters` declares, in its order.

    Raises InputError if the file is not a notebook.
    """
    source, nodes = parameter_nodes(path)
    lines = source.splitlines()
    return {name: _build_parameter(name, node, lines) for name, node in nodes}


def _build_parameter(name: str, node: ast.Assign | ast.AnnAssign, lines: list[str]) -> Parameter:
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError):  # not a literal: the notebook alone knows its value
        default = None
    annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else type(default).__name__
    comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()  # the parser counts bytes
    return Parameter(name, annotation, default, comment.lstrip(" #"))


def check_names(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise ParameterError for the first of `names` that is not `known`, with the name that was probably meant."""
    known = sorted(set(known))
    refuse_moved(name for name in names if name not in known)
    for name in names:
        if name not in known:
            raise ParameterError(f'unknown parameter "{name}" of {where}; {suggest_name(name, known)}')


def suggest_name(name: str, known: Iterable[str]) -> str:
    """The name of `known` that was probably meant, as the end of a message; all of them where none is near.

    >>> suggest_name("rouge_treshold", ["rouge_threshold", "quirks"]), suggest_name("x", ["quirks"])
    ('did you mean "rouge_threshold"?', 'known: quirks')
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"


def load_parameters(path: Path) -> dict[str, Any]:
    """The parameters of a YAML file, every value as text, so that no rule of YAML changes `no`, `0123` or `1e-3`.

    Raises InputError with file:line if it is not a YAML mapping of names to values.
    """
    import yaml

    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{show_path(path)}: cannot be read ({error})") from error
    except yaml.MarkedYAMLError as error:
        raise InputError(f"{show_path(path)}:{error.problem_mark.line + 1}: not YAML ({error.problem})") from error
    except yaml.YAMLError as error:
        raise InputError(f"{show_path(path)}: not YAML ({error})") from error
    if value in (None, ""):
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{show_path(path)}:1: must be lines of `name: value`")
    return value
