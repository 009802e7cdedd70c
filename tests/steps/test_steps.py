"""Steps 1 to 3 with a scripted client: sampling, rounds, the ledger, and the same bytes from the same responses."""

import random
import re
import warnings
from dataclasses import replace

import pytest
from helpers.clients import SETTINGS, TEMPLATES, ScriptedClient, completion, fresh, seeds

from selfinstruct.files import ParameterError, SelfInstructError, write_records, write_text
from selfinstruct.prompts import load_prompts, request_settings
from selfinstruct.records import ClassificationAnswer, Completion, MachineInstruction
from selfinstruct.runfolder import RunFolder
from selfinstruct.similarity.pool import rouge_l
from selfinstruct.steps.classification import choose_threshold, identify_classification, parse_labels
from selfinstruct.steps.estimate import estimate_run
from selfinstruct.steps.instances import build_instance_requests, choose_tasks, generate_instances
from selfinstruct.steps.instructions import (
    ROUNDS_OF_ONE_RULE,
    ROUNDS_TOO_SIMILAR,
    ROUNDS_WITHOUT_GAIN,
    build_round,
    choose_seed_instructions,
    generate_instructions,
    list_classification_seeds,
    sample_in_context,
    settle_rounds,
)


def run(client, **options):
    options = {"num_instructions_to_generate": 30, **options}
    return list(generate_instructions(client, seeds(), SETTINGS, **options))


@pytest.mark.parametrize(("machine", "expected"), [(0, 0), (1, 1), (2, 2), (9, 2)])
def test_two_machine_instructions_as_soon_as_there_are_two(machine, expected):
    pool = [f"machine {n}" for n in range(machine)]
    chosen = sample_in_context(random.Random(1), [f"human {n}" for n in range(20)], pool)
    assert len(chosen) == len(set(chosen)) == 8
    assert sum(text.startswith("machine") for text in chosen) == expected


def test_the_draw_is_shuffled():
    human, machine = [f"human {n}" for n in range(20)], ["machine 0", "machine 1"]
    places = {sample_in_context(random.Random(seed), human, machine).index("machine 0") for seed in range(50)}
    assert len(places) > 4


def test_too_few_seed_tasks_for_the_prompt():
    with pytest.raises(ParameterError, match="only 3 seed tasks"):
        sample_in_context(random.Random(1), ["a", "b", "c"], [])


def test_classification_only_mode():
    assert len(choose_seed_instructions(seeds(), True)) == 4
    requests = build_round(random.Random(1), choose_seed_instructions(seeds(), True), [], SETTINGS, num_prompt_instructions=4,
                           use_clf_seed_tasks_only=True)  # fmt: skip
    assert requests[0].prompt.startswith("Come up with a series of classification tasks.")
    with pytest.raises(ParameterError, match="classification"):
        choose_seed_instructions([task for task in seeds() if not task.is_classification], True)


def test_some_requests_of_a_round_ask_for_classification_tasks_with_their_own_seeds_and_their_own_machine_instructions():
    special = list_classification_seeds(seeds())
    rounds = run(ScriptedClient(fresh), num_prompt_instructions=4, requests_per_round=3, classification_requests=1)
    heads = [request.prompt.splitlines()[0] for request in rounds[-1].requests]
    assert ["classification" in head for head in heads] == [False, False, True]
    known = set(special) | {text for round_ in rounds for text in round_.asked_as_classification}
    for round_ in rounds:
        shown = [line.partition(". ")[2] for line in round_.requests[-1].prompt.splitlines()[1:-1]]
        assert len(shown) == 4 and {text.rstrip(":") for text in known} >= set(shown)
    assert any(set(round_.asked_as_classification) for round_ in rounds)


def test_too_few_classification_seeds_leave_a_round_as_it_is_without_them():
    plain, asked = (run(ScriptedClient(fresh), classification_requests=number) for number in (0, 2))
    assert [round_.requests for round_ in plain] == [round_.requests for round_ in asked]  # 4 of them, 8 are needed


def test_blocked_first_words_are_in_the_ledger_and_in_no_prompt():
    def answer(request, number):
        return completion(" Build a rocket out of old newspapers.\n10. Builders of the town, list them all.")

    [round_] = run(ScriptedClient(answer), max_rounds=1, blocked_starts=["build", "tell them"])
    assert {one.reason for one in round_.rejected if one.candidate.startswith("Build a")} == {"blocked_start"}
    assert [one.instruction for one in round_.admitted] == ["Builders of the town, list them all."]


def test_rounds_are_as_released_but_for_the_embedded_model_and_for_what_the_prompt_set_says(tmp_path):
    assert settle_rounds() == {"requests_per_round": 5, "classification_requests": 0, "blocked_starts": []}
    size, special, blocked = settle_rounds(embedded=True).values()
    assert (size, special) == (3, 1) and {"build", "tell them"} <= set(blocked)

    def settle(rounds, embedded=False):
        write_text(tmp_path / "prompt.yaml", f"rounds: {rounds}\n")
        return [*settle_rounds(embedded, load_prompts(tmp_path)).values()]

    assert settle("released", embedded=True) == [5, 0, []]
    assert settle("{classification_requests: 2, blocked_starts: [Build, Plan to]}") == [5, 2, ["build", "plan to"]]
    assert settle("{requests_per_round: 1}", embedded=True)[:2] == [1, 1]
    with pytest.raises(ParameterError, match="a round has 2 requests"):
        settle("{requests_per_round: 2, classification_requests: 3}")


def test_a_repeated_prompt_is_a_new_sample():
    requests = build_round(random.Random(1), ["only one"], [], SETTINGS, num_prompt_instructions=1)
    assert [request.sample_index for request in requests] == [0, 1, 2, 3, 4]


def test_rounds_until_the_pool_is_full_and_may_overshoot():
    rounds = run(ScriptedClient(fresh))
    admitted = sum(len(round_.admitted) for round_ in rounds)
    assert admitted >= 30 and admitted - len(rounds[-1].admitted) < 30
    assert [round_.request_idx for round_ in rounds] == list(range(len(rounds)))


def test_fixed_stops_at_the_number():
    rounds = run(ScriptedClient(fresh), quirks="fixed", num_instructions_to_generate=31)
    assert sum(len(round_.admitted) for round_ in rounds) == 31
    assert {one.reason for one in rounds[-1].rejected} & {"target_reached"}


def test_every_candidate_is_admitted_or_rejected():
    def answer(request, number):
        texts = ["", " too short", " Write a program that sorts numbers.\n10. What a fine new day it is"]
        return completion(texts[number % 3], "length" if number % 7 == 6 else "stop")

    rounds = run(ScriptedClient(answer), max_rounds=3)
    reasons = [one.reason for round_ in rounds for one in round_.rejected]
    assert len(reasons) + sum(len(round_.admitted) for round_ in rounds) == 20
    assert set(reasons) == {"empty", "too_short", "write_a_program", "too_similar", "cut_by_length"}


def test_what_was_cut_names_its_completion():
    cut = completion(" Name one river of Asia\n10. Name two lakes of Asia\n11. Name", "length")
    (round_,) = run(ScriptedClient(lambda request, number: cut if number in (1, 3) else completion("")), max_rounds=1)
    numbers = [getattr(one, "completion_idx", None) for one in round_.rejected]
    assert numbers == [None, 1, 1, 1, None, 3, 3, 3, None]


def test_a_rejection_names_the_neighbour_it_had_then():
    same = "the very same words again here"
    rounds = run(ScriptedClient(lambda request, number: completion(f" {same}\n10. {same} x")), max_rounds=1)
    assert len(rounds[0].admitted) == 1
    first = rounds[0].rejected[0]
    assert (first.reason, first.nearest) == ("too_similar", same.capitalize())
    assert first.score == rouge_l(first.candidate, first.nearest) > 0.9


def test_members_of_a_round_are_compared_with_one_another():
    rounds = run(ScriptedClient(lambda request, number: completion(" Name five rivers of Europe")), max_rounds=1)
    assert len(rounds[0].admitted) == 1 and len(rounds[0].rejected) == 4


def test_failed_requests_are_counted_and_have_no_candidates():
    rounds = run(
        ScriptedClient(
            lambda request, number: completion("", error="HTTP 500") if number % 2 else fresh(request, number)
        )
    )
    assert sum(round_.failed for round_ in rounds) > 0
    assert not [one for round_ in rounds for one in round_.rejected if one.reason == "empty"]


def stop_of(answer, **options):
    """(the message of a run that stops for lack of gain, the requests that it asked)."""
    client = ScriptedClient(answer)
    with pytest.raises(SelfInstructError, match="step 1 stopped") as stopped:
        run(client, **options)
    return str(stopped.value), len(client.asked)


def test_it_never_loops():
    mixed = [" no", " Write a program that sorts numbers."]
    message, asked = stop_of(lambda request, number: completion(mixed[number % 2]))
    assert asked == 5 * ROUNDS_WITHOUT_GAIN
    assert "20 rounds in a row" in message and "0 of 30" in message
    assert "of 100 candidates dropped: too_short 50, write_a_program 50 (such as 'No')" in message


SAME = " The very same words again here."
ONE_RULE = {
    "too_short": (lambda request, number: completion(" 写一首关于春天的短诗。"), ROUNDS_OF_ONE_RULE, 'quirks="fixed" reads other scripts'),
    "non_ascii_start": (lambda request, number: completion(" Ü b e r"), ROUNDS_OF_ONE_RULE, 'quirks="fixed" reads other scripts'),
    "punctuation_start": (lambda request, number: completion(" **9.** Name three old rivers."), ROUNDS_OF_ONE_RULE, 'quirks="fixed"'),
    "empty": (lambda request, number: completion(""), ROUNDS_OF_ONE_RULE, "stop sequence"),
    "cut_by_length": (lambda request, number: completion(SAME, "length"), ROUNDS_OF_ONE_RULE, "raise max_tokens"),
    "cut_by_filter": (lambda request, number: completion(SAME, "content_filter"), ROUNDS_OF_ONE_RULE, "filter"),
    "too_similar": (lambda request, number: completion(SAME), ROUNDS_TOO_SIMILAR + 1, "higher temperature"),
}  # fmt: skip


@pytest.mark.parametrize("rule", ONE_RULE)
def test_it_stops_sooner_where_one_rule_drops_everything_and_says_what_to_do(rule):
    answer, rounds, advice = ONE_RULE[rule]
    message, asked = stop_of(answer)
    assert asked == 5 * rounds and f"{rule} {asked - (rule == 'too_similar') * 5}" in message
    assert advice in message and message.endswith("rejections.jsonl has every one")


def test_a_few_candidates_are_not_enough_to_stop_sooner():
    _, asked = stop_of(lambda request, number: completion(" no"), requests_per_round=1)
    assert asked == ROUNDS_WITHOUT_GAIN


def test_fixed_is_no_advice_where_it_is_in_use():
    message, _ = stop_of(lambda request, number: completion(" no"), quirks="fixed")
    assert "quirks" not in message and "too_short 25" in message


def test_requests_that_fail_are_counted_in_the_reason():
    message, _ = stop_of(lambda request, number: completion("", error="HTTP 500"))
    assert "100 of 100 requests failed" in message


def other_seeds(*texts):
    return [seed.model_copy(update={"instruction": text}) for seed, text in zip(seeds(), texts, strict=False)]


CHINESE = ["写一首关于春天的短诗。", "列出五种节约用水的方法。", "把这句话翻译成英文。", "说出三条河的名字。"]
CYRILLIC = [
    "Напиши стих о весне, пожалуйста.",
    "Назови три реки в Азии.",
    "Переведи это на английский язык.",
    "Опиши летний день ребёнку.",
]
CHATTY = ["Sum?", "Why so?", "Say hi.", "Name three rivers of Asia."]


@pytest.mark.parametrize(
    ("texts", "counts"),
    [(CHINESE, "4 of the 4 seed instructions themselves (too_short 4)"), (CYRILLIC, "(non_ascii_start 4)"), (CHATTY, "3 of the 4")],
)  # fmt: skip
def test_it_warns_before_the_first_request_where_most_seed_instructions_fail_the_rules(texts, counts):
    client = ScriptedClient(fresh)
    rounds = generate_instructions(client, other_seeds(*texts), SETTINGS, num_prompt_instructions=2, max_rounds=1)
    with pytest.warns(UserWarning, match=re.escape(counts)):
        next(rounds)
    with pytest.warns(UserWarning, match=re.escape(counts)):
        choose_seed_instructions(other_seeds(*texts))


def test_the_estimate_of_a_run_warns_as_the_run_does(tmp_path):
    path = write_records(tmp_path / "seeds.jsonl", other_seeds(*CHINESE, *CYRILLIC))
    given = {"seed_tasks_path": str(path), "num_prompt_instructions": 2}
    with pytest.warns(UserWarning, match="8 of the 8 seed instructions"):
        estimate_run({"02_generate_instructions": given})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate_run({"02_generate_instructions": {**given, "quirks": "fixed"}})


def test_nothing_is_said_of_seed_instructions_that_the_rules_keep():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_seed_instructions(seeds()) and choose_seed_instructions(other_seeds(*CHINESE), quirks="fixed")
        assert choose_seed_instructions(other_seeds(*CYRILLIC), quirks="fixed")
        assert choose_seed_instructions(other_seeds(CHATTY[0], *CHATTY[2:]) + seeds()[3:])


def test_the_seed_decides_and_nothing_else():
    def records(seed):
        return [
            record.model_dump() for round_ in run(ScriptedClient(fresh), random_seed=seed) for record in round_.admitted
        ]

    assert records(1) == records(1)
    assert records(1) != records(2)


def test_released_record():
    record = run(ScriptedClient(fresh))[0].admitted[0]
    assert list(record.model_dump()) == [
        "instruction",
        "most_similar",
        "avg_similarity_score",
        "metadata",
        "request_idx",
    ]
    assert set(record.metadata) == {"prompt", "response", "created_at"}
    assert len(record.most_similar) == 10
    assert list(record.most_similar.values()) == sorted(record.most_similar.values(), reverse=True)
    slim = run(ScriptedClient(fresh), quirks="fixed")[0].admitted[0]
    assert "response" not in slim.metadata


def test_classification_answers():
    answers = identify_classification(
        ScriptedClient(lambda request, number: completion([" Yes", " No", ""][number])), ["a", "b", "c"], TEMPLATES,
        request_settings("classification", False),
    )  # fmt: skip
    assert [answer.is_classification for answer in answers] == [" Yes", " No", ""]
    assert parse_labels(answers) == {"a": True, "b": False, "c": False}


@pytest.mark.parametrize("text", ["Yes.", " Yes, it is.", "**Yes**", "Answer: yes", "The answer is: Yes", "YES!"])
def test_a_yes_that_the_published_rule_reads_as_no_is_said_with_its_count(text):
    given = {"a": text, "b": " Yes", "c": "No.", "d": text}
    answers = [ClassificationAnswer(instruction=name, is_classification=one) for name, one in given.items()]
    with pytest.warns(UserWarning, match="2 of 4 answers say yes") as said:
        assert parse_labels(answers) == {"a": False, "b": True, "c": False, "d": False}
    assert repr(text) in str(said[0].message) and 'quirks="fixed"' in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_labels(answers, "fixed") == {"a": True, "b": True, "c": False, "d": True}
        parse_labels(answers[1:3])


def answer_with(margins):
    """A client whose first token is " Yes" or " No", with log-probabilities that differ by each of `margins`."""

    def build(request, number):
        top = [{"token": " Yes", "logprob": margins[number]}, {"token": " No", "logprob": 0.0}]
        one = completion(" No")
        one.response["choices"][0]["logprobs"] = {"content": [{"top_logprobs": top}]}
        return one

    return ScriptedClient(build)


def test_a_threshold_labels_by_the_margin_and_keeps_it():
    settings, texts = request_settings("classification", True), ["a", "b"]
    answers = identify_classification(answer_with([-0.2, -3.0]), texts, TEMPLATES, settings, threshold=-1.0)
    assert [answer.model_dump() for answer in answers] == [
        {"instruction": "a", "is_classification": " Yes", "margin": -0.2},
        {"instruction": "b", "is_classification": " No", "margin": -3.0},
    ]
    bare = identify_classification(answer_with([-0.2, -3.0]), texts, TEMPLATES, settings)
    assert [answer.model_dump() for answer in bare] == [
        {"instruction": text, "is_classification": " No"} for text in texts
    ]


def test_without_log_probabilities_the_answer_is_the_label():
    client = ScriptedClient(lambda request, number: completion(" Yes"))
    [answer] = identify_classification(
        client, ["a"], TEMPLATES, request_settings("classification", True), threshold=0.0
    )
    assert answer.model_dump() == {"instruction": "a", "is_classification": " Yes"}


def test_only_the_model_and_prompt_that_were_measured_have_a_threshold():
    short, ours = replace(TEMPLATES, name="short"), replace(TEMPLATES, name="ours")
    assert choose_threshold("embedded", short) < 0
    assert choose_threshold("embedded", ours) is choose_threshold("gpt-4o-mini", short) is None


def test_what_the_query_says_of_the_answer_stands_before_it_again():
    prompts = replace(TEMPLATES, output_first_start="Class label:")
    records = [MachineInstruction(instruction=text) for text in "abc"]
    labels = {"a": True, "b": True, "c": False}
    client = ScriptedClient(
        lambda request, number: [
            completion(" Spam\nwin"),
            Completion(text="", finish_reason="error", created_at="", error="no"),
            completion("Output: x"),
        ][number]
    )
    made = generate_instances(client, records, labels, prompts, request_settings("instances", True))
    assert [record.raw_instances for record in made] == ["Class label: Spam\nwin", "", "Output: x"]


@pytest.mark.parametrize(
    ("embedded", "examples", "stop"),
    [(True, 0, ("\n\n", "Example 3", "Task:")), (True, 5, ("\n\n", "Example 6", "Task:")),
     (False, 0, ("Example 6", "Task:")), (False, 1, ("Example 2", "Task:"))],
)  # fmt: skip
def test_the_stop_before_the_last_example_is_in_the_settings_as_it_is_sent(embedded, examples, stop):
    settings = request_settings("instances", embedded, max_instances_to_generate=examples)
    [request] = build_instance_requests(["a"], {"a": False}, TEMPLATES, settings)
    assert request.stop == settings["stop"] == stop


def test_a_frequency_penalty_is_for_input_first_only():
    settings = {**request_settings("instances", True), "frequency_penalty": 0.3}
    first, second = build_instance_requests(["a", "b"], {"a": True, "b": False}, TEMPLATES, settings)
    assert (first.frequency_penalty, second.frequency_penalty) == (0.0, 0.3)


def test_instance_prompts_and_the_batch_that_decides_max_tokens():
    texts = [f"task {n}" for n in range(10)]
    labels = {text: text == "task 1" for text in texts}
    settings = request_settings("instances", False)
    requests = build_instance_requests(texts, labels, TEMPLATES, settings)
    assert [request.max_tokens for request in requests] == [300] * 5 + [350] * 5
    assert [request.prompt[0] for request in requests[:3]] == ["I", "O", "I"]
    assert requests[0].stop == ("Example 6", "Task:")
    fixed = build_instance_requests(texts, labels, TEMPLATES, settings, quirks="fixed")
    assert [request.max_tokens for request in fixed] == [350, 300] + [350] * 8


def test_choosing_tasks():
    records = [MachineInstruction(instruction=text) for text in "abcd"]
    labels = {"a": True, "b": False, "c": True, "d": False}
    assert [record.instruction for record in choose_tasks(records, labels, 3)] == ["a", "b", "c"]
    assert [record.instruction for record in choose_tasks(records, labels, generation_tasks_only=True)] == ["b", "d"]
    assert [record.instruction for record in choose_tasks(records, labels, classification_tasks_only=True)] == [
        "a",
        "c",
    ]
    assert choose_tasks(records, labels, 0, True, True) == []
    with pytest.raises(SelfInstructError, match="03_identify_classification"):
        choose_tasks(records, {"a": True})


def test_instance_records():
    [record] = generate_instances(
        ScriptedClient(lambda request, number: completion("Output: x")), [MachineInstruction(instruction="a", metadata={"k": 1})],
        {"a": False}, TEMPLATES, request_settings("instances", False),
    )  # fmt: skip
    assert list(record.model_dump()) == [
        "instruction", "raw_instances", "instance_metadata", "instruction_metadata", "most_similar", "avg_similarity_score",
    ]  # fmt: skip
    assert record.instruction_metadata == {"k": 1}
    assert record.instance_metadata["response"]["choices"][0]["text"] == "Output: x"


def test_answers_are_keyed_by_instruction():
    assert parse_labels([ClassificationAnswer(instruction="a", is_classification="yes.")], "fixed") == {"a": True}


def test_fixed_finds_repetitions_in_every_script():
    texts = " 请把下面这句话翻译成英文\n10. 请把下面这句话翻译成英文吧"
    fixed = run(ScriptedClient(lambda request, number: completion(texts)), quirks="fixed", max_rounds=1)[0]
    assert len(fixed.admitted) == 1 and {one.reason for one in fixed.rejected} == {"too_similar"}


def test_a_file_stays_as_it_was_until_the_step_that_writes_it_again_is_done(tmp_path):
    path = write_records(tmp_path / "rows.jsonl", [{"row": number} for number in range(100)])
    earlier = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path).writing("rows.jsonl") as write:
        write([{"row": "new"}] * 3)
        raise KeyboardInterrupt
    assert path.read_bytes() == earlier
    with RunFolder(tmp_path).writing("rows.jsonl") as write:
        write([{"row": "new"}] * 3)
    assert path.read_text() == '{"row": "new"}\n' * 3 and list(tmp_path.iterdir()) == [path]
