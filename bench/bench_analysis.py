"""The analyses on 52,002 instructions, each with an instance: notebooks 10, 12 and 13 together, and 11's parser.

    python bench/bench_analysis.py

The cells of the stored notebooks run here as they are, without a kernel; what a kernel would load first (the imports) is
loaded before the clock starts. Compiled ROUGE-L loops count as loaded, too: numba keeps them on disk after the first use.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import matplotlib
import pandas  # noqa: F401  (loaded before the clock starts)
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.table import Figure, show_table
from selfinstruct.analysis import verbs
from selfinstruct.similarity.pool import best_matches, nearest_neighbours

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared/bench/instructions_52k.jsonl.gz"
SIZE, PARSED, LIMIT = 52_002, 3_000, 20.0
VERBS = "Write Explain Name Find Describe Give Classify Sort Translate Compare".split()
THINGS = "letter story number city plant river song recipe reason word".split()


def load_texts() -> tuple[list[str], str]:
    """The real instructions, or made-up ones where they are not beside this checkout."""
    if REAL.exists():
        with gzip.open(REAL, "rt", encoding="utf-8") as lines:
            return [json.loads(line)["instruction"] for line in lines], "real instructions"
    rng = random.Random(0)
    return [
        f"{rng.choice(VERBS)} a {' '.join(rng.choices(THINGS, k=rng.randint(1, 12)))} with the number {i}."
        for i in range(SIZE)
    ], "MADE-UP instructions (the real ones are not beside this checkout)"


def write_data(folder: Path, texts: list[str]) -> Path:
    """A data set of the released form: every third input empty, outputs from one word to six instructions long."""
    rng, path = random.Random(1), folder / "instances.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for text in texts:
            given = "" if rng.random() < 0.4 else rng.choice(texts)
            answer = rng.choice(["Yes", "No", " ".join(rng.choices(texts, k=rng.randint(1, 6)))])
            out.write(json.dumps({"instruction": text, "input": given, "output": answer}) + "\n")
    return path


def run_cells(name: str, **parameters: str) -> tuple[float, float]:
    """(wall, CPU) seconds of a stored notebook's cells."""
    notebook = load_notebook_node(str(ROOT / "notebooks" / f"{name}.ipynb"))
    notebook = parameterize_notebook(notebook, parameters, kernel_name="python3", language="python")
    wall, cpu, names = time.perf_counter(), time.process_time(), {"display": print}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, name, "exec"), names)
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_parser(texts: list[str], folder: Path) -> list[Figure]:
    """What 11 takes for all instructions, from a sample: parsing them once, and reading the parses back."""
    parser, sample, cache = verbs.load_parser(), random.Random(2).sample(texts, PARSED), folder / "parses.jsonl"
    start = time.perf_counter()
    verbs.load_parses(sample, parser, cache)
    parsed, start = time.perf_counter() - start, time.perf_counter()
    verbs.load_parses(sample, parser, cache)
    read = time.perf_counter() - start
    once = f"11: parse {SIZE:,} once, at {PARSED / parsed:,.0f}/s ({parser.name} {parser.version})"
    return [
        Figure(once, SIZE * parsed / PARSED, "s"),
        Figure(f"11: read {SIZE:,} parses back, at {PARSED / read:,.0f}/s", SIZE * read / PARSED, "s"),
    ]


def main() -> None:
    matplotlib.use("Agg")
    texts, what = load_texts()
    best_matches(texts[:200], texts[:200]), nearest_neighbours(texts[:2000])  # compiled, or read from numba's cache
    with tempfile.TemporaryDirectory() as folder:
        data, figures = write_data(Path(folder), texts), []
        for name in ("10_describe_dataset", "12_measure_lengths", "13_measure_rouge_overlap"):
            wall, cpu = run_cells(name, run_dir=f"{folder}/run", data=str(data))
            figures.append(Figure(f"{name} ({cpu:.1f} s of CPU)", wall, "s"))
        figures.append(Figure("10, 12 and 13 together", sum(figure.value for figure in figures), "s", LIMIT))
        figures += measure_parser(texts, Path(folder))
    show_table("analysis", f"{len(texts):,} {what}", figures)


if __name__ == "__main__":
    main()
