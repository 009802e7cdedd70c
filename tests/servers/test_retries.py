"""When a request is sent again: what a busy server asks for, or pauses that grow, with the advice to go slower."""

# ruff: noqa: E501, SIM117  tables; a server, and within it its client
from __future__ import annotations

import threading
import time
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from helpers.asking import ask, asks, echo
from helpers.scripted import Reply, ScriptedServer

from selfinstruct.files import EndpointError
from selfinstruct.models.connection import connect
from selfinstruct.servers import retries

LIMIT = {"error": {"message": "Rate limit reached for requests per minute (limit 3)", "code": "rate_limit_exceeded"}}


def failed(status, **headers):
    return SimpleNamespace(status_code=status, response=SimpleNamespace(headers=headers), code=None)


def pauses(status, **headers) -> list[float]:
    found = []
    while (pause := retries.find_pause(failed(status, **headers), len(found))) is not None:
        found.append(pause)
    return found


def test_pauses_for_a_busy_server_grow_to_a_minute():
    found = pauses(429)
    expected = [2, 4, 8, 16, 32, 60]
    assert len(found) == 6 and all(
        0.75 * base <= pause <= 1.25 * base for pause, base in zip(found, expected, strict=True)
    )
    assert pauses(429) != found  # so that those who were refused together do not come back together


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
def test_other_faults_pass_in_seconds(status):
    assert len(pauses(status)) == 4 and sum(pauses(status)) < 12


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_is_wrong_stays_wrong(status):
    assert pauses(status) == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3), ({"retry-after-ms": "250"}, 0.25), ({"retry-after": "0.5"}, 0.5), ({"retry-after-ms": "nonsense", "retry-after": "2"}, 2),
        ({"retry-after": "soon"}, None), ({"retry-after": "-5"}, 0), ({}, None), ({"retry-after": "nan"}, 0),
    ],
)  # fmt: skip
def test_what_a_server_asks_for_is_read(headers, seconds):
    assert retries.read_retry_after(headers) == seconds


def test_a_date_to_retry_after_is_read():
    found = retries.read_retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)})
    assert 28 <= found <= 31
    assert retries.read_retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


def test_an_hour_is_not_waited_for():
    assert pauses(429, **{"retry-after": "3600"}) == []


@pytest.mark.parametrize("headers", [{"retry-after-ms": "30"}, {"Retry-After": "0.03"}])
def test_what_a_server_asks_for_is_waited(store, headers):
    replies = [Reply(429, LIMIT, headers), Reply(429, LIMIT, headers)]
    started = time.monotonic()
    with ScriptedServer(lambda body: replies.pop() if replies else echo(body)) as server:
        with connect("scripted", server.url, store=store) as client:
            assert client.complete([ask()])[0].error is None
    assert time.monotonic() - started < 1.9  # and not the two seconds and more of our own


def test_the_advice_after_all_pauses_names_the_parameter(store, monkeypatch):
    monkeypatch.setattr(retries, "FIRST_BUSY_PAUSE_S", 0.001)
    with (
        ScriptedServer(lambda body: Reply(429, LIMIT)) as server,
        connect("scripted", server.url, store=store) as client,
    ):
        with pytest.raises(EndpointError, match=r"429: Rate limit reached.*; too fast.*set requests_per_minute"):
            client.complete([ask()])
    assert len(server.bodies) == 7


def test_no_credit_is_not_waited_for(store):
    reply = Reply(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    with ScriptedServer(lambda body: reply) as server, connect("scripted", server.url, store=store) as client:
        with pytest.raises(EndpointError, match="no credit left"):
            client.complete([ask()])
    assert len(server.bodies) == 1


def test_a_pause_ends_with_the_run(store):
    """Nobody waits a minute for what is no longer wanted."""
    with ScriptedServer(lambda body: Reply(429, LIMIT, {"Retry-After": "60"})) as server:
        with connect("scripted", server.url, store=store, concurrency=4) as client:
            threading.Timer(0.3, lambda: client._stopped.set()).start()
            started = time.monotonic()
            with pytest.raises(EndpointError):
                client.complete(asks(1))
    assert time.monotonic() - started < 5
