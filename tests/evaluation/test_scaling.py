"""Sizes and curves: nested samples of a run's own file, better outputs, trainings that go on, the figure and the scorecard's rows."""

from __future__ import annotations

import doctest
import hashlib
import json
from types import SimpleNamespace

import pytest
from helpers.clients import ScriptedClient, completion
from helpers.notebooks import read_results, run_cells

from selfinstruct.data.tasks import TrainingRow, find_task, number_rows
from selfinstruct.evaluation import curve, scaling
from selfinstruct.evaluation.curve import (
    match_published,
    pair_points,
    plot_published,
    plot_scaling,
    tabulate_points,
)
from selfinstruct.evaluation.scaling import (
    build_output_requests,
    choose_sizes,
    count_generated,
    find_points,
    load_scaling_rows,
    open_scaling,
    open_trainings,
    plan_points,
    read_outputs,
)
from selfinstruct.files import PROJECT_ROOT, InputError, ParameterError, write_json, write_records
from selfinstruct.models.spending import Usage
from selfinstruct.paper.scorecard import find_ours
from selfinstruct.paper_numbers import paper_number
from selfinstruct.runfolder import FINETUNING, RunFolder

EXAMPLE = RunFolder(PROJECT_ROOT / "outputs/example")


def make_rows(tasks=20, seeds=5):
    """Two rows of each generated instruction, one of each seed task, mixed as an export mixes them."""
    generated = [
        TrainingRow(f"Name river {k}.", f"of land {n}", f"River {k}", f"Name river {k}.\nInput: of land {n}\nOutput:",
                    f" River {k}<|endoftext|>")
        for n in range(2) for k in range(tasks)
    ]  # fmt: skip
    ours = [
        TrainingRow(f"Seed {k}.", "", "Yes", f"Seed {k}.\n\n", "Yes<|endoftext|>", is_seed=True) for k in range(seeds)
    ]
    return number_rows([*generated[:7], *ours, *generated[7:]])


def instructions_of(point):
    return {row.prompt.partition("\n")[0] for row in point.rows}


def test_the_worked_examples():
    assert doctest.testmod(scaling).failed == doctest.testmod(curve).failed == 0


# the data


def test_the_largest_size_is_the_runs_own_file_and_the_smallest_its_seed_tasks(tmp_path):
    rows, _ = load_scaling_rows(EXAMPLE)
    points = plan_points(rows, choose_sizes([0, 0.5, 1], count_generated(rows)))
    written = points[-1].write(RunFolder(tmp_path))
    trained, generated = (
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (written, EXAMPLE.require(FINETUNING))
    )
    assert trained == generated
    assert len(points[0].rows) == sum(row.is_seed for row in rows) and points[0].size == 0
    assert points[-1].instructions == len({find_task(row) for row in rows})


def test_samples_are_nested_whole_instructions_and_seeded():
    rows = make_rows()
    points = plan_points(rows, [0, 5, 10, 20], random_seed=1)
    seen = [instructions_of(point) for point in points]
    assert seen[0] < seen[1] < seen[2] < seen[3] and [len(one) for one in seen] == [5, 10, 15, 25]
    assert [len(point.rows) for point in points] == [5, 15, 25, 45]  # both rows of each instruction
    assert [point.instructions for point in points] == [5, 10, 15, 25]
    assert [point.column for point in points] == ["size_0", "size_5", "size_10", "size_20"]
    again, other = (plan_points(rows, [0, 5, 10, 20], random_seed=seed) for seed in (1, 2))
    assert again == points and instructions_of(other[1]) != seen[1] and other[3].rows == points[3].rows


def test_a_run_that_was_exported_without_seed_tasks_gets_them(tmp_path):
    path = write_records(
        tmp_path / "mine.jsonl", [{"instruction": f"Name river {k}.", "output": "Po"} for k in range(4)]
    )
    rows, facts = load_scaling_rows(RunFolder(tmp_path / "run"), str(path))
    assert count_generated(rows) == 4 and sum(row.is_seed for row in rows) == 175 and facts["source"] == "mine.jsonl"
    assert all(row.prompt and row.completion.endswith("<|endoftext|>") for row in rows)


def test_a_file_of_seed_tasks_alone_has_no_size(tmp_path, monkeypatch):
    monkeypatch.setattr(
        scaling, "load_training_rows", lambda *_: ([row for row in make_rows() if row.is_seed], {"source": "x"})
    )
    with pytest.raises(InputError, match="x: no generated rows in it; 05_filter_and_export writes them"):
        load_scaling_rows(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([0, 0.25, 0.5, 1], [0, 14, 28, 55]),
        ([500, 0], None),
        ([0, 55], [0, 55]),
        ([10.0, 0, 0], [0, 10]),
        ([1, 0.999], None),
    ],
)
def test_sizes_are_shares_or_numbers(sizes, chosen):
    if chosen:
        assert choose_sizes(sizes, 55) == chosen
    else:
        with pytest.raises(ParameterError, match=r"sizes: 500 is not between 0 and the 55|one training is no curve"):
            choose_sizes(sizes, 55)


@pytest.mark.parametrize("sizes", [[-1, 0], [], [0], [0, 0], [float("nan"), 1]])
def test_sizes_that_are_none_are_refused(sizes):
    with pytest.raises(ParameterError, match="sizes"):
        choose_sizes(sizes, 55)


# better outputs


def test_a_stronger_model_is_asked_for_the_output_of_each_generated_instance():
    rows = make_rows(tasks=2, seeds=1)
    requests = build_output_requests(rows, 64)
    assert [one.prompt for one in requests[:2]] == [
        "Name river 0.\n\nInput: of land 0\nOutput:",
        "Name river 1.\n\nInput: of land 0\nOutput:",
    ]
    assert len(requests) == 4 and {(one.max_tokens, one.temperature, one.as_message) for one in requests} == {
        (64, 0.0, True)
    }


def test_better_outputs_replace_those_of_generated_rows_alone():
    rows = make_rows(tasks=4, seeds=1)
    outputs = read_outputs(
        rows,
        [completion(" Rhine\n")] * 5 + [completion("cut", "length"), completion(" "), completion("", "error", "down")],
    )
    assert len(outputs) == 5
    points = {point.column: point for point in plan_points(rows, [0, 2, 4], outputs=outputs)}
    assert list(points) == ["size_0", "size_2", "size_4", "better_2", "better_4"]
    better = points["better_4"].rows
    assert [row.completion for row in better if row.prompt.startswith("Name")] == [" Rhine<|endoftext|>"] * 5
    assert [row for row in better if row.prompt.startswith("Seed")] == list(points["size_0"].rows)
    assert instructions_of(points["better_2"]) <= instructions_of(points["size_2"])


# training and judging, on a model of two layers


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A run folder with ten generated instructions, and small weights to train."""
    for library in ("torch", "transformers", "peft", "gguf"):
        pytest.importorskip(library, reason="make finetune brings it")
    from helpers.tiny_model import write_tiny_gguf

    monkeypatch.setattr("selfinstruct.training.weights.CACHE", tmp_path / "weights")
    monkeypatch.setattr(scaling, "load_scaling_rows", lambda *_: (make_rows(tasks=10), {"source": "mine", "notes": []}))
    return write_tiny_gguf(tmp_path / "tiny.gguf"), RunFolder(tmp_path / "run")


def states(trainings):
    return {(one.column, one.training_seed): one.progress.state for one in trainings.planned}


def test_all_sizes_have_equal_updates_or_equal_epochs(tiny):
    base, run = tiny
    points = open_scaling(run, sizes=[0, 1]).plan_points()
    equal = open_trainings(run, points, base_model=str(base), epochs=2)
    assert len({one.settings.steps for one in equal.planned}) == 1
    assert equal.planned[1].settings.steps == len(equal.planned[1].settings.plan(equal.rows["size_10"]))
    assert {one.settings.steps for one in open_trainings(run, points, base_model=str(base), steps=7).planned} == {7}
    smallest, largest = (
        one.settings.steps for one in open_trainings(run, points, base_model=str(base), equal="epochs").planned
    )
    assert 0 < smallest < largest == equal.planned[1].settings.steps


def test_a_size_that_is_trained_is_not_trained_again_and_a_new_one_is_added(tiny):
    base, run = tiny
    how = {"base_model": str(base), "steps": 2, "rank": 2}
    first = open_trainings(run, open_scaling(run, sizes=[0, 1]).plan_points(), [1], **how)
    with pytest.raises(InputError, match=r"size_0/1/training\.json: no such file"):
        find_points(first)
    first.train()
    assert [(one.name, one.adapters[0].record["train_file"]["rows"]) for one in find_points(first)] == [
        ("size_0", 5),
        ("size_10", 25),
    ]
    later = open_trainings(run, open_scaling(run, sizes=[0, 0.5, 1]).plan_points(), [1, 2], **how)
    done = [key for key, state in states(later).items() if state == "finished"]
    assert done == [("size_0", 1), ("size_10", 1)] and len(later.planned) == 6
    assert list(states(later))[:3] == [("size_0", 1), ("size_5", 1), ("size_10", 1)]  # a whole curve first


def test_a_point_without_a_gguf_file_is_known_by_its_weights(tmp_path):
    planned = []
    for seed in (1, 2):
        folder = tmp_path / f"size_0/{seed}"
        write_json(folder / "training.json", {})
        (folder / "peft").mkdir()
        (folder / "peft/adapter_model.safetensors").write_bytes(bytes([seed]))
        planned.append(SimpleNamespace(column="size_0", out_dir=folder))
    [point] = find_points(SimpleNamespace(planned=planned))
    assert len({one.sha256 for one in point.adapters}) == 2 and all(one.sha256 for one in point.adapters)


@pytest.mark.parametrize("wrong", [{"equal": "rows"}, {"training_seeds": []}])
def test_trainings_that_cannot_be_are_refused(tmp_path, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        open_trainings(RunFolder(tmp_path), plan_points(make_rows(), [0, 5]), **wrong)


class StrongerModel(ScriptedClient):
    """A client that is opened and closed, and says what it came to."""

    keys, usage = (), Usage()

    def __init__(self):
        super().__init__(lambda request, number: completion(" A better river"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def describe(self):
        return {"model": "gpt-9"}


@pytest.mark.slow
def test_the_notebook_draws_both_curves_and_goes_on_with_what_is_there(tiny, monkeypatch):
    base, run = tiny
    asked = []

    monkeypatch.setattr("selfinstruct.models.connect", lambda model, **_: asked.append(model) or StrongerModel())
    tasks = write_records(run.path.parent / "own.jsonl", [
        {"instruction": f"Name river {k}.", "input": "", "output": f"River {k}"} for k in (3, 30, 31, 32)
    ])  # fmt: skip
    given = {
        "base_model": str(base),
        "sizes": [0, 1],
        "steps": 2,
        "rank": 2,
        "tasks": str(tasks),
        "better_model": "gpt-9",
    }
    run_cells("16_scale_data", run.path, **given)
    found = read_results(run.path, "16_scale_data")
    assert [row["column"] for row in found["points"]] == ["size_0", "size_10", "better_10"] and asked == ["gpt-9"]
    assert {row["pair"] for row in found["differences"]} == {"size_10 - size_0", "better_10 - size_10"}
    assert found["better_outputs"] == 20 and found["rated_a"] == {} and set(found["updates"].values()) == {2}
    assert found["n_tasks"] == 3  # the task that was trained on is left out
    assert (
        found["headline"].startswith("size_10 minus size_0:")
        and found["minimum_detectable_difference"]["bits_per_byte"] > 0
    )
    assert (run / "figures/scale_data.svg").is_file()
    written = {path: path.stat().st_mtime_ns for path in run.find("scaling/*/*/adapter.gguf")}
    run_cells("16_scale_data", run.path, **given)
    again = read_results(run.path, "16_scale_data")
    assert again == found and {path: path.stat().st_mtime_ns for path in written} == written and len(written) == 3


# the curve


POINTS = plan_points(make_rows(), [0, 5, 20], outputs={row.id: "Po" for row in make_rows() if not row.is_seed})
SUMMARY = {
    point.column: {"bits_per_byte": 2 - point.size / 40, "intervals": {"bits_per_byte": [1.0, 3.0]}} for point in POINTS
}
RECORDS = [
    {"measure": "bits_per_byte", "a": "size_5", "b": "size_0", "low": -0.2, "high": -0.05},
    {"measure": "bits_per_byte", "a": "size_20", "b": "size_0", "low": -0.6, "high": -0.4},
    {"measure": "bits_per_byte", "a": "better_20", "b": "size_20", "low": -0.1, "high": 0.1},
]


def test_each_size_is_compared_with_the_smallest_and_better_outputs_with_their_own_size():
    assert pair_points(POINTS) == [
        ("size_5", "size_0"),
        ("size_20", "size_0"),
        ("better_5", "size_5"),
        ("better_20", "size_20"),
    ]
    assert pair_points(plan_points(make_rows(), [5, 20])) == [("size_20", "size_5")]


def test_a_row_a_point_with_its_interval_and_that_of_its_difference():
    rows = {row["column"]: row for row in tabulate_points(POINTS, SUMMARY, RECORDS)}
    assert (rows["size_5"]["instructions"], rows["size_5"]["rows"], rows["size_5"]["curve"]) == (10, 15, "own")
    assert (
        rows["size_5"]["bits_per_byte_paired"] == pytest.approx([1.8, 1.95])
        and rows["size_0"]["bits_per_byte_paired"] is None
    )
    assert rows["better_20"]["bits_per_byte_paired"] == pytest.approx([1.4, 1.6])  # from the mean of size_20
    assert json.loads(json.dumps(rows))["size_20"]["bits_per_byte_interval"] == [1.0, 3.0]


def draw(function, *arguments):
    from matplotlib.figure import Figure

    return function(*arguments, Figure().subplots())


def test_the_published_points_are_those_of_the_paper():
    ax = draw(plot_published)
    curve, best = ax.lines
    assert list(curve.get_xdata()) == [175, 1000, 16_000, 52_445] and list(curve.get_ydata()) == [
        31.0,
        36.9,
        43.7,
        44.4,
    ]
    assert list(best.get_ydata()) == [54.4] and ax.get_xscale() == "log" and "(%)" in ax.get_ylabel()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["175", "1K", "16K", "52K"]


def test_our_curve_has_the_intervals_of_the_paired_differences():
    rows = tabulate_points(POINTS, SUMMARY, RECORDS)
    lines = {line.get_label(): line for line in draw(plot_ours, rows).lines}
    own, better = lines["outputs as generated"], lines["outputs of a stronger model"]
    assert list(own.get_xdata()) == [5, 10, 25] and list(own.get_ydata()) == [2.0, 1.875, 1.5]
    assert list(better.get_xdata()) == [10, 25]
    bars = [list(line.get_ydata()) for line in draw(plot_ours, rows).lines if list(line.get_xdata()) == [25, 25]]
    assert bars == [pytest.approx([1.4, 1.6]), pytest.approx([1.4, 1.6])]
    alone = draw(plot_ours, rows[:3])
    assert alone.get_ylabel() == "bits per byte" and alone.get_xlabel() == "instructions trained on"


def test_the_figure_has_a_panel_a_measure_and_names_both_curves_once():
    rows = tabulate_points(POINTS, SUMMARY, RECORDS)
    figure = curve.Curve(POINTS, rows, RECORDS, "Ours: tiny").draw()
    published, ours = figure.axes
    assert published.get_legend() is not None and len(ours.get_legend().get_texts()) == 2
    assert len(curve.Curve(POINTS, rows[:3], RECORDS, "Ours: tiny").draw().axes) == 2


def plot_ours(rows, ax):
    return plot_scaling(rows, "bits_per_byte", ax, "bits per byte")


# the scorecard


def rate(column, share=0.4):
    return {column: {"rated": 60, "shares": {"A": {"share": share, "interval": [0.3, 0.5]}}}}


def test_only_a_persons_ratings_of_these_points_fill_the_rows_of_fig_7():
    points = [scaling.Point("own", 0, 175, ()), scaling.Point("own", 900, 1075, ()), scaling.Point("own", 54, 229, ()),
              scaling.Point("better", 52_000, 52_175, ())]  # fmt: skip
    rated = {
        **rate("size_0-42", 0.31),
        **rate("size_900"),
        **rate("size_54"),
        **rate("better_52000", 0.5),
        **rate("davinci"),
    }
    found = match_published(points, {"rated": {"person": rated}})
    assert {key: one["share"] for key, one in found.items()} == {"175": 0.31, "1000": 0.4, "better_outputs": 0.5}
    assert match_published(points, {}) == {} and match_published(points, {"rated": {"model": rated}}) == {}
    number = paper_number("fig7.175")
    ours = find_ours(
        number, {"16_scale_data": {"rated_a": found}, "15_rate_responses": {"rated": {"person": rated}}}, "run"
    )
    assert (ours.value, ours.interval, ours.count) == (pytest.approx(31.0), (30.0, 50.0), 60)
    assert find_ours(paper_number("fig7.16k"), {"16_scale_data": {"rated_a": found}}, "run").value is None
    for id in ("fig7.175", "fig7.1k", "fig7.16k", "fig7.52k", "fig7.better_outputs"):
        assert paper_number(id).ours.results == "16_scale_data"
