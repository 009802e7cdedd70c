"""A trial: independent draws that replay, verdicts, sums with intervals, an estimate before money, and two trials compared."""

import random
import statistics
from dataclasses import replace

import pytest
from helpers.clients import WORDS, ScriptedClient, completion, fresh
from helpers.scripted import ScriptedServer, prompt_of
from helpers.scripted_method import respond
from scipy.stats import t

from selfinstruct.ablation import compare_trials, estimate_trial, plan_trial, run_trial
from selfinstruct.ablation.draws import measure_mean, measure_ratio
from selfinstruct.ablation.view import mark_common_words, show_comparison, show_draws, show_summary
from selfinstruct.files import ParameterError
from selfinstruct.models import connect
from selfinstruct.models.spending import Price
from selfinstruct.prompts import load_prompts

NUMBERS = iter(range(10_000))


def words_by_sample(body):
    """Another answer for every request, whatever it asks: only the store can repeat one."""
    rng = random.Random(next(NUMBERS))
    return " " + " ".join(rng.sample(WORDS, 6)) + "\n10. " + " ".join(rng.sample(WORDS, 6))


@pytest.fixture
def ask(tmp_path):
    """Connect to a scripted model, as often as asked, with one store."""
    with ScriptedServer(words_by_sample) as server:
        yield lambda: connect("scripted", server.url, store=tmp_path / "s.sqlite"), server


def test_twenty_samples_of_one_prompt_are_many_texts_and_the_same_twenty_when_replayed(ask):
    client, server = ask
    with client() as one, client() as two:
        first = run_trial(one, "ours", n_draws=20, one_prompt=True)
        again = run_trial(two, "ours", n_draws=20, one_prompt=True)
    assert len({draw.request.prompt for draw in first.draws}) == 1
    assert [draw.request.sample_index for draw in first.draws] == list(range(20))
    assert len({draw.completion.text for draw in first.draws}) > 15
    assert [draw.completion.text for draw in again.draws] == [draw.completion.text for draw in first.draws]
    assert (len(server.bodies), again.summary()) == (20, first.summary())
    assert all(draw.completion.cached for draw in again.draws)


def test_draws_have_prompts_of_their_own_and_more_of_them_change_no_earlier_one():
    few, many = (plan_trial(ScriptedClient(fresh), "ours", "instructions", count, 3).requests for count in (3, 9))
    assert many[:3] == few and len({request.prompt for request in many}) == 9
    other = plan_trial(ScriptedClient(fresh), "ours", "instructions", 3, 4).requests
    assert {one.prompt for one in other}.isdisjoint(one.prompt for one in few)


def test_what_is_asked_at_once_and_a_few_at_a_time_comes_to_the_same(ask):
    client, _ = ask
    seen = []
    with client() as one:
        live = run_trial(one, "ours", n_draws=10, on_draws=lambda trial: seen.append(len(trial.draws)))
        whole = run_trial(one, "ours", n_draws=10)
        again = run_trial(one, "ours", n_draws=10, on_draws=lambda trial: seen.append(len(trial.draws)))
    # what the store answers is shown at once
    assert seen == [4, 8, 10, 10] and live.summary() == whole.summary() == again.summary()
    assert [draw.verdicts for draw in live.draws] == [draw.verdicts for draw in whole.draws]


def test_every_candidate_has_a_verdict_in_the_order_of_the_text():
    seed = load_prompts("ours").seed_tasks[0].instruction
    text = f" Too short.\n10. {seed}\n11. Tell the baker seven things about rye.\n12. draw a map of the town square."
    trial = run_trial(ScriptedClient(lambda request, number: completion(text)), "ours", n_draws=2)
    found = [(one.candidate[:9], one.reason) for one in trial.draws[0].verdicts]
    assert [reason for _, reason in found] == ["too_short", "too_similar", "", "blacklisted_word"]
    assert trial.draws[0].verdicts[1].nearest == seed and trial.draws[0].verdicts[1].score > 0.7
    assert trial.draws[0].verdicts == trial.draws[1].verdicts  # each draw is judged by itself
    assert trial.count_reasons() == {"too_short": 2, "too_similar": 2, "blacklisted_word": 2}
    assert trial.summary()["accepted_per_request"] == (1.0, 1.0, 1.0)


def test_what_repeats_its_own_prompt_is_counted_as_copied():
    first = ScriptedClient(lambda request, number: completion(" " + request.prompt.split("\n")[1][3:]))
    assert run_trial(first, "ours", n_draws=3).summary()["copied_share"][0] == 1.0
    assert run_trial(ScriptedClient(fresh), "ours", n_draws=3).summary()["copied_share"][0] == 0.0


def test_a_share_of_candidates_has_an_interval_over_the_draws_they_come_in():
    def answer(request, number):
        lines = request.prompt.split("\n")[1:9]
        copied = [line[3:] for line in lines][: 8 * (number % 2)]  # all candidates of a draw are copied, or none
        return completion(" " + "\n".join(f"{9 + i}. {text}" for i, text in enumerate(copied or ["Sing."] * 8))[3:])

    share, low, high = run_trial(ScriptedClient(answer), "ours", n_draws=8).summary()["copied_share"]
    assert (
        share == pytest.approx(0.5, abs=0.02) and low < 0.1 and high > 0.9
    )  # 8 draws, not 64 candidates: 0.38 to 0.62


def test_a_number_that_is_counted_has_no_end_below_zero():
    few = ScriptedClient(lambda request, number: fresh(request, number) if number == 0 else completion(" Sing."))
    value, low, high = run_trial(few, "ours", n_draws=4).summary()["accepted_per_request"]
    assert value > 0 and low == 0.0 and high > 2 * value


def test_step_2_counts_right_answers_on_tasks_that_no_demonstration_shows():
    client = ScriptedClient(lambda request, number: completion(" Yes"))
    trial = run_trial(client, "ours", "classification", 8)
    assert trial.count_answers() == {(True, True): 4, (False, True): 4}
    assert trial.summary()["accuracy"][0] == 0.5 and len({draw.task for draw in trial.draws}) == 8
    prefix = load_prompts("ours").classification
    assert all(f"Task: {draw.task}\n" not in prefix for draw in trial.draws)


def test_step_3_counts_what_is_parsed_valid_and_copied():
    answers = ("Example 1\nText: a stone\nOutput: a river", "I cannot say.", "Example 1\nText: same\nOutput: same")
    client = ScriptedClient(lambda request, number: completion(answers[number % 3]))
    trial = run_trial(client, "german", "instances", 9)
    found = trial.summary()
    assert found["parse_rate"][0] >= 0.3 and trial.count_reasons()["no_instance_found"] >= 2
    assert found["valid_instances_per_task"][0] == sum(draw.accepted for draw in trial.draws) / 9
    assert [draw.task for draw in run_trial(client, "german", "instances", 4).draws] == [
        draw.task for draw in trial.draws[:4]
    ]


def test_intervals_are_students_over_draws():
    values = [0.0, 2.0, 3.0, 1.0, 4.0]
    half = t.ppf(0.975, 4) * statistics.stdev(values) / 5**0.5
    assert measure_mean(values) == pytest.approx((2.0, 2 - half, 2 + half))
    assert (measure_mean([3.0]), measure_mean([])) == ((3.0, None, None), (None, None, None))
    assert measure_ratio([1.0, 2.0], [0, 0]) == (None, None, None)
    assert measure_ratio([2.0, 4.0], [1, 2]) == (2.0, 2.0, 2.0)


def test_a_price_gives_dollars_for_each_accepted_instruction(ask):
    client, _ = ask
    with client() as one:
        trial = run_trial(one, "ours", n_draws=5, price=Price(prompt=1, completion=1))
        free = run_trial(one, "ours", n_draws=5)
    tokens = sum(draw.completion.prompt_tokens + draw.completion.completion_tokens for draw in trial.draws)
    value, low, high = trial.summary()["cost_per_accepted_usd"]
    assert value == pytest.approx(tokens / 1e6 / sum(draw.accepted for draw in trial.draws)) and low <= value <= high
    assert free.summary()["cost_per_accepted_usd"] == (None, None, None)


def test_an_estimate_precedes_a_trial_and_leaves_out_what_the_store_has(ask):
    client, server = ask
    seen = []
    with client() as one:
        run_trial(
            one,
            "ours",
            n_draws=3,
            price=Price(prompt=1, completion=1),
            before=lambda e: seen.append((e, len(server.bodies))),
        )
        plan = plan_trial(one, "ours", "instructions", 5, 42)
        later = estimate_trial(one, plan.requests, Price(prompt=1, completion=1))
    assert (seen[0][0].new, seen[0][1], later.new, later.requests) == (3, 0, 2, 5)
    assert seen[0][0].most_cost_usd > later.most_cost_usd > 0 and "at most $" in str(later)

    def refuse(estimate):
        raise ParameterError("too dear")

    with client() as one, pytest.raises(ParameterError, match="too dear"):
        run_trial(one, "ours", n_draws=9, before=refuse)
    assert len(server.bodies) == 3


def test_two_trials_are_compared_draw_by_draw_and_nothing_is_said_of_other_draws():
    rich = ScriptedClient(lambda request, number: fresh(request, number % 5))
    one, two = (
        run_trial(rich, "ours", n_draws=6),
        run_trial(ScriptedClient(lambda r, n: completion(" no")), "ours", n_draws=6),
    )
    found = compare_trials(two, one)
    differences = [a.value - b.value for a, b in zip(one.draws, two.draws, strict=True)]
    assert (found.difference, found.low, found.high) == measure_mean(differences) and found.draws == 6
    assert "On the same 6 draws (random seed 42) B, ours, brought" in found.sentence
    assert "differ" not in found.sentence and "not about other runs" in found.sentence
    assert compare_trials(one, one).difference == 0.0
    shorter = replace(one, draws=one.draws[:1])
    assert "too few to tell" in compare_trials(one, shorter).sentence
    with pytest.raises(ParameterError, match="so that they have the same draws"):
        compare_trials(one, replace(two, random_seed=1))


def test_an_unknown_step_is_refused():
    with pytest.raises(
        ParameterError, match="step='instruction': choose one of instructions, classification, instances"
    ):
        run_trial(ScriptedClient(fresh), "ours", "instruction")


def test_a_failed_request_is_no_draw_of_zero():
    client = ScriptedClient(
        lambda request, number: completion("", error="500") if number == 1 else fresh(request, number)
    )
    trial = run_trial(client, "ours", n_draws=4)
    assert len(trial.draws) == 4 and len(trial.measured) == 3
    assert compare_trials(trial, trial).draws == 3


# as HTML


def test_the_words_that_rouge_l_counts_are_marked():
    first, second = mark_common_words("Name two <b> rivers, please.", "Please name the rivers & lakes")
    assert first == "<mark>Name</mark> two &lt;b&gt; <mark>rivers,</mark> please."
    assert second == "Please <mark>name</mark> the <mark>rivers</mark> &amp; lakes"


def test_what_a_model_wrote_is_never_markup():
    bad = "<script>alert(1)</script> <img src=x onerror=alert(2)> and four words"
    client = ScriptedClient(lambda request, number: completion(f" {bad}\n10. {bad}"))
    for step in ("instructions", "classification", "instances"):
        trial = run_trial(client, "ours", step, 2)
        page = show_draws(trial) + show_summary(trial) + show_comparison(compare_trials(trial, trial))
        assert "<script" not in page and "<img" not in page and "&lt;img" in page


def test_a_trial_of_each_step_on_a_scripted_model_is_shown_whole(tmp_path):
    with ScriptedServer(respond) as server, connect("scripted", server.url, store=tmp_path / "s.sqlite") as client:
        for step in ("instructions", "classification", "instances"):
            trial = run_trial(client, "ours", step, 4)
            assert show_draws(trial).count("<tr>") == 5 and "from the store" not in show_draws(trial)
        assert prompt_of(server.bodies[0]).startswith("Come up with")
