"""The prompts of steps 1 to 3 as data and small builders (paper section 2.2 and Tables 5-8; layout of the released code).

    prompts = load_prompts(embedded=True)               # "short"; others: "ours", "published", "alpaca", or a folder of yours
    prompts.instruction_prompt([task.instruction for task in prompts.seed_tasks[:8]])
    prompts.classification_prompt("Name a colour.")

`parsing` is the inverse of this module. A prompt set is a folder of small files, in `seeds/prompts/` or anywhere: what it leaves
out comes from `seeds/prompts/ours/`. `promptfile` reads its prompt.yaml. Nobody has to change a module to ask in other words.
"""

from __future__ import annotations

import difflib
import hashlib
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .files import InputError, ParameterError, project_path, show_path
from .promptfile import (
    BY_MODEL,
    ENGLISH,
    RELEASED,
    RENDERERS,
    Layout,
    Words,
    fill,
    find_line,
    load_demonstrations,
    load_layout,
)
from .records import SeedTask, load_seed_tasks

SETS = "seeds/prompts"
PUBLISHED = "seeds/published/prompts"  # where `selfinstruct fetch` writes it
# the files of a prompt set; a prefix is a .txt as it is, or demonstrations under a header
HEADERS = ("instructions", "classification_instructions")
PREFIXES = ("classification", "output_first", "input_first")
FILES = (
    "prompt.yaml", "seed_tasks.jsonl", "system.txt", "output_first_start.txt", *(f"{name}.txt" for name in HEADERS),
    *(f"{name}{end}" for name in PREFIXES for end in (".txt", "_header.txt", "_demonstrations.jsonl")),
)  # fmt: skip

# Released request parameters (Table 4 where the code agrees with it; the code where it does not).
PAPER_REQUESTS: dict[str, dict[str, Any]] = {
    "instructions": {
        "max_tokens": 1024, "temperature": 0.7, "top_p": 0.5, "frequency_penalty": 0.0, "presence_penalty": 2.0,
        "stop": ("\n\n", "\n16", "16.", "16 ."), "logprobs": 1,
    },
    "classification": {
        "max_tokens": 3, "temperature": 0.0, "top_p": 0.0, "frequency_penalty": 0.0, "presence_penalty": 0.0,
        "stop": ("\n", "Task"), "logprobs": 1,
    },
    "instances": {
        "max_tokens": 350, "temperature": 0.0, "top_p": 0.0, "frequency_penalty": 0.0, "presence_penalty": 1.5,
        "stop": ("Example 6", "Task:"), "logprobs": 1,
    },
}  # fmt: skip
STEPS = tuple(PAPER_REQUESTS)
CLASSIFICATION_INSTANCE_MAX_TOKENS = 300

# What a 135M model on two cores needs to stay useful, measured by bench/bench_embedded.py (its table: seeds/README.md). It rambles,
# so its answers end sooner. The released code stores log-probabilities and never reads them; step 2 reads them here.
EMBEDDED_REQUESTS: dict[str, dict[str, Any]] = {
    "instructions": {
        "max_tokens": 200, "top_p": 0.7, "presence_penalty": 0.5, "stop": ("\n\n", "\n14.", "\n14 ."), "logprobs": None,
    },
    "classification": {"max_tokens": 1, "logprobs": 20},
    "instances": {  # two examples, not five; the frequency penalty, input-first only, ends half of the loops
        "max_tokens": 130, "frequency_penalty": 0.3, "stop": ("\n\n", "Example 3", "Task:"), "logprobs": None,
    },
}  # fmt: skip


def request_settings(
    step: str,
    embedded: bool,
    quirks: str = "published",
    max_instances_to_generate: int = 0,
    prompts: PromptSet | None = None,
    **chosen: Any,
) -> dict[str, Any]:
    """Sampling parameters of one step: the paper's, what the embedded model changes, what `prompts` says, then what the caller chose.

    A chosen value of None (or 0 for max_tokens and max_instances_to_generate) means "as the default". The model is stopped
    before the example after the last one that it may write. Raises ParameterError for an unknown name.
    """
    settings = {**PAPER_REQUESTS[step], **(EMBEDDED_REQUESTS[step] if embedded else {})}
    if step == "instructions" and quirks == "fixed" and not embedded:
        settings["stop"] = ("\n\n", "\n16.", "\n16 .")  # Q2: "16." must not cut "in 2016." short
    if prompts is not None:
        settings |= prompts.list_sampling(step, settings["stop"])
    for name, value in chosen.items():
        if name not in PAPER_REQUESTS[step]:
            known = ", ".join(PAPER_REQUESTS[step])
            raise ParameterError(f"{name}: not a sampling parameter of step {step!r}; it takes {known}")
        if value is not None and not (name == "max_tokens" and value == 0):
            settings[name] = value
    if max_instances_to_generate:
        example = prompts.layout.words.example if prompts else "Example"
        last = f"{example} {max_instances_to_generate + 1}"
        settings["stop"] = tuple(last if stop.startswith(f"{example} ") else stop for stop in settings["stop"])
    return settings


def build_instruction_prompt(instructions: Iterable[str], classification_only: bool = False) -> str:
    """The step-1 prompt of `ours`: a header, the numbered in-context instructions, and the next number for the model to go on from.

    >>> build_instruction_prompt(["Name a  colour:"])
    'Come up with a series of tasks:\\n1. Name a colour\\n2.'
    """
    return load_shared_prompts().instruction_prompt(list(instructions), classification_only)


@cache
def load_shared_prompts() -> PromptSet:
    """`ours`, read once: what a caller without a prompt set asks with."""
    return load_prompts("ours")


@dataclass(frozen=True)
class PromptSet:
    """The header and layout of step 1, the few-shot prefixes of steps 2 and 3, each ending in "Task:", where the queried
    instruction follows, and seed tasks.

    `output_first_start` is how an output-first answer begins, where the query already says it: "Class label:", or "". `pieces` are
    those of the grounding text, `system` the system prompt of a chat, "" for the kit's own. `sha256` is of all that is in it but
    the seed tasks.
    """

    classification: str
    output_first: str
    input_first: str
    seed_tasks: list[SeedTask] = field(default_factory=list, repr=False)
    output_first_start: str = ""
    name: str = ""
    files: Mapping[str, Path] = field(default_factory=dict, repr=False)
    layout: Layout = field(default_factory=lambda: load_layout([find_folder("ours") / "prompt.yaml"]), repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(HEADERS, ""), repr=False)
    pieces: tuple[str, ...] = field(default=(), repr=False)
    system: str = field(default="", repr=False)
    folder: Path | None = field(default=None, repr=False)
    sha256: str = ""

    @property
    def parser(self) -> str:
        """How an answer of step 1 is read: as `parsing.split_instructions` explains."""
        return self.layout.parser

    def count_demonstrations(
        self, num_prompt_instructions: int = -1, num_machine_instructions: int = -1
    ) -> dict[str, int]:
        """How many instructions a prompt of step 1 has, and how many of them are machine-written at most; -1 means as the set says.

        Raises ParameterError where these do not go together.
        """
        number = self.layout.demonstrations if num_prompt_instructions < 0 else num_prompt_instructions
        machine = min(self.layout.machine, number) if num_machine_instructions < 0 else num_machine_instructions
        if machine > number:
            raise ParameterError(f"num_machine_instructions={machine}: a prompt has only {number} instructions")
        if machine and self.layout.instances:
            what = f"prompt_set={self.name!r} has demonstrations with instances, and a machine-written instruction has none yet"
            raise ParameterError(f"num_machine_instructions={machine}: {what}; choose 0")
        return {"num_prompt_instructions": number, "num_machine_instructions": machine}

    def instruction_prompt(
        self, in_context: Sequence[str], classification_only: bool = False, rng: random.Random | None = None
    ) -> str:
        """The step-1 prompt: header, one item an in-context instruction, and what the model goes on from.

        `rng` draws the pieces of the grounding text and the way to rewrite; where a set has neither, nothing is drawn.
        """
        only = classification_only or self.layout.classification_only
        drawn = self._draw(rng or random.Random(0))
        items = [self._render_item(number, text) for number, text in enumerate(in_context, 1)]
        last = {"number": len(items) + 1, **drawn}
        return "".join([fill(self.headers[HEADERS[only]], **drawn), *items, fill(self.layout.ends_with, **last)])

    def _draw(self, rng: random.Random) -> dict[str, str]:
        layout, drawn = self.layout, {}
        if layout.transform:
            drawn["transform"] = rng.choice(layout.transform)
        if self.pieces:
            chosen = rng.sample(self.pieces, min(layout.pieces, len(self.pieces)))
            numbered = (f"{number}. {piece}" for number, piece in enumerate(chosen, 1))
            drawn["grounding"] = chosen[0] if layout.pieces == 1 else "\n".join(numbered)
        return drawn

    def _render_item(self, number: int, instruction: str) -> str:
        values = {"number": number, "instruction": re.sub(r"\s+", " ", instruction).strip().rstrip(":")}
        if self.layout.instances:
            instance = self._instances[instruction]
            values |= {"input": instance.input or self.layout.no_input, "output": instance.output}
        return fill(self.layout.item, **values)

    @property
    def _instances(self) -> dict[str, Any]:
        return {task.instruction: task.instances[0] for task in self.seed_tasks}

    def classification_prompt(self, instruction: str) -> str:
        """The step-2 query: the demonstrations, then `instruction` and the open question."""
        return f"{self.classification} {instruction.strip()}\n{self.layout.words.is_classification}"

    def instance_prompt(self, instruction: str, is_classification: bool) -> str:
        """The step-3 query: output-first for a classification task, input-first for any other."""
        prefix = self.output_first if is_classification else self.input_first
        return f"{prefix} {instruction.strip()}\n{self.answer_start(is_classification)}"

    def describe_files(self, *parts: str) -> dict[str, dict[str, str]]:
        """The files of these `parts`, "seed_tasks" or a prefix, for run.json: part -> path and sha256 of what is in it; and the
        set itself as "prompt_set", with the one hash of all that its prompts are made of.
        """
        found = {
            part: {"path": show_path(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for part, path in self.files.items()
            if part.removesuffix("_start") in parts
        }
        return found | ({"prompt_set": {"path": show_path(self.folder), "sha256": self.sha256}} if self.folder else {})

    def list_sampling(self, step: str, stop: Sequence[str]) -> dict[str, Any]:
        """What the set changes of a step's request parameters; `stop` sequences are put into its language."""
        given = getattr(self.layout.sampling, step).model_dump(exclude_none=True)
        changes = {"stop": tuple(self._translate(one) for one in stop)} if self.layout.words != ENGLISH else {}
        return changes | given | ({"system": self.system} if self.system else {})

    def _translate(self, stop: str) -> str:
        words = self.layout.words
        return re.sub(r"^Task", words.task, re.sub(r"^Example", words.example, stop))

    def choose_api(self, api: str) -> str:
        """The api to ask with: where the set is for a chat, "chat" takes the place of "completions"."""
        chats = {"completions": "chat", "batch-completions": "batch"}
        return chats.get(api, api) if self.layout.mode == "chat" else api

    def answer_start(self, is_classification: bool) -> str:
        """What the step-3 query says of the answer already; it belongs before the completion again."""
        return self.output_first_start if is_classification else ""

    def to_english(self, text: str) -> str:
        """A prefix or answer of steps 2 and 3 with the markers that the parser knows, in the place of the set's own."""
        words, plain = self.layout.words, ENGLISH
        if words == plain:
            return text
        ask, answer = re.escape(words.is_classification), {words.yes: plain.yes, words.no: plain.no}
        text = re.sub(rf"{ask} ({words.yes}|{words.no})\b", lambda m: f"{plain.is_classification} {answer[m[1]]}", text)
        for name in ("task", "class_label", "input", "output"):
            text = re.sub(rf"(?m)^([ \t]*){getattr(words, name)}(?=\s*\d*\s*:)", rf"\g<1>{getattr(plain, name)}", text)
        return re.sub(rf"(?m)^([ \t]*){words.example}(?=\s?\d*[.:]?[ \t]*$)", rf"\g<1>{plain.example}", text)

    def read_label(self, text: str) -> str:
        """A raw answer of step 2 with the English Yes or No in the place of the set's own."""
        words, plain = self.layout.words, ENGLISH
        for own, english in ((words.yes, plain.yes), (words.no, plain.no)):
            if own != english and (found := re.match(rf"(\W*){own}\b", text, re.IGNORECASE)):
                return f"{found[1]}{english}{text[found.end() :]}"
        return text


def list_prompt_sets() -> list[str]:
    """The names of the prompt sets in `seeds/prompts/`, and "published" once it is fetched."""
    names = sorted(path.parent.name for path in project_path(SETS).glob("*/prompt.yaml"))
    return names + ["published"] * project_path(PUBLISHED).is_dir()


def find_folder(prompt_set: str | Path) -> Path:
    """The folder of a prompt set, by its name or path. Raises ParameterError with the name that was probably meant."""
    named = project_path(PUBLISHED if prompt_set == "published" else f"{SETS}/{prompt_set}")
    folder = named if Path(prompt_set).name == str(prompt_set) and named.is_dir() else project_path(prompt_set)
    if folder.is_dir():
        return folder
    if prompt_set == "published":
        raise InputError(f"{show_path(named)}: not fetched; `selfinstruct fetch` brings it")
    known = [*dict.fromkeys([*list_prompt_sets(), "published"])]
    close = difflib.get_close_matches(str(prompt_set), known, n=1)
    advice = f'did you mean "{close[0]}"? ' if close else ""
    raise ParameterError(
        f"prompt_set={str(prompt_set)!r}: {advice}choose one of {', '.join(known)}, or give a folder's path, such as ./mine"
    )


def load_prompts(prompt_set: str | Path = "", seed_tasks_path: str | Path = "", embedded: bool = False) -> PromptSet:
    """The prompt set of a folder: one of `seeds/prompts/`, "published" (once fetched), or the path of any other.

    "" is "short" for the embedded model and "ours" for any other. What a folder leaves out comes from `ours`, seed tasks from
    `seeds/seed_tasks.jsonl` or `seed_tasks_path`. Raises ParameterError for another name, InputError with file:line where a file
    is missing, unknown or malformed.
    """
    prompt_set = prompt_set or ("short" if embedded else "ours")
    folder, ours = find_folder(prompt_set), project_path(SETS) / "ours"
    own_seeds = folder / "seed_tasks.jsonl"
    seeds = project_path(seed_tasks_path or (own_seeds if own_seeds.is_file() else "seeds/seed_tasks.jsonl"))
    layout = load_layout([ours / "prompt.yaml", folder / "prompt.yaml"])
    _check_files(folder, layout)
    files = {name: _find_prefix(folder if _has_prefix(folder, name) else ours, name) for name in PREFIXES}
    optional = {name: _find_part(folder, ours, f"{name}.txt") for name in (*HEADERS, "system")}
    start = folder / "output_first_start.txt"
    starts = {"output_first_start": start} if start.is_file() else {}
    parts = {
        **{name: _load_prefix(files[name], name, folder, ours, layout.words) for name in PREFIXES},
        "headers": {name: _read(optional[name]) for name in HEADERS},
        "system": _read(optional["system"]).strip(),
        "pieces": _read_pieces(folder, layout),
        "output_first_start": _read(start).strip(),
    }
    return PromptSet(
        **parts,
        layout=layout,
        seed_tasks=load_seed_tasks(seeds),
        name=folder.name if folder.parent == ours.parent else str(prompt_set),
        files={"seed_tasks": seeds, **files, **starts},
        folder=folder,
        sha256=hashlib.sha256(repr([parts, _list_layout(layout)]).encode()).hexdigest(),
    )


def _list_layout(layout: Layout) -> dict[str, Any]:
    """What of the layout is part of the set's hash; a key that came later counts only where it is not as it was before."""
    found = layout.model_dump(exclude={"source", *(("rounds",) if layout.rounds == BY_MODEL else ())})
    return {**found, "rounds": "released"} if layout.rounds == RELEASED else found


def _check_files(folder: Path, layout: Layout) -> None:
    """Raise InputError for a file that is no part of a prompt set, for a grounding text that is missing or that nothing uses."""
    found = [path for path in sorted(folder.iterdir()) if path.suffix in (".txt", ".jsonl", ".yaml", ".yml")]
    for path in found:
        if path.name not in (*FILES, layout.grounding):
            close = difflib.get_close_matches(path.name, FILES, n=1)
            advice = f'did you mean "{close[0]}"?' if close else f"its files: {', '.join(FILES)}"
            raise InputError(f"{show_path(path)}: no part of a prompt set; {advice}")
    if not found:
        raise InputError(
            f"{show_path(folder)}: no such file as prompt.yaml or instructions.txt in it, so it is no prompt set"
        )
    for key in ("transform", "grounding"):
        text = _read(folder / f"{HEADERS[layout.classification_only]}.txt") + layout.ends_with
        if getattr(layout, key) and f"{{{key}}}" not in text:
            where = find_line(folder / "prompt.yaml", key)
            raise InputError(f"{where}: nothing says where the prompt has it; write {{{key}}} in instructions.txt")


def _read_pieces(folder: Path, layout: Layout) -> tuple[str, ...]:
    """The pieces of the grounding text: between lines of ---, or else its lines."""
    if not layout.grounding:
        return ()
    path = folder / layout.grounding
    if not path.is_file():
        raise InputError(f"{find_line(folder / 'prompt.yaml', 'grounding')}: {show_path(path)}: no such file")
    text = path.read_text(encoding="utf-8")
    pieces = re.split(r"(?m)^---[ \t]*\n", text) if re.search(r"(?m)^---[ \t]*$", text) else text.splitlines()
    if not (kept := tuple(piece.strip("\n") for piece in pieces if piece.strip())):
        raise InputError(f"{show_path(path)}: nothing in it to draw from")
    return kept


def _find_part(folder: Path, ours: Path, name: str) -> Path:
    return folder / name if (folder / name).is_file() else ours / name


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _has_prefix(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{end}").is_file() for end in (".txt", "_demonstrations.jsonl"))


def _find_prefix(folder: Path, name: str) -> Path:
    """NAME.txt, a few-shot prefix as it is, or else NAME_demonstrations.jsonl, to render one from."""
    text = folder / f"{name}.txt"
    return text if text.is_file() else folder / f"{name}_demonstrations.jsonl"


def _load_prefix(path: Path, name: str, folder: Path, ours: Path, words: Words) -> str:
    if path.suffix == ".txt":
        return path.read_text(encoding="utf-8")
    header = _read(_find_part(folder, ours, f"{name}_header.txt"))
    return header + RENDERERS[name](load_demonstrations(path), words)
