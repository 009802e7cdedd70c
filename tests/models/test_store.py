"""The store: one key for one request, nothing lost to kill -9, several writers at a time, and exports that replay."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from helpers.asking import ANSWER, ask, asks, echo, row
from helpers.places import TESTS
from helpers.scripted import ScriptedServer

from selfinstruct.files import EndpointError, InputError, SelfInstructError, write_records
from selfinstruct.models import store as store_module
from selfinstruct.models import upkeep
from selfinstruct.models.connection import connect
from selfinstruct.models.endpoint import RequestFailed
from selfinstruct.models.protocol import dump_canonical, make_job, request_key
from selfinstruct.models.store import ResponseStore, count_calls
from selfinstruct.models.upkeep import (
    drop_responses,
    export_responses,
    find_keys,
    import_responses,
    list_responses,
    verify_store,
)
from selfinstruct.records import Request
from selfinstruct.session import session_name

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


def test_answers_are_read_without_their_requests(path):
    """Of 52,000 prompts, which whoever asks has in memory, that is half a gigabyte."""
    with ResponseStore(path) as store:
        store.put_all(row("x" * 50_000 + str(number)) for number in range(100))
        keys = [one["key"] for one in store.scan(columns="key")]
        tracemalloc.start()
        answers = store.get_answers(keys)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(answers) == 100 and peak < 1_000_000
    assert all(answer.response == {"choices": ANSWER["choices"]} for answer in answers.values())


def test_a_flipped_bit_in_the_name_of_a_column_changes_no_answer(path):
    with ResponseStore(path) as store:
        store.put(row())
        store.run("ALTER TABLE responses RENAME COLUMN api TO Api")
        assert store.get_answers([row().key])[row().key].api == row().api


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


# several at once on a new store, and stores of before


def test_a_new_store_can_be_opened_while_another_command_makes_it(store):
    """The switch to write-ahead logging fails at once where another is at it, whatever the timeout."""
    other = sqlite3.connect(store, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    end = threading.Timer(0.2, other.execute, ("COMMIT",))
    end.start()
    with ResponseStore(store) as opened:
        assert opened.put(row())
    end.join()
    other.close()


def test_a_store_that_stays_locked_says_by_whom(store, monkeypatch):
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.1)
    ResponseStore(store).close()
    other = sqlite3.connect(store, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with (
        ResponseStore(store) as opened,
        pytest.raises(InputError, match=r"another command .* \(database is locked\); wait"),
    ):
        opened.put(row())
    other.close()


VERSION_1 = """
CREATE TABLE responses (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, api TEXT NOT NULL, endpoint TEXT NOT NULL, step TEXT NOT NULL,
    request TEXT NOT NULL, response TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, created_at TEXT NOT NULL, latency_s REAL NOT NULL, transport TEXT NOT NULL,
    session TEXT NOT NULL);
CREATE INDEX spending ON responses (session, model, transport, prompt_tokens, completion_tokens);
CREATE TABLE failures (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, step TEXT NOT NULL, request TEXT NOT NULL, error TEXT NOT NULL,
    failed_at TEXT NOT NULL, attempts INTEGER NOT NULL);
CREATE TABLE batches (
    tag TEXT PRIMARY KEY, batch_id TEXT NOT NULL, endpoint TEXT NOT NULL, status TEXT NOT NULL, submitted_at TEXT NOT NULL,
    keys TEXT NOT NULL, changes TEXT NOT NULL);
INSERT INTO failures VALUES ('k', 'm', '1', '{}', '500: broken', 'then', 2);
PRAGMA user_version=1;
"""


@pytest.fixture
def earlier(tmp_path):
    """A store as version 1 wrote it, with three responses and a failure."""
    path = tmp_path / "earlier.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(VERSION_1)
        for one in map(row, "pqr"):
            values = {
                **dict(one),
                "request": dump_canonical(one.request),
                "response": json.dumps(one.response, ensure_ascii=False),
            }
            db.execute(f"INSERT INTO responses VALUES ({','.join('?' * 14)})", [*values.values()][:14])
    return path


def test_a_store_of_before_replays_the_same_and_is_guarded_from_now_on(earlier):
    with ResponseStore(earlier) as store:
        assert store.get_many(row(one).key for one in "pqr") == {row(one).key: row(one) for one in "pqr"}
        assert [failure["attempts"] for failure in store.failures()] == [2]
        store.put_failure("k", "m", "1", {}, "502", "now", "<html>")
        assert [(failure["attempts"], failure["response"]) for failure in store.failures()] == [(3, "<html>")]
    assert verify_store(earlier) == (3, [])
    with sqlite3.connect(earlier) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        db.execute("UPDATE responses SET response = replace(response, '漢', '字')")
    assert len(verify_store(earlier)[1]) == 3


def test_many_at_once_bring_a_store_of_before_up_to_date(earlier):
    together, found = threading.Barrier(4), []

    def open_it() -> None:
        together.wait()
        with ResponseStore(earlier) as store:
            found.append(len(store))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 4


def test_a_migration_that_is_cut_short_leaves_the_store_as_it_was(earlier, monkeypatch):
    before = earlier.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(InputError, match="no such table: nowhere"):
        patch.setattr(store_module, "FROM_VERSION_1", (*store_module.FROM_VERSION_1, "DELETE FROM nowhere"))
        ResponseStore(earlier)
    assert earlier.read_bytes() == before
    assert verify_store(earlier) == (3, [])


# what is damaged


def test_a_flipped_bit_never_gives_another_answer(path):
    """It is reported, or the row is not found any more; 2 of 40 flips once gave another text in silence."""
    rows = {one.key: one for one in (row(f"prompt {number}") for number in range(60))}
    with ResponseStore(path) as store:
        store.put_all(rows.values())
    whole, rng, reported, harmless = path.read_bytes(), random.Random(1), 0, 0
    texts = [match.start() for match in re.finditer("é 漢".encode(), whole)]
    for at in [*rng.sample(texts, 20), *rng.sample(range(100, len(whole)), 60)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        try:
            with ResponseStore(path) as store:
                found = store.get_many(rows)
        except InputError as error:
            assert str(path) in str(error)
            reported += 1
            continue
        assert all(rows[key] == one for key, one in found.items() if one.session == "s")
        harmless += len(found) == len(rows)
    assert reported >= 20 and harmless  # a flip in free space, say


def test_a_damaged_schema_is_named_as_damage(path):
    """SQLite's own message quotes it, in bytes that are no text."""
    with ResponseStore(path) as store:
        store.put(row())
    path.write_bytes(path.read_bytes().replace(b"TABLE responses", b"TABL\xf3 responses"))
    with pytest.raises(InputError, match=r"the file is damaged .*import an export of it"):
        ResponseStore(path)


def test_a_changed_answer_stops_a_replay_and_says_how_to_ask_again(path):
    with ResponseStore(path) as store:
        store.put_all([row(), row("q")])
        store.run("UPDATE responses SET response = replace(response, '漢', '字') WHERE key = ?", (row().key,))
        for read in (store.get_many, store.get_answers):
            with pytest.raises(
                InputError, match=f"is not the one that was stored .* drop --store .* --key {row().key}"
            ):
                read([row().key])
            assert len(read([row("q").key])) == 1
        with pytest.raises(InputError, match="is not the one that was stored"):
            export_responses(path, path.parent / "out.jsonl")
    assert [path.name for path in path.parent.iterdir() if "out" in path.name] == []
    (fault,) = verify_store(path)[1]
    assert row().key in fault


@pytest.mark.parametrize(
    "change",
    [
        "finish_reason = 'length'",
        "completion_tokens = 1",
        "created_at = ''",
        "answer_sha256 = ''",
        "finish_reason = x'ff00'",
    ],
)
def test_every_fact_of_an_answer_is_hashed(path, change):
    with ResponseStore(path) as store:
        store.put(row())
        store.run(f"UPDATE responses SET {change}")
    assert len(verify_store(path)[1]) == 1


@pytest.mark.parametrize(
    "change", [{"response": {"choices": [{"text": "another"}]}}, {"finish_reason": "length"}, {"prompt_tokens": 1}]
)
def test_a_changed_answer_in_an_export_is_refused_with_its_line(path, tmp_path, change):
    with ResponseStore(path) as store:
        store.put_all([row(), row("q")])
    export_responses(path, tmp_path / "out.jsonl")
    first, second = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    write_records(tmp_path / "out.jsonl", [first, {**second, **change}])
    with pytest.raises(InputError, match=r"out\.jsonl:2: answer \w+ is not the one of its hash"):
        import_responses(tmp_path / "other.sqlite", tmp_path / "out.jsonl")
    assert not (tmp_path / "other.sqlite").exists()


def test_an_import_that_is_cut_short_adds_nothing(path, tmp_path, monkeypatch):
    source = write_records(tmp_path / "in.jsonl", [row(f"p{n}").model_dump(exclude={"session"}) for n in range(5)])
    with ResponseStore(path) as store:
        store.put(row("there already"))
    passes = iter(
        [lambda rows: rows, lambda rows: itertools.chain(itertools.islice(rows, 3), iter(lambda: 1 / 0, None))]
    )
    read = upkeep._read_export
    monkeypatch.setattr(upkeep, "_read_export", lambda source: next(passes)(read(source)))
    with pytest.raises(ZeroDivisionError):
        import_responses(path, source)
    with ResponseStore(path) as store:
        assert len(store) == 1


# what must go


def agree(question: str) -> bool:
    return True


@pytest.fixture
def filled(path):
    """Two steps of model m and one of another, and a failure."""
    with ResponseStore(path) as store:
        store.put_all([row("p"), row("q").model_copy(update={"step": "2"}), row("r").model_copy(update={"model": "n"})])
        store.put_failure("f" * 64, "m", "2", {}, "500", "now", "the body")
    return path


@pytest.mark.parametrize(
    ("chosen", "left", "failed"),
    [({"model": "m"}, "r", 0), ({"step": "2"}, "pr", 0), ({"step": "1"}, "q", 1), ({"model": "m", "step": "1"}, "qr", 1),
     ({"keys": [row("p").key, row("r").key]}, "q", 1), ({"keys": [row("p").key, row("r").key], "model": "n"}, "pq", 1),
     ({"keys": ["f" * 64]}, "pqr", 0)],
)  # fmt: skip
def test_drop_removes_what_is_named_and_nothing_else(filled, chosen, left, failed):
    drop_responses(filled, agree, **chosen)
    with ResponseStore(filled) as store:
        assert {one.key for one in store.rows()} == {row(prompt).key for prompt in left}
        assert len(store.failures()) == failed
    assert verify_store(filled) == (len(left), [])


def test_drop_says_what_goes_before_it_asks_and_a_no_leaves_all(filled):
    said = []
    assert drop_responses(filled, lambda question: said.append(question), model="m", tell=said.append) == 0
    assert said[0] == "m, completions at http://host/v1: 2 responses (step 1: 1, step 2: 1)"
    assert said[1].startswith("Drop 2 responses (6 + 4 tokens) and 1 record of failures? ")
    with ResponseStore(filled) as store:
        assert len(store) == 3


def test_what_was_dropped_is_gone_from_the_file(path):
    with ResponseStore(path) as store:
        store.put_all([row("a private matter"), row("q")])
        drop_responses(path, agree, keys=[row("a private matter").key])
    assert b"private" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_a_damaged_answer_can_be_dropped_even_where_its_key_is_what_is_damaged(filled):
    with ResponseStore(filled) as store:
        store.run("UPDATE responses SET key = 'x' || substr(key, 2), response = '' WHERE model = 'n'")
    (fault,) = verify_store(filled)[1]
    (key,) = re.findall(r"\(key (\w+)\)", fault)
    drop_responses(filled, agree, keys=find_keys(filled, [key]))
    assert verify_store(filled) == (2, [])


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, "name what must go"),
        ({"model": "x"}, "no responses of model 'x' in it; there are: m step 1, m step 2, n step 1"),
    ],
)
def test_drop_of_nothing_says_so(filled, chosen, message):
    with pytest.raises(SelfInstructError, match=message):
        drop_responses(filled, agree, **chosen)


def test_a_key_may_be_given_by_its_beginning(filled):
    assert find_keys(filled, [row("p").key[:12], "f" * 8]) == [row("p").key, "f" * 64]
    for beginning, message in (("0" * 12, "no key begins with"), (row("p").key[:7], "too short")):
        with pytest.raises(InputError, match=message):
            find_keys(filled, [beginning])


# evidence


def test_a_failure_keeps_the_body_of_the_response_as_evidence(store, monkeypatch):
    def fail(*_: object) -> None:
        raise RequestFailed("not JSON", "<html>what the proxy said \ud83d" + "x" * 200_000)

    with connect("scripted", "http://127.0.0.1:1/v1", store=store) as client:
        monkeypatch.setattr(client.endpoint, "ask", fail)
        with pytest.raises(EndpointError):
            client.complete([ask()])
    with ResponseStore(store) as opened:
        (failure,) = opened.failures()
    assert failure["response"].startswith("<html>what the proxy said ?xxx") and len(failure["response"]) == 100_000


# a full disk, and a file that cannot be written


def limit_size(store: ResponseStore, more_pages: int) -> None:
    """No more than a few pages more: SQLite's own "database or disk is full"."""
    (pages,) = store.run("PRAGMA page_count")[0]
    store.run(f"PRAGMA max_page_count={pages + more_pages}")


def test_a_full_disk_is_named_with_the_space_that_is_needed_and_nothing_is_half_written(path):
    with ResponseStore(path) as store:
        store.put(row())
        limit_size(store, 4)
        large = row("x" * 50_000)
        with pytest.raises(
            InputError, match=r"the disk is full \(.*, 0\.05\d MB needed, .* MB free\); free some space$"
        ):
            store.put(large)
        with pytest.raises(InputError, match="the disk is full"):
            store.put_all([row("y"), large])
        assert len(store) == 1 and store.put(row("small"))


def test_a_full_disk_ends_the_asking_before_more_is_paid(store, monkeypatch):
    """Each answer takes space, and nothing is asked that could not be kept."""
    usage = shutil.disk_usage(store.parent)
    free = iter([20_000_000] * 6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(free, 400_000)))
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store, concurrency=1) as client:
        said = r"the disk is full \(.*, 10\.000 MB needed, 0\.400 MB free\); free some space; 6 of 40 requests were answered"
        with pytest.raises(InputError, match=said):
            client.complete(asks(40))
        assert len(server.bodies) == 6
        assert len(client.complete(asks(6))) == 6  # what is there is there


@pytest.mark.parametrize(
    ("free", "message"), [(0, "the disk is full .*, 10.000 MB needed, 0.000 MB free"), (10**9, "cannot be used")]
)
def test_a_store_that_cannot_be_opened_on_a_full_disk_names_the_disk(path, monkeypatch, free, message):
    """There SQLite itself speaks of an input/output error."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    monkeypatch.setattr(sqlite3, "connect", Mock(side_effect=error))
    with pytest.raises(InputError, match=message):
        ResponseStore(path)


def test_a_folder_that_is_read_only_is_named(tmp_path, monkeypatch):
    (tmp_path / "s.sqlite").mkdir()  # root, who may write everywhere, cannot open this either
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(
        InputError, match=r"its folder is read-only; unable to open .*; choose a folder you may write to"
    ):
        ResponseStore(tmp_path / "s.sqlite")


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
