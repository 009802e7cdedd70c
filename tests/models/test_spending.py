"""Prices: the user's table first, then the data of genai-prices, never the network and never a guess. Limits: never passed."""

# ruff: noqa: SIM117  a server, and within it its client: nesting reads better than one long line
from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

import pytest
from genai_prices import Usage, __version__, calc_price
from helpers.asking import ask, asks
from helpers.places import TESTS
from helpers.scripted import ScriptedServer, answer

from selfinstruct.files import InputError, StoppedEarly
from selfinstruct.models.claims import Reservations
from selfinstruct.models.connection import connect
from selfinstruct.models.spending import Amount, Budget, load_price
from selfinstruct.models.store import ResponseStore
from selfinstruct.session import OWNER_VARIABLE, session_name


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"as_of": "2030-01-01", "models": {"gpt-4o": {"prompt": 9, "completion": 8, "batch": 0.25}}}')
    return path


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5", "gpt-5.4"])
def test_a_price_is_the_package_s_live_and_in_a_batch(model):
    price, tokens = load_price(model), Usage(input_tokens=3000, output_tokens=7000)
    for transport, context in (("live", None), ("batch", {"processing": "batch"})):
        expected = calc_price(tokens, model, provider_id="openai", price_context=context).total_price
        assert price.cost(3000, 7000, transport) == pytest.approx(float(expected))
    assert price.cost(3000, 7000, "batch") < price.cost(3000, 7000)
    assert price.as_of == f"genai-prices {__version__}"


def test_the_paper_s_model_costs_two_cents_for_a_thousand_tokens():
    assert load_price("davinci").cost(1000, 0) == load_price("davinci").cost(0, 1000) == pytest.approx(0.02)


def test_the_embedded_model_is_free():
    assert load_price("embedded").cost(1_000_000, 1_000_000) == 0


@pytest.mark.parametrize("model", ["a-model-nobody-knows", "gpt-4o-mini-and-mine", "tts-1", "", "scripted"])
def test_an_unknown_model_has_no_price(model):
    assert load_price(model) is None


def test_an_open_model_on_a_server_of_one_s_own_has_no_provider_s_price():
    name = "deepseek-r1:7b"
    assert calc_price(Usage(input_tokens=1000, output_tokens=0), name).total_price > 0  # by its name alone
    assert load_price(name) is None


def test_no_price_is_looked_up_in_the_network(monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *args, **kwargs: pytest.fail("the network"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: pytest.fail("the network"))
    assert load_price("gpt-4o").prompt > 0 and load_price("nobody") is None


@pytest.mark.parametrize("dated", ["gpt-4o-2024-08-06", "gpt-4o-2099-01-01", "gpt-4o-9901"])
def test_a_dated_name_has_its_family_s_price(dated, table):
    assert load_price(dated) == load_price("gpt-4o")
    assert load_price(dated, table).prompt == 9


def test_the_user_s_table_stands_first(table):
    price = load_price("gpt-4o", table)
    assert (price.prompt, price.completion, price.batch, price.as_of) == (9, 8, 0.25, "2030-01-01")
    assert load_price("gpt-4o-mini", table) == load_price("gpt-4o-mini")
    assert load_price("embedded", table).completion == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prices": {}}', r'prices\.json: no "models"; a price table looks like {"as_of": '),
        ('{"models": {"m": {"prompt": -1, "completion": 1}}}', r"prices\.json: m: needs .*0 or more"),
        ('{"models": {"m": 3}}', "needs prompt and completion"),
        ("{", "not JSON"),
    ],
)
def test_a_malformed_table_says_what_is_wrong(tmp_path, text, message):
    (tmp_path / "prices.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_price("m", tmp_path / "prices.json")


def test_the_table_in_the_message_is_one_that_can_be_read(tmp_path):
    (tmp_path / "wrong.json").write_text("[]")
    with pytest.raises(InputError) as error:
        load_price("gpt-4o", tmp_path / "wrong.json")
    (tmp_path / "right.json").write_text(str(error.value).partition("looks like ")[2])
    assert load_price("gpt-4o", tmp_path / "right.json").as_of == "2026-11-05"


# limits


def counted(prompt_tokens, completion_tokens, text: str = "x" * 8, latency_s: float = 0.01):
    """A server that says it used so many tokens; each costs a tenth of a cent at `prices`."""

    def respond(body):
        time.sleep(latency_s)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        return {**answer(body, text), "usage": usage}

    return respond


@pytest.mark.parametrize(
    "used", [5, 8, 200], ids=["less than expected", "all of max_tokens", "far more than max_tokens"]
)
def test_32_requests_in_flight_do_not_pass_a_cap_however_the_server_counts(store, prices, used):
    settings = {"store": store, "concurrency": 32, "max_cost_usd": 1.0, "price_table": prices}
    with ScriptedServer(counted(30, used)) as server, connect("scripted", server.url, **settings) as client:
        with pytest.raises(StoppedEarly, match=r"max_cost_usd=1 is reached: \$0\.\d+ spent by this command"):
            client.complete(asks(300))
        paid = len(server.bodies) * (30 + used) / 1000
        assert 1 - 2 * (30 + used) / 1000 < paid <= 1
        assert client.budget.spent.usd == pytest.approx(paid)


@pytest.mark.parametrize("count", [0, -500, True, "20", float("nan"), 10**30])
@pytest.mark.parametrize("limit", [{"max_cost_usd": 0.1}, {"max_tokens_total": 100}])
def test_a_usage_that_cannot_be_switches_no_limit_off(store, prices, count, limit):
    with ScriptedServer(counted(count, count)) as server:
        with connect("scripted", server.url, store=store, price_table=prices, concurrency=8, **limit) as client:
            with pytest.warns(UserWarning, match="usage cannot be"), pytest.raises(StoppedEarly, match="is reached"):
                client.complete(asks(60))
        assert 20 <= len(server.bodies) <= 25  # four tokens each, by their texts


def test_what_an_answer_of_no_use_cost_counts(store, prices):
    useless = {"choices": [{"text": None}], "usage": {"prompt_tokens": 10, "completion_tokens": 20}}
    with ScriptedServer(lambda body: useless) as server:
        settings = {"max_cost_usd": 0.1, "price_table": prices, "max_failures": 0}
        with connect("scripted", server.url, store=store, **settings) as client, pytest.raises(StoppedEarly):
            client.complete(asks(60))
        assert len(server.bodies) == 3


def test_a_cap_below_one_request_sends_none_and_says_what_one_may_cost(store, prices):
    with ScriptedServer(counted(3, 3)) as server:
        with connect("scripted", server.url, store=store, max_cost_usd=0.009, price_table=prices) as client:
            with pytest.raises(StoppedEarly, match=r"\$0\.0000 spent by this command.* the next may cost \$0\.0100"):
                client.complete(asks(3))
        assert server.bodies == []


def test_clients_of_one_command_that_are_open_at_once_share_its_cap(store, prices):
    settings = {"store": store, "max_cost_usd": 0.3, "price_table": prices}
    with ScriptedServer(counted(3, 3)) as server:
        with (
            connect("scripted", server.url, **settings) as first,
            connect("scripted", server.url, **settings) as second,
        ):
            first.complete(asks(30))
            with pytest.raises(StoppedEarly, match=r"max_cost_usd=0\.3 is reached"):
                second.complete([ask(f"another {number}") for number in range(50)])
        assert len(server.bodies) * 0.006 <= 0.3


def test_what_other_models_of_the_command_cost_counts_at_their_own_price(store, tmp_path):
    table = tmp_path / "table.json"
    table.write_text(
        json.dumps(
            {"models": {name: {"prompt": price, "completion": price} for name, price in (("a", 1000), ("b", 5000))}}
        )
    )
    settings = {"store": store, "max_cost_usd": 0.1, "price_table": table}
    with ScriptedServer(counted(3, 3)) as server:
        with connect("b", server.url, **settings) as client:
            client.complete(asks(2))  # 0.06 dollars
        with connect("a", server.url, **settings) as client, pytest.raises(StoppedEarly, match=r"\$0\.09\d* spent"):
            client.complete(asks(30))
        assert client.budget.spent.usd <= 0.1


KERNEL = """
import sys
sys.path.insert(0, {tests!r})
from helpers.asking import ask
from selfinstruct.files import StoppedEarly
from selfinstruct.models import connect
with connect("scripted", {url!r}, store={store!r}, max_cost_usd=0.3, price_table={prices!r}, concurrency=2) as client:
    try:
        client.complete([ask(f"{{sys.argv[1]}} {{number}}") for number in range(100)])
    except StoppedEarly as error:
        print(error)
"""


@pytest.mark.parametrize("used", [3, 20], ids=["less than expected", "far more than expected"])
def test_kernels_of_one_command_that_ask_at_once_keep_its_cap_together(store, prices, used):
    env = {**os.environ, OWNER_VARIABLE: str(os.getpid())}
    with ScriptedServer(counted(used, used, latency_s=0.1)) as server:
        code = KERNEL.format(tests=str(TESTS), url=server.url, store=str(store), prices=str(prices))
        started = [
            subprocess.Popen([sys.executable, "-c", code, name], env=env, stdout=subprocess.PIPE) for name in "abc"
        ]
        told = [kernel.communicate(timeout=60)[0] for kernel in started]
        assert all(b"max_cost_usd=0.3 is reached" in text for text in told)
        assert 0.25 < len(server.bodies) * 2 * used / 1000 <= 0.3
    with ResponseStore(store) as rows:
        assert len(rows) == len(server.bodies)


def test_what_a_killed_kernel_had_set_aside_is_free_again(store, prices):
    with ScriptedServer(counted(3, 3)) as server, ResponseStore(store) as rows:
        held = Reservations(rows, session_name())
        held.write(Amount(300, 0.3), excess=1)
        settings = {"store": store, "max_cost_usd": 0.3, "price_table": prices}
        with connect("scripted", server.url, **settings) as client:
            asking = threading.Thread(target=client.complete, args=(asks(2),))
            asking.start()
            time.sleep(0.2)
            assert server.bodies == []
            rows.run("UPDATE reserved SET started = started - 100")  # another process had that number
            asking.join(5)
        assert len(server.bodies) == 2


def test_requests_that_wait_for_room_go_in_turn_and_never_pass_the_limit():
    budget, stopped, order, rng = Budget(max_tokens_total=100), threading.Event(), [], random.Random(1)
    over = []

    def work(number):
        most = Amount(10)
        if budget.reserve(most, stopped) is None:
            order.append(number)
            over.append(budget.spent.tokens + budget.reserved.tokens)
            time.sleep(rng.random() / 100)
            budget.count(Amount(4))
            budget.settle(most, Amount(4))

    budget.find_spent = lambda: Amount(4 * (budget.succeeded))
    budget._read_again_at = time.monotonic() + 60
    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
        time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert order == sorted(order) and max(over) <= 100


def test_a_request_that_waits_for_room_leaves_when_all_is_stopped():
    budget, stopped = Budget(max_tokens_total=10), threading.Event()
    assert budget.reserve(Amount(8), stopped) is None
    waiting = threading.Thread(target=budget.reserve, args=(Amount(8), stopped))
    waiting.start()
    time.sleep(0.05)
    assert waiting.is_alive()
    stopped.set()
    waiting.join(2)
    assert not waiting.is_alive()
