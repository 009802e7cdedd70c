"""report.html: one page of a run folder that opens from disk, with links to everything that the run wrote.

    write_report(RunFolder("outputs/run"))      # -> Path("outputs/run/report.html")

It is made from the folder's files alone, without dates: equal folders give equal pages. All text of models is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..display import show_number
from ..files import load_records, write_text
from ..paper.scorecard import scorecard_html
from ..records import InstanceRow, MachineInstruction, Rejection
from ..runfolder import ALL_INSTANCES, INSTRUCTIONS, REJECTIONS, RunFolder

TEMPLATE = Path(__file__).with_name("report.html.jinja")
SAMPLE_TASKS = 12
_REASONS = {  # the rules' names in words
    "too_similar": "too similar to one in the pool (ROUGE-L)",
    "cut_by_length": "cut by the token limit",
    "over_the_cap": "over five instances of one task",
}


@dataclass(frozen=True)
class Funnel:
    """What became of the candidates of one step: candidates = accepted + dropped, always."""

    title: str
    asked: str
    accepted: int
    accepted_name: str
    dropped: dict[str, int]

    @property
    def candidates(self) -> int:
        return self.accepted + sum(self.dropped.values())

    def line(self) -> str:
        """The funnel as the terminal shows it."""
        dropped = ", ".join(f"{reason} {count}" for reason, count in self.dropped.items())
        tail = f" - {sum(self.dropped.values())} dropped ({dropped})" if dropped else ""
        return f"{self.title}: {self.asked}{self.candidates} candidates{tail} = {self.accepted} {self.accepted_name}"


@dataclass(frozen=True)
class Link:
    """A file of the run folder: its path below it and what it holds."""

    path: str
    holds: str

    @property
    def href(self) -> str:
        return quote(self.path)


def build_funnels(run: RunFolder) -> list[Funnel]:
    """The funnels of step 1 (instructions) and step 4 (instances), as far as the folder holds them."""
    rejections = load_records(run / REJECTIONS, Rejection) if (run / REJECTIONS).is_file() else []
    counts = Counter((row.step[:1], row.reason) for row in rejections)
    dropped = {
        step: {reason: count for (of, reason), count in counts.most_common() if of == step} for step in ("1", "4")
    }
    funnels = []
    if (run / INSTRUCTIONS).is_file():
        asked = f"{_requests(run):,} requests, " if _requests(run) else ""
        accepted = len(load_records(run / INSTRUCTIONS, MachineInstruction))
        funnels.append(Funnel("Step 1", asked, accepted, "instructions", dropped["1"]))
    if (run / ALL_INSTANCES).is_file():
        rows = load_records(run / ALL_INSTANCES, InstanceRow)
        tasks = len({row.instruction for row in rows})
        funnels.append(Funnel("Step 4", "", len(rows), f"instances of {tasks} instructions", dropped["4"]))
    return funnels


def _requests(run: RunFolder) -> int:
    name = "02_generate_instructions"
    usage = run.state.get("usage", {}).get(name, {})
    return run.results(name).get("requested") or usage.get("requests", 0)


def funnel_lines(run: RunFolder) -> list[str]:
    """The funnels as lines for the terminal."""
    return [funnel.line() for funnel in build_funnels(run)]


def write_report(run: RunFolder) -> Path:
    """Write `report.html` from what lies in the run folder; returns its path. Raises InputError where it cannot be written."""
    import jinja2

    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    page.filters["number"] = _shown
    template = page.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return write_text(run / "report.html", template.render(**page_content(run)))


def page_content(run: RunFolder) -> dict[str, Any]:
    """Everything the page shows, as plain values."""
    state = run.state
    return {
        "name": str(run),
        "label": model_label(state.get("model", {})),
        "model": flat_numbers(state.get("model", {})),
        "version": state.get("kit_version", ""),
        "funnels": build_funnels(run),
        "reasons": _REASONS,
        "tasks": sample_tasks(run),
        "figures": _figures(run),
        "results": [_numbers(name, found) for name, found in run.all_results().items()],
        "scorecard": scorecard_html(run),
        "usage": _usage_rows(state.get("usage", {})),
        "parameters": state.get("parameters", {}),
        "files": _links(run),
        "notebooks": [Link(f"notebooks/{path.name}", path.stem) for path in run.find("notebooks/[0-9]*.ipynb")],
    }


def model_label(model: Mapping[str, Any]) -> str:
    """One sentence on who wrote the machine's text, so that nobody takes a small model's work for a large one's."""
    if not model:
        return "No model has been called in this folder yet."
    name = str(model.get("model", "unknown"))
    small = " It has 135 million parameters: much of what it writes is wrong." if "135M" in name else ""
    scripted = " It is a script with canned answers, for tests only." if "scripted" in name.lower() else ""
    replayed = " Every answer came from the store; no model was called." if model.get("replayed") else ""
    return f"All machine-written text on this page was written by {name}.{small}{scripted}{replayed}"


def sample_tasks(run: RunFolder, count: int = SAMPLE_TASKS) -> list[InstanceRow]:
    """`count` tasks with their instances, spread evenly over the file; instructions alone while there are no instances."""
    if (run / ALL_INSTANCES).is_file():
        rows = load_records(run / ALL_INSTANCES, InstanceRow)
    elif (run / INSTRUCTIONS).is_file():
        records = load_records(run / INSTRUCTIONS, MachineInstruction)
        rows = [InstanceRow(instruction=record.instruction, input="", output="") for record in records]
    else:
        rows = []
    first = list({row.instruction: row for row in reversed(rows)}.values())[::-1]
    return first[:: max(1, len(first) // count)][:count]


@dataclass(frozen=True)
class Numbers:
    """What one notebook recorded: its result in a line, its plain numbers, and the nested ones as `a / b: value`."""

    notebook: str
    headline: str
    plain: dict[str, Any]
    nested: dict[str, Any]


def _numbers(notebook: str, results: Mapping[str, Any]) -> Numbers:
    found = {name: value for name, value in results.items() if name not in ("headline", "figures")}
    nested = {name: value for name, value in found.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in found.items() if name not in nested and value not in (None, "", [])}
    return Numbers(notebook, results.get("headline", ""), flat_numbers(plain), flat_numbers(nested))


def flat_numbers(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested record of results as rows `name: value`; long lists and texts are shortened."""
    if isinstance(value, Mapping):
        rows: dict[str, Any] = {}
        for name, inner in value.items():
            rows |= flat_numbers(inner, f"{prefix}{name}" if not prefix else f"{prefix} / {name}")
        return rows
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        value = f"{len(value)} rows"
    elif isinstance(value, list):
        value = ", ".join(str(_shown(item)) for item in value[:6]) + (f", ... ({len(value)})" if len(value) > 6 else "")
    return {prefix.replace("_", " "): value if not isinstance(value, str) else value[:300]}


def _shown(value: Any) -> Any:
    return show_number(value) if value is None or type(value) in (int, float) else value


def _usage_rows(usage: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = ("requests", "cached", "failed", "prompt_tokens", "completion_tokens", "cost_usd")
    rows = [{"step": step, **{name: entry.get(name) for name in names}} for step, entry in sorted(usage.items())]
    if len(rows) > 1:
        total = {name: sum(row[name] or 0 for row in rows) for name in names}
        if all(row["cost_usd"] is None for row in rows):
            total["cost_usd"] = None
        rows.append({"step": "together", **total})
    return rows


def _figures(run: RunFolder) -> list[dict[str, str]]:
    texts = {name: text for results in run.all_results().values() for name, text in _alt_texts(results).items()}
    return [
        {"href": quote(f"figures/{path.name}"), "name": path.stem, "text": texts.get(path.stem, _in_words(path.stem))}
        for path in run.find("figures/*.png")
    ]


def _alt_texts(results: Mapping[str, Any]) -> dict[str, str]:
    found = results.get("figures", {})
    return {name: str(text) for name, text in found.items()} if isinstance(found, Mapping) else {}


def _in_words(name: str) -> str:
    return name.lstrip("0123456789_").replace("_", " ").capitalize()


def _links(run: RunFolder) -> list[Link]:
    """The data files, and run.json last, with how much each holds."""
    data = [path for pattern in ("*.jsonl", "finetuning_data/*", "results/*") for path in run.find(pattern)]
    paths = [path for path in [*data, run / "run.json"] if path.is_file()]
    return [Link(path.relative_to(run.path).as_posix(), _holds(path)) for path in paths]


def _holds(path: Path) -> str:
    if path.suffix == ".jsonl":
        with path.open("rb") as lines:
            return f"{sum(1 for _ in lines):,} lines"
    return f"{path.stat().st_size / 1024:,.1f} KB"
