"""A trial as HTML for the notebook: the prompt, every answer with all that became of it, sums and differences.

Everything that a model or a file says is escaped: it is data, and never markup.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..display import show, show_number
from ..similarity.words import split_ascii
from .draws import Comparison, Draw, Interval, Trial, Verdict

_BOX = (
    "white-space:pre-wrap;overflow-wrap:anywhere;max-height:{height}em;overflow:auto;margin:0;padding:0.3em 0.6em;"
    "border-left:3px solid var(--jp-border-color1,#bbb);font-family:var(--jp-code-font-family,monospace);font-size:0.9em;line-height:1.4"
)
# once for all draws: a style in each cell would be most of what a press sends to the browser
_LOOK = (
    ".trial {border-collapse:collapse;width:100%;table-layout:fixed;overflow-wrap:anywhere}"
    ".trial th,.trial td {padding:0.35em 0.6em;vertical-align:top;text-align:left;line-height:1.4;"
    "border-top:1px solid var(--jp-border-color2,#ddd)}"
    f".trial .box {{{_BOX.format(height=14)}}}"
    ".trial .ends {opacity:0.75;font-size:0.85em} .trial .one {margin-bottom:0.6em} .trial .text {white-space:pre-wrap}"
    ".trial .near {opacity:0.8;font-size:0.9em} .trial mark {background:#fdeea0;color:#1c2733}"
    ".trial .kept,.trial .dropped {font-weight:600} .trial .kept {color:#00694f} .trial .dropped {color:#a33b00}"
)  # both colours are readable on white, and a word stands with either
_NAMES = {
    "accepted_per_request": "accepted a request", "accuracy": "right answers", "valid_instances_per_task": "valid instances a task",
    "copied_share": "copied from the prompt", "parse_rate": "tasks with an instance parsed", "cost_per_accepted_usd": "dollars each",
}  # fmt: skip


def show_box(text: str, height: float = 20) -> str:
    """A text of any origin in a box that scrolls, by keyboard too."""
    style = _BOX.format(height=height)
    return f'<div tabindex="0" dir="auto" data-lm-suppress-shortcuts="true" style="{style}">{html.escape(text)}</div>'


def show_draws(trial: Trial) -> str:
    """Every draw: the answer as it came, and each candidate with its verdict."""
    rows = "".join(_show_draw(draw) for draw in trial.draws)
    heads = "".join(
        f'<th scope="col" style="width:{width}">{name}</th>'
        for name, width in (("Draw", "3em"), ("What the model wrote", "38%"), ("What became of it", "auto"))
    )
    head = f"<thead><tr>{heads}</tr></thead>"
    return f'<style>{_LOOK}</style><table class="trial">{head}<tbody>{rows}</tbody></table>'


def _show_draw(draw: Draw) -> str:
    ends = f"{draw.completion.finish_reason}, {draw.completion.completion_tokens} tokens"
    ends += ", from the store" if draw.completion.cached else ""
    task = f"<div><b>Task</b> {html.escape(draw.task)}</div>" if draw.task else ""
    text = draw.completion.error or draw.completion.text.strip("\n")
    box = f'<div tabindex="0" dir="auto" data-lm-suppress-shortcuts="true" class="box">{html.escape(text)}</div>'
    cells = (
        str(draw.number + 1),
        f'{task}{box}<div class="ends">{html.escape(ends)}</div>',
        "".join(map(_show_verdict, draw.verdicts)) or "the request failed",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _show_verdict(verdict: Verdict) -> str:
    kind, word = ("dropped", f"dropped: {verdict.reason}") if verdict.reason else ("kept", "accepted")
    if verdict.copied:
        word += ", copied from the prompt"
    shown, nearest = html.escape(verdict.candidate or "(nothing that could be read)"), ""
    if verdict.nearest:
        shown, marked = mark_common_words(verdict.candidate, verdict.nearest)
        nearest = f'<div class="near">nearest, ROUGE-L {show_number(verdict.score)}: {marked}</div>'
    label = f'<span class="{kind}">{html.escape(word)}</span>'
    return f'<div class="one"><div class="text">{shown}</div>{label}{nearest}</div>'


def mark_common_words(first: str, second: str) -> tuple[str, str]:
    """Both texts as HTML, with the words of their longest common subsequence marked: those that ROUGE-L counts.

    >>> mark_common_words("Name two rivers", "Name a river")
    ('<mark>Name</mark> two rivers', '<mark>Name</mark> a river')
    """
    words = [text.split() for text in (first, second)]
    plain = [[" ".join(split_ascii(word)) or word for word in one] for one in words]
    common = _find_common(*plain)
    marked = [
        " ".join(
            f"<mark>{html.escape(word)}</mark>" if index in kept else html.escape(word)
            for index, word in enumerate(one)
        )
        for one, kept in zip(words, common, strict=True)
    ]
    return marked[0], marked[1]


def _find_common(first: Sequence[str], second: Sequence[str]) -> tuple[set[int], set[int]]:
    """The places in both of one longest common subsequence."""
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i in reversed(range(len(first))):
        for j in reversed(range(len(second))):
            same = first[i] == second[j]
            lengths[i][j] = 1 + lengths[i + 1][j + 1] if same else max(lengths[i + 1][j], lengths[i][j + 1])
    places, i, j = ([], []), 0, 0
    while i < len(first) and j < len(second):
        if first[i] == second[j]:
            places[0].append(i)
            places[1].append(j)
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1
    return set(places[0]), set(places[1])


def show_summary(trial: Trial) -> str:
    """The numbers of a trial, and what dropped its candidates."""
    rows = [{"number": _NAMES[name], "value": show_interval(name, one)} for name, one in trial.summary().items()]
    parts = [show(rows)._repr_html_()]
    if trial.step == "classification":
        answers = trial.count_answers()
        table = [
            {
                "really classification": really,
                "called so": answers[really, True],
                "not called so": answers[really, False],
            }
            for really in (True, False)
        ]
        parts.append(show(table)._repr_html_())
    elif reasons := trial.count_reasons():
        parts.append(show(reasons, "dropped by", "candidates")._repr_html_())
    return "".join(parts)


def show_interval(name: str, found: Interval) -> str:
    """Such as "2.10 [1.35, 2.85]", shares in percent, dollars with four places; "-" where nothing was measured."""
    value, low, high = found
    if value is None:
        return "-"
    if name.endswith("usd") and not value:
        return "nothing"
    form = (
        "{:.0%}"
        if name in ("accuracy", "copied_share", "parse_rate")
        else "{:.4f}"
        if name.endswith("usd")
        else "{:.2f}"
    )
    ends = "" if low is None or high is None else f" [{form.format(low)}, {form.format(high)}]"
    return form.format(value) + ends


def show_comparison(comparison: Comparison) -> str:
    """The sentence, and the numbers of A and B next to one another."""
    sides = [("A", comparison.a, comparison.a.summary()), ("B", comparison.b, comparison.b.summary())]
    names = dict.fromkeys([*sides[0][2], *sides[1][2]])
    rows = [
        {
            "number": _NAMES[name],
            **{f"{side}: {trial.name}": show_interval(name, found[name]) for side, trial, found in sides},
        }
        for name in names
    ]
    return f'<p style="line-height:1.4">{html.escape(comparison.sentence)}</p>' + show(rows)._repr_html_()


def tabulate_trials(trials: Sequence[Trial]) -> list[dict[str, str]]:
    """A row a trial: its set, step, draws and numbers with their intervals."""
    return [
        {
            "prompt set": trial.name, "step": trial.step, "draws": str(len(trial.measured)),
            **{_NAMES[name]: show_interval(name, found) for name, found in trial.summary().items()},
        }
        for trial in trials
    ]  # fmt: skip
