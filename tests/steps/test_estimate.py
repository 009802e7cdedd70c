"""The estimate: real prompts, real prices, stated approximations, and close to what a run then asks for."""

from __future__ import annotations

import json
import re
from importlib.metadata import version

import pytest
from helpers.bootstrapping import scripted_model
from helpers.notebooks import read_results
from helpers.scripted import ScriptedServer

from selfinstruct.files import PROJECT_ROOT
from selfinstruct.models.connection import connect
from selfinstruct.models.protocol import approximate_tokens
from selfinstruct.models.spending import load_price
from selfinstruct.prompts import load_prompts, request_settings
from selfinstruct.records import load_seed_tasks
from selfinstruct.steps.classification import identify_classification, parse_labels
from selfinstruct.steps.estimate import ADMITTED_PER_REQUEST, EMBEDDED_COMPLETION, STEPS, estimate_run
from selfinstruct.steps.instances import generate_instances
from selfinstruct.steps.instructions import generate_instructions

FIRST, SECOND, THIRD = STEPS
EXAMPLE = PROJECT_ROOT / "outputs/example"
TARGET = "num_instructions_to_generate"


def by_step(**settings):
    return {step.step: step for step in estimate_run(**settings).steps}


def test_a_run_asks_for_what_the_estimate_says(tmp_path):
    """The scripted model's instructions are five words long, seed tasks a dozen: a step-1 prompt holds two of them in eight.

    It calls other shares of them classification than the seed tasks have, and the two prompts of step 3 differ in length.
    """
    seeds, templates = load_seed_tasks(), load_prompts()
    with ScriptedServer(scripted_model) as server:
        with connect("scripted", server.url, store=tmp_path / "s.sqlite", concurrency=8) as client:
            rounds = list(
                generate_instructions(
                    client, seeds, request_settings("instructions", False), num_instructions_to_generate=60
                )
            )
            records = [record for round_ in rounds for record in round_.admitted]
            texts = [record.instruction for record in records]
            answers = identify_classification(client, texts, templates, request_settings("classification", False))
            labels = parse_labels(answers)
            generate_instances(client, records, labels, templates, request_settings("instances", False))
        bodies = server.bodies
    calls = sum(len(round_.requests) for round_ in rounds)
    estimated = by_step(
        parameters={FIRST: {"num_instructions_to_generate": len(records)}, SECOND: {}, THIRD: {}},
        model="scripted", admitted_per_request=len(records) / calls,
    )  # fmt: skip
    asked = {FIRST: bodies[:calls], SECOND: bodies[calls : calls + len(records)], THIRD: bodies[calls + len(records) :]}
    for step, sent in asked.items():
        assert estimated[step].calls == len(sent)
        tokens = sum(approximate_tokens(body["prompt"]) for body in sent)
        assert estimated[step].prompt_tokens == pytest.approx(tokens, rel=0.05 if step == SECOND else 0.25)
        most = sum(body["max_tokens"] for body in sent)
        assert estimated[step].most_completion_tokens == pytest.approx(most, rel=0.1)


def test_dollars_are_tokens_at_the_table_s_price_and_half_of_it_in_a_batch(tmp_path):
    table = tmp_path / "prices.json"
    table.write_text('{"as_of": "2030-01-01", "models": {"m": {"prompt": 0.15, "completion": 0.6, "batch": 0.5}}}')
    live, batch = (estimate_run(model="m", api=api, price_table=str(table)) for api in ("chat", "batch"))
    total = live.total
    assert total.cost_usd == pytest.approx((total.prompt_tokens * 0.15 + total.completion_tokens * 0.60) / 1e6)
    assert batch.total.cost_usd == pytest.approx(total.cost_usd / 2)
    assert total.cost_usd < total.most_cost_usd
    assert "m: prices of 2030-01-01." in live.table()


def test_a_set_for_a_chat_is_estimated_as_one():
    ours, chat = (
        estimate_run({"02_generate_instructions": {"prompt_set": name, "model": "m"}}) for name in ("ours", "chat")
    )
    assert chat.total.prompt_tokens > ours.total.prompt_tokens


def test_the_estimate_says_where_the_kit_s_own_prices_are_from():
    estimate = estimate_run(model="gpt-4o-mini", api="chat")
    assert estimate.total.cost_usd == pytest.approx(
        load_price("gpt-4o-mini").cost(estimate.total.prompt_tokens, estimate.total.completion_tokens)
    )
    assert f"gpt-4o-mini: prices of genai-prices {version('genai-prices')}." in estimate.table()


def test_the_embedded_model_is_free_and_an_unknown_one_has_tokens_only():
    assert estimate_run().total.cost_usd == 0
    unknown = estimate_run(model="a-model-nobody-knows")
    assert unknown.total.cost_usd is None and unknown.total.prompt_tokens > 10_000
    assert "price_table=FILE" in unknown.table()


def test_a_gguf_at_an_address_is_not_the_embedded_model():
    at_an_address = {FIRST: {"model": "tiny.Q4_K_M.gguf", "base_url": "http://127.0.0.1:9/v1"}}
    assert estimate_run(at_an_address).total.cost_usd is None
    assert estimate_run({FIRST: {"model": "tiny.Q4_K_M.gguf"}}).total.cost_usd == 0


def test_the_paper_s_scale_with_the_paper_s_model():
    """GPT-3 at $20 a million tokens: steps 2 and 3 repeat their demonstrations 52,445 times."""
    parameters = {FIRST: {"num_instructions_to_generate": 52_445}, SECOND: {}, THIRD: {}}
    estimate = estimate_run(parameters, model="davinci")
    first, *later = (step.calls for step in estimate.steps)
    assert later == [round(first * estimate.admitted_per_request)] * 2  # the last round is asked whole
    assert 52_445 <= later[0] < 52_445 + 16
    assert estimate.total.cost_usd == pytest.approx(
        20 * (estimate.total.prompt_tokens + estimate.total.completion_tokens) / 1e6
    )


@pytest.mark.parametrize(
    ("step", "given", "change"),
    [
        (FIRST, {"num_instructions_to_generate": 640}, "calls"),
        (FIRST, {"max_rounds": 1}, "calls"),
        (FIRST, {"num_prompt_instructions": 4}, "prompt_tokens"),
        (FIRST, {"max_tokens": 77}, "most_completion_tokens"),
        (SECOND, {"num_instructions": 10}, "calls"),
        (SECOND, {"check_against_seed_tasks": 24}, "calls"),
        (THIRD, {"num_instructions": 10}, "calls"),
        (THIRD, {"generation_tasks_only": True}, "calls"),
        (THIRD, {"max_tokens": 50}, "most_completion_tokens"),
    ],
)
def test_every_parameter_that_matters_changes_the_estimate(step, given, change):
    before, after = by_step(parameters={step: {}})[step], by_step(parameters={step: given})[step]
    assert getattr(before, change) != getattr(after, change)


def test_only_the_steps_that_will_run_are_counted():
    assert [step.step for step in estimate_run({SECOND: {}}).steps] == [SECOND]


def test_no_task_left_is_no_cost():
    step = by_step(parameters={THIRD: {"generation_tasks_only": True, "classification_tasks_only": True}})[THIRD]
    assert (step.calls, step.prompt_tokens) == (0, 0)


def test_the_embedded_model_s_time_is_estimated_and_no_other_s():
    def times(**settings):
        return [line for line in estimate_run(**settings).list_notes() if "quiet cores" in line]

    assert times(model="m") == []
    by_target = {
        target: times(parameters={**{step: {} for step in STEPS}, FIRST: {TARGET: target}})
        for target in (60, 600, 60_000)
    }
    (line,), (ten_times,), (large,) = by_target.values()
    assert times() == [line]
    assert re.fullmatch(r"About \d\.\d minutes on two quiet cores: \d+ tokens written a second, .*", line)
    assert 1.5 < float(line.split()[1]) < 5 and 7 < float(ten_times.split()[1]) / float(line.split()[1]) < 13
    assert re.match(r"About \d+ hours on", large)


def test_what_a_stopped_or_a_whole_last_round_brings_is_what_later_steps_ask():
    calls = {most: by_step(parameters={FIRST: {TARGET: 60, "max_rounds": most}, SECOND: {}}) for most in (0, 1)}
    assert [calls[most][FIRST].calls for most in (0, 1)] == [21, 3]
    assert [calls[most][SECOND].calls for most in (0, 1)] == [61, 9]


@pytest.mark.parametrize(("number", "step"), [("02", FIRST), ("03", SECOND), ("04", THIRD)])
def test_the_embedded_model_s_completions_are_as_long_as_in_the_example(number, step):
    rows = [json.loads(line) for line in (EXAMPLE / "answers.jsonl").read_text().splitlines()]
    lengths = [row["completion_tokens"] for row in rows if row["step"] == number]
    assert len(lengths) > 10
    assert EMBEDDED_COMPLETION[step] == pytest.approx(sum(lengths) / len(lengths), rel=0.3)


def test_as_many_instructions_are_admitted_per_request_as_in_the_example():
    results = read_results(EXAMPLE, FIRST)
    admitted = (EXAMPLE / "machine_generated_instructions.jsonl").read_text().count("\n")
    assert pytest.approx(admitted / results["requested"], rel=0.3) == ADMITTED_PER_REQUEST


def test_step_3_of_the_example_is_estimated_as_measured():
    """On two quiet cores it took 118 s. A prompt is read even where one token is written, so step 2 is not free."""
    settings = {step: {"num_instructions": 67} for step in (SECOND, THIRD)}
    second, third = (_seconds(estimate_run({step: settings[step]})) for step in (SECOND, THIRD))
    assert third == pytest.approx(118, rel=0.3)
    assert second >= 5


def _seconds(estimate) -> float:
    number, unit = next(line.split()[1:3] for line in estimate.list_notes() if "quiet cores" in line)
    return float(number) * {"seconds": 1, "minutes": 60}[unit]
