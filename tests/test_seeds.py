"""The seed tasks and demonstrations this kit ships are what the method needs, and ours."""

from collections import Counter

import pytest
from helpers.notebooks import run_cells
from helpers.places import SEED_TASKS, find_published

from selfinstruct.files import PROJECT_ROOT, iter_lines
from selfinstruct.filters import filter_instances, instruction_rejection
from selfinstruct.prompts import load_prompts
from selfinstruct.records import Instance, load_seed_tasks
from selfinstruct.similarity.pool import InstructionPool

SEEDS = PROJECT_ROOT / "seeds"


@pytest.fixture(scope="module")
def tasks():
    return load_seed_tasks()


def demonstrations(name, folder=SEEDS / "prompts/ours"):
    return [value for _, value in iter_lines(folder / f"{name}_demonstrations.jsonl")]


def test_150_generation_and_25_classification_tasks(tasks):
    assert Counter(task.is_classification for task in tasks) == {False: 150, True: 25}
    assert [task.id for task in tasks] == [f"seed_task_{number}" for number in range(175)]
    assert len({task.name for task in tasks}) == 175
    assert all(len(task.instances) == 1 for task in tasks)


def test_about_a_third_without_input(tasks):
    without = [task for task in tasks if not task.instances[0].input]
    assert 50 <= len(without) <= 65
    assert not any(task.is_classification for task in without)


def test_all_pass_the_kits_own_filters(tasks):
    assert {
        task.id: instruction_rejection(task.instruction) for task in tasks if instruction_rejection(task.instruction)
    } == {}
    assert [task.id for task in tasks if filter_instances(task.instances) != task.instances] == []


def test_no_two_instructions_are_alike(tasks):
    pool = InstructionPool([task.instruction for task in tasks])
    for index, task in enumerate(tasks):
        scores = pool.scores(task.instruction)
        scores[index] = 0
        assert scores.max() <= 0.6, (task.instruction, pool.texts[int(scores.argmax())])


def test_varied_in_first_word_and_length(tasks):
    first = Counter(task.instruction.split()[0].lower() for task in tasks)
    assert len(first) >= 70 and max(first.values()) <= 12
    lengths = [len(task.instruction.split()) for task in tasks]
    assert min(lengths) <= 6 and max(lengths) >= 40
    assert sum(len(task.instances[0].input.split()) >= 100 for task in tasks) >= 8


def test_they_are_not_the_published_ones(tasks):
    pool = InstructionPool([task.instruction for task in load_seed_tasks(find_published(SEED_TASKS))])
    assert max(pool.max_score(task.instruction) for task in tasks) < 0.7


def test_classification_demonstrations(tasks):
    demos = demonstrations("classification")
    pattern = "".join("Y" if demo["is_classification"] else "N" for demo in demos)
    assert pattern == "YNNYNYNYNNYNYNYNNNNYYNNYNNYNYNN"
    labels = {task.instruction: task.is_classification for task in tasks}
    from_seed_tasks = [demo for demo in demos if demo["instruction"] in labels]
    assert len(from_seed_tasks) == 30
    assert all(labels[demo["instruction"]] == demo["is_classification"] for demo in from_seed_tasks)


def test_output_first_demonstrations():
    demos = demonstrations("output_first")
    assert [len(demo["instances"]) for demo in demos] == [3, 2, 2, 2, 2, 3, 4, 2, 2, 2, 2, 2, 3, 2, 2, 2]
    assert sum(all(not pair["input"] for pair in demo["instances"]) for demo in demos) == 2
    assert all(instruction_rejection(demo["instruction"]) is None for demo in demos)
    for demo in demos:
        instances = [Instance(input=pair["input"], output=pair["class_label"]) for pair in demo["instances"]]
        assert filter_instances(instances) == instances


def test_input_first_demonstrations():
    demos = demonstrations("input_first")
    counts = [0 if demo.get("direct") else len(demo["instances"]) for demo in demos]
    assert counts == [0, 1, 2, 0, 2, 1, 0, 2, 1, 2, 2]
    for demo in demos:
        instances = [Instance(**pair) for pair in demo["instances"]]
        assert filter_instances(instances) == instances


def test_the_templates_fit_a_small_models_context():
    templates = load_prompts()
    sizes = [len(templates.classification), len(templates.output_first), len(templates.input_first)]
    assert all(3000 < size < 8500 for size in sizes), sizes


# the short set, for a small model


def test_the_short_classification_demonstrations_are_balanced_and_labelled_as_the_seed_tasks(tasks):
    demos = demonstrations("classification", SEEDS / "prompts/short")
    assert [demo["is_classification"] for demo in demos] == [True, False] * 4
    labels = {task.instruction: task.is_classification for task in tasks}
    assert all(
        labels.get(demo["instruction"], demo["is_classification"]) == demo["is_classification"] for demo in demos
    )


def test_the_short_input_first_demonstrations_end_with_inputs_and_short_outputs():
    """A small model writes what it saw last: without an input at the end it writes none, and a long output it repeats."""
    demos = demonstrations("input_first", SEEDS / "prompts/short")
    assert len(demos) == 6
    for demo in demos[-3:]:
        assert all(one["input"] and len(one["output"].split()) <= 9 for one in demo["instances"])


def test_the_short_output_first_demonstrations_have_labels_of_few_words():
    demos = demonstrations("output_first", SEEDS / "prompts/short")
    assert len(demos) == 4
    assert all(len(one["class_label"].split()) <= 2 for demo in demos for one in demo["instances"])


@pytest.mark.parametrize("parameters", [{}, {"show_rows": 1, "random_seed": 3}])
def test_the_notebook_shows_plain_numbers(tmp_path, parameters):
    names = run_cells("01_read_seed_tasks", tmp_path, **parameters)
    assert "np." not in repr([names["overlap"], names["results"]])


# the held-out tasks


@pytest.fixture(scope="module")
def heldout_tasks():
    return [value for _, value in iter_lines(SEEDS / "heldout_tasks.jsonl")]


def test_held_out_tasks_have_the_form_of_the_paper_s_252(heldout_tasks):
    assert [task["id"] for task in heldout_tasks] == [f"heldout_task_{number}" for number in range(len(heldout_tasks))]
    assert len(heldout_tasks) >= 250
    for task in heldout_tasks:
        assert task.keys() == {"id", "motivation_app", "instruction", "instances"}
        assert [one.keys() for one in task["instances"]] == [{"input", "output"}]
        assert all(text == text.strip() for text in (task["instruction"], *task["instances"][0].values()))
        assert task["instruction"] and task["instances"][0]["output"]


def test_two_thirds_of_the_held_out_tasks_have_an_input(heldout_tasks):
    assert sum(bool(task["instances"][0]["input"]) for task in heldout_tasks) / len(heldout_tasks) == pytest.approx(
        2 / 3, abs=0.03
    )


def test_held_out_tasks_are_near_no_seed_task_and_not_near_one_another(tasks, heldout_tasks):
    pool = InstructionPool([task.instruction for task in tasks])
    for task in heldout_tasks:
        assert pool.max_score(task["instruction"]) < 0.5, task["id"]
        pool.add(task["instruction"])
