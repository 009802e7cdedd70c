"""Prices: the user's table first, then the data of genai-prices, never the network and never a guess."""

from __future__ import annotations

import socket

import pytest
from genai_prices import Usage, __version__, calc_price

from selfinstruct.files import InputError
from selfinstruct.models.spending import load_price


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
