"""Values of parameters: what no notebook can work with is refused before anything runs; what one can work with is not."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from selfinstruct.cli import main
from selfinstruct.completion import APIS
from selfinstruct.parameters import CHOICES, FILES, RANGES, Parameter, check_value, notebook_parameters
from selfinstruct.parsing import check_quirks
from selfinstruct.prompts import find_seed_tasks
from selfinstruct.records import InputError, ParameterError, write_json
from selfinstruct.runner import NOTEBOOKS_DIR


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
        ("prompt_source", "paper", "prompt_source='paper': choose one of ours, published"),
        ("rouge_threshold", "-3", "rouge_threshold=-3.0: must be from 0 to 1"),
        ("temperature", "9", "temperature=9.0: must be from 0 to 2"),
        ("concurrency", "0", "concurrency=0: must be at least 1"),
        ("num_instructions_to_generate", "-5", "num_instructions_to_generate=-5: must be at least 1"),
        ("random_seed", "-1", "random_seed=-1: must be at least 0"),
        ("max_cost_usd", "-0.5", "max_cost_usd=-0.5: must be at least 0"),
        ("base_url", "localhost", "base_url='localhost': give an address such as"),
        ("price_table", "none.json", "price_table='none.json': no such file; a relative path starts at the project's"),
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
        parameter.checked(value)


@pytest.mark.parametrize("name", sorted({*CHOICES, *RANGES, *FILES} - {"top_p"}))
def test_the_table_is_of_parameters_that_there_are_and_every_default_is_allowed(name):
    assert declared()[name]
    for parameter in declared()[name]:
        check_value(name, parameter.default)


def test_every_number_that_a_notebook_takes_has_a_range():
    numbers = {name for name, each in declared().items() if each[0].type in (int, float)}
    assert numbers - set(RANGES) == set()


@pytest.mark.parametrize(("name", "check"), [("quirks", check_quirks), ("prompt_source", find_seed_tasks)])
def test_the_code_refuses_what_the_table_refuses(name, check):
    for refuse in (check, lambda value: check_value(name, value)):
        with pytest.raises(ParameterError, match="choose one of"):
            refuse("no such")


def test_a_file_that_is_there_is_taken(tmp_path):
    path = write_json(tmp_path / "prices.json", {})
    check_value("price_table", str(path))
    with pytest.raises(InputError, match="no such file"):
        check_value("price_table", str(tmp_path / "other.json"))


def test_a_name_of_a_notebook_of_ones_own_may_hold_anything():
    check_value("my_own", -1)
    check_value("show", "in words")
