"""Well-known data sets read as their authors mean them, and no row is left out in silence."""

from __future__ import annotations

import csv
import gzip
import json

import pytest

from selfinstruct.data.datasets import load_dataset, load_datasets
from selfinstruct.data.rows import Row, is_blank
from selfinstruct.files import InputError
from selfinstruct.runfolder import RunFolder

Q, A = "Name a colour of the sky.", "Blue"
EXPECTED = Row(Q, "", A)


def say(role, content, **more):
    return {"role": role, "content": content, **more}


USER, MODEL = say("user", Q), say("assistant", A)
LATER = [say("user", "Another one?"), say("assistant", "Grey")]
TOOLS = [{"id": "1", "function": {"name": "look", "arguments": "{}"}}]
ONE_QUESTION = {
    "alpaca": {"instruction": Q, "input": "", "output": A, "text": f"Below is an instruction ...{Q}"},
    "dolly": {"instruction": Q, "context": "", "response": A, "category": "open_qa"},
    "gpteacher": {"instruction": Q, "input": "", "response": A},
    "lamini": {"instruction": Q, "response": A, "instruction_source": "alpaca"},
    "evol_codealpaca": {"instruction": Q, "output": A},
    "answer": {"instruction": Q, "answer": A},
    "completion": {"instruction": Q, "completion": A},
    "target": {"instruction": Q, "target": A},
    "chosen": {"instruction": Q, "chosen": A, "rejected": "Green"},
    "capitals": {"Instruction": Q, "Input": "", "Output": A},
    "gsm8k": {"question": Q, "answer": A},
    "open_orca": {"id": "1", "system_prompt": "Be brief.", "question": Q, "response": A},
    "metamath": {"query": Q, "response": A, "type": "x"},
    "numina": {"problem": Q, "solution": A},
    "flan": {"inputs": Q, "targets": A, "task": "qa:2"},
    "input_output": {"input": Q, "output": A},
    "gpt4all": {"prompt": Q, "response": A},
    "dpo": {"prompt": Q, "chosen": A, "rejected": "Green"},
    "released_finetuning": {"prompt": Q, "completion": f"{A}<|endoftext|>"},
    "natural_instructions": {
        "Contributors": ["a"], "Definition": [Q], "Positive Examples": [{"input": "x", "output": "y", "explanation": "z"}],
        "Instances": [{"id": "t-1", "input": "", "output": [A]}],
    },
    "natural_instructions_columns": {"task_name": "t", "id": "1", "definition": Q, "inputs": "", "targets": A},
    "unnatural_instructions": {
        "instruction": Q, "instances": [{"instruction_with_input": Q, "input": "", "constraints": "None.", "output": A}],
        "reformulations": [],
    },
    "openai_chat": {"messages": [say("system", "Be brief."), USER, MODEL, *LATER], "weight": 1},
    "no_robots": {"prompt": Q, "prompt_id": "1", "messages": [USER, MODEL], "category": "qa"},
    "model_begins": {"messages": [say("assistant", "Hello!"), USER, MODEL]},
    "system_in_between": {"messages": [USER, say("system", "Be brief."), MODEL]},
    "tool_first": {
        "messages": [USER, say("assistant", None, tool_calls=TOOLS), say("tool", "sky: blue", tool_call_id="1"), MODEL]
    },
    "thinks_in_parts": {
        "messages": [USER, say("assistant", [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": A}])]
    },
    "parts_with_value": {
        "messages": [say("user", [{"type": "text", "value": Q}]), say("assistant", [{"type": "text", "value": A}])]
    },
    "plain_parts": {"messages": [say("user", [Q]), say("assistant", [A])]},
    "sharegpt": {"id": "x", "conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]},
    "sharegpt_roles": {"conversations": [USER, MODEL]},
    "sharegpt_names": {"conversations": [{"from": "User", "value": Q}, {"from": "chatgpt", "value": A}]},
    "sharegpt_begun_by_model": {
        "conversations": [{"from": "gpt", "value": "Hi!"}, {"from": "human", "value": Q}, {"from": "gpt", "value": A}]
    },
    "sharegpt_under_messages": {"messages": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]},
    "function_calls": {
        "conversations": [
            {"from": "human", "value": Q}, {"from": "function_call", "value": "{}"}, {"from": "observation", "value": "blue"},
            {"from": "gpt", "value": A},
        ],
        "tools": "[]",
    },
    "ultrachat": {"id": "0", "data": [Q, A, "Another one?", "Grey"]},
    "lima": {"conversations": [Q, A], "source": "stackexchange"},
    "ultrafeedback": {"prompt": Q, "chosen": [USER, MODEL], "rejected": [USER, say("assistant", "Green")]},
    "prompt_and_completion_as_messages": {"prompt": [USER], "completion": [MODEL]},
    "text_prompt_and_chosen_messages": {"prompt": Q, "chosen": [MODEL], "rejected": [say("assistant", "Green")]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": Q}]}, {"role": "model", "parts": [{"text": A}]}]},
    "cohere": {"messages": [say("System", "x"), say("User", Q), say("Chatbot", A)]},
    "guanaco": {"text": f"### Human: {Q}### Assistant: {A}### Human: Another one?"},
    "hh": {"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: Green"},
    "oasst_tree": {
        "message_tree_id": "1", "tree_state": "ready_for_export",
        "prompt": {
            "message_id": "1", "text": Q, "role": "prompter", "replies": [
                {"message_id": "2", "text": "Green", "role": "assistant", "rank": 1, "replies": []},
                {"message_id": "3", "text": A, "role": "assistant", "rank": 0, "replies": []},
            ],
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ONE_QUESTION)
def test_well_known_data_sets(name):
    dataset = load_dataset([ONE_QUESTION[name]])
    assert (dataset.rows, dataset.left_out) == ([EXPECTED], ())


def test_messages_one_a_row_as_openassistant_has_them():
    rows = [
        {"message_id": "a", "parent_id": None, "text": Q, "role": "prompter", "rank": None},
        {"message_id": "b", "parent_id": "a", "text": "Green", "role": "assistant", "rank": 1},
        {"message_id": "c", "parent_id": "a", "text": A, "role": "assistant", "rank": 0},
        {"message_id": "d", "parent_id": "c", "text": "Another?", "role": "prompter", "rank": None},
        {"message_id": "e", "parent_id": None, "text": "Anybody?", "role": "prompter", "rank": None},
    ]
    dataset = load_dataset(rows)
    assert dataset.rows == [EXPECTED]
    assert dataset.left_out == (
        "read 1 of 2 rows; left out: row 5: \"prompt\" needs a user's and an assistant's message, in this order; its "
        "roles: prompter",
    )


def test_questions_in_a_row_are_one_question():
    chat = [say("user", "Look up."), USER, MODEL]
    assert load_dataset([{"messages": chat}]).rows == [Row(f"Look up.\n{Q}", "", A)]


def test_what_is_not_used_is_said():
    def notes(*rows):
        return "; ".join(load_dataset(rows).notes)

    assert "2 rows with system messages, not used" in notes(*[{"messages": [say("system", "x"), USER, MODEL]}] * 2)
    assert "1 row in which the model speaks first" in notes(ONE_QUESTION["model_begins"])
    assert "1 row with thinking parts, not used" in notes(ONE_QUESTION["thinks_in_parts"])
    assert "read question as instruction, answer as output" in notes(ONE_QUESTION["gsm8k"])
    assert "not used: rejected" in notes(ONE_QUESTION["dpo"])
    assert "not used: response" in notes({"instruction": Q, "output": A, "response": "Green"})
    assert "not used: antwort" in notes({"instruction": Q, "antwort": A})  # else an instruction without an output
    assert '1 row with several texts as "output"' in notes({"instruction": Q, "output": [A, "Grey"]})
    assert '1 row with a number as "output", read as text' in notes({"instruction": Q, "output": 7})
    assert load_dataset([{"instruction": Q, "input": "", "output": A}]).notes == ()


@pytest.mark.parametrize("blank", [" ", "\n\t", "\u3000", "\u200b", "\ufeff \u00a0"])
def test_blanks_are_no_input_and_no_instruction(blank):
    assert is_blank(blank)
    dataset = load_dataset([{"instruction": Q, "input": blank, "output": A}])
    assert dataset.rows == [EXPECTED]
    assert dataset.notes == ("1 row with blanks as input, read as empty",)
    with pytest.raises(InputError, match='row 1: "instruction" is empty'):
        load_dataset([{"instruction": blank, "input": "", "output": A}])


def test_inputs_that_stand_for_none_are_counted_and_kept():
    rows = [{"instruction": Q, "input": text, "output": A} for text in ("<noinput>", "N/A", "Not now")]
    dataset = load_dataset(rows)
    assert [row.input for row in dataset.rows] == ["<noinput>", "N/A", "Not now"]
    assert dataset.notes == ("2 rows with an input such as <noinput> or N/A, counted as an input",)


GOOD = {"instruction": Q, "input": "", "output": A}
LEFT_OUT = {
    "no_instruction": ({**GOOD, "instruction": ""}, '"instruction" is empty'),
    "null_instruction": ({**GOOD, "instruction": None}, '"instruction" is empty'),
    "empty_object": ({}, "an empty object"),
    "all_null": (dict.fromkeys(GOOD), '"instruction" is empty'),
    "nested": ({**GOOD, "output": {"text": A}}, "\"output\" is {'text': 'Blue'}; expected text"),
    "no_instances": ({"instruction": Q, "instances": []}, '"instances" is an empty list'),
    "only_a_question": ({"messages": [USER]}, "its roles: user"),
    "only_the_model": ({"messages": [MODEL]}, "its roles: assistant"),
    "no_messages": ({"messages": []}, "its roles: none"),
    "null_messages": ({"messages": None}, '"messages" must be a list of {role, content}'),
    "nobody": ({"messages": [{"content": Q}]}, "its roles: none"),
    "strangers": ({"conversations": [{"from": "x", "value": Q}, {"from": "y", "value": A}]}, "its roles: x, y"),
    "picture": ({"messages": [say("user", [{"type": "image_url", "image_url": {}}]), MODEL]}, "a part that is no text"),
    "nothing_asked": ({"messages": [say("user", "  "), MODEL]}, '"messages" is empty'),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_row_that_cannot_be_used_is_named_and_the_rest_read(tmp_path, case):
    row, why = LEFT_OUT[case]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (GOOD, row, GOOD, row)))
    dataset = load_dataset(path)
    assert dataset.rows == [EXPECTED, EXPECTED]
    (line,) = dataset.left_out
    assert line.startswith("read 2 of 4 rows; left out: ") and line.endswith("(and 1 more)")
    assert "mine.jsonl:2: " in line and why in line
    assert line in dataset.notes
    _, problems = load_datasets(str(path), RunFolder(tmp_path / "run"))
    assert problems == [f"mine: {line}"]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"mine.jsonl:1: "):
        load_dataset(path)


def test_the_reasons_of_a_line_are_counted():
    rows = [GOOD, *({**GOOD, "output": {"a": i}} for i in range(9))]
    (line,) = load_dataset(rows).left_out
    assert line.count("expected text") == 5 and line.endswith("; and 4 more reasons")


def test_an_instance_that_cannot_be_used_takes_its_task_along():
    instances = [{"input": "", "output": A}, {"input": "", "output": {}}]
    dataset = load_dataset([{"instruction": "Go.", "instances": instances}, GOOD])
    assert dataset.rows == [EXPECTED] and "read 1 of 2 rows" in dataset.left_out[0]


def test_columns_may_be_left_away_where_they_are_empty():
    rows = [{"instruction": Q, "output": A}, {"instruction": "Add.", "input": "1 2", "output": "3"}]
    assert load_dataset(rows).rows == [EXPECTED, Row("Add.", "1 2", "3")]
    assert load_dataset(rows[::-1]).rows == [Row("Add.", "1 2", "3"), EXPECTED]
    with pytest.raises(InputError, match='row 2: missing "output"'):
        load_dataset([rows[0], {"instruction": Q}])


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8-sig") as out:
        table = csv.DictWriter(out, rows[0], delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    return path


def test_tables_of_text(tmp_path):
    rows = [
        {"instruction": Q, "input": "", "output": A},
        {"instruction": 'Say "a,\nb".', "input": "x" * 200_000, "output": "7"},
    ]
    plain, tabs = write_csv(tmp_path / "a.csv", rows), write_csv(tmp_path / "b.tsv", rows, "\t")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, tabs, tmp_path / "c.csv.gz"):
        dataset = load_dataset(path)
        assert dataset.rows == [EXPECTED, Row('Say "a,\nb".', "x" * 200_000, "7")]
        assert dataset.name in ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"instruction,output\nGo.,Gone.\nGo.,Gone.,now\n", "bad.csv:3: 3 cells; the header has 2"),
        (b"instruction,output\nGo.\n", "bad.csv:2: 1 cells; the header has 2"),
        (b"instruction,output\ncaf\xe9,b\n", "not UTF-8 text"),
        (b"instruction,output\n", "bad.csv: nothing in it"),
        (b"", "bad.csv: nothing in it"),
        (b"title,body\na,b\n", "bad.csv:2: fields: title, body; expected one of"),
        (b"instruction,output\n,b\n", 'bad.csv:2: "instruction" is empty'),
    ],
)
def test_a_table_of_text_that_cannot_be_read_is_named(tmp_path, text, said):
    (tmp_path / "bad.csv").write_bytes(text)
    with pytest.raises(InputError, match=said):
        load_dataset(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("value", "count", "note"),
    [
        ({"train": [GOOD], "test": [GOOD, GOOD]}, 3, "2 splits: train, test"),
        ({"train": [GOOD], "holdout": [GOOD]}, 2, "2 splits: train, holdout"),
        ({"a": [GOOD], "b": [{"instruction": Q, "output": A}], "c": []}, 2, "2 splits: a, b"),
        ({"version": 1, "data": [GOOD], "labels": ["x"]}, 1, "not used: labels"),
        ({"features": [{"name": "instruction"}], "rows": [{"row_idx": 0, "row": GOOD}]}, 1, None),
        ({"task": "qa", "data": [GOOD]}, 1, None),
        ({"Definition": [Q], "Instances": [{"input": "", "output": [A]}], "Categories": ["x"]}, 1, None),
        ({"messages": [USER, MODEL]}, 1, "first turns only"),
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_every_split_of_a_file_is_read(tmp_path, value, count, note, indent):
    (tmp_path / "data.json").write_text(json.dumps(value, indent=indent))
    dataset = load_dataset(tmp_path / "data.json")
    assert dataset.rows == [EXPECTED] * count
    assert any(note in one for one in dataset.notes) if note else dataset.notes == ()


def test_a_bad_row_of_a_split_is_named_with_its_split(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps({"train": [GOOD], "test": [GOOD, {**GOOD, "instruction": ""}]}))
    assert "data.json, test, row 2:" in load_dataset(tmp_path / "data.json").left_out[0]


def test_a_folder_of_several_kinds_reads_one_and_names_the_rest(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps(GOOD) + "\n")
    write_csv(tmp_path / "train.csv", [GOOD])
    dataset = load_dataset(tmp_path)
    assert (dataset.rows, dataset.notes) == ([EXPECTED], ("CSV files beside the JSON files left out: 1",))
    (tmp_path / "train.jsonl").unlink()
    assert load_dataset(tmp_path).rows == [EXPECTED]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (
            [f"写一首关于秋天的短诗{i}。" for i in range(19)] + ["Go home."],
            "19 of 20 instructions in a script without spaces (Cjk)",
        ),
        (["เขียนบทกวี"], "1 of 1 instructions in a script without spaces (Thai)"),
        (["秋の詩を書いてください"], "instructions in a script without spaces (Hiragana)"),
        (["Напиши стихотворение."], "1 of 1 instructions in another script than Latin (Cyrillic)"),
        (["写一首诗"] + [f"Go home, {i}." for i in range(20)], ""),  # fewer than one in twenty
        (["Écris un poème."], ""),
    ],
)
def test_scripts_that_the_measures_do_not_see_are_noted(texts, said):
    notes = load_dataset([{"instruction": text} for text in texts]).notes
    assert [said in note for note in notes] == ([True] if said else [])


def test_the_script_of_outputs_counts_by_itself():
    dataset = load_dataset([{"instruction": "Translate into Chinese: blue", "output": "蓝色的天空"}])
    assert [note.split(",")[0] for note in dataset.notes] == ["1 of 1 outputs in a script without spaces (Cjk)"]
