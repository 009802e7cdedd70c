"""Claims: of several clients on one store one asks, all use its answer, and whoever dies or fails leaves it to others."""

# ruff: noqa: SIM117  a server, and within it its client: nesting reads better than one long line
from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers.asking import ask, asks, row
from helpers.scripted import Reply, ScriptedServer, prompt_of

from selfinstruct.files import StoppedEarly
from selfinstruct.models.claims import Claims
from selfinstruct.models.connection import connect
from selfinstruct.models.store import ResponseStore

CLAIMER = """
import sys, time
from selfinstruct.models.claims import Claims
from selfinstruct.models.store import ResponseStore
print(Claims(ResponseStore(sys.argv[1])).take(sys.argv[2], lasts_s=600), flush=True)
time.sleep(60)
"""


class EachTimeAnother:
    """A model that never says the same twice: whoever pays has an answer of their own."""

    def __init__(self):
        self.numbers = itertools.count()

    def __call__(self, body: dict) -> str:
        return f" answer {next(self.numbers)} to {prompt_of(body)}"


def claim_from_elsewhere(path, key: str, lasts_s: float) -> None:
    with ResponseStore(path) as store, store.transaction() as execute:
        claim = (key, "another", "another machine", 1, 1.0, time.time() + lasts_s)
        execute("INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?)", claim)


def count_claims(path) -> int:
    with ResponseStore(path) as store:
        return len(store.run("SELECT key FROM claims"))


def find_key(client, request) -> str:
    return client._make_job(request).key


# who asks


def test_of_many_clients_one_pays_for_each_request_and_all_get_its_answer(store, prices):
    """Each in a thread with a connection of its own, on a store that is not there yet."""
    texts, paid = [], []

    def work() -> None:
        with connect("scripted", server.url, store=store, concurrency=4, price_table=prices) as client:
            texts.append([completion.text for completion in client.complete(asks(10))])
            paid.append(client.usage)

    with ScriptedServer(EachTimeAnother(), latency_s=0.02) as server:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(server.bodies) == 10
    assert len(texts) == 4 and all(one == texts[0] for one in texts)
    assert sum(usage.requests - usage.cached for usage in paid) == 10
    assert sum(usage.spent_usd for usage in paid) == pytest.approx(paid[0].cost_usd)  # others' answers cost nothing
    assert count_claims(store) == 0


def test_an_answer_that_came_first_is_the_answer(store):
    """From a client that knows of no claims: an import, or an earlier version of the kit."""
    with ScriptedServer(lambda body: meanwhile() or " ours") as server:
        with connect("scripted", server.url, store=store) as client:
            job = client._make_job(ask())
            earlier = row().model_copy(update={"key": job.key, "request": job.canonical})

            def meanwhile() -> None:
                with ResponseStore(store) as other:
                    assert other.put(earlier)

            (completion,) = client.complete([ask()])
    assert completion.text == " é 漢"
    assert len(server.bodies) == 1


def test_a_request_that_fails_is_free_at_once(store):
    with ScriptedServer(lambda body: Reply(400, {"error": {"message": "no"}})) as server:
        with connect("scripted", server.url, store=store) as client, pytest.raises(Exception, match="every request"):
            client.complete([ask()])
    assert count_claims(store) == 0


def test_an_error_of_ours_leaves_no_claim(store, monkeypatch):
    with ScriptedServer(lambda body: "x") as server, connect("scripted", server.url, store=store) as client:
        monkeypatch.setattr(client.store, "put", lambda stored: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            client.complete([ask()])
    assert count_claims(store) == 0


# who waits


def test_waiting_holds_no_thread_and_the_bar_is_true(store):
    """Another machine asks for one of five: the other four are asked by the only thread, and then the answer is there."""
    news = []
    with ScriptedServer(EachTimeAnother()) as server:
        with connect("scripted", server.url, store=store, concurrency=1) as client:
            job = client._make_job(asks(5)[0])
            claim_from_elsewhere(store, job.key, 600)
            client.on_progress = lambda *one: news.append(one)

            def answer_from_elsewhere() -> None:
                while len(server.bodies) < 4:
                    time.sleep(0.01)
                time.sleep(0.2)
                with ResponseStore(store) as other:
                    other.settle(row().model_copy(update={"key": job.key, "request": job.canonical}))

            other = threading.Thread(target=answer_from_elsewhere)
            other.start()
            first, *rest = client.complete(asks(5))
            other.join()
    assert (first.text, first.cached, [one.cached for one in rest]) == (" é 漢", True, [False] * 4)
    assert len(server.bodies) == 4
    assert [answered for answered, *_ in news] == sorted(answered for answered, *_ in news)
    assert any("1 asked by another command" in state for *_, state in news)
    assert news[-1][:2] == (5, 5) and "1 cached" in news[-1][2] and "asked by" not in news[-1][2]


def test_what_others_paid_is_not_ours_even_where_we_are_stopped(store, prices):
    """An answer comes from elsewhere, then Ctrl-C."""
    with ScriptedServer(EachTimeAnother()) as server:
        with connect("scripted", server.url, store=store, concurrency=1, price_table=prices) as client:
            job = client._make_job(ask("theirs"))
            claim_from_elsewhere(store, job.key, 600)

            def come(progress) -> list:
                client._arrived[job.key] = row()
                client._of_others.add(job.key)
                raise KeyboardInterrupt

            client._wait_for_others = come
            with pytest.raises(StoppedEarly):
                client.complete([ask("theirs"), ask("ours")])
    assert (client.usage.requests, client.usage.cached) == (2, 1)
    assert 0 < client.usage.spent_usd < client.usage.cost_usd


def test_ctrl_c_ends_the_wait_for_others(store):
    with ScriptedServer(EachTimeAnother()) as server, connect("scripted", server.url, store=store) as client:
        claim_from_elsewhere(store, find_key(client, ask()), 600)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        interrupt = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
        started = time.monotonic()
        interrupt.start()
        with pytest.raises(StoppedEarly, match="Ctrl-C"):
            client.complete([ask()])
        signal.signal(signal.SIGINT, before)
        assert time.monotonic() - started < 5 and server.bodies == []


# when a claim ends


def test_a_claim_ends_with_its_process(store):
    claimer = subprocess.Popen([sys.executable, "-c", CLAIMER, str(store), "k"], stdout=subprocess.PIPE, text=True)
    assert claimer.stdout.readline() == "True\n"
    with ResponseStore(store) as opened:
        ours = Claims(opened)
        assert not ours.take("k", 600) and ours.find_free(["k", "other"]) == {"other"}
        claimer.kill()
        claimer.communicate()
        assert ours.find_free(["k"]) == {"k"} and ours.take("k", 600)


def test_a_claim_ends_with_its_time_whoever_made_it(store):
    with ResponseStore(store) as opened:
        first, second = Claims(opened), Claims(opened)
        assert first.take("k", 0.05) and not second.take("k", 600)
        assert first.take("k", 0.05)  # one's own is no obstacle
        time.sleep(0.06)
        assert second.find_free(["k"]) == {"k"} and second.take("k", 600)
        first.release(["k"])  # too late: it is another's by now
        assert not first.take("k", 600)


@pytest.mark.parametrize(("lasts_s", "free"), [(600, False), (-1, True)])
def test_of_another_machine_only_the_time_is_known(store, lasts_s, free):
    claim_from_elsewhere(store, "k", lasts_s)
    with ResponseStore(store) as opened:
        assert Claims(opened).take("k", 600) is free


def test_a_claim_of_a_pid_that_another_process_has_now_is_free(store):
    with ResponseStore(store) as opened:
        assert Claims(opened).take("k", 600)
        opened.run("UPDATE claims SET started = started - 100")
        assert Claims(opened).take("k", 600)


def test_what_is_stored_cannot_be_claimed(store):
    with ResponseStore(store) as opened:
        opened.put(row())
        assert not Claims(opened).take(row().key, 600)
