"""The command line, which only reads options, calls the package and prints what comes back.

selfinstruct run | sweep | compare | duplicates | report | export | doctor | fetch | store ... | review ...
"""

from __future__ import annotations

import functools
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from . import __version__
from .display import count_of
from .files import (
    DISK_FULL,
    InputError,
    ParameterError,
    SelfInstructError,
    StoppedEarly,
    explain_write_error,
    show_path,
)

if TYPE_CHECKING:
    from .review.items import Review
    from .runfolder import RunFolder

STOPPED_EARLY = 3
# data.writing.FORMATS, which takes long to import
LAYOUTS = ("paper", "chat", "alpaca", "sharegpt", "chatml", "huggingface")


class OneLineErrors(click.Group):
    """A group whose commands end in one clear line, not a traceback, for everything that a person can correct."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (StoppedEarly, KeyboardInterrupt) as error:  # the latter, without words, between notebooks
            click.echo(f"Stopped: {str(error) or 'by you; the same command continues'}", err=True)
            ctx.exit(STOPPED_EARLY)
        except SelfInstructError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise click.ClickException(str(explain_write_error(Path(error.filename or "."), error, 0))) from error


def make_run(value: str) -> RunFolder:
    """The value of --run-dir as a RunFolder, made here and passed along."""
    from .files import given_path
    from .runfolder import RunFolder

    return RunFolder(given_path(value))


def read_run_dir(ctx: click.Context, option: click.Parameter, value: str) -> RunFolder:
    """The run folder: the default one is the project's, wherever the command starts."""
    from .runfolder import RunFolder

    is_default = ctx.get_parameter_source(str(option.name)) is ParameterSource.DEFAULT
    return RunFolder(value) if is_default else make_run(value)


run_dir = click.option(
    "--run-dir", "run", callback=read_run_dir, metavar="PATH", default="outputs/run", show_default=True,
    help="The run folder: from here if it is there (or begins with ./), else from the project's root.",
)  # fmt: skip


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """SELF-INSTRUCT (Wang et al. 2022), step by step, as notebooks.

    \b
    First:   selfinstruct run              the whole method on a small model; no key, no GPU, no network
    Then:    open outputs/run/report.html
    Help:    selfinstruct doctor           what is missing on this machine, and what to do about it
    """


class PairsCommand(click.Command):
    """A command whose -p takes `name value` and `name=value`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        split: list[str] = []
        for arg in args:
            name, equals, value = arg.partition("=")
            if arg.startswith("-p") and equals and name[2:].isidentifier():  # -pname=value
                split += ["-p", name[2:], value]
            elif split[-1:] == ["-p"] and equals and name.isidentifier():
                split += [name, value]
            else:
                split.append(arg)
        return super().parse_args(ctx, split)


@main.command("run", cls=PairsCommand)
@run_dir
@click.option(
    "-p",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter (NAME=VALUE, too); may be repeated.",
)
@click.option("-f", "file", type=click.Path(exists=True, dir_okay=False), help="YAML file of parameters; -p wins.")
@click.option("--only", default="", metavar="02,13", help="Run these notebooks only.")
@click.option("--from", "start", default="", metavar="04", help="Run from this notebook on.")
@click.option("--estimate", is_flag=True, help="Only print how many calls, tokens and dollars it would take.")
@click.option("--parameters", "listing", is_flag=True, help="Only print the parameters and their defaults.")
def run_command(
    run: RunFolder, pairs: tuple[tuple[str, str], ...], file: str, only: str, start: str, estimate: bool, listing: bool
) -> None:
    """Run the notebooks in order into one folder; what did not change is skipped.

    \b
    selfinstruct run                                              the main job, on the embedded model
    selfinstruct run -p random_seed 7 --run-dir outputs/seed7     another draw
    selfinstruct run --only 02,13                                 two notebooks
    selfinstruct run -p model NAME --estimate                     what it would cost
    OPENAI_API_KEY=... selfinstruct run -p model NAME -p base_url URL --run-dir outputs/paid

    Exit codes: 0 done, 1 a failure, 2 a wrong option, 3 stopped early by a limit or Ctrl-C.
    """
    from .runner import run as runner

    chosen = [name.strip() for name in only.split(",") if name.strip()]
    if listing:
        return _list_parameters(chosen, start)
    given = {**(runner.read_parameters(Path(file), chosen, start) if file else {}), **dict(pairs)}
    if estimate:
        return click.echo(runner.estimate_notebooks(run, given, chosen, start).table())
    runner.run_notebooks(run, given, chosen, start, out=click.echo, tell_start=_tell_start)


def _tell_start(notebook: str) -> None:
    """Where the output is no terminal, and so has no bar: a notebook can take minutes."""
    if not sys.stderr.isatty():
        click.echo(f"{notebook} ... started {time.strftime('%H:%M:%S')}", err=True)


def _list_parameters(only: list[str], start: str) -> None:
    from .runfolder import NOTEBOOKS_DIR
    from .runner.parameters import notebook_parameters
    from .runner.run import choose_notebooks

    for path in choose_notebooks(NOTEBOOKS_DIR, only, start):
        click.echo(path.stem)
        for one in notebook_parameters(path).values():
            click.echo(f"  {f'{one.name}: {one.annotation} = {one.default!r}':54}  {one.help}")


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--sweep-dir", help="Where its run folders go.  [default: outputs/<name of FILE>]")
@click.option("--power", is_flag=True, help="Only say what difference the plan could see.")
@click.option("--estimate", is_flag=True, help="Only print how many calls, tokens and dollars it would take.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Run the cells on this Dask cluster; see docs/sweeps.md.")
def sweep(file: Path, sweep_dir: str | None, power: bool, estimate: bool, yes: bool, scheduler: str | None) -> None:
    """Run a grid of settings, each with several random seeds, and compare them: one sentence for each.

    \b
    selfinstruct sweep docs/example_sweep.yaml            two arms, two seeds, two minutes on the embedded model
    selfinstruct sweep docs/example_sweep.yaml --power    what it could see, before it runs

    The same command goes on after a stop, tries again what failed, and runs only what is new in FILE.
    """
    from .runner import plan as plans
    from .runner import sweep as sweeps

    plan = plans.load_plan(file)
    run = make_run(sweep_dir or f"outputs/{file.stem}")
    if power:
        return click.echo("\n".join(sweeps.describe_power(plan, run)))
    if estimate:
        found = plans.estimate_plan(plan, plan.list_cells())
        return click.echo(found.table() if found else "No notebook of this sweep asks a model.")
    run_cells = None
    if scheduler:
        from .runner.cluster import check_cluster, run_on_cluster

        with check_cluster(plan, scheduler):  # refused before the question
            run_cells = functools.partial(run_on_cluster, scheduler=scheduler)
    sweeps.run_sweep(plan, run, lambda question: yes or _confirm(question), click.echo, run_cells)


def _confirm(question: str) -> bool:
    """Ask; where nobody can answer, nobody agrees."""
    try:
        return click.confirm(question)
    except click.Abort:
        return False


@main.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--run-dir", default="outputs/compare", show_default=True, help="Where the comparison goes.")
def compare(runs: tuple[str, ...], run_dir: str) -> None:
    """Compare RUNS (run folders, data sets) with the first of them, number by number, in notebook 21.

    The intervals are over rows: they say how far a difference would move with other rows, not with another run. For that,
    run a sweep.
    """
    from .runner.sweep import compare_runs

    if len(runs) < 2:
        raise ParameterError(f"{runs[0]} alone: name at least two run folders or data sets")
    compare_runs(make_run(run_dir), {"runs": ",".join(runs)}, click.echo)


@main.command()
@click.argument("data")
@click.argument("other", default="")
@click.option(
    "--threshold", default=0.7, show_default=True, help="Pairs with a ROUGE-L above it; step 1 drops those above 0.7."
)
@click.option(
    "--out", metavar="FILE", help="Where the pairs go (./FILE: here).  [default: outputs/duplicates/NAME.jsonl]"
)
@click.option(
    "--quirks",
    type=click.Choice(["published", "fixed"]),
    default="published",
    show_default=True,
    help="How words are read: a-z and 0-9, or words of any script.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes here.  [default: one a processor, where that pays]")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Compare on this Dask cluster; see docs/sweeps.md.")
def duplicates(data: str, other: str, **options: Any) -> None:
    """Find all near-duplicates among the instructions of DATA, or of DATA with OTHER; exact, for any number of them.

    \b
    selfinstruct duplicates alpaca.json                             every pair with a ROUGE-L above 0.7
    selfinstruct duplicates alpaca.json heldout.jsonl               what one has in common with the other
    selfinstruct duplicates big.jsonl --scheduler tcp://HOST:8786   on several machines

    DATA is a run folder or any data set that notebooks 10 to 13 read. Answers do not depend on who computes them. The same
    command goes on after a stop.
    """
    from .analysis.duplicates import list_duplicates

    list_duplicates(
        data, other, **{name: value for name, value in options.items() if value is not None}, tell=click.echo
    )
    command = shlex.join(
        ["selfinstruct", "compare", data, other]
        if other
        else ["selfinstruct", "run", "--only", "13", "-p", "data", data]
    )
    click.echo(f"Next: {command}")


@main.command()
@run_dir
def report(run: RunFolder) -> None:
    """Write report.html of a run folder again."""
    from .runner.report import write_report

    if not run.path.is_dir():
        raise InputError(f"{run}: no such run folder; `selfinstruct run --run-dir {shlex.quote(str(run))}` makes it")
    click.echo(f"Wrote {show_path(write_report(run))}")


@main.command()
@run_dir
@click.option("--data", help="Another run folder, or any data set that notebooks 10 to 13 read.  [default: this run]")
@click.option("--format", "layout", default="chat", show_default=True, help=f"One of {', '.join(LAYOUTS)}.")
@click.option("--out", metavar="FOLDER", help="Where to.  [default: exports/FORMAT in the run folder]")
@click.option("--validation", default=0.1, show_default=True, help="Share of the tasks that go to validation; 0: none.")
@click.option(
    "--random-seed", default=42, show_default=True, help="Draws the tasks, and templates where data has none."
)
@click.option("--without-seeds", is_flag=True, help="Leave the seed tasks out.")
@click.option("--trace", "id", metavar="ID", help="Write nothing; show what led to the row with this id.")
@click.option("--store", default="outputs/responses.sqlite", show_default=True, help="With --trace: where answers are.")
def export(run: RunFolder, id: str, store: str, **options: Any) -> None:
    """Write training data in the layout of a trainer or provider, split by task into train and validation.

    \b
    selfinstruct export                                          this run, as chat messages with OpenAI's checks
    selfinstruct export --format alpaca --out mine               for axolotl, LLaMA-Factory and others
    selfinstruct export --format huggingface --data rows.jsonl --out mine
    selfinstruct export --trace 1f0c                             prompts, answers and rules behind a row

    Formats: paper, chat, alpaca, sharegpt, chatml, huggingface (docs/formats.md says which trainer reads which).
    """
    from .training.lineage import describe_chain, export_run

    if id:
        return click.echo(describe_chain(options["data"] or run, id, store, options["random_seed"]))
    for line in export_run(run, **options):
        click.echo(line)


@main.command()
@click.option("--endpoint", is_flag=True, help="Try a model instead, with a few tiny calls: what does it support?")
@click.option("--model", default="embedded", show_default=True, help="With --endpoint: the model to try.")
@click.option("--base-url", default="", help="With --endpoint: where it is served, or vllm, ollama, llama.cpp, openai.")
def doctor(endpoint: bool, model: str, base_url: str) -> None:
    """Check that this machine can run the notebooks, and say what to do if it cannot."""
    from .models.probe import probe_endpoint
    from .runner.doctor import examine_machine

    if endpoint:
        for finding in probe_endpoint(model, base_url):
            click.echo(finding.line())
        return
    ready = True
    for check in examine_machine():
        click.echo(check.line())
        ready = ready and (check.ok or not check.essential)
    if not ready:
        raise click.ClickException("something essential is missing; the arrows above say what to do")
    click.echo("\nReady: selfinstruct run")


@main.command()
@click.argument("names", nargs=-1)
@click.option("--from", "source", metavar="SOURCE", help="A mirror's address, or a folder, instead of GitHub.")
@click.option("--list", "listing", is_flag=True, help="Only list the published files and which of them are here.")
def fetch(names: tuple[str, ...], source: str | None, listing: bool) -> None:
    """Bring the published files of the paper to seeds/published/ and verify them; NAMES choose some by parts of their paths.

    They are needed only for `prompt_set published` and for comparisons with the paper's own data.
    """
    from .paper.release import LICENCE, fetch_published, list_fetched

    if not listing:
        fetch_published(names, source, out=click.echo)
        return
    for file, state in list_fetched(names=names):
        click.echo(f"{state:12} {file.path}  ({file.purpose}; {LICENCE})")


@main.group()
def store() -> None:
    """Every response of a model, once: list them, publish them, replay those of others, drop what must go."""


store_file = click.option(
    "--store", "path", default="outputs/responses.sqlite", show_default=True,
    help="The SQLite file, relative to the project's root.",
)  # fmt: skip


@store.command("list")
@store_file
def store_list(path: str) -> None:
    """List what is in the store: a row for each model and step."""
    from .models.upkeep import list_responses

    for row in list_responses(path):
        click.echo(
            f"{row['model']}  step {row['step'] or '-'}  {row['api']} at {row['endpoint'][:60]}: "
            f"{row['responses']:,} responses, {row['prompt_tokens']:,} + {row['completion_tokens']:,} tokens, "
            f"{row['failed']:,} failed, {row['first']} to {row['last']}"
        )


@store.command("export")
@store_file
@click.argument("out", type=click.Path(dir_okay=False))
@click.option("--model", default="", help="Only this model's.")
@click.option("--step", default="", help="Only this step's, such as 02.")
@click.option("--run-dir", "run", type=make_run, metavar="PATH", help="Only those that this run was made of.")
def store_export(path: str, out: str, model: str, step: str, run: RunFolder | None) -> None:
    """Write the responses as JSONL to OUT, for others to import and replay.

    First it says what goes out: models, endpoints (an address of yours may be among them) and steps.
    """
    from .models.upkeep import export_responses

    keys = run.read_keys() if run else None
    written = export_responses(path, out, model, step, keys, tell=click.echo)
    click.echo(f"{count_of('response', written)} written to {out}")


@store.command("import")
@store_file
@click.argument("source", type=click.Path(dir_okay=False))
def store_import(path: str, source: str) -> None:
    """Add the responses of an exported file; a run then replays them without calling a model."""
    from .models.upkeep import import_responses

    added, known = import_responses(path, source)
    click.echo(f"{count_of('response', added)} added, {known:,} there already")


@store.command("drop")
@store_file
@click.option("--model", default="", help="This model's.")
@click.option("--step", default="", help="This step's, such as 02.")
@click.option("--run-dir", "run", type=make_run, metavar="PATH", help="Those that this run was made of.")
@click.option("--key", "beginnings", multiple=True, help="The one with this key, or beginning of one; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def store_drop(path: str, model: str, step: str, run: RunFolder | None, beginnings: tuple[str, ...], yes: bool) -> None:
    """Remove responses and records of failures for good, once you have agreed to what goes.

    Several options together choose what fits all of them. A run that needs a dropped response asks the model again.
    """
    from .models.upkeep import drop_responses, find_keys

    keys = run.read_keys() if run else None
    if beginnings:
        named = find_keys(path, beginnings)
        keys = named if keys is None else [key for key in keys if key in named]
    dropped = drop_responses(path, lambda question: yes or click.confirm(question), model, step, keys, tell=click.echo)
    click.echo(f"{count_of('response', dropped)} dropped")


@store.command("verify")
@store_file
def store_verify(path: str) -> None:
    """Check the file, every response against the request it answers, and every answer against its hash."""
    from .models.upkeep import verify_store

    count, faults = verify_store(path)
    for fault in faults:
        click.echo(fault, err=True)
    if faults:
        found = f"{len(faults)} faults in {count:,} responses"
        advice = "drop those with a key (selfinstruct store drop --key KEY), and a run asks them again"
        raise SelfInstructError(
            f"{path}: {found}; {advice}; for a fault of the file restore it, or delete it and run again"
        )
    click.echo(f"{count_of('response', count)}, all sound")


@main.group()
def review() -> None:
    """The quality review of Table 2 in a spreadsheet; notebook 14 has the same as a form, and the figures."""


SAMPLE = "review/sample.jsonl"
rater_name = click.option("--rater", default="me", show_default=True, help="Whose answers; every rater has a file.")
sheet_file = click.argument("sheet", type=click.Path(dir_okay=False))


@review.command("export")
@run_dir
@rater_name
@click.option("--data", help="A file or run folder to draw from, relative to the project's root.  [default: this run]")
@click.option("--size", type=int, help="Instructions to draw.  [default: notebook 14's]")
@click.option("--random-seed", type=int, help="Draws the sample.  [default: notebook 14's]")
@sheet_file
def review_export(run: RunFolder, rater: str, sheet: str, **drawing: Any) -> None:
    """Write the sample, with the answers so far, to SHEET (CSV).

    The first call draws it, as notebook 14 does: with the parameters that 14 had in this run folder, where it has run, or
    with those named here. Later calls need not name them.
    """
    from .review.sheet import export_sheet
    from .runner.parameters import place_paths

    given = place_paths({name: value for name, value in drawing.items() if value is not None})
    if given or not (run / SAMPLE).is_file():
        _draw_sample(run, **{**run.state.get("parameters", {}).get("14_review_quality", {}), **given})
    chosen = _open_review(run, rater)
    export_sheet(chosen.items, chosen.answers, sheet)
    command = shlex.join(["selfinstruct", "review", "import", sheet, "--run-dir", str(run), "--rater", rater])
    click.echo(f"{count_of('item', len(chosen.items))} in {sheet}; answer yes or no, save as CSV, then: {command}")


@review.command("import")
@run_dir
@rater_name
@sheet_file
def review_import(run: RunFolder, rater: str, sheet: str) -> None:
    """Take the answers of a filled-in SHEET into the run folder."""
    from .review.sheet import import_sheet

    chosen = _open_review(run, rater)
    changed = import_sheet(sheet, chosen, note=functools.partial(click.echo, err=True))
    click.echo(f"{count_of('item', changed)} changed; {chosen.complete} of {len(chosen.items)} are complete")


@review.command("summary")
@run_dir
@rater_name
def review_summary(run: RunFolder, rater: str) -> None:
    """Print the shares of Table 2, with 95 % intervals, and the paper's."""
    from .review.items import PAPER, summarise_review

    for question, row in summarise_review(_open_review(run, rater).answers).items():
        share = "nothing to count yet"
        if row["answered"]:
            low, high = row["interval"]
            share = f"{row['share']:.0%} ({low:.0%} to {high:.0%}) of {row['answered']}"
        click.echo(f"{question:20} paper {PAPER[question]:.0%}   here {share}")


@review.command("agreement")
@run_dir
@rater_name
@click.option("--second-rater", required=True, help="Whom to compare with.")
def review_agreement(run: RunFolder, rater: str, second_rater: str) -> None:
    """Print how far two raters agree: items both answered, share of equal answers, Cohen's kappa, its 95 % interval."""
    from .analysis.agreement import as_table
    from .review.items import measure_agreement

    if rater == second_rater:
        raise ParameterError(f'--second-rater "{second_rater}" is the first one, too; name another')
    both = [_open_review(run, name) for name in (rater, second_rater)]
    for one in both:
        if not one.answers:
            names = [path.stem.removeprefix("answers_") for path in run.find("review/answers_*.jsonl")]
            known = f"there are answers of {', '.join(names) or 'nobody'}"
            raise InputError(f"{show_path(one.path)}: no answers to this sample; {known}")
    click.echo(as_table(measure_agreement(*(one.answers for one in both))).to_string(na_rep=""))


def _draw_sample(run: RunFolder, data: str = "", **parameters: Any) -> None:
    """Draw the sample as notebook 14 does with these `parameters`; one that exists must be the same."""
    from .data.datasets import load_dataset
    from .review.items import draw_sample, keep_sample
    from .runner.parameters import check_value

    given = {name: value for name, value in parameters.items() if name in ("size", "random_seed", "stratified")}
    for name, value in given.items():
        check_value(name, value)
    try:
        drawn = draw_sample(load_dataset(data or run), **given)
    except InputError as error:
        if data:
            raise
        here = shlex.quote(str(run))
        raise InputError(
            f"{run}: nothing to draw a sample from ({error}); selfinstruct run --run-dir {here} makes instances; or give the "
            f"--run-dir of a run that has some, or name a data set: selfinstruct review export SHEET --data FILE --run-dir {here}"
        ) from error
    keep_sample(run / SAMPLE, drawn)


def _open_review(run: RunFolder, rater: str) -> Review:
    """The sample in the run folder, with the answers of `rater`; only `review export` draws one."""
    from .files import load_records
    from .review.items import Review, ReviewItem

    if not (run / SAMPLE).is_file():
        raise InputError(
            f"{show_path(run / SAMPLE)}: no sample has been drawn yet; notebook 14 draws one, and so does "
            f"selfinstruct review export SHEET --run-dir {shlex.quote(str(run))} (with --data FILE from any data set)"
        )
    return Review(load_records(run / SAMPLE, ReviewItem), run.path, rater)


if __name__ == "__main__":
    main()
