"""What the environment says about proxies and certificates works or is a sentence; bytes are read as what they are."""

# ruff: noqa: E501  tables
from __future__ import annotations

import gzip
import json
import time

import pytest
from helpers.asking import ask, echo
from helpers.scripted import Reply, ScriptedServer, answer

from selfinstruct.files import EndpointError
from selfinstruct.models.connection import connect

FAR = "http://model.invalid/v1"  # no loopback, to which the environment does not apply
PROXIES = [f"{scheme}_proxy" for scheme in ("http", "https", "all", "no")]


@pytest.fixture
def environment(monkeypatch):
    """set(NAME=value): variables of proxies and certificates, all others unset."""
    for name in [*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENAI_ORG_ID"]:
        monkeypatch.delenv(name, raising=False)
    return lambda **given: [monkeypatch.setenv(name, value) for name, value in given.items()]


def fail(store, url=FAR, **settings) -> str:
    with connect("scripted", url, store=store, **settings) as client, pytest.raises(EndpointError) as caught:
        client.complete([ask()])
    return str(caught.value)


# proxies


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_is_used(store, environment, name):
    with ScriptedServer(echo) as proxy:
        environment(**{name: proxy.url.removesuffix("/v1")})
        with connect("scripted", FAR, store=store) as client:
            assert client.complete([ask()])[0].text == " p!"
    assert proxy.paths == [f"{FAR}/completions"]


def test_a_proxys_password_is_sent_and_not_printed(store, environment):
    with ScriptedServer(lambda body: Reply(407, "ann:s3cret is unknown here")) as proxy:
        environment(HTTP_PROXY=proxy.url.removesuffix("/v1").replace("//", "//ann:s3cret@"))
        said = fail(store)
    assert "Proxy-Authorization" in proxy.headers[0] and len(proxy.bodies) == 1
    assert "HTTP_PROXY" in said and "the proxy asks who you are" in said and "s3cret" not in said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "ALL_PROXY names a SOCKS proxy; run `pip install socksio`, or unset it"),
        ({"all_proxy": "socks5h://ann:s3cret@host:1"}, "all_proxy names a SOCKS proxy"),
        ({"ALL_PROXY": "socks://127.0.0.1:9"}, "ALL_PROXY is no address of a proxy"),
        ({"HTTP_PROXY": "ftp://ann:s3cret@127.0.0.1:9"}, "HTTP_PROXY is no address of a proxy"),
        ({"HTTP_PROXY": "http://127.0.0.1:port"}, "HTTP_PROXY is no address of a proxy"),
        ({"HTTP_PROXY": "http://ann:s3cret@127.0.0.1:9"}, "the proxy of HTTP_PROXY does not let it through"),
        ({"ALL_PROXY": "127.0.0.1:9"}, "the proxy of ALL_PROXY does not let it through"),
        ({"SSL_CERT_FILE": "/no/such/file.pem"}, "SSL_CERT_FILE: the certificates cannot be read (No such file or directory)"),
        ({"SSL_CERT_DIR": "/no/such/dir"}, "no server answers there"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_a_sentence_that_names_the_variable(store, environment, monkeypatch, given, words):
    monkeypatch.setattr("selfinstruct.servers.retries.FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr("selfinstruct.servers.network._check_listening", lambda url: None)
    environment(**given)
    said = fail(store)
    assert words in said and "s3cret" not in said


def test_a_certificate_file_that_holds_none_is_a_sentence(store, environment, tmp_path, monkeypatch):
    monkeypatch.setattr("selfinstruct.servers.network._check_listening", lambda url: None)
    (tmp_path / "empty.pem").write_text("nothing")
    environment(SSL_CERT_FILE=str(tmp_path / "empty.pem"))
    assert "SSL_CERT_FILE: the certificates cannot be read" in fail(store, "https://model.invalid/v1")


@pytest.mark.parametrize("no_proxy", ["model.invalid", "*", "::1,fd00::/8,model.invalid", "10.0.0.0/8, .invalid"])
def test_no_proxy_holds(store, environment, monkeypatch, no_proxy):
    monkeypatch.setattr("selfinstruct.servers.retries.FIRST_PAUSE_S", 0.001)
    with ScriptedServer(echo) as proxy:
        environment(HTTP_PROXY=proxy.url.removesuffix("/v1"), NO_PROXY=no_proxy)
        assert "no server answers there" in fail(store)
    assert proxy.paths == []


def test_loopback_goes_through_no_proxy(store, environment):
    environment(ALL_PROXY="socks5://127.0.0.1:9", HTTP_PROXY="nonsense", SSL_CERT_FILE="/no/such/file")
    with ScriptedServer(echo) as server, connect("scripted", server.url, store=store) as client:
        assert client.complete([ask()])[0].error is None


def test_a_header_of_the_environments_that_cannot_be_sent_is_a_sentence(store, environment):
    environment(OPENAI_ORG_ID="org-1\norg-2")
    with ScriptedServer(echo) as server:
        assert "a setting in the environment cannot be sent (OPENAI_ORG_ID" in fail(store, server.url)


# encodings

TEXT = " Décrire un café à Noël: 日本 \U0001f600."


@pytest.mark.parametrize(
    ("encode", "content_type"),
    [
        ("utf-8", "application/json"), ("utf-8", "application/json; charset=iso-8859-1"), ("utf-8", "text/plain"), ("utf-8", "text/html; charset=ascii"),
        ("utf-8", 'application/json; charset="utf-16"'), ("utf-8", "application/json; charset=nonsense"), ("utf-8", ""), ("utf-8-sig", "application/json"),
        ("utf-16", "application/json; charset=utf-8"), ("utf-16-le", "application/json"), ("utf-32", "application/json"),
    ],
)  # fmt: skip
def test_json_is_read_as_its_bytes_say(store, encode, content_type):
    def respond(body):
        return Reply(
            body=json.dumps(answer(body, TEXT), ensure_ascii=False).encode(encode),
            headers={"Content-Type": content_type},
        )

    with ScriptedServer(respond) as server, connect("scripted", server.url, store=store) as client:
        assert client.complete([ask()])[0].text == TEXT


def test_bytes_that_are_no_utf_8_are_read_as_the_header_says(store):
    def respond(body):
        text = json.dumps(answer(body, " un café"), ensure_ascii=False)
        return Reply(body=text.encode("latin-1"), headers={"Content-Type": "application/json; charset=ISO-8859-1"})

    with ScriptedServer(respond) as server, connect("scripted", server.url, store=store) as client:
        assert client.complete([ask()])[0].text == " un café"


def test_a_character_that_was_cut_is_a_mark_and_no_failure(store):
    def respond(body):
        whole = json.dumps(answer(body, " so \U0001f600"), ensure_ascii=False).encode()
        return Reply(body=whole.replace("\U0001f600".encode(), "\U0001f600".encode()[:2]))

    with ScriptedServer(respond) as server, connect("scripted", server.url, store=store) as client:
        assert client.complete([ask()])[0].text == " so \ufffd"


@pytest.mark.parametrize("really", [True, False])
def test_a_header_that_promises_gzip_is_not_believed(store, really):
    def respond(body):
        whole = json.dumps(answer(body, TEXT)).encode()
        return Reply(body=gzip.compress(whole) if really else whole, headers={"Content-Encoding": "gzip"})

    with ScriptedServer(respond) as server, connect("scripted", server.url, store=store) as client:
        assert client.complete([ask()])[0].text == TEXT
    assert len(server.bodies) == 1


def test_a_refused_key_in_a_falsely_compressed_error_is_still_read(store):
    reply = Reply(401, {"error": {"message": "no"}}, headers={"Content-Encoding": "gzip"})
    with ScriptedServer(lambda body: reply) as server:
        assert "the key was refused (401)" in fail(store, server.url)


def test_gzip_that_nobody_announced_is_unpacked(store):
    def respond(body):
        return Reply(body=gzip.compress(json.dumps(answer(body, TEXT)).encode()))

    with ScriptedServer(respond) as server, connect("scripted", server.url, store=store) as client:
        started = time.monotonic()
        assert client.complete([ask()])[0].text == TEXT
    assert (len(server.bodies), time.monotonic() - started < 2) == (1, True)
