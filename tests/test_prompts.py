"""The prompts, to the letter of the released layout."""

import json
import random
import re
import statistics

import pytest
from helpers.clients import SETTINGS, ScriptedClient, completion

from selfinstruct.files import PROJECT_ROOT, InputError, ParameterError, write_text
from selfinstruct.filters import instruction_rejection
from selfinstruct.models.protocol import CONTINUE_TEXT, approximate_tokens, build_body
from selfinstruct.parsing import parse_instances
from selfinstruct.promptfile import render_classification, render_input_first, render_output_first
from selfinstruct.prompts import (
    PAPER_REQUESTS,
    SETS,
    build_instruction_prompt,
    list_prompt_sets,
    load_prompts,
    request_settings,
)
from selfinstruct.records import Instance, Request
from selfinstruct.steps import (
    build_pool,
    build_round,
    choose_seed_instructions,
    generate_instances,
    generate_instructions,
    identify_classification,
    judge_completion,
    parse_labels,
    parse_task,
    settle_rounds,
)


def test_instruction_prompt_layout():
    prompt = build_instruction_prompt(["Name  a\ncolour:", "Sort these."])
    assert prompt == "Come up with a series of tasks:\n1. Name a colour\n2. Sort these.\n3."


def test_classification_only_header():
    prompt = build_instruction_prompt(["Is it?"], classification_only=True)
    assert prompt.startswith("Come up with a series of classification tasks. Try to specify the possible output labels")
    assert prompt.endswith("\n1. Is it?\n2.")


def test_classification_layout():
    demos = [
        {"instruction": "Is it spam?", "is_classification": True},
        {"instruction": "Sing.", "is_classification": False},
    ]
    prefix = render_classification(demos)
    assert prefix.endswith(
        "Task: Is it spam?\nIs it classification? Yes\n\nTask: Sing.\nIs it classification? No\n\nTask:"
    )


def test_output_first_layout():
    pairs = [{"class_label": "Spam", "input": "Email: win"}, {"class_label": "Ham", "input": ""}]
    prefix = render_output_first([{"instruction": "Is it spam?", "instances": pairs}])
    assert prefix.startswith("Task: Is it spam?\nClass label: Spam\nEmail: win\nClass label: Ham\n\nTask:")


def test_input_first_layout():
    pairs = [{"input": "List: 2 1", "output": "1 2"}, {"input": "List: 1", "output": "1"}]
    direct = {"instruction": "Sing.", "instances": [{"input": "", "output": "La"}], "direct": True}
    prefix = render_input_first([{"instruction": "Sort.", "instances": pairs}, direct])
    assert prefix.endswith(
        "Task: Sort.\nExample 1\nList: 2 1\nOutput: 1 2\nExample 2\nList: 1\nOutput: 1\n\nTask: Sing.\nOutput: La\n\nTask:"
    )


def test_queries():
    templates = load_prompts("ours")
    assert templates.classification_prompt(" Do it. ").endswith("\n\nTask: Do it.\nIs it classification?")
    assert templates.instance_prompt("Do it.", False).endswith("\n\nTask: Do it.\n")
    assert templates.instance_prompt("Do it.", True).startswith(templates.output_first)


def test_the_short_set_is_the_embedded_models_and_takes_the_seed_tasks_of_ours():
    short, ours = load_prompts(embedded=True), load_prompts()
    assert (short.name, ours.name, load_prompts("ours", embedded=True).name) == ("short", "ours", "ours")
    assert short.seed_tasks == ours.seed_tasks
    assert len(short.input_first) < 0.6 * len(ours.input_first)
    assert short.instance_prompt("Do it.", True).endswith("\n\nTask: Do it.\nClass label:")
    assert short.instance_prompt("Do it.", False).endswith("\n\nTask: Do it.\n")


def test_request_settings_are_the_papers():
    settings = request_settings("instructions", embedded=False)
    assert settings == PAPER_REQUESTS["instructions"]
    assert settings["stop"] == ("\n\n", "\n16", "16.", "16 .")
    assert (settings["max_tokens"], settings["presence_penalty"]) == (1024, 2)
    assert request_settings("classification", False)["max_tokens"] == 3
    assert request_settings("instances", False)["presence_penalty"] == 1.5


def test_settings_the_embedded_model_and_the_caller_change():
    assert (
        request_settings("instructions", True)["presence_penalty"] < PAPER_REQUESTS["instructions"]["presence_penalty"]
    )
    chosen = request_settings("instructions", True, max_tokens=50, temperature=0.0, top_p=None)
    assert (chosen["max_tokens"], chosen["temperature"], chosen["top_p"]) == (50, 0.0, 0.7)
    assert "16." not in request_settings("instructions", False, "fixed")["stop"]
    assert request_settings("instructions", True, "fixed") == request_settings("instructions", True)
    with pytest.raises(ParameterError, match="best_off"):
        request_settings("instructions", False, best_off=2)


def test_a_set_that_is_not_there_is_named_with_what_was_meant(tmp_path):
    with pytest.raises(
        ParameterError, match=r'prompt_set=\'alpacca\': did you mean "alpaca"\? choose one of alpaca, chat, .*published'
    ):
        load_prompts("alpacca")
    with pytest.raises(InputError, match=r"no such file as prompt\.yaml"):
        load_prompts(tmp_path)
    (tmp_path / "classification_demonstrations.jsonl").write_text('{"task": 1}\n')
    with pytest.raises(InputError, match=r"demonstrations.jsonl:1.*instruction"):
        load_prompts(tmp_path)


def test_notebook_02_says_how_long_our_prompts_are():
    """Beside those of the paper, in tokens of four characters: 166 of step 1, then 890, 1,436 and 1,713."""
    page = (
        (PROJECT_ROOT / "notebooks/02_generate_instructions.ipynb")
        .read_text(encoding="utf-8")
        .replace('\\n",\n    "', " ")
    )
    prompts, rng = load_prompts("ours"), random.Random(0)
    texts = [task.instruction for task in prompts.seed_tasks]
    first = statistics.mean(approximate_tokens(build_instruction_prompt(rng.sample(texts, 8))) for _ in range(500))
    others = [approximate_tokens(text) for text in (prompts.classification, prompts.input_first, prompts.output_first)]
    assert 155 <= first <= 159 and "157 tokens on average" in page
    assert (
        "step 2 {:,} instead of 890; step 3 {:,} instead of 1,436 input-first, and {:,} instead".format(*others) in page
    )


# a prompt set is a folder


def write_set(folder, **files):
    for name, text in files.items():
        write_text(folder / name.replace("_yaml", ".yaml").replace("_txt", ".txt"), text)
    return folder


def render(prompts, count=2, **chosen):
    """The prompt of step 1 with the first seed tasks."""
    return prompts.instruction_prompt([task.instruction for task in prompts.seed_tasks[:count]], **chosen)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parser: whole\nmachin: 0\n", r'prompt.yaml:2: unknown key "machin"; did you mean "machine"\?'),
        (
            "sampling:\n  instructions:\n    temprature: 1\n",
            r'prompt.yaml:3: .*temprature"; did you mean "temperature"\?',
        ),
        ("source: mine\ndemonstrations: many\n", r"prompt.yaml:2: demonstrations: .*integer.*; got 'many'"),
        ("parser: jason\n", r"prompt.yaml:1: parser: .*'numbered', 'fields' or 'whole'; got 'jason'"),
        ('item: "{number}. {instrction}"\n', r'prompt.yaml:1: item: .*did you mean "instruction"\?'),
        ("machine: 0\n\ngrounding: topics.txt\ninstructions: x\n", r"prompt.yaml:4: unknown key"),
        ("grounding: facts.txt\nends_with: '{grounding}'\n", r"prompt.yaml:1: .*facts.txt: no such file"),
        ("\ntransform: Make it longer.\n", r"prompt.yaml:2: nothing says where .*\{transform\}"),
        ("machine: 2\ninstances: true\n", r"prompt.yaml:1: `instances: true` needs `machine: 0`"),
        ("demonstrations: [3\n", r"prompt.yaml:\d: not YAML"),
        ("- a\n", r"prompt.yaml:1: must be lines of `name: value`"),
    ],
)
def test_what_is_wrong_in_a_prompt_yaml_is_one_line_with_its_place(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_prompts(write_set(tmp_path, prompt_yaml=text))


def test_a_file_that_is_no_part_of_a_set_is_named_with_what_was_meant(tmp_path):
    with pytest.raises(
        InputError, match=r'instruction.txt: no part of a prompt set; did you mean "instructions.txt"\?'
    ):
        load_prompts(write_set(tmp_path, instruction_txt="Write tasks:\n"))


def test_what_a_folder_leaves_out_comes_from_ours(tmp_path):
    mine, ours = load_prompts(write_set(tmp_path, instructions_txt="Write tasks:\n")), load_prompts("ours")
    assert render(mine) == render(ours).replace("Come up with a series of tasks:\n", "Write tasks:\n")
    assert (mine.input_first, mine.layout, mine.seed_tasks) == (ours.input_first, ours.layout, ours.seed_tasks)
    assert request_settings("instructions", True, prompts=mine) == request_settings("instructions", True)


def test_a_set_has_one_hash_of_all_that_its_prompts_are_made_of(tmp_path):
    first = load_prompts(write_set(tmp_path, instructions_txt="Write tasks:\n", prompt_yaml="source: me\n"))
    assert first.describe_files()["prompt_set"] == {"path": str(tmp_path), "sha256": first.sha256}
    hashes = {first.sha256}
    for name, text in (
        ("instructions_txt", "Write!\n"),
        ("prompt_yaml", "machine: 0\n"),
        ("output_first_header_txt", "x\n\n"),
    ):
        hashes.add(load_prompts(write_set(tmp_path, **{name: text})).sha256)
    assert len(hashes) == 4
    write_set(tmp_path, prompt_yaml="machine: 0  # and a remark\nsource: you\n")
    assert load_prompts(tmp_path).sha256 in hashes


def test_what_the_caller_chooses_wins_over_the_set_and_the_set_over_the_kit(tmp_path):
    text = "demonstrations: 4\nmachine: 1\nsampling: {instructions: {top_p: 0.3, stop: [END]}}\n"
    mine = load_prompts(write_set(tmp_path, prompt_yaml=text))
    assert mine.count_demonstrations() == {"num_prompt_instructions": 4, "num_machine_instructions": 1}
    assert mine.count_demonstrations(6, 0) == {"num_prompt_instructions": 6, "num_machine_instructions": 0}
    for embedded in (False, True):
        settings = request_settings("instructions", embedded, prompts=mine, temperature=0.1)
        assert (settings["top_p"], settings["stop"], settings["temperature"]) == (0.3, ("END",), 0.1)
    assert request_settings("instructions", False, prompts=mine, top_p=0.9)["top_p"] == 0.9
    with pytest.raises(ParameterError, match="num_machine_instructions=5: a prompt has only 4"):
        mine.count_demonstrations(4, 5)


def test_a_key_that_came_later_leaves_the_hash_of_sets_without_it():
    # of the committed run: a changed hash would not let it go on
    facts = json.loads((PROJECT_ROOT / "outputs/example/run.json").read_text("utf-8"))["files"]
    for step in ("02_generate_instructions", "03_identify_classification"):
        noted = facts[step]["prompt_set"]
        assert load_prompts(noted["path"]).sha256 == noted["sha256"]


@pytest.mark.parametrize("name", sorted({*list_prompt_sets()} - {"published"}))
def test_a_set_of_its_own_layout_or_language_asks_with_its_own_header_alone(name):
    prompts = load_prompts(name)
    size, special, blocked = settle_rounds(True, prompts).values()
    own = (PROJECT_ROOT / SETS / name / "instructions.txt").is_file() and name != "ours"
    assert (size, special, bool(blocked)) == ((5, 0, False) if own else (3, 1, True))


def test_rounds_are_by_model_or_released_or_key_by_key(tmp_path):
    sets = {
        text: load_prompts(write_set(tmp_path, prompt_yaml=text))
        for text in ("rounds: released\n", "rounds: by model\n")
    }
    assert [settle_rounds(True, one)["requests_per_round"] for one in sets.values()] == [5, 3]
    mine = load_prompts(
        write_set(tmp_path, prompt_yaml="rounds: {classification_requests: 2, blocked_starts: [Build]}\n")
    )
    expected = {"requests_per_round": 3, "classification_requests": 2, "blocked_starts": ["build"]}
    assert settle_rounds(True, mine) == expected and settle_rounds(False, mine) == {**expected, "requests_per_round": 5}
    assert len({one.sha256 for one in (*sets.values(), mine)}) == 3
    with pytest.raises(InputError, match=r"prompt.yaml:1: rounds: .*'by model' or 'released', .* requests_per_round"):
        load_prompts(write_set(tmp_path, prompt_yaml="rounds: mine\n"))
    with pytest.raises(
        InputError, match=r'prompt.yaml:2: unknown key "rounds.requests"; did you mean "requests_per_round"'
    ):
        load_prompts(write_set(tmp_path, prompt_yaml="rounds:\n  requests: 4\n"))


def test_of_an_answer_in_the_layout_of_alpaca_that_was_cut_the_fixed_rules_drop_the_last_task_alone():
    text = "Name three birds of the sea.\n4. Input:\n<noinput>\n4. Output:\nGull\n###\n5. Instruction: Sort the list by"
    cut = completion(" " + text, "length")
    assert [reason for _, reason in judge_completion(cut, "published", "fields")] == ["cut_by_length"] * 2
    assert [reason for _, reason in judge_completion(cut, "fixed", "fields")] == [None, "cut_by_length"]


def test_braces_in_a_seed_task_stay_as_they_are(tmp_path):
    mine = load_prompts(write_set(tmp_path, prompt_yaml="source: me\n"))
    assert mine.instruction_prompt(["Fill {number} into {x}."]).endswith("\n1. Fill {number} into {x}.\n2.")


def test_a_chat_has_a_system_prompt_of_its_own_and_its_own_key():
    chat = load_prompts("chat")
    assert (chat.choose_api("completions"), chat.choose_api("batch-completions")) == ("chat", "batch")
    assert load_prompts("ours").choose_api("completions") == "completions"
    settings = request_settings("instructions", False, prompts=chat)
    asked = [
        build_body(Request(prompt="1.", **settings), "m", "chat"),
        build_body(Request(prompt="1.", **{**settings, "system": ""}), "m", "chat"),
    ]
    assert asked[0]["messages"][0] == {"role": "system", "content": chat.system}
    assert asked[1]["messages"][0]["content"] == CONTINUE_TEXT


# the shipped sets, held to the layout that their sources describe

ANY = r"(?:.|\n)+?"
ALPACA = r"###\n{n}\. Instruction: .+\n{n}\. Input:\n" + ANY + r"\n{n}\. Output:\n" + ANY + r"\n"
UNNATURAL = r"Example {n}\nInstruction: .+\nInput: " + ANY + r"\nConstraints: .+\n\n"
OSS = r"\n\n[^\n]+:\n```\n" + ANY + r"\n```\n\n[^\n]+:\n\n1\. \[Problem Description\]: .+\n\n2\. \[Solution\]: .+\n\n"


def numbered(layout, count):
    return "".join(layout.replace("{n}", str(number)) for number in range(1, count + 1))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        # encode_prompt: prompt.txt and a blank line, ### between tasks, each field numbered, the next number left open
        ("alpaca", ANY + r"\n\n" + numbered(ALPACA, 3) + r"###\n4\. Instruction:"),
        # figure 1: three examples of constant fields, and the heading of the fourth
        ("unnatural-instructions", numbered(UNNATURAL, 3) + r"Example 4\n"),
        # depth.py: what to do and the method, then the two headings
        ("evol-instruct", ANY + r"\n#The Given Prompt#:\n.+\n#Rewritten Prompt#:\n"),
        # pre_query_template
        ("magpie", r"<\|im_start\|>user\n"),
        # prompt.txt: a snippet between fences, then what belongs into the two sections
        ("oss-instruct", ANY + OSS + r"\[Problem Description\]\n"),
        # the hints, numbered, then the instructions, of which the model writes the first
        ("self-align", ANY + r"\n\n8 Hints:\n" + numbered(r"{n}\. .+, .+\n", 8) + r"\n8 Instructions:\n1\."),
        # the released code
        ("seeds-only", r"Come up with a series of tasks:\n" + numbered(r"{n}\. .+\n", 8) + r"9\."),
        ("classification", r"Come up with a series of classification tasks\. .+\n" + numbered(r"{n}\. .+\n", 8) + r"9\."),
        ("german", r"Denke dir eine Reihe von Aufgaben aus:\n" + numbered(r"{n}\. .+\n", 8) + r"9\."),
    ],
)  # fmt: skip
def test_the_prompt_has_the_layout_of_its_source(name, layout):
    prompts = load_prompts(name)
    assert prompts.layout.source, "every set names where it is from"
    human = choose_seed_instructions(prompts.seed_tasks, prompts.layout.classification_only)
    for request in build_round(
        random.Random(7), human, human, {**request_settings("instructions", False, prompts=prompts)}, prompts=prompts
    ):
        assert re.fullmatch(layout, request.prompt), request.prompt


def test_a_dozen_small_folders_are_shipped():
    names = list_prompt_sets()
    assert {
        "ours",
        "short",
        "chat",
        "seeds-only",
        "classification",
        "german",
        "alpaca",
        "unnatural-instructions",
        "evol-instruct",
    } <= set(names)
    assert {"magpie", "oss-instruct", "self-align"} <= set(names)
    for name in set(names) - {"ours", "published"}:
        assert len((PROJECT_ROOT / SETS / name / "prompt.yaml").read_text("utf-8").splitlines()) <= 15


def test_the_table_of_sets_counts_their_files_and_lines():
    page = (PROJECT_ROOT / SETS / "README.md").read_text("utf-8")
    for name in set(list_prompt_sets()) - {"published"}:
        files = [path for path in (PROJECT_ROOT / SETS / name).iterdir() if not path.name.startswith(".")]
        lines = sum(path.read_text("utf-8").count("\n") for path in files)
        assert f"| `{name}` | {len(files)} | {lines} |" in page, (name, len(files), lines)


def test_seeds_only_shows_no_machine_written_instruction():
    machine = [f"machine {number}" for number in range(9)]
    human = [task.instruction for task in load_prompts().seed_tasks]
    asked = {
        name: build_round(random.Random(1), human, machine, SETTINGS, prompts=load_prompts(name))
        for name in ("ours", "seeds-only")
    }
    shown = {name: sum("machine" in request.prompt for request in requests) for name, requests in asked.items()}
    assert shown == {"ours": 5, "seeds-only": 0}


def test_pieces_and_ways_to_rewrite_are_drawn_for_each_prompt():
    texts = [task.instruction for task in load_prompts().seed_tasks]
    for name in ("oss-instruct", "evol-instruct", "self-align"):
        prompts = load_prompts(name)
        asked = [
            build_round(random.Random(1), texts, [], SETTINGS, prompts=prompts, requests_per_round=8) for _ in (1, 2)
        ]
        assert asked[0] == asked[1] and len({request.prompt for request in asked[0]}) >= 5


# another language


def test_the_german_set_is_in_german_and_no_rule_that_knows_english_alone_is_in_its_way():
    german = load_prompts("german")
    assert len(german.seed_tasks) >= 40 and 8 <= sum(task.is_classification for task in german.seed_tasks) <= 12
    texts = [task.instruction for task in german.seed_tasks]
    assert [text for text in texts if instruction_rejection(text, "fixed")] == []
    assert any(
        instruction_rejection(text) == "non_ascii_start" for text in texts
    )  # as released, an Übersetze is dropped
    pool = build_pool([], "fixed")
    assert all(pool.admit([text])[0] for text in texts)
    assert not re.search(
        r"Task:|Output:|Example|classification", german.classification + german.output_first + german.input_first
    )


def test_german_answers_are_read_with_the_markers_of_the_set():
    german = load_prompts("german")
    assert [german.read_label(text) for text in (" Ja", " nein.", " Vielleicht")] == [" Yes", " No.", " Vielleicht"]
    text = "Beispiel 1\nSatz: Es regnet.\nAusgabe: Il pleut.\nBeispiel 2\nSatz: Ausgabe heute.\nAusgabe: x"
    found = parse_instances(german.to_english(text), "", False, "stop")
    assert found == [
        Instance(input="Satz: Es regnet.", output="Il pleut."),
        Instance(input="Satz: Ausgabe heute.", output="x"),
    ]
    found = parse_instances(german.to_english("Klasse: Ja\nSatz: a\nKlasse: Nein\nSatz: b"), "", True, "stop")
    assert [one.output for one in found] == ["Ja", "Nein"]
    assert request_settings("instances", False, prompts=german)["stop"] == ("Beispiel 6", "Aufgabe:")
    assert request_settings("instances", False, prompts=german, max_instances_to_generate=2)["stop"][0] == "Beispiel 3"


def test_a_whole_run_in_german_with_a_scripted_model():
    """Steps 1 to 4; every label of the model's is read, and no candidate falls to a rule for English."""
    german = load_prompts("german")
    texts = iter(GERMAN_ANSWERS)
    client = ScriptedClient(lambda request, number: completion(_answer_in_german(request.prompt, texts)))
    settings = request_settings("instructions", True, "fixed", prompts=german)
    given = {"quirks": "fixed", "prompts": german, "num_instructions_to_generate": 5, "num_prompt_instructions": 3}
    rounds = list(generate_instructions(client, german.seed_tasks, settings, **given))
    records = [record for one in rounds for record in one.admitted]
    assert [record.instruction[0] for record in records] == ["Ü", "Ü", "Ä", "Ö", "Ä"] and not any(
        one.rejected for one in rounds
    )
    answers = identify_classification(
        client, [one.instruction for one in records], german, request_settings("classification", True)
    )
    labels = parse_labels(answers)
    assert sorted(set(labels.values())) == [False, True]
    made = generate_instances(client, records, labels, german, request_settings("instances", True, prompts=german))
    tasks = [parse_task(one, labels[one.instruction], "fixed") for one in made]
    assert all(task.kept and task.kept[0].output == "Haus" for task in tasks)


GERMAN_ANSWERS = (
    "Übe ein kurzes Lied für das Fest", "Überlege dir fünf Fragen an den Bürgermeister", "Ändere die Reihenfolge der Sätze",
    "Ölmühle oder Bäckerei: nenne Vorteile", "Äpfel und Birnen: worin gleichen sie sich",
)  # fmt: skip


def _answer_in_german(prompt, texts):
    if prompt.endswith("Ist das eine Klassifikationsaufgabe?"):
        return " Ja" if "Ölmühle" in prompt else " Nein"
    if prompt.endswith("Klasse:"):
        return " Haus\nWort: Dach\nKlasse: Boot\nWort: Segel"
    return f" {next(texts)}." if prompt.startswith("Denke dir eine Reihe") else "Beispiel 1\nWort: Dach\nAusgabe: Haus"
