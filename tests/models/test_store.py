"""The store: one key for one request, nothing lost to kill -9, several writers at a time, and exports that replay."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from helpers.asking import ANSWER, row
from helpers.places import TESTS

from selfinstruct.files import InputError
from selfinstruct.models.protocol import make_job, request_key
from selfinstruct.models.session import session_name
from selfinstruct.models.store import ResponseStore, count_calls
from selfinstruct.models.upkeep import export_responses, import_responses, list_responses, verify_store
from selfinstruct.records import Request

WRITER = """
import sys
sys.path.insert(0, {tests!r})
from helpers.asking import row
from selfinstruct.models.store import ResponseStore
store = ResponseStore({path!r})
for number in range({count}):
    store.put(row("{prefix}%d" % number))
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "responses.sqlite"


def test_what_was_put_comes_back_whole(path):
    with ResponseStore(path) as store:
        assert store.put(row())
        assert store.get_many([row().key, "unknown"]) == {row().key: row()}
        assert len(store) == 1


def test_the_first_answer_stays(path):
    with ResponseStore(path) as store:
        store.put(row())
        assert not store.put(row().model_copy(update={"response": {"choices": [{"text": "another"}]}}))
        assert store.get_many([row().key])[row().key].response == {"choices": ANSWER["choices"]}


def test_a_response_keeps_the_order_of_its_fields(path):
    """A replay must give the bytes that the call gave."""
    with ResponseStore(path) as store:
        store.put(row())
        (again,) = store.get_many([row().key]).values()
    assert json.dumps(again.response) == json.dumps(row().response)


@pytest.mark.parametrize(
    "change",
    [{"max_tokens": 6}, {"temperature": 0.6}, {"top_p": 0.9}, {"frequency_penalty": 1.0}, {"presence_penalty": 1.0},
     {"stop": ("a",)}, {"logprobs": 1}, {"seed": 1}, {"sample_index": 1}],
)  # fmt: skip
def test_every_sampling_parameter_is_in_the_key(change):
    assert row(**change).key != row().key


@pytest.mark.parametrize(
    "place",
    [("n", "completions", "http://host/v1"), ("m", "chat", "http://host/v1"), ("m", "completions", "http://b/v1")],
)
def test_model_api_and_endpoint_are_in_the_key(place):
    request = Request(prompt="p", max_tokens=5, temperature=0.5, top_p=1.0)
    assert make_job(request, *place).key != row().key


def test_a_batch_job_and_a_live_chat_ask_for_the_same():
    request = Request(prompt="p", max_tokens=5, temperature=0.5, top_p=1.0)
    assert make_job(request, "m", "batch", "e").key == make_job(request, "m", "chat", "e").key


def test_an_answer_removes_the_record_of_the_failure(path):
    with ResponseStore(path) as store:
        for _ in range(2):
            store.put_failure(row().key, "m", "1", row().request, "500: broken", "now")
        (failure,) = store.failures()
        assert (failure["error"], failure["attempts"]) == ("500: broken", 2)
        store.put(row())
        assert store.failures() == []


def test_threads_and_processes_write_at_a_time(path):
    ResponseStore(path).close()
    code = [WRITER.format(tests=str(TESTS), path=str(path), prefix=name, count=60) for name in "ab"]
    writers = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.DEVNULL) for text in code]
    with ResponseStore(path) as store:
        threads = [
            threading.Thread(target=lambda n=n: [store.put(row(f"t{n}-{i}")) for i in range(50)]) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [writer.wait(60) for writer in writers] == [0, 0]
        assert len(store) == 60 * 2 + 50 * 4


def test_what_put_returned_from_survives_kill_9(path):
    code = WRITER.format(tests=str(TESTS), path=str(path), prefix="k", count=100_000)
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    told = [writer.stdout.readline() for _ in range(200)]
    os.kill(writer.pid, signal.SIGKILL)
    told += writer.communicate()[0].splitlines(keepends=True)
    confirmed = len([line for line in told if line.endswith("\n")])
    with ResponseStore(path) as store:
        assert confirmed <= len(store) <= confirmed + 1
    assert verify_store(path)[1] == []


def test_an_export_imports_elsewhere_and_replays_the_same(path, tmp_path):
    with ResponseStore(path) as store:
        rows = [row(f"p{number}") for number in range(5)]
        for one in rows:
            store.put(one)
    out, other = tmp_path / "out.jsonl", tmp_path / "other.sqlite"
    assert export_responses(path, out) == 5
    assert import_responses(other, out) == (5, 0)
    assert import_responses(other, out) == (0, 5)
    with ResponseStore(other) as store:
        assert [one.response for one in store.rows()] == [one.response for one in rows]
    assert verify_store(other) == (5, [])
    assert "session" not in json.loads(out.read_text().splitlines()[0])


def test_an_export_can_be_of_one_step(path, tmp_path):
    with ResponseStore(path) as store:
        store.put(row())
        store.put(row("q").model_copy(update={"step": "2"}))
    assert export_responses(path, tmp_path / "out.jsonl", step="2") == 1


def test_an_export_of_a_run_holds_its_answers_in_its_order_and_says_first_what_goes_out(path, tmp_path):
    with ResponseStore(path) as store:
        rows = [row(f"p{number}") for number in range(4)]
        for one in rows:
            store.put(one)
        store.put(row("q").model_copy(update={"step": "2"}))
    keys, said, out = [rows[2].key, row("q").key, "0" * 64, rows[0].key], [], tmp_path / "out.jsonl"

    def tell(line):
        assert not out.exists()
        said.append(line)

    assert export_responses(path, out, keys=keys, tell=tell) == 3
    assert [json.loads(line)["key"] for line in out.read_text().splitlines()] == [
        key for key in keys if key != "0" * 64
    ]
    assert said[0] == "m, completions at http://host/v1: 3 responses (step 1: 2, step 2: 1)"
    assert said[1].startswith("1 answer of the run is not in ") and said[2:] == ["  " + "0" * 64]


def test_an_export_of_a_run_whose_answers_are_elsewhere_writes_nothing(path, tmp_path):
    with ResponseStore(path) as store:
        store.put(row())
    with pytest.raises(InputError, match="no responses of the run in it; there are: m step 1"):
        export_responses(path, tmp_path / "out.jsonl", keys=["0" * 64])
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"model": "nope"}, r"no responses of model 'nope' in it; there are: m step 1, m step 2, other step -$"),
        ({"step": "7"}, r"no responses of step '7' in it; there are: m step 1, "),
        ({"model": "m", "step": "3"}, r"no responses of model 'm' of step '3' in it; there are: m step 1, "),
    ],
)
def test_an_export_of_nothing_says_what_there_is_and_writes_nothing(path, tmp_path, chosen, message):
    with ResponseStore(path) as store:
        store.put(row())
        store.put(row("q").model_copy(update={"step": "2"}))
        store.put(row("r").model_copy(update={"model": "other", "step": ""}))
    with pytest.raises(InputError, match=message):
        export_responses(path, tmp_path / "out.jsonl", **chosen)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_export_of_an_empty_store_says_so(path, tmp_path):
    ResponseStore(path).close()
    with pytest.raises(InputError, match=r"no responses in it; it is empty"):
        export_responses(path, tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"key": "0" * 64}, r"bad\.jsonl:2: key 000000000000 is not the hash"), ({"response": {"choices": []}}, "holds no choices"),
     ({"created_at": None}, r'bad\.jsonl:2: "created_at": .* a StoredResponse needs key, ')],
)  # fmt: skip
def test_a_changed_export_is_refused_whole(path, tmp_path, change, message):
    good = row().model_dump(exclude={"session"})
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(good) + "\n" + json.dumps({**good, **change}) + "\n")
    with pytest.raises(InputError, match=message):
        import_responses(path, bad)
    assert not path.exists()


def test_verify_finds_a_row_that_was_changed(path):
    with ResponseStore(path) as store:
        store.put(row())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE responses SET request = replace(request, '\"p\"', '\"q\"')")
    count, faults = verify_store(path)
    assert count == 1 and "is not the hash of its request" in faults[0]


def test_list_sums_by_model_and_step(path):
    with ResponseStore(path) as store:
        store.put(row())
        store.put(row("q"))
        store.put_failure("k", "m", "1", {}, "500", "now")
    (line,) = list_responses(path)
    assert (line["model"], line["step"], line["responses"], line["prompt_tokens"], line["failed"]) == (
        "m",
        "1",
        2,
        6,
        1,
    )


def test_a_store_that_is_not_there_is_not_made_by_looking(path):
    for look in (list_responses, verify_store):
        with pytest.raises(InputError, match="no such store"):
            look(path)
    assert not path.exists()


def test_a_file_that_is_no_store_says_so(tmp_path):
    path = tmp_path / "notes.sqlite"
    path.write_text("not a database at all, but long enough to look like a file of some kind" * 20)
    with pytest.raises(InputError, match="not a store of responses"):
        ResponseStore(path)


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose a folder you may write to"):
        ResponseStore(tmp_path / "file" / "responses.sqlite")


def test_a_later_version_is_left_alone(path):
    ResponseStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="later version"):
        ResponseStore(path)


def test_keys_are_sha256_of_the_sorted_request():
    assert request_key({"a": 1, "b": "é"}) == request_key({"b": "é", "a": 1})
    assert len(request_key({})) == 64


# was a model called?


def test_calls_are_counted_for_the_command_alone_and_a_failure_is_a_call(tmp_path):
    path, absent = tmp_path / "s.sqlite", tmp_path / "absent.sqlite"
    with ResponseStore(path) as store:
        before = count_calls([path, absent])
        store.put(row("of another command"))  # its session is "s"
        assert count_calls([path, absent]) == before
        store.put(row("of ours").model_copy(update={"session": session_name()}))
        answered = count_calls([path, absent])
        assert answered != before
        store.put_failure("k", "m", "1", {}, "503", "now")
        assert count_calls([path, absent]) != answered
    assert not absent.exists()


def test_a_store_that_cannot_be_read_never_counts_as_untouched(tmp_path):
    (tmp_path / "s.sqlite").write_text("no database, and long enough to be taken for one" * 50)
    assert count_calls([tmp_path / "s.sqlite"]) != count_calls([tmp_path / "s.sqlite"])
    assert count_calls([]) == {}
