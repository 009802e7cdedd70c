"""The panel of notebook 20: edit a prompt set in place, ask, read every verdict, pin as A, compare with B, save as a folder.

    panel = AblationPanel(connection, "ours", n_draws=8)        # connection: the arguments of `connect`
    panel.run()                                                 # what the button does; returns the Trial
    panel                                                       # the last value of a cell

Edits live in the panel until they are saved: a saved set is a folder that a run or a sweep can name. An unchanged request is
answered from the store. For a model that costs money the first press shows the estimate, the second one asks.
"""

from __future__ import annotations

import html
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from ..files import InputError, ParameterError, SelfInstructError, project_path, show_path, write_text
from ..models.connection import connect
from ..models.protocol import approximate_tokens
from ..models.spending import Price, load_price
from ..prompts import FILES, SETS, STEPS, PromptSet, find_folder, list_prompt_sets, load_prompts
from .draws import Comparison, Trial, TrialEstimate, compare_trials
from .trial import is_embedded_client, plan_trial, run_trial
from .view import show_box, show_comparison, show_draws, show_summary

_STEPS = {"1: instructions": STEPS[0], "2: is it classification?": STEPS[1], "3: instances": STEPS[2]}
_FIRST_FILE = {STEPS[0]: "instructions.txt", STEPS[1]: "classification_header.txt", STEPS[2]: "input_first_header.txt"}
_LOOK: dict[str, Any] = {"style": {"description_width": "7.5em"}, "layout": {"width": "98%"}}
_COLUMN = {"flex": "1 1 30em", "min_width": "26em", "padding": "0 0.8em 0 0"}


class NotConfirmed(SelfInstructError):
    """The estimate of a paid trial is on the screen, and nobody has agreed to it yet."""


class AblationPanel(widgets.VBox):
    """See the module. `machine` are machine-written instructions that prompts of step 1 may show."""

    def __init__(
        self,
        connection: Mapping[str, Any],
        prompt_set: str = "ours",
        step: str = "instructions",
        n_draws: int = 8,
        random_seed: int = 42,
        machine: Sequence[str] = (),
        quirks: str = "published",
        rouge_threshold: float = 0.7,
    ):
        self.connection, self.machine = dict(connection), list(machine)
        self.rules = {"quirks": quirks, "rouge_threshold": rouge_threshold}
        self.edits: dict[str, str] = {}
        self.trial: Trial | None = None
        self.pinned: Trial | None = None
        self._clients: dict[str, Any] = {}
        self._loaded: PromptSet | None = None
        self._filling, self._agreed = False, ""
        self._build(prompt_set, step, n_draws, random_seed)
        super().__init__(self._arrange())
        self._turn_to_file(_FIRST_FILE[step])

    # what it is made of

    def _build(self, prompt_set: str, step: str, n_draws: int, random_seed: int) -> None:
        names = list(dict.fromkeys([*list_prompt_sets(), prompt_set]))
        self.set = widgets.Dropdown(description="Prompt set", options=names, value=prompt_set, **_LOOK)
        self.step = widgets.Dropdown(description="Step", options=_STEPS, value=step, **_LOOK)
        self.draws = widgets.BoundedIntText(description="Draws", value=n_draws, min=1, max=500, **_LOOK)
        self.seed = widgets.BoundedIntText(description="Random seed", value=random_seed, min=0, max=2**31, **_LOOK)
        self.file = widgets.Dropdown(description="File", options=[], **_LOOK)
        self.text = widgets.Textarea(
            description="Its text",
            rows=9,
            continuous_update=False,
            tooltip="The text of the file; edits stay here until saved",
            **_LOOK,
        )
        self.name = widgets.Text(description="Save as", placeholder="a new name, or the path of a new folder", **_LOOK)
        self.buttons = {
            "run": _make_button("Run", "Ask the model, or the store where it knows the answers", "primary"),
            "pin": _make_button("Pin as A", "Keep this trial, to compare the next ones with it"),
            "save": _make_button("Save", "Write the edited set as a new folder"),
            "reload": _make_button("Reload", "Read the set from its folder again; unsaved edits are lost"),
        }
        self.status, self.prompt, self.answers, self.sums, self.comparison = (widgets.HTML() for _ in range(5))
        ask = partial(self.run, ask_first=True)
        for name, action in {"run": ask, "pin": self.pin, "save": self.save, "reload": self.reload}.items():
            self.buttons[name].on_click(lambda _, act=action: self._press(act))
        self.set.observe(lambda _: self._attempt(self.reload), "value")
        self.step.observe(lambda change: self._turn_to_file(_FIRST_FILE[change["new"]]), "value")
        self.file.observe(lambda change: self._turn_to_file(change["new"]), "value")
        self.text.observe(lambda change: self._edit(change["new"]), "value")
        for control in (self.draws, self.seed):
            control.observe(lambda _: self._attempt(self.show_prompt), "value")

    def _arrange(self) -> list[Any]:
        row = {"flex_flow": "row wrap", "align_items": "flex-start", "width": "100%"}
        buttons = widgets.HBox([self.buttons[name] for name in ("run", "pin", "reload")], layout=row)
        saving = widgets.HBox([self.name, self.buttons["save"]], layout={"width": "98%"})
        left = [self.set, self.step, self.draws, self.seed, self.file, self.text, buttons, saving, self.status]
        right = [widgets.HTML("<b>The prompt of the first draw</b>"), self.prompt, self.sums, self.comparison]
        columns = [widgets.VBox(part, layout=_COLUMN) for part in (left, right)]
        return [widgets.HBox(columns, layout=row), self.answers]

    # the set, with its edits

    @property
    def folder(self) -> Path:
        """The folder of the chosen set, as it is on disk."""
        return find_folder(self.set.value)

    def load(self) -> PromptSet:
        """The set with the edits so far. Raises InputError with file:line where an edit is not valid."""
        if self._loaded is None:
            self._loaded = self._load_draft() if self.edits else load_prompts(self.set.value)
        return self._loaded

    def _load_draft(self) -> PromptSet:
        with tempfile.TemporaryDirectory() as place:
            draft = self._write(Path(place) / self.folder.name)
            try:
                return replace(load_prompts(draft), name=f"{self.set.value} (edited)")
            except InputError as error:
                raise InputError(str(error).replace(f"{place}/", "")) from error

    def _write(self, folder: Path) -> Path:
        shutil.copytree(self.folder, folder)
        for name, text in self.edits.items():
            write_text(folder / name, text)
        return folder

    def _read(self, name: str) -> str:
        found = (self.folder / name, project_path(SETS) / "ours" / name)
        on_disk = next((path.read_text(encoding="utf-8") for path in found if path.is_file()), "")
        return self.edits.get(name, on_disk)

    def _turn_to_file(self, name: str) -> None:
        """Show a file of the set; those that it leaves out are there as `ours` has them."""
        if self._filling:
            return
        self._filling = True
        own = {path.name for path in self.folder.iterdir() if path.suffix in (".txt", ".jsonl", ".yaml")} | set(
            self.edits
        )
        shared = {path.name for path in (project_path(SETS) / "ours").iterdir()}
        labels = {one: one if one in own else f"{one}  (from ours)" for one in sorted(own | shared, key=_order_of)}
        options = tuple((label, one) for one, label in labels.items())
        if options != self.file.options:  # setting them builds the list in the browser again
            self.file.options = options
        self.file.value = name if name in labels else "prompt.yaml"
        self.text.value = self._read(self.file.value)
        self._filling = False
        self._attempt(self.show_prompt)

    def _edit(self, text: str) -> None:
        if not self._filling and text != self._read(self.file.value):
            self.edits[self.file.value], self._loaded = text, None
            self._turn_to_file(self.file.value)

    # what the buttons do; each can be called from a cell as well

    def _press(self, action: Any) -> None:
        """A button: then the focus goes to the text, since JupyterLab takes letters typed on a button as its own commands."""
        self._attempt(action)
        self.text.focus()

    def _attempt(self, action: Any) -> None:
        """Do what a control asks for, and say what is wrong where it cannot be done."""
        try:
            action()
        except NotConfirmed as error:
            self._say(str(error))
        except (SelfInstructError, OSError) as error:
            self._say(str(error), wrong=True)

    def _say(self, text: str, wrong: bool = False) -> None:
        colour = "color:#a33b00;" if wrong else ""
        style = f"{colour}line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere"
        self.status.value = f'<div role="status" aria-live="polite" style="{style}">{html.escape(text)}</div>'

    def find_client(self, prompts: PromptSet) -> Any:
        """The client for a set: for a chat or for completions, made once."""
        api = prompts.choose_api(self.connection.get("api", "completions"))
        if api not in self._clients:
            self._clients[api] = connect(**{"step": "20", **self.connection, "api": api})
        return self._clients[api]

    def find_price(self) -> Price | None:
        """Dollars of the model, None where nobody knows."""
        given = {name: self.connection[name] for name in ("price_table", "base_url") if name in self.connection}
        return load_price(self.connection.get("model", "embedded"), **given)

    def show_prompt(self) -> None:
        """The prompt of the first draw, with its tokens and its price."""
        prompts = self.load()
        client = self.find_client(prompts)
        request = plan_trial(
            client, prompts, self.step.value, self.draws.value, self.seed.value, self.machine
        ).requests[0]
        tokens, price = approximate_tokens(request.system + request.prompt), self.find_price()
        dollars = price and price.cost(tokens, request.max_tokens)
        cost = f"at most ${dollars:,.5f} a request" if dollars else "costs nothing" if price else "no price known"
        asked = f"about {tokens} tokens, and up to {request.max_tokens} to write; {cost}"
        asked += f"; stops: {', '.join(map(repr, request.stop)) or 'none'}; temperature {request.temperature:g}"
        system = f"<div>System prompt</div>{show_box(request.system, 6)}" if request.system else ""
        self.prompt.value = f'{system}{show_box(request.prompt)}<div style="line-height:1.4">{html.escape(asked)}</div>'
        self._say(f"Edited, not saved: {', '.join(self.edits)}" if self.edits else "")

    def run(self, ask_first: bool = False) -> Trial:
        """Ask the draws; their answers appear as they come. Where a model may cost money the estimate is printed first, or with
        `ask_first` nothing is asked until the same trial is wanted a second time.
        """
        prompts = self.load()
        client = self.find_client(prompts)
        agree = None if is_embedded_client(client) else self._confirm if ask_first else print

        def start(estimate: TrialEstimate) -> None:
            if agree:
                agree(estimate)
            if estimate.new:
                self._say("Asking ...")

        given = {"machine": self.machine, "price": self.find_price(), "on_draws": self._show, **self.rules}
        asked = (self.step.value, self.draws.value, self.seed.value)
        self.trial = run_trial(client, prompts, *asked, before=start, **given)
        edited = f" Edited, not saved: {', '.join(self.edits)}." if self.edits else ""
        cached = sum(draw.completion.cached for draw in self.trial.draws)
        self._say(f"{len(self.trial.draws)} draws, {cached} answered from the store.{edited}")
        return self.trial

    def _confirm(self, estimate: TrialEstimate) -> None:
        if estimate.new and str(estimate) != self._agreed:
            self._agreed = str(estimate)
            raise NotConfirmed(f"{estimate}. Press Run again to ask.")

    def _show(self, trial: Trial) -> None:
        self.answers.value = show_draws(trial)
        self.sums.value = f"<b>{html.escape(trial.name)}</b>{show_summary(trial)}"
        if self.pinned is not None and len(trial.draws) == len(self.pinned.draws):
            self._show_comparison(trial)

    def pin(self) -> Trial:
        """Keep the last trial as A."""
        if self.trial is None:
            raise ParameterError("nothing to pin yet: run a trial first")
        self.pinned = self.trial
        self.comparison.value = ""
        self._say(f"A is {self.pinned.name}, {len(self.pinned.draws)} draws. Change something and run: that is B.")
        return self.pinned

    def _show_comparison(self, trial: Trial) -> None:
        try:
            self.comparison.value = show_comparison(compare_trials(self.pinned or trial, trial))
        except ParameterError as error:
            self.comparison.value = f"<p>{html.escape(str(error))}</p>"

    def compare(self) -> Comparison:
        """The last trial, B, against the pinned one, A."""
        if self.trial is None or self.pinned is None:
            raise ParameterError("pin a trial as A and run another one first")
        return compare_trials(self.pinned, self.trial)

    def save(self) -> Path:
        """Write the set with its edits as a new folder, and turn to it."""
        name = self.name.value.strip()
        if not name or (Path(name).name == name and not re.fullmatch(r"[\w][\w.-]*", name)):
            raise ParameterError(f"{name!r} is no name for a folder: letters, digits, - and _, or a path")
        folder = project_path(f"{SETS}/{name}" if Path(name).name == name else name)
        if folder.exists():
            raise ParameterError(f"{show_path(folder)} is there already; choose another name")
        self.load()  # nothing that cannot be read is saved
        self._write(folder)
        self.edits, self._loaded, self.name.value = {}, None, ""
        self.set.options = list(dict.fromkeys([*list_prompt_sets(), *self.set.options, name]))
        self.set.value = name
        self._say(f"Saved as {show_path(folder)}; a run takes it with -p prompt_set {name}")
        return folder

    def reload(self) -> None:
        """Read the set from its folder again."""
        self.edits, self._loaded = {}, None
        self._turn_to_file(self.file.value or _FIRST_FILE[self.step.value])

    def close_clients(self) -> None:
        """End the threads and connections."""
        for client in self._clients.values():
            client.close()
        self._clients = {}


def _make_button(name: str, tooltip: str, style: str = "") -> widgets.Button:
    return widgets.Button(description=name, tooltip=tooltip, button_style=style, layout={"width": "8em"})


def _order_of(name: str) -> tuple[int, str]:
    return (FILES.index(name) if name in FILES else len(FILES), name)
