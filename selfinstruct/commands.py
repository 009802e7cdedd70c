"""The two groups of commands that look after what cost money or time: stored answers, and reviews by people."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .records import InputError, ParameterError, SelfInstructError, project_path, shown_path

if TYPE_CHECKING:
    from .review import Answer, Review, ReviewItem

DEFAULT_RUN_DIR = "outputs/run"
DEFAULT_STORE = "outputs/responses.sqlite"

run_dir_option = click.option(
    "--run-dir",
    default=DEFAULT_RUN_DIR,
    show_default=True,
    help="The run folder, relative to the project's root.",
)


@click.group()
def store() -> None:
    """Every response of a model, once: list them, publish them, replay those of others."""


_store = click.option(
    "--store", "path", default=DEFAULT_STORE, show_default=True, help="The SQLite file, relative to the project's root."
)


@store.command("list")
@_store
def store_list(path: str) -> None:
    """Show what is in the store: a row for each model and step."""
    from .store import list_responses

    for row in list_responses(path):
        click.echo(
            f"{row['model']}  step {row['step'] or '-'}  {row['api']} at {row['endpoint'][:60]}: "
            f"{row['responses']:,} responses, {row['prompt_tokens']:,} + {row['completion_tokens']:,} tokens, "
            f"{row['failed']:,} failed, {row['first']} to {row['last']}"
        )


@store.command("export")
@_store
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--model", default="", help="Only this model's.")
@click.option("--step", default="", help="Only this step's, such as 02.")
def store_export(path: str, out: str, model: str, step: str) -> None:
    """Write the responses as JSONL to OUT, for others to import and replay."""
    from .store import export_responses

    click.echo(f"{export_responses(path, out, model, step):,} responses written to {out}")


@store.command("import")
@_store
@click.argument("source", type=click.Path(dir_okay=False))
def store_import(path: str, source: str) -> None:
    """Add the responses of an exported file; a run then replays them without calling a model."""
    from .store import import_responses

    added, known = import_responses(path, source)
    click.echo(f"{added:,} responses added, {known:,} were there already")


@store.command("verify")
@_store
def store_verify(path: str) -> None:
    """Check the file, and every response against the request it answers."""
    from .store import verify_store

    count, faults = verify_store(path)
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        raise SelfInstructError(
            f"{path}: {len(faults)} faults in {count:,} responses; restore it, or delete it and run again"
        )
    click.echo(f"{count:,} responses, all sound")


@click.group()
def review() -> None:
    """The quality review of Table 2 in a spreadsheet; notebook 14 has the same as a form, and the figures."""


_rater = click.option("--rater", default="me", show_default=True, help="Whose answers; every rater has a file.")
_sheet = click.argument("sheet", type=click.Path(dir_okay=False))


_SAMPLE = "review/sample.jsonl"


def _open_review(run_dir: str, rater: str, **drawing: Any) -> Review:
    """The sample that lies in the run folder, or a new one as notebook 14 would draw it, with the answers of `rater`.

    `drawing` holds parameters of that notebook; one that is given (not None) must fit the sample that is there.
    """
    from .records import load_records
    from .review import Review, ReviewItem, keep_sample

    folder = project_path(run_dir)
    path = folder / _SAMPLE
    given = {name: value for name, value in drawing.items() if value is not None}
    there = path.is_file() and not given
    return Review(load_records(path, ReviewItem) if there else keep_sample(path, _draw(folder, given)), folder, rater)


def _open_drawn(run_dir: str, rater: str) -> Review:
    """The same for a command that only looks: it draws nothing, so that the first export may still choose the data."""
    path = project_path(run_dir) / _SAMPLE
    if not path.is_file():
        raise InputError(
            f"{shown_path(path)}: no sample has been drawn yet; notebook 14 draws one, and so does "
            f"selfinstruct review export SHEET --run-dir {shlex.quote(run_dir)} (with --data FILE from any data set)"
        )
    return _open_review(run_dir, rater)


def _draw(folder: Path, given: dict[str, Any]) -> list[ReviewItem]:
    """A sample with notebook 14's own parameters, but for those in `given`."""
    from .datasets import load_dataset
    from .parameters import notebook_parameters
    from .review import draw_sample
    from .runfolder import ALL_INSTANCES, RunFolder, find_files
    from .runner import NOTEBOOKS_DIR

    name = "14_review_quality"
    declared = notebook_parameters(NOTEBOOKS_DIR / f"{name}.ipynb")
    data, *how = (
        declared[key].checked(given.get(key, declared[key].default))
        for key in ("data", "size", "random_seed", "stratified")
    )
    if not data and not find_files(folder, ALL_INSTANCES):
        run_dir = shlex.quote(shown_path(folder))
        raise InputError(
            f"{shown_path(folder)}: nothing to draw a sample from, it has no instances; make some with selfinstruct run, give "
            f"the --run-dir of a run that has, or name a data set: selfinstruct review export SHEET --data FILE --run-dir {run_dir}"
        )
    return draw_sample(load_dataset(data or RunFolder(folder, name)), *how)


@review.command("export")
@run_dir_option
@_rater
@click.option("--data", help="A file or run folder to draw from, relative to the project's root.  [default: this run]")
@click.option("--size", type=int, help="Instructions to draw.  [default: notebook 14's]")
@click.option("--random-seed", type=int, help="Draws the sample.  [default: notebook 14's]")
@_sheet
def review_export(run_dir: str, rater: str, sheet: str, **drawing: Any) -> None:
    """Write the sample, with the answers so far, to SHEET (CSV).

    The first call draws it, as notebook 14 does with the same data, size and random_seed; later ones need not name them.
    """
    from .review_sheet import export_sheet

    chosen = _open_review(run_dir, rater, **drawing)
    export_sheet(chosen.items, chosen.answers, sheet)
    command = (
        f"selfinstruct review import {shlex.quote(sheet)} --run-dir {shlex.quote(run_dir)} --rater {shlex.quote(rater)}"
    )
    click.echo(f"{len(chosen.items)} items in {sheet}; answer yes or no, save as CSV, then: {command}")


@review.command("import")
@run_dir_option
@_rater
@_sheet
def review_import(run_dir: str, rater: str, sheet: str) -> None:
    """Take the answers of a filled-in SHEET into the run folder."""
    from .review_sheet import import_sheet

    chosen = _open_review(run_dir, rater)
    changed = import_sheet(sheet, chosen, note=functools.partial(click.echo, err=True))
    click.echo(f"{changed} items changed; {chosen.complete} of {len(chosen.items)} are complete")


@review.command("summary")
@run_dir_option
@_rater
def review_summary(run_dir: str, rater: str) -> None:
    """Show the shares of Table 2, with 95 % intervals, beside the paper's."""
    from .review import PAPER, summarise_review

    for question, row in summarise_review(_open_drawn(run_dir, rater).answers).items():
        low, high = row["interval"] or (None, None)
        share = "nothing to count yet"
        if row["answered"]:
            share = f"{row['share']:.0%} ({low:.0%} to {high:.0%}) of {row['answered']}"
        click.echo(f"{question:20} paper {PAPER[question]:.0%}   here {share}")


@review.command("agreement")
@run_dir_option
@_rater
@click.option("--second-rater", required=True, help="Whom to compare with.")
def review_agreement(run_dir: str, rater: str, second_rater: str) -> None:
    """Show how far two raters agree: items both answered, share of equal answers, Cohen's kappa, its 95 % interval."""
    from .agreement import as_table
    from .review import measure_agreement

    if rater == second_rater:
        raise ParameterError(f'--second-rater "{second_rater}" is the first one, too; name another')
    first, second = _answers(run_dir, rater), _answers(run_dir, second_rater)
    click.echo(as_table(measure_agreement(first, second)).to_string(na_rep=""))


def _answers(run_dir: str, rater: str) -> dict[str, Answer]:
    """The answers of a rater; raises InputError, with the names of those who have some, where there are none."""
    chosen = _open_drawn(run_dir, rater)
    if not chosen.answers:
        there = sorted(path.stem.removeprefix("answers_") for path in chosen.path.parent.glob("answers_*.jsonl"))
        known = ", ".join(there) or "nobody"
        raise InputError(f"{shown_path(chosen.path)}: no answers to this sample; there are answers of {known}")
    return chosen.answers
