"""The two groups of commands that look after what cost money or time: stored answers, and reviews by people."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from .records import SelfInstructError, project_path

if TYPE_CHECKING:
    from .review import Review

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


_store = click.option("--store", "path", default=DEFAULT_STORE, show_default=True, help="The SQLite file, relative to the project's root.")


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
        raise SelfInstructError(f"{path}: {len(faults)} faults in {count:,} responses; restore it, or delete it and run again")
    click.echo(f"{count:,} responses, all sound")


@click.group()
def review() -> None:
    """The quality review of Table 2 in a spreadsheet; notebook 14 has the same as a form, and the figures."""


_rater = click.option("--rater", default="me", show_default=True, help="Whose answers; every rater has a file.")
_sheet = click.argument("sheet", type=click.Path(dir_okay=False))


def _open_review(run_dir: str, rater: str) -> Review:
    """The sample that notebook 14 drew, or a new one as it would draw it, with the answers of `rater`."""
    from .datasets import load_dataset
    from .records import load_records
    from .review import Review, ReviewItem, draw_sample, keep_sample

    folder = project_path(run_dir)
    path = folder / "review" / "sample.jsonl"
    items = load_records(path, ReviewItem) if path.is_file() else keep_sample(path, draw_sample(load_dataset(folder)))
    return Review(items, folder, rater)


@review.command("export")
@run_dir_option
@_rater
@_sheet
def review_export(run_dir: str, rater: str, sheet: str) -> None:
    """Write the sample, with the answers so far, to SHEET (CSV)."""
    from .review_sheet import export_sheet

    chosen = _open_review(run_dir, rater)
    export_sheet(chosen.items, chosen.answers, sheet)
    command = f"selfinstruct review import {shlex.quote(sheet)} --run-dir {shlex.quote(run_dir)} --rater {shlex.quote(rater)}"
    click.echo(f"{len(chosen.items)} items in {sheet}; answer yes or no, save as CSV, then: {command}")


@review.command("import")
@run_dir_option
@_rater
@_sheet
def review_import(run_dir: str, rater: str, sheet: str) -> None:
    """Take the answers of a filled-in SHEET into the run folder."""
    from .review_sheet import import_sheet

    chosen = _open_review(run_dir, rater)
    changed = import_sheet(sheet, chosen)
    click.echo(f"{changed} items changed; {chosen.complete} of {len(chosen.items)} are complete")


@review.command("summary")
@run_dir_option
@_rater
def review_summary(run_dir: str, rater: str) -> None:
    """Show the shares of Table 2, with 95 % intervals, beside the paper's."""
    from .review import PAPER, summarise_review

    for question, row in summarise_review(_open_review(run_dir, rater).answers).items():
        low, high = row["interval"] or (None, None)
        ours = f"{row['share']:.0%} ({low:.0%} to {high:.0%}) of {row['answered']}" if row["answered"] else "no answers"
        click.echo(f"{question:20} paper {PAPER[question]:.0%}   here {ours}")
