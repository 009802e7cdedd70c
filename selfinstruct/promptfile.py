"""prompt.yaml: how a prompt set builds its prompts and reads the answers, validated before anything runs; and its demonstrations.

    layout = load_layout([ours / "prompt.yaml", mine / "prompt.yaml"])      # a later file wins, key by key
    layout.demonstrations, layout.parser                                    # (8, "numbered")

`seeds/prompts/README.md` lists the keys, `seeds/prompts/ours/prompt.yaml` has a value for each.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .files import InputError, ParameterError, iter_lines, show_path

Parser = Literal["numbered", "fields", "whole"]
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_KNOWN = {
    "item": ("number", "instruction", "input", "output"),
    "ends_with": ("number", "instruction", "grounding", "transform"),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sampling(_Strict):
    """Request parameters of one step; what is left out is as for every prompt set."""

    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: tuple[str, ...] | None = None


class Steps(_Strict):
    """Request parameters by step."""

    instructions: Sampling = Sampling()
    classification: Sampling = Sampling()
    instances: Sampling = Sampling()


class Words(_Strict):
    """The markers of steps 2 and 3, in the language of the set; answers are read back into the English ones."""

    task: str = "Task"
    is_classification: str = "Is it classification?"
    yes: str = "Yes"
    no: str = "No"
    class_label: str = "Class label"
    example: str = "Example"
    input: str = "Input"
    output: str = "Output"


ENGLISH = Words()


class Rounds(_Strict):
    """The rounds of step 1; None is as the model has it: the embedded one its own, any other the released ones."""

    requests_per_round: int | None = Field(None, ge=1)
    classification_requests: int | None = Field(None, ge=0)
    blocked_starts: tuple[str, ...] | None = None

    def list_given(self) -> dict[str, Any]:
        """What the file says of them; first words in lower case."""
        given = self.model_dump(exclude_none=True)
        if self.blocked_starts is not None:
            given["blocked_starts"] = [word.strip().lower() for word in self.blocked_starts]
        return given


BY_MODEL = Rounds()
RELEASED = Rounds(requests_per_round=5, classification_requests=0, blocked_starts=())
# parameters of notebook 02 that are keys of prompt.yaml now
MOVED = tuple(Rounds.model_fields)


class Layout(_Strict):
    """A prompt.yaml. Of step 1 where nothing else is said."""

    source: str = ""
    mode: Literal["completion", "chat"]
    demonstrations: int = Field(ge=0)
    machine: int = Field(ge=0)
    classification_only: bool
    instances: bool
    item: str
    no_input: str
    ends_with: str
    parser: Parser
    transform: tuple[str, ...]
    grounding: str
    pieces: int = Field(ge=1)
    rounds: Rounds = BY_MODEL
    sampling: Steps = Steps()
    words: Words = Words()

    @field_validator("transform", mode="before")
    @classmethod
    def _read_transform(cls, value: Any) -> Any:
        return () if value in (None, "none", "") else (value,) if isinstance(value, str) else value

    @field_validator("grounding", mode="before")
    @classmethod
    def _read_grounding(cls, value: Any) -> Any:
        return "" if value in (None, "none") else value

    @field_validator("rounds", mode="before")
    @classmethod
    def _read_rounds(cls, value: Any) -> Any:
        named = {"by model": BY_MODEL, "released": RELEASED}
        if isinstance(value, str) and value not in named:
            keys = ", ".join(Rounds.model_fields)
            raise ValueError(f"Input should be 'by model' or 'released', or have lines for some of {keys}")
        return named[value] if isinstance(value, str) else value

    @field_validator("item", "ends_with")
    @classmethod
    def _check_placeholders(cls, value: str, info: Any) -> str:
        known = _KNOWN[info.field_name]
        for name in _PLACEHOLDER.findall(value):
            if name not in known:
                raise ValueError(f"{{{name}}} is nothing that it can hold{_advise(name, known)}")
        return value


def fill(template: str, **values: Any) -> str:
    """`template` with each {name} of `values` filled in, once: braces in a value stay as they are.

    >>> fill("{number}. {instruction} {x}", number=2, instruction="Sort {number}.")
    '2. Sort {number}. {x}'
    """
    return _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), template)


def load_layout(paths: Sequence[Path]) -> Layout:
    """The layout that these files come to, a later one over an earlier; files that are not there count as empty.

    Raises InputError with file:line for what is not YAML, an unknown key (and the one that was probably meant) or a wrong value.
    """
    merged: dict[str, Any] = {}
    lines: dict[tuple[Any, ...], str] = {}
    for path in (one for one in paths if one.is_file()):
        values, marks = _read_yaml(path)
        merged |= values
        lines |= {where: f"{show_path(path)}:{line}" for where, line in marks.items()}
    try:
        layout = Layout.model_validate(merged)
    except ValidationError as error:
        raise InputError(_explain(error.errors()[0], lines, show_path(paths[-1]))) from error
    if layout.instances and layout.machine:
        where = lines.get(("machine",)) or lines.get(("instances",), show_path(paths[-1]))
        raise InputError(
            f"{where}: `instances: true` needs `machine: 0`, since a machine-written instruction has none yet"
        )
    return layout


def refuse_moved(names: Iterable[str]) -> None:
    """Raise ParameterError where one of `names` is a parameter of earlier kits that prompt.yaml has now, and say how to write it."""
    given = set(names)
    for name in (one for one in MOVED if one in given):
        raise ParameterError(
            f"{name} is no parameter any more: a prompt set says it, with `rounds: {{{name}: ...}}` in its prompt.yaml; "
            "name the set with prompt_set (seeds/prompts/README.md)"
        )


def find_line(path: Path, key: str) -> str:
    """file:line of a key of a prompt.yaml, the file alone where the key is not in it."""
    line = _read_yaml(path)[1].get((key,)) if path.is_file() else None
    return f"{show_path(path)}:{line}" if line else show_path(path)


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """The values of a file, as text, so that no rule of YAML makes `no` a truth value; and the line of each key, at any depth."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        node, values = yaml.compose(text, Loader=yaml.BaseLoader), yaml.load(text, Loader=yaml.BaseLoader) or {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{show_path(path)}:{line}: not YAML ({error.problem})") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{show_path(path)}: cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise InputError(f"{show_path(path)}:1: must be lines of `name: value`")
    return values, _find_marks(node)


def _find_marks(node: Any, above: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    marks: dict[tuple[Any, ...], int] = {}
    for key, value in node.value if node is not None and node.id == "mapping" else ():
        where = (*above, key.value)
        marks |= {where: key.start_mark.line + 1, **_find_marks(value, where)}
    return marks


def _explain(problem: Any, lines: dict[tuple[Any, ...], str], default: str) -> str:
    """One problem that pydantic found, as file:line, what, and what to do."""
    where = problem["loc"]
    line = next((lines[where[:end]] for end in range(len(where), 0, -1) if where[:end] in lines), default)
    name = ".".join(map(str, where))
    if problem["type"] == "extra_forbidden":
        return f'{line}: unknown key "{name}"{_advise(str(where[-1]), _list_keys(where[:-1]))}'
    got = "" if problem["type"] == "missing" else f"; got {problem['input']!r}"
    return f"{line}: {name}: {problem['msg'].removeprefix('Value error, ')}{got}"


def _list_keys(above: tuple[Any, ...]) -> list[str]:
    model: Any = Layout
    for name in above:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def _advise(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else f"; known: {', '.join(known)}"


# demonstrations, the other half of a set's files


def load_demonstrations(path: Path) -> list[dict[str, Any]]:
    """The demonstrations of a JSONL file. Raises InputError with file:line where there is none, or one without an instruction."""
    demonstrations = [value for _, value in iter_lines(path)]
    if not demonstrations:
        raise InputError(f"{show_path(path)}: no demonstrations in it")
    for number, value in enumerate(demonstrations, 1):
        if not isinstance(value.get("instruction"), str):
            raise InputError(f'{show_path(path)}:{number}: missing "instruction"; every demonstration needs one')
    return demonstrations


def render_classification(demonstrations: Sequence[dict[str, Any]], words: Words = ENGLISH) -> str:
    """The step-2 prefix from {instruction, is_classification} demonstrations, without its header."""
    blocks = [
        f"{words.task}: {demo['instruction']}\n{words.is_classification} "
        f"{words.yes if demo['is_classification'] else words.no}\n\n"
        for demo in demonstrations
    ]
    return "".join(blocks) + f"{words.task}:"


def render_output_first(demonstrations: Sequence[dict[str, Any]], words: Words = ENGLISH) -> str:
    """The step-3 prefix for classification tasks, without its header: each class label, then an input it is right for."""
    blocks = []
    for demo in demonstrations:
        pairs = [
            _join_lines(f"{words.class_label}: {pair['class_label']}", pair["input"]) for pair in demo["instances"]
        ]
        blocks.append("\n".join([f"{words.task}: {demo['instruction']}", *pairs]) + "\n\n")
    return "".join(blocks) + f"{words.task}:"


def render_input_first(demonstrations: Sequence[dict[str, Any]], words: Words = ENGLISH) -> str:
    """The step-3 prefix for generation tasks, without its header: numbered examples, or the output directly where no input is
    needed.
    """
    blocks = []
    for demo in demonstrations:
        direct = demo.get("direct", False)
        examples = [
            _join_lines(
                "" if direct else f"{words.example} {number}", pair["input"], f"{words.output}: {pair['output']}"
            )
            for number, pair in enumerate(demo["instances"], 1)
        ]
        blocks.append("\n".join([f"{words.task}: {demo['instruction']}", *examples]) + "\n\n")
    return "".join(blocks) + f"{words.task}:"


def _join_lines(*lines: str) -> str:
    return "\n".join(line for line in lines if line)


RENDERERS = {
    "classification": render_classification,
    "output_first": render_output_first,
    "input_first": render_input_first,
}
