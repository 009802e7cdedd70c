"""report.html: one page of a run folder that opens from disk, with links to everything that the run wrote.

    write_report(RunFolder("outputs/run"))      # -> Path("outputs/run/report.html")

It is made from the folder's files alone, without dates: equal folders give equal pages. All text of models is escaped.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..data.datasets import load_dataset
from ..data.rows import Row
from ..display import count_of, show_number
from ..files import InputError, iter_lines, write_text
from ..paper.scorecard import scorecard_html
from ..runfolder import ALL_INSTANCES, INSTRUCTIONS, REJECTIONS, REPORT, SPENT, RunFolder

TEMPLATE = Path(__file__).with_name("report.html.jinja")
KINDS: tuple[Callable[[Row], Any], ...] = (  # of tasks, in the order in which the page shows them
    lambda row: row.input,
    lambda row: row.output and not row.input,
    lambda row: row.is_classification,
)
REASONS = {  # the rules' names in words
    "too_similar": "too similar to one in the pool (ROUGE-L)",
    "blocked_start": "begins with a deed that no text can do",
    "cut_by_length": "cut by the token limit",
    "over_the_cap": "over five instances of one task",
}


def write_report(run: RunFolder) -> Path:
    """Write `report.html` from the files in the run folder; returns its path. Raises InputError if it cannot be written."""
    import jinja2

    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    page.filters |= {"number": show_number, "count": count_of}
    template = page.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return write_text(run / REPORT, template.render(**build_page(run)))


def build_page(run: RunFolder) -> dict[str, Any]:
    """Everything the page shows, as plain values."""
    state, results = run.state, run.all_results()
    # the data files, and run.json last
    paths = [path for pattern in ("*.jsonl", "finetuning_data/*", "results/*", "*.json") for path in run.find(pattern)]
    return {
        "name": str(run),
        "label": label_model(state.get("model", {})),
        "model": flatten_numbers(state.get("model", {})),
        "version": state.get("kit_version", ""),
        "funnels": build_funnels(run),
        "reasons": REASONS,
        "tasks": sample_tasks(run),
        "figures": _list_figures(run, results),
        "results": [_build_card(name, found) for name, found in results.items()],
        "scorecard": scorecard_html(run),
        "usage": _add_up_usage(state.get("usage", {})),
        "parameters": state.get("parameters", {}),
        "spent": _link(run, run / SPENT, SPENT) if (run / SPENT).is_file() else None,
        "files": [_link(run, path, _measure_file(path)) for path in paths if path.is_file() and path.name != SPENT],
        "notebooks": [_link(run, path, path.stem) for path in run.find("notebooks/[0-9]*.ipynb")],
    }


def label_model(model: Mapping[str, Any]) -> str:
    """One sentence on who wrote the machine's text, so that nobody takes a small model's work for a large one's."""
    if not model:
        return "No model has been called in this folder yet."
    name = str(model.get("model", "unknown"))
    small = " It has 135 million parameters: much of what it writes is wrong." if "135M" in name else ""
    scripted = " It is a script with canned answers, for tests only." if "scripted" in name.lower() else ""
    return f"All machine-written text on this page was written by {name}.{small}{scripted}"


@dataclass(frozen=True)
class Funnel:
    """What became of the candidates of one step: candidates = accepted + dropped, always."""

    title: str
    asked: str
    accepted: int
    accepted_name: str
    dropped: dict[str, int]
    note: str = ""

    @property
    def candidates(self) -> int:
        return self.accepted + sum(self.dropped.values())

    def line(self) -> str:
        """The funnel as the terminal shows it."""
        dropped = ", ".join(f"{reason} {count}" for reason, count in self.dropped.items())
        tail = f" - {sum(self.dropped.values())} dropped ({dropped})" if dropped else ""
        asked = f"{self.asked}, " if self.asked else ""
        accepted = count_of(self.accepted_name, self.accepted)
        return f"{self.title}: {asked}{count_of('candidate', self.candidates)}{tail} = {accepted}"


def build_funnels(run: RunFolder) -> list[Funnel]:
    """The funnels of step 1 (instructions) and step 4 (instances), as far as the folder holds them."""
    rejections, odd = _read_rows(run / REJECTIONS)
    counts = Counter((str(row.get("step", ""))[:1], str(row.get("reason"))) for row in rejections).most_common()
    dropped = {step: {reason: count for (of, reason), count in counts if of == step} for step in ("1", "4")}
    funnels = []
    if (run / INSTRUCTIONS).is_file():
        accepted, problem = _read_rows(run / INSTRUCTIONS)
        name = "02_generate_instructions"
        number = run.results(name).get("requested") or run.state.get("usage", {}).get(name, {}).get("requests")
        asked = count_of("request", number) if number else ""
        funnels.append(Funnel("Step 1", asked, len(accepted), "instruction", dropped["1"], problem or odd))
    if (run / ALL_INSTANCES).is_file():
        rows, problem = _read_rows(run / ALL_INSTANCES)
        tasks = len({str(row.get("instruction")) for row in rows})
        name = f"instance of {count_of('instruction', tasks)}"
        note = problem or odd or _describe_faults(run)
        funnels.append(Funnel("Step 4", "", len(rows), name, dropped["4"], note))
    return funnels


def _read_rows(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The rows of a file up to the first line that cannot be read, and a sentence on that one: a page that is only to be
    looked at does not fail for what others wrote into the folder."""
    rows: list[dict[str, Any]] = []
    try:
        for _, row in iter_lines(path) if path.is_file() else ():
            rows.append(row)
    except InputError as error:
        return rows, f"Not read from here on: {error}."
    return rows, ""


def _describe_faults(run: RunFolder) -> str:
    """What notebook 05 counted in the instances before any filter, in a sentence; "" where it counted nothing."""
    faults = dict(run.results("05_filter_and_export").get("quality", {}))
    instances = faults.pop("instances", 0)
    counted = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in faults.items())
    return f"Of {count_of('instance', instances)}, before any filter: {counted}." if instances else ""


def sample_tasks(run: RunFolder, count: int = 12, random_seed: int = 42) -> list[Row]:
    """`count` tasks at random, of each kind at least one where there is one; instructions alone before there are instances.

    The kinds: with an input, without one, classification. No instruction comes twice.
    """
    parts = {ALL_INSTANCES: "instances", INSTRUCTIONS: "instructions"}
    part = next((part for name, part in parts.items() if (run / name).is_file() and (run / name).stat().st_size), None)
    try:
        rows = load_dataset(run, part).rows if part else []
    except InputError:  # an odd row is named by the analyses; the report still shows the rest of the run
        rows = []
    random.Random(random_seed).shuffle(rows)
    chosen: list[Row] = []
    for is_kind in KINDS:
        if not any(map(is_kind, chosen)):
            taken = {row.instruction for row in chosen}
            chosen += [row for row in rows if is_kind(row) and row.instruction not in taken][:1]
    first: dict[str, Row] = {}
    for row in chosen + rows:
        first.setdefault(row.instruction, row)
    return list(first.values())[:count]


def _build_card(notebook: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """What one notebook recorded: its result in a line, its plain numbers, and the nested ones as `a / b: value`."""
    found = {name: value for name, value in results.items() if name not in ("headline", "figures")}
    nested = {name: value for name, value in found.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in found.items() if name not in nested and value not in (None, "", [])}
    card = {"notebook": notebook, "headline": results.get("headline", "")}
    return {**card, "plain": flatten_numbers(plain), "nested": flatten_numbers(nested)}


def flatten_numbers(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested record of results as rows `name: value`; long lists and texts are shortened."""
    if isinstance(value, Mapping):
        rows: dict[str, Any] = {}
        for name, inner in value.items():
            rows |= flatten_numbers(inner, f"{prefix} / {name}" if prefix else name)
        return rows
    if isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        value = count_of("row", len(value))
    elif isinstance(value, list):
        value = ", ".join(map(show_number, value[:6])) + (f", ... ({len(value)})" if len(value) > 6 else "")
    return {prefix.replace("_", " "): value[:300] if isinstance(value, str) else value}


def _add_up_usage(usage: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each step, and one for all together if there are several; the cost is None without a price."""
    names = ("requests", "failed", "prompt_tokens", "completion_tokens", "cost_usd")
    rows = [{"step": step, **{name: entry.get(name) for name in names}} for step, entry in sorted(usage.items())]
    if len(rows) < 2:
        return rows
    columns = {name: [row[name] for row in rows if row[name] is not None] for name in names}
    return [*rows, {"step": "together", **{name: sum(column) if column else None for name, column in columns.items()}}]


def _list_figures(run: RunFolder, results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Links to the figures, with the texts that their notebooks recorded (else their names as words) and what they show."""
    recorded = {name: found for found in results.values() for name in found.get("figures") or {}}
    figures = []
    for path in run.find("figures/*.png"):
        name, found = path.stem, recorded.get(path.stem, {})
        text = str(found["figures"][name]) if found else name.lstrip("0123456789_").replace("_", " ").capitalize()
        figures.append({**_link(run, path, text), "finding": describe_figure(name, found) or text})
    return figures


def describe_figure(name: str, results: Mapping[str, Any]) -> str:
    """What the figure shows, in numbers, for readers who cannot see it: from what its notebook recorded, "" where it has none."""
    with suppress(KeyError, TypeError, ValueError, AttributeError):  # an older kit's results, or another notebook's
        return "; ".join(FINDINGS[name](results))
    return str(results.get("headline", ""))


def _find_pairs(results: Mapping[str, Any]) -> list[str]:
    """The share with a pair, and the three commonest pairs of each data set."""
    lines = [results["headline"]]
    for name, verbs in results["pairs"].items():
        pairs = [
            (count, f"{verb} {noun} ({count:,})") for verb, nouns in verbs.items() for noun, count in nouns.items()
        ]
        top = sorted(pairs, key=lambda pair: -pair[0])[:3]
        lines.append(f"{name}, commonest: {', '.join(text for _, text in top) or 'none'}")
    return lines


def _find_lengths(results: Mapping[str, Any]) -> list[str]:
    """The medians of each data set."""
    return [
        f"{name}, median words: "
        + ", ".join(f"{part} {one['median']:g} (n = {one['count']:,})" for part, one in parts.items())
        for name, parts in results["lengths"].items()
    ]


def _find_overlap(results: Mapping[str, Any], other: str, words: str) -> list[str]:
    return [
        f"{name}, best ROUGE-L with {words}: mean {one['mean']:.2f}, largest {one['max']:.2f}, "
        f"{one['share_above']:.1%} above the threshold (n = {one['count']:,})"
        for name, one in results[other].items()
    ]


def _find_ratios(results: Mapping[str, Any]) -> list[str]:
    """How many findings came out as published, and each ratio of the figure."""
    rows = [row for row in results["scorecard"] if row["interval"] and row["published"]]
    ratios = [
        f"{row['what']}: {row['ours'] / row['published']:.2f} of the published ({row['verdict']})" for row in rows
    ]
    return [results["headline"].partition(";")[0], *ratios]


FINDINGS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {  # figure -> what it shows
    "verb_nouns": _find_pairs,
    "lengths": _find_lengths,
    "rouge_overlap_seeds": lambda results: _find_overlap(results, "with_seeds", "any seed task"),
    "rouge_overlap_others": lambda results: _find_overlap(results, "with_others", "any other instruction"),
    "scorecard": _find_ratios,
}


def _link(run: RunFolder, path: Path, text: str) -> dict[str, str]:
    name = path.relative_to(run.path).as_posix()
    return {"href": quote(name), "name": name, "text": text}


def _measure_file(path: Path) -> str:
    if path.suffix == ".jsonl":
        with path.open("rb") as lines:
            return count_of("line", sum(1 for _ in lines))
    return f"{path.stat().st_size / 1024:,.1f} KB"
