"""The command line: `selfinstruct run`, `report`, `doctor`, `store`. Everything heavy is imported when it is used."""

from __future__ import annotations

from typing import Any

import click

from . import __version__
from .commands import review, run_dir_option, store
from .records import SelfInstructError, StoppedEarly

STOPPED_EARLY = 3


class PlainErrors(click.Group):
    """A group whose commands end in one clear line, not a traceback, for everything that a person can put right."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StoppedEarly as error:
            click.echo(f"Stopped: {error}", err=True)
            ctx.exit(STOPPED_EARLY)
        except KeyboardInterrupt:  # between notebooks, or before the first
            click.echo("Stopped: by you; the same command continues", err=True)
            ctx.exit(STOPPED_EARLY)
        except SelfInstructError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=PlainErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """SELF-INSTRUCT (Wang et al. 2022), step by step, as notebooks.

    \b
    First:   selfinstruct run              the whole method on a small model; no key, no GPU, no network
    Then:    open outputs/run/report.html
    Help:    selfinstruct doctor           what is missing on this machine, and what to do about it
    """


@main.command()
@run_dir_option
@click.option("-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter; may be repeated.")
@click.option("-f", "file", type=click.Path(exists=True, dir_okay=False), help="YAML file of parameters; -p wins.")
@click.option("--only", default="", metavar="02,13", help="Run these notebooks only.")
@click.option("--from", "start", default="", metavar="04", help="Run from this notebook on.")
@click.option("--estimate", "estimating", is_flag=True, help="Only say how many calls, tokens and dollars it would take.")
@click.option("--parameters", "listing", is_flag=True, help="Only show the parameters and their defaults.")
def run(
    run_dir: str,
    pairs: tuple[tuple[str, str], ...],
    file: str | None,
    only: str,
    start: str,
    estimating: bool,
    listing: bool,
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
    from . import runner

    chosen = [name.strip() for name in only.split(",") if name.strip()]
    if listing:
        return _list_parameters(chosen, start)
    given = {**(_from_file(file) if file else {}), **dict(pairs)}
    if estimating:
        return click.echo(runner.estimate_notebooks(run_dir, given, chosen, start).table())
    runner.run_notebooks(run_dir, given, chosen, start, out=click.echo)


def _from_file(path: str) -> dict[str, Any]:
    from pathlib import Path

    from .parameters import load_parameters

    return load_parameters(Path(path))


def _list_parameters(only: list[str], start: str) -> None:
    from .parameters import notebook_parameters
    from .runner import NOTEBOOKS_DIR, choose_notebooks

    for path in choose_notebooks(NOTEBOOKS_DIR, only, start):
        click.echo(path.stem)
        for one in notebook_parameters(path).values():
            click.echo(f"  {f'{one.name}: {one.annotation} = {one.default!r}':54}  {one.help}")


@main.command()
@run_dir_option
def report(run_dir: str) -> None:
    """Write report.html of a run folder again."""
    from .records import InputError, project_path, shown_path
    from .report import write_report

    if not project_path(run_dir).is_dir():
        raise InputError(f"{run_dir}: no such run folder; `selfinstruct run --run-dir {run_dir}` makes it")
    click.echo(f"Wrote {shown_path(write_report(run_dir))}")


@main.command()
@click.option("--endpoint", is_flag=True, help="Try a model instead, with a few tiny calls: what does it support?")
@click.option("--model", default="embedded", show_default=True, help="With --endpoint: the model to try.")
@click.option("--base-url", default="", help="With --endpoint: where it is served, or vllm, ollama, llama.cpp, openai.")
def doctor(endpoint: bool, model: str, base_url: str) -> None:
    """Check that this machine can run the notebooks, and say what to do where it cannot."""
    from .doctor import examine

    if endpoint:
        return _try_endpoint(model, base_url)
    well = True
    for check in examine():
        click.echo(check.line())
        well = well and (check.ok or not check.essential)
    if not well:
        raise click.ClickException("something essential is missing; the arrows above say what to do")
    click.echo("\nReady: selfinstruct run")


def _try_endpoint(model: str, base_url: str) -> None:
    from .probe import probe_endpoint

    for finding in probe_endpoint(model, base_url):
        click.echo(finding.line())


@main.command()
@click.argument("names", nargs=-1)
@click.option("--from", "source", default=None, metavar="SOURCE", help="A mirror's address, or a folder, instead of GitHub.")
@click.option("--list", "listing", is_flag=True, help="Only show the published files and which of them are here.")
def fetch(names: tuple[str, ...], source: str | None, listing: bool) -> None:
    """Bring the published files of the paper to seeds/published/ and verify them; NAMES choose some by parts of their paths.

    They are needed only for `prompt_source published` and for comparisons with the paper's own data.
    """
    from .paper import fetch_published, fetched_state

    if not listing:
        fetch_published(names, source, out=click.echo)
        return
    for file, state in fetched_state(names=names):
        click.echo(f"{state:12} {file.path}  ({file.purpose}; {file.licence})")


main.add_command(store)
main.add_command(review)


if __name__ == "__main__":
    main()
