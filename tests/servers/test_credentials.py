"""Keys and addresses as people paste them: they work or are refused in a sentence, and stand in no text of the kit's."""

# ruff: noqa: E501, RUF043, SIM117  tables of pasted text; a server, and within it its client
from __future__ import annotations

import base64
import json
import logging
from urllib.parse import quote

import pytest
from helpers.asking import ask, echo
from helpers.scripted import Reply, ScriptedServer, prompt_of

from selfinstruct.files import EndpointError, ParameterError, SelfInstructError
from selfinstruct.models.connection import connect
from selfinstruct.runfolder import open_run
from selfinstruct.runner.parameters import check_value
from selfinstruct.servers.credentials import Secrets, read_address, read_key

KEY = "sk-AbCd1234eFgH5678iJkL9012"
OTHER = "sk-ZyXw9876vUtS5432rQpO1098"


# keys


@pytest.mark.parametrize(
    "pasted",
    [
        KEY, f"  {KEY}\n", f"{KEY}\r\n", f"\t{KEY}\t", f'"{KEY}"', f"'{KEY}'", f"`{KEY}`", f"\ufeff{KEY}", f"{KEY}\u200b",
        f"{KEY[:9]}\u200b{KEY[9:]}", f"\xa0{KEY}\xa0", f"Bearer {KEY}", f"Authorization: Bearer {KEY}", f"OPENAI_API_KEY={KEY}",
        f"export OPENAI_API_KEY='{KEY}'", f'set OPENAI_API_KEY="{KEY}"', f'$env:OPENAI_API_KEY = "{KEY}"', f'"api_key": "{KEY}",',
        f"{KEY}\\n", f"{KEY};", f"OPENAI_API_KEY=Bearer {KEY}", f"\u2060{KEY}\u00ad", f"\n\n{KEY}\n\n",
    ],
)  # fmt: skip
def test_what_is_pasted_around_a_key_is_left_out(monkeypatch, pasted):
    monkeypatch.setenv("OPENAI_API_KEY", pasted)
    assert read_key("OPENAI_API_KEY") == KEY


@pytest.mark.parametrize("pasted", ["", " ", "\n", '""', "''", "\ufeff", "OPENAI_API_KEY="[-1]])
def test_nothing_is_no_key(monkeypatch, pasted):
    monkeypatch.setenv("OPENAI_API_KEY", pasted.strip("="))
    assert read_key("OPENAI_API_KEY") == ""


@pytest.mark.parametrize("key", ["QUJDREVGR0g=", "my_key==", "token_abc", "a.b.c-d_e/f+g=", "key-1", "EMPTY", "none"])
def test_an_odd_key_is_a_key(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert read_key("OPENAI_API_KEY") == key


WRONG_KEYS = {
    "line break": f"{KEY}\n{OTHER}", "line break of Windows": f"{KEY}\r\n{OTHER}", "two by blank": f"{KEY} {OTHER}", "two by comma": f"{KEY},{OTHER}",
    "cut by a tab": f"{KEY[:9]}\t{KEY[9:]}", "typographic quotes": f"\u201c{KEY}\u201d", "guillemets": f"\xab{KEY}\xbb", "dash": f"sk\u2013{KEY[3:]}",
    "a whole .env": f"OPENAI_API_KEY={KEY}\nOTHER={OTHER}", "cyrillic": f"{KEY}\u0430", "full width": f"{KEY}\uff01", "emoji": f"{KEY}\U0001f511",
    "ellipsis": f"{KEY[:9]}\u2026", "NBSP inside": f"{KEY[:9]}\xa0{KEY[9:]}", "line separator": f"{KEY}\u2028{OTHER}", "bell": f"{KEY}\x07", "latin-1": f"{KEY}\xe9",
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG_KEYS)
def test_a_key_that_is_none_is_one_sentence_and_no_request(store, monkeypatch, fault):
    monkeypatch.setenv("OPENAI_API_KEY", WRONG_KEYS[fault])
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store) as client:
        with pytest.raises(EndpointError, match="^OPENAI_API_KEY holds ") as caught:
            client.complete([ask()])
    assert server.bodies == []
    said = str(caught.value) + read_files(store.parent)
    assert KEY[3:] not in said and KEY[:9] not in said and OTHER[3:] not in said


def test_a_key_that_is_none_does_not_stop_a_replay(store, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store) as client:
        client.complete([ask()])
    monkeypatch.setenv("OPENAI_API_KEY", WRONG_KEYS["line break"])
    with connect("scripted", server.url, store=store) as client:
        assert client.complete([ask()])[0].cached


def read_files(folder) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


# hiding


def spellings(secret: str) -> dict[str, str]:
    return {
        "plain": secret, "header": f"b'Bearer {secret}'", "repr": repr(secret), "json": json.dumps(secret), "json twice": json.dumps(json.dumps(secret)),
        "url": quote(secret, safe=""), "query": f"?api-key={quote(secret)}&x=1", "small url": quote(secret, safe="").replace("%2F", "%2f"),
        "cut at the end": f"... key: {secret[:-4]}", "cut at the start": f"{secret[5:]} was refused", "middle": f"**{secret[4:-4]}**", "twice": secret + secret,
    }  # fmt: skip


@pytest.mark.parametrize("secret", [KEY, "pa/ss+wörd\"with'quotes\\and=signs&more"])
@pytest.mark.parametrize("spelling", spellings(KEY))
def test_a_secret_is_hidden_in_every_spelling(secret, spelling):
    hidden = Secrets(secret if secret == KEY else "", [secret]).hide(spellings(secret)[spelling])
    assert "[key]" in hidden
    longest = max(
        (size for size in range(8, 40) for start in range(len(secret)) if secret[start : start + size] in hidden),
        default=0,
    )
    assert longest == 0 or secret[:8] not in hidden


def test_every_cut_of_a_key_is_hidden():
    """The text may end anywhere within it: seven of its characters in a row stay at most."""
    secrets = Secrets(KEY)
    for end in range(1, len(KEY) + 1):
        left = secrets.hide(f"Incorrect API key provided: {KEY[:end]}").removeprefix("Incorrect API key provided: ")
        assert len(left.removesuffix("[key]")) < 8


def test_basic_authentication_is_hidden_in_base64():
    address = read_address("http://ann:s3cret@host/v1")
    header = base64.b64encode(b"ann:s3cret").decode()
    assert Secrets("", address.passwords).hide(f"Authorization: Basic {header}; ann:s3cret; s3cret") == (
        "Authorization: Basic [key]=; [key]; [key]".replace("=;", "=" * header.count("=") + ";")
    )


def test_a_models_text_loses_no_word_that_is_in_a_password():
    secrets = Secrets("", ["university-of-oslo-2024-abc", "oslo"])
    assert secrets.hide("A university in oslo.", answer=True) == "A university in oslo."
    assert secrets.hide("It is university-of-oslo-2024-abc.", answer=True) == "It is [key]."


def test_the_key_in_json_escapes_is_not_stored(store, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    escaped = "".join(f"\\u{ord(character):04x}" for character in KEY)
    with ScriptedServer(lambda body: Reply(body=f'{{"choices": [{{"text": " {escaped}"}}]}}'.encode())) as server:
        with connect("scripted", server.url, store=store) as client:
            (completion,) = client.complete([ask()])
    assert completion.text == " [key]" and KEY[3:] not in read_files(store.parent)


def test_no_part_of_a_key_is_in_what_a_failing_server_leaves(store, monkeypatch):
    monkeypatch.setattr("selfinstruct.models.endpoint.BAD_ANSWER_PAUSE_S", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    padding = "x" * 60
    replies = [Reply(400, {"error": {"message": f"{'y' * (300 - cut)}{KEY}"}}) for cut in range(1, len(KEY))] + [
        Reply(body=f"{padding}{'z' * cut}{KEY}") for cut in range(20)
    ]
    server = ScriptedServer(lambda body: replies[int(prompt_of(body))])
    with server, connect("scripted", server.url, store=store, max_failures=0) as client:
        with pytest.raises(EndpointError) as caught:
            client.complete([ask(str(number)) for number in range(len(replies))])
    left = str(caught.value) + read_files(store.parent)
    assert not any(KEY[start : start + 8] in left for start in range(3, len(KEY) - 8))


# addresses


@pytest.mark.parametrize(
    ("pasted", "url"),
    [
        ("http://host:8000/v1/", "http://host:8000/v1"), (" http://host/v1\n", "http://host/v1"), ('"http://host/v1"', "http://host/v1"),
        ("http://host/v1/chat/completions", "http://host/v1"), ("http://host/v1/completions/", "http://host/v1"), ("http://host/v1/models", "http://host/v1"),
        ("OPENAI_BASE_URL=https://host/v1", "https://host/v1"), ("\ufeffhttp://host/v1\u200b", "http://host/v1"), ("HTTP://host/v1", "http://host/v1"),
        ("http://ann:s3cret@host:80/v1?api-key=abc", "http://host:80/v1"), ("http://[::1]:8000/v1", "http://[::1]:8000/v1"), ("http://host", "http://host"),
    ],
)  # fmt: skip
def test_what_is_pasted_around_an_address_is_left_out(pasted, url):
    assert read_address(pasted).url == url


@pytest.mark.parametrize(
    "pasted",
    [
        "localhost:8000", "ann:s3cret@host/v1", "http://", "http:///v1", "http://host:port/v1", "http://host:99999/v1", "http://[::1/v1", "http://two words/v1",
        "ftp://ann:s3cret@host", "http://ann:s3/cret@host/v1", "http://ann:12/s3cret@host/v1", "http://one/v1\nhttp://ann:s3cret@host", KEY, f"host/?key={KEY}",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_one_sentence_without_its_secrets(pasted):
    with pytest.raises(ParameterError, match="^base_url.*give an address such as") as caught:
        read_address(pasted)
    assert "cret" not in str(caught.value) and KEY[3:] not in str(caught.value)


def test_a_user_and_password_in_the_address_are_sent_and_not_printed(store, capfd):
    with ScriptedServer(echo) as server:
        url = server.url.replace("http://", "http://ann:p%40ss-w0rd@")
        with connect("scripted", url, store=store) as client:
            client.complete([ask()])
            said = repr(client.describe()) + repr(client.endpoint)
    sent = {name.lower(): value for name, value in server.headers[0].items()}["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"ann:p@ss-w0rd"
    said += "".join(capfd.readouterr()) + read_files(store.parent)
    assert "w0rd" not in said and sent.removeprefix("Basic ") not in said and "ann" not in said


def test_a_token_in_the_query_is_sent_and_not_printed_or_logged(store, caplog):
    caplog.set_level(logging.DEBUG)
    reply = [Reply(400, {"error": {"message": f"POST /v1/completions?api-key={KEY} is wrong"}})]
    with ScriptedServer(lambda body: reply[0]) as server:
        with connect("scripted", f"{server.url}?api-key={KEY}&api-version=2026-01-01", store=store) as client:
            with pytest.raises(EndpointError, match=r"api-key=\[key\] is wrong") as caught:
                client.complete([ask()])
            said = repr(client.describe()) + repr(client.endpoint)
    assert server.paths == [f"/v1/completions?api-key={KEY}&api-version=2026-01-01"]
    assert "/v1/completions" in caplog.text
    assert KEY[3:] not in said + str(caught.value) + caplog.text + read_files(store.parent)


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:s3cret@host/v1",
        "https://host/v1?api-key=s3cret",
        "https://host/v1?code=s3cret",
        "http://s3cret@host/v1",
        "http://host/v1#token=s3cret",
        "http://host/v1;key=s3cret",
        "ann:s3cret@host:8000/v1",
        "//ann:s3cret@host/v1",
    ],
)
def test_no_parameter_may_hold_a_password_since_parameters_are_written(tmp_path, url):
    for refuse in (
        lambda: check_value("base_url", url),
        lambda: open_run("mine", {"run_dir": str(tmp_path / "run"), "base_url": url}),
    ):
        with pytest.raises(ParameterError, match="OPENAI_BASE_URL") as caught:
            refuse()
        assert "s3cret" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_address_with_its_password_may_stand_in_the_environment(store, monkeypatch):
    with ScriptedServer(echo) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("http://", "http://ann:s3cret@"))
        with connect("scripted", store=store) as client:
            assert client.complete([ask()])[0].error is None
            assert client.describe()["endpoint"] == server.url


def test_a_harmless_query_is_no_secret():
    check_value("base_url", "https://host/openai/v1?api-version=2026-01-01")


# an address that lacks its /v1


def only_under_v1(server_holder, reply):
    def respond(body):
        return echo(body) if server_holder[0].paths[-1].startswith("/v1/") else reply

    return respond


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404, {"error": {"message": "not found"}}), Reply(404, "404 page not found"), Reply(405, {"detail": "Method Not Allowed"}),
        Reply(body={"content": " text", "stop": True, "tokens_predicted": 3}), Reply(body=b"<!doctype html><title>A chat</title>"),
        Reply(body={"error": "Unexpected endpoint or method. (POST /completions)"}),
    ],
)  # fmt: skip
def test_an_address_without_v1_is_tried_with_it(store, reply):
    holder = []
    with ScriptedServer(only_under_v1(holder, reply)) as server:
        holder.append(server)
        address = server.url.removesuffix("/v1")
        with connect("scripted", address, store=store, concurrency=8) as client:
            with pytest.warns(UserWarning, match="/v1 does: the kit asks there; give that as base_url") as caught:
                completions = client.complete([ask(str(number)) for number in range(20)])
            assert client.describe()["endpoint"] == address
    assert all(completion.error is None for completion in completions)
    said = [one for one in caught if one.category is UserWarning]
    assert (len(said), len(server.paths), server.paths.count("/completions")) == (1, 21, 1)


def test_an_address_that_has_none_in_either_place_says_so_after_two_calls(store):
    other = {"content": " text", "stop": True}
    with (
        ScriptedServer(lambda body: other) as server,
        connect("scripted", server.url.removesuffix("/v1"), store=store) as client,
    ):
        with pytest.raises(EndpointError, match=r"no choices, but 'content', 'stop'.*nor is there one at .*/v1"):
            client.complete([ask()])
    assert server.paths == ["/completions", "/v1/completions"]


def test_an_unknown_model_at_a_whole_address_is_asked_for_once(store):
    with ScriptedServer(lambda body: Reply(404, {"error": {"message": "no such model"}})) as server:
        with (
            connect("scripted", server.url, store=store) as client,
            pytest.raises(EndpointError, match="no such model"),
        ):
            client.complete([ask()])
    assert server.paths == ["/v1/completions"]


def test_a_gguf_at_an_address_is_the_servers_name_for_its_model(store, monkeypatch):
    with ScriptedServer(echo) as server, connect("tiny.Q4_K_M.gguf", server.url, store=store) as client:
        assert client.complete([ask()])[0].text == " p!"
        assert (server.bodies[0]["model"], client.endpoint.embedded, client.budget.price) == (
            "tiny.Q4_K_M.gguf",
            False,
            None,
        )
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(SelfInstructError):
        connect("no-such-file.gguf", store=store)
