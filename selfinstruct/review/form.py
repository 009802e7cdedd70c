"""A review as a form in the notebook, for the keyboard as much as for the mouse; what it asks is the review's question set.

    ReviewForm(review)              # the last value of a cell

Type a letter for each question and Enter ("yyn", then a note if you like) and the next item comes; `b` and Enter goes back
(`-` where b is an answer). Or press the buttons. Every answer is on disk at once, and the form opens at the first item with a
question open. Three letters are saved without Enter too, but only Enter turns the page; a single letter waits for Enter,
since it may be the beginning of a word.

The field keeps what was typed, a line an item, and the kernel never writes into it while somebody types: letters that come
before the next item is drawn stay, whatever the kernel takes its time for.
"""

from __future__ import annotations

import html
import os
from typing import Any

import ipywidgets as widgets
from IPython import get_ipython

from ..files import ParameterError
from ..session import OWNER_VARIABLE
from .items import Review
from .questions import Question, Shown

_FIELD = (
    '<div style="font-size:0.85em;opacity:0.7;margin-top:0.6em">{name}</div>'
    '<div dir="auto" tabindex="0" role="group" aria-label="{name}" data-lm-suppress-shortcuts="true" '
    'style="white-space:pre-wrap;overflow-wrap:anywhere;max-height:{lines}em;overflow:auto;'
    'border-left:3px solid #0072b2;padding:0.1em 0 0.1em 0.7em;line-height:1.45">{text}</div>'
)
_WRAP = {"flex_flow": "row wrap"}  # on a small screen
_AGAIN = "Run the cell again: the form opens at the first of them."


def wants_form(show_form: str) -> bool:
    """True if a form is to be shown: "yes", "no", or "auto", which is no where nobody could answer it, as in papermill."""
    if show_form not in ("auto", "yes", "no"):
        raise ParameterError(f'show_form={show_form!r}: choose "auto", "yes" or "no"')
    return show_form == "yes" or (show_form == "auto" and OWNER_VARIABLE not in os.environ and _can_be_asked())


def _can_be_asked() -> bool:
    """True if the cell that runs may ask for input(): every front end for people says yes, headless runners say no."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is None or bool(kernel.get_parent().get("content", {}).get("allow_stdin", True))


class ReviewForm(widgets.VBox):
    """One item at a time: its texts, the questions, notes, back and next."""

    def __init__(self, review: Review) -> None:
        self.asked = review.record.asked
        self.review, self.position, self._filling = review, review.first_open(), False
        self._taken = ""  # of what stands in the field, the lines that were read
        self._build()
        super().__init__(self._layout())
        self.show(self.position)

    def _build(self) -> None:
        self.head = widgets.HTML()
        self.texts = widgets.HTML(layout={"max_width": "52em", "min_height": "18em", "margin": "0 0 0.8em"})
        self.bar = widgets.IntProgress(max=len(self.review.items), layout={"width": "14em"})
        self.buttons = {question.name: self._offer(question) for question in self.asked.questions}
        look = {"style": {"description_width": "initial"}, "layout": {"width": "32em", "max_width": "98%"}}
        late = {"continuous_update": False}  # a value comes when the field is left or Enter is pressed
        self.notes = widgets.Text(description="Note", placeholder="if you like", **late, **look)
        self.typed = widgets.Textarea(description=self.asked.field, placeholder=self.asked.example, rows=2, **look)
        self.back, self.next = widgets.Button(description="Back"), widgets.Button(description="Next")
        self.message = widgets.HTML()
        self.notes.observe(lambda change: self._save(notes=change["new"]), "value")
        self.typed.observe(lambda change: self._take(change["new"]), "value")
        self.back.on_click(lambda _: self._turn(-1))
        self.next.on_click(lambda _: self._turn(1))

    def _offer(self, question: Question) -> widgets.ToggleButtons:
        choices = question.choices.values()
        options, meanings = [(one.label, one.value) for one in choices], [one.meaning for one in choices]
        labels = [one.label for question in self.asked.questions for one in question.choices.values()]
        width = f"{max(4, 0.75 * max(map(len, labels)))}em"
        buttons = widgets.ToggleButtons(options=options, tooltips=meanings, value=None, style={"button_width": width})
        buttons.observe(lambda change: self._press(question.name, change["new"]), "value")
        return buttons

    # JupyterLab takes letters typed on a focused button as its own commands (b: a new cell; d, d: the cell is gone),
    # so after every click the focus goes to the field, where they belong.

    def _press(self, question: str, value: bool) -> None:
        if not self._filling:
            self._save(**{question: value})
            self.typed.focus()

    def _turn(self, step: int) -> None:
        """Turn by a button: letters without Enter are meant for this item, so they are taken before."""
        self._take_open(self.typed.value.removeprefix(self._taken), with_note=True)
        self.typed.value = self._taken = ""
        self.show(self.position + step)
        self.typed.focus()

    def _layout(self) -> list[Any]:
        questions = [
            widgets.HBox([self.buttons[one.name], widgets.HTML(_word(number, one))], layout=_WRAP)
            for number, one in enumerate(self.asked.questions, 1)
        ]
        quick = widgets.HBox([self.typed, self.back, self.next], layout=_WRAP)
        return [widgets.HBox([self.bar, self.head]), self.texts, *questions, self.notes, quick, self.message]

    def show(self, position: int, message: str = "") -> None:
        """Turn to the item at `position`; past either end it stays where it is, and says so."""
        last = len(self.review.items) - 1
        self.position = min(max(position, 0), last)
        self._fill()
        if position > last:
            left = len(self.review.items) - self.review.complete
            message = f"That was the last; {left} still open. {_AGAIN}" if left else "All are answered. Thank you!"
        self._say(message)

    def _fill(self) -> None:
        """Put the item and the answers so far into the widgets, without taking that for an answer."""
        item = self.review.items[self.position]
        answer = self.review.of(item.id)
        self._filling = True
        try:
            for name, buttons in self.buttons.items():
                buttons.value = getattr(answer, name)
            self.notes.value = answer.notes
        finally:
            self._filling = False
        self.texts.value = "".join(_show_field(one, getattr(item, name)) for name, one in self.asked.texts.items())
        self.back.disabled = self.position == 0
        self._count()

    def _count(self) -> None:
        done, count = self.review.complete, len(self.review.items)
        self.bar.value = done
        self.head.value = f"&nbsp;<b>{self.position + 1}</b> of {count}, {done} answered"

    def _save(self, **given: Any) -> bool:
        if self._filling:
            return False
        try:
            self.review.answer(self.review.items[self.position].id, **given)
        except OSError as error:
            self._say(f"NOT saved: {html.escape(str(error))}")
            return False
        self._count()
        self._say("saved")
        return True

    def _take(self, text: str) -> None:
        """What stands in the field: every line that Enter has ended since the last call is an item's, the last one is open."""
        ended = text[: text.rfind("\n") + 1]
        # lines that were taken are a record: to change them changes no answer
        fresh = ended.removeprefix(self._taken) if ended.startswith(self._taken) else ""
        self._taken = ended
        # what follows a line that cannot be taken was typed for other items
        if all(self._take_line(line.strip()) for line in fresh.split("\n")) and len(self.asked.questions) > 1:
            self._take_open(text.removeprefix(ended))

    def _take_line(self, line: str) -> bool:
        """The letters with or without a note, back, or nothing; False for something else, or where it could not be saved."""
        if line.lower() == self.asked.back:
            self.show(self.position - 1)
        elif line and not self.asked.match(line):
            self._say(f"{self.asked.ask} Not taken: {html.escape(line[:20])}")
            return False
        elif line and not self._take_open(line, with_note=True):
            return False
        elif line:
            self.show(self.position + 1)
        return True

    def _take_open(self, text: str, with_note: bool = False) -> bool:
        """Save the letters (a note only when it is finished); True if they were saved, or stood so already."""
        if not (found := self.asked.match(text)):
            return False
        given, note = found
        given |= {"notes": note} if with_note and note else {}
        answer = self.review.of(self.review.items[self.position].id)
        if all(getattr(answer, name) == value for name, value in given.items()):
            return True
        saved = self._save(**given)
        self._fill()
        return saved

    def _say(self, text: str) -> None:
        self.message.value = f'<span role="status">{text}</span>'


def _word(number: int, question: Question) -> str:
    """The question next to its buttons; where the buttons are letters alone, what each means, too."""
    choices = question.choices.values()
    if all(len(one.label) > 1 for one in choices):
        return f"&nbsp;{number}. {html.escape(question.text)}"
    lines = [html.escape(question.text), *(html.escape(one.meaning) for one in choices)]
    return f'<div style="line-height:1.4;padding-left:0.5em">{"<br>".join(lines)}</div>'


def _show_field(shown: Shown, text: str) -> str:
    """One text of an item as HTML, shown as it is; a blank one says so."""
    safe = html.escape(text) if text.strip() else '<i style="opacity:0.7">(none)</i>'
    return _FIELD.format(name=html.escape(shown.heading), lines=shown.lines, text=safe)
