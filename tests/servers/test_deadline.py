"""The deadline of a whole request, against servers that hang, drip, ask for patience or fail."""

# ruff: noqa: SIM117  a server, and within it its client: nesting reads better than one long line
from __future__ import annotations

import re
import time
from collections import Counter

import pytest
from helpers.asking import ask, echo
from helpers.scripted import Reply, ScriptedServer, prompt_of

from selfinstruct.models.connection import connect

SLOW = {
    "drips": lambda body: Reply(body=b'{"choices": [{"text": "so"}]}', drip_s=0.05),
    "hangs": lambda body: Reply(body=b"", delay_s=5),
    "says try later": lambda body: Reply(429, {"error": {"message": "slow down"}}, headers={"Retry-After": "20"}),
    "fails": lambda body: Reply(500, {"error": {"message": "broken"}}, headers={"Retry-After": "20"}),
    "sends garbage at once": lambda body: Reply(body=b"<html>"),
    "sends garbage slowly": lambda body: Reply(body=b"<html>", delay_s=0.4),
}


@pytest.mark.parametrize("how", SLOW)
def test_a_whole_request_ends_at_its_deadline_whatever_the_server_does(store, how):
    with ScriptedServer(lambda body: SLOW[how](body) if prompt_of(body) == "p" else "fine") as server:
        with connect("scripted", server.url, store=store, timeout_s=0.8) as client:
            client.complete([ask("q")])
            started = time.monotonic()
            (completion,) = client.complete([ask("p")])
            assert time.monotonic() - started < 1.6
            assert re.search(
                "no answer within 0.8 s, retries included|not JSON|429: slow|500: broken", completion.error
            )
            assert client.complete([ask("r")])[0].text == "fine"  # the connection that was left disturbs nobody


def test_a_server_that_hangs_once_is_asked_again_within_the_deadline(store):
    tried = Counter()

    def once(body):
        tried[prompt_of(body)] += 1
        return Reply(delay_s=5) if tried[prompt_of(body)] == 1 else echo(body)

    with ScriptedServer(once) as server, connect("scripted", server.url, store=store, timeout_s=4) as client:
        started = time.monotonic()
        assert client.complete([ask()])[0].text == " p!"
    assert time.monotonic() - started < 4


def test_without_a_deadline_of_one_s_own_it_depends_on_max_tokens(store):
    with connect("scripted", "http://127.0.0.1:1/v1", store=store) as client:
        assert [client.endpoint.find_patience({"max_tokens": tokens}) for tokens in (3, 1024)] == [301.5, 812]
