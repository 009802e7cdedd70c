"""Values of parameters: what no notebook can work with is refused before anything runs; what one can work with is not."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from selfinstruct.cli import main
from selfinstruct.files import PROJECT_ROOT, EndpointError, InputError, ParameterError, write_json
from selfinstruct.models.protocol import APIS
from selfinstruct.paper import release as paper
from selfinstruct.parsing import check_quirks
from selfinstruct.prompts import load_prompts
from selfinstruct.runfolder import NOTEBOOKS_DIR
from selfinstruct.runner.parameters import (
    CHOICES,
    FILES,
    RANGES,
    Parameter,
    check_prerequisites,
    check_value,
    load_parameters,
    notebook_parameters,
    place_paths,
)


def declared() -> dict[str, list[Parameter]]:
    """name -> the parameter as each notebook of the kit declares it."""
    found: dict[str, list[Parameter]] = {}
    for path in sorted(NOTEBOOKS_DIR.glob("[0-9]*.ipynb")):
        for parameter in notebook_parameters(path).values():
            found.setdefault(parameter.name, []).append(parameter)
    return found


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("api", "chatt", "api='chatt': choose one of completions, chat, batch, batch-completions"),
        ("quirks", "fixxed", "quirks='fixxed': choose one of published, fixed"),
        ("prompt_set", "paper", "prompt_set='paper': choose one of alpaca, chat"),
        ("prompt_source", "ours", 'unknown parameter "prompt_source" of'),
        (
            "requests_per_round",
            "4",
            "requests_per_round is no parameter any more: a prompt set says it, with `rounds: {",
        ),
        ("prompt_set", "germann", "prompt_set='germann': did you mean \"german\"?"),
        ("rouge_threshold", "-3", "rouge_threshold=-3.0: must be from 0 to 1"),
        ("temperature", "9", "temperature=9.0: must be from 0 to 2"),
        ("concurrency", "0", "concurrency=0: must be at least 1"),
        ("num_instructions_to_generate", "-5", "num_instructions_to_generate=-5: must be at least 1"),
        ("random_seed", "-1", "random_seed=-1: must be at least 0"),
        ("max_cost_usd", "-0.5", "max_cost_usd=-0.5: must be at least 0"),
        ("base_url", "localhost", "base_url='localhost': give an address such as"),
        ("price_table", "none.json", "price_table='none.json': no such file, from here or from the project's"),
        ("sampling", '{"top_pp": 0.9}', 'unknown parameter "top_pp" of sampling; did you mean "top_p"?'),
        ("sampling", '{"top_p": 90}', "top_p=90: must be from 0 to 1"),
    ],
)
def test_a_value_that_cannot_work_is_one_line_and_nothing_is_written(tmp_path, name, value, message):
    for only in ([], ["--estimate"]):
        done = CliRunner().invoke(main, ["run", "--run-dir", str(tmp_path / "run"), "-p", name, value, *only])
        assert done.exit_code == 1
        assert done.output.startswith(f"Error: {message}") and done.output.count("\n") == 1
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("api", api) for api in APIS),
        ("min_count", "-1"),
        ("rouge_threshold", "1"),
        ("temperature", "0"),
        ("max_tokens", "0"),
        ("base_url", "vllm"),
        ("base_url", ""),
        ("seed_tasks_path", ""),
        ("sampling", '{"top_p": 1, "stop": ["\\n"], "logprobs": null, "presence_penalty": -1.5}'),
    ],
)
def test_a_value_at_the_edge_is_taken(name, value):
    for parameter in declared()[name]:
        parameter.convert(value)


@pytest.mark.parametrize("name", sorted({*CHOICES, *RANGES, *FILES} - {"top_p"}))
def test_the_table_is_of_parameters_that_there_are_and_every_default_is_allowed(name):
    assert declared()[name]
    for parameter in declared()[name]:
        check_value(name, parameter.default)


def test_every_number_that_a_notebook_takes_has_a_range():
    numbers = {name for name, each in declared().items() if each[0].type in (int, float)}
    assert numbers - set(RANGES) == set()


@pytest.mark.parametrize(("name", "check"), [("quirks", check_quirks), ("prompt_set", load_prompts)])
def test_the_code_refuses_what_the_table_refuses(name, check):
    for refuse in (check, lambda value: check_value(name, value)):
        with pytest.raises(ParameterError, match="choose one of"):
            refuse("no such")


def test_a_file_that_is_there_is_taken(tmp_path):
    path = write_json(tmp_path / "prices.json", {})
    check_value("price_table", str(path))
    with pytest.raises(InputError, match="no such file"):
        check_value("price_table", str(tmp_path / "other.json"))


def test_relative_paths_are_looked_for_here_first(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    for name in ("a.jsonl", "b.jsonl", "p.json", "seeds.jsonl", "m.gguf", "mine/c.jsonl"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "embedded").mkdir()  # no model
    monkeypatch.chdir(tmp_path)
    given = {
        "data": "a.jsonl, b.jsonl", "price_table": "p.json", "seed_tasks_path": "./seeds.jsonl", "model": "m.gguf",
        "store": "outputs/responses.sqlite", "top_p": 0.5, "prompt_set": "mine/",
    }  # fmt: skip
    assert place_paths(given) == {
        "data": f"{tmp_path}/a.jsonl,{tmp_path}/b.jsonl", "price_table": f"{tmp_path}/p.json",
        "seed_tasks_path": f"{tmp_path}/seeds.jsonl", "model": f"{tmp_path}/m.gguf", "store": "outputs/responses.sqlite",
        "top_p": 0.5, "prompt_set": f"{tmp_path}/mine",
    }  # fmt: skip
    (tmp_path / "x,y.jsonl").write_text("{}")
    same = {
        "model": "embedded",
        "data": "seeds/seed_tasks.jsonl",
        "prompt_set": "ours",
        "rater": "a.jsonl",
        "seed": 3,
    }
    assert place_paths(same) == same
    assert place_paths({"data": "x,y.jsonl"}) == {"data": f"{tmp_path}/x,y.jsonl"}
    assert place_paths({"data": "mine"}) == {"data": f"{tmp_path}/mine"}


def test_from_the_project_s_root_nothing_changes(monkeypatch):
    monkeypatch.chdir(PROJECT_ROOT)
    given = {
        "data": "seeds/seed_tasks.jsonl, ./seeds",
        "seed_tasks_path": "seeds/../seeds/seed_tasks.jsonl",
        "model": "x/y",
    }
    assert place_paths(given) == given | {"data": "seeds/seed_tasks.jsonl,./seeds"}
    monkeypatch.chdir(PROJECT_ROOT / "seeds")
    assert place_paths({"data": "seed_tasks.jsonl"}) == {"data": "seeds/seed_tasks.jsonl"}  # no path of this machine


def test_a_name_of_a_notebook_of_ones_own_may_hold_anything():
    check_value("my_own", -1)
    check_value("show", "in words")


SEEDS, INSTANCES = "seed_tasks.jsonl` brings it", "instance_gen_template.py` brings it"


@pytest.fixture
def nothing_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "project_path", lambda path: tmp_path / path)
    return tmp_path / paper.FOLDER


@pytest.mark.parametrize(
    ("only", "given", "named"),
    [
        ("", [], [SEEDS, "clf_task_template.py", INSTANCES]),
        ("13", [], [SEEDS]),
        ("02,03,04", ["-p", "seed_tasks_path", "seeds/seed_tasks.jsonl"], ["clf_task_template.py", INSTANCES]),
    ],
)
def test_published_files_that_are_not_there_are_found_before_anything_runs(
    tmp_path, nothing_fetched, only, given, named
):
    choice = ["--only", only] if only else []
    done = CliRunner().invoke(
        main, ["run", "--run-dir", str(tmp_path / "run"), *choice, "-p", "prompt_set", "published", *given]
    )
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert all(name in done.output for name in named) and "not fetched; `selfinstruct fetch " in done.output
    assert not (tmp_path / "run").exists()


def test_an_altered_published_file_is_found_too_and_all_are_named_at_once(nothing_fetched):
    (nothing_fetched / "data").mkdir(parents=True)
    (nothing_fetched / "data" / "seed_tasks.jsonl").write_text("{}")
    with pytest.raises(InputError) as error:
        check_prerequisites({"prompt_set": "published", "seed_tasks_path": ""})
    assert "altered; `selfinstruct fetch seed_tasks.jsonl`" in str(error.value) and INSTANCES in str(error.value)


def test_published_files_that_nobody_reads_may_be_missing(nothing_fetched):
    check_prerequisites({"model": "embedded", "api": "batch"})
    check_prerequisites({"prompt_set": "ours", "seed_tasks_path": ""})


def test_a_notebook_that_takes_a_prompt_set_loads_its_prompts():
    paths = sorted(NOTEBOOKS_DIR.glob("[0-9]*.ipynb"))
    taking = [path for path in paths if "prompt_set" in notebook_parameters(path)]
    loading = ("load_prompts(prompt_s", "find_seeds(d.run, prompt_set", "used = prompt_set or")
    assert len(taking) >= 7 and all(any(call in path.read_text() for call in loading) for path in taking)


@pytest.mark.parametrize("api", ["batch", "batch-completions"])
def test_a_batch_job_of_the_embedded_model_is_refused_before_anything_runs(tmp_path, api):
    done = CliRunner().invoke(main, ["run", "--run-dir", str(tmp_path / "run"), "-p", "api", api])
    assert done.exit_code == 1
    assert done.output == f"Error: api='{api}': the embedded model has no batch jobs; use completions\n"
    assert not (tmp_path / "run").exists()


def test_a_model_file_that_is_not_there_is_refused_and_a_served_model_is_not_asked():
    with pytest.raises(EndpointError, match="no such file"):
        check_prerequisites({"model": "none.gguf", "concurrency": 4})
    served = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "api": "batch", "concurrency": 4}
    check_prerequisites(served)
    check_prerequisites({**served, "model": "", "rater_model": ""})


def test_brackets_without_end_are_refused_in_one_line(tmp_path):
    path = tmp_path / "deep.yaml"
    path.write_text("sampling: " + "[" * 5000)
    with pytest.raises(InputError, match="recursion"):
        load_parameters(path)
    with pytest.raises(ParameterError, match="sampling takes a dict"):
        declared()["sampling"][0].convert("[" * 200_000)


def test_data_of_the_current_folder_is_not_taken_from_the_notebooks_own(tmp_path, monkeypatch):
    """A notebook runs in its folder, and looks for data there first."""
    monkeypatch.chdir(PROJECT_ROOT)
    assert place_paths({"data": "README.md"}) == {"data": "README.md"}
    monkeypatch.setattr("selfinstruct.runner.parameters.project_path", lambda path: tmp_path / path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()
    for place in (tmp_path, tmp_path / "notebooks"):
        (place / "rows.jsonl").write_text("{}")
    assert place_paths({"data": "rows.jsonl"}) == {"data": str(tmp_path / "rows.jsonl")}
