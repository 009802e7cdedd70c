"""A scripted model: real HTTP on loopback, answers from a function of the request. For tests only.

    with ScriptedServer(lambda body: " a canned completion") as server:
        connect("scripted", server.url, store=tmp_path / "s.sqlite").complete([...])
        server.bodies           # every request body that arrived

`respond(body)` returns the completion's text; or a dict, sent as the whole JSON answer; or a `Reply` for any status, bytes,
delay, or a connection that breaks. The time in its answers is fixed, so that equal answers are equal bytes.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "scripted"
CREATED = 1_671_600_000


@dataclass
class Reply:
    """An answer below the level of completions: `reset` closes the connection instead, `cut` promises more than it sends,
    `drip` sends a byte every so many seconds, from the headers on.
    """

    status: int = 200
    body: bytes | dict[str, Any] | str = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    reset: bool = False
    cut: bool = False
    drip_s: float = 0.0

    @property
    def payload(self) -> bytes:
        if isinstance(self.body, dict):
            return json.dumps(self.body).encode()
        return self.body.encode() if isinstance(self.body, str) else self.body


def answer(body: dict[str, Any], text: str, finish_reason: str = "stop") -> dict[str, Any]:
    """`text` as a server would wrap it, for a completions or a chat request; a token for every four characters."""
    prompt = body.get("prompt") or "".join(message["content"] for message in body.get("messages", []))
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason, "logprobs": None}
    choice |= {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
    usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": len(text) // 4 + 1}
    usage["total_tokens"] = sum(usage.values())
    kind = "chat.completion" if "messages" in body else "text_completion"
    return {"id": "scripted-1", "object": kind, "created": CREATED, "model": MODEL, "choices": [choice], "usage": usage}


def prompt_of(body: dict[str, Any]) -> str:
    """The prompt of a completions body, or the user's message of a chat body."""
    return body["prompt"] if "prompt" in body else body["messages"][-1]["content"]


Route = Callable[[str, str, bytes], "Reply | None"]


class ScriptedServer:
    """See the module. `latency_s` delays every answer; `bodies`, `paths` and `headers` hold what arrived.

    `route(method, path, raw body)` may answer other paths than completions, such as those of batch jobs.
    """

    def __init__(
        self,
        respond: Callable[[dict[str, Any]], Any],
        latency_s: float = 0.0,
        port: int = 0,
        route: Route | None = None,
    ):
        self.respond, self.latency_s, self.route = respond, latency_s, route
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()
        self._http = _Server(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def reply(self, body: dict[str, Any]) -> Reply:
        if self.latency_s:
            time.sleep(self.latency_s)
        value = self.respond(body)
        if isinstance(value, Reply):
            return value
        return Reply(body=value if isinstance(value, dict) else answer(body, value))

    def __enter__(self) -> ScriptedServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up (a killed run) is part of the tests."""


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            found = server.route("GET", self.path, b"") if server.route else None
            self._send(found or Reply(404, {"error": {"message": "nothing here"}}))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if server.route and (found := server.route("POST", self.path, raw)):
                self._send(found)
            else:
                self._complete(json.loads(raw))

        def _complete(self, body: dict[str, Any]) -> None:
            with server.lock:
                server.bodies.append(body)
                server.paths.append(self.path)
                server.headers.append(dict(self.headers))
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                self._send(server.reply(body))
            finally:
                with server.lock:
                    server.at_once -= 1

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.delay_s)
            if reply.reset:
                # linger 0: the kernel sends RST, as a crashed server's does
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            payload = reply.payload
            head = {
                "Content-Type": "application/json",
                **reply.headers,
                "Content-Length": str(len(payload) + 50 * reply.cut),
            }
            lines = [
                f"HTTP/1.1 {reply.status} {'OK' if reply.status == 200 else 'Error'}",
                *(f"{k}: {v}" for k, v in head.items()),
            ]
            everything = "\r\n".join([*lines, "", ""]).encode() + payload
            for start in range(len(everything) if reply.drip_s else 0):
                self.wfile.write(everything[start : start + 1])
                time.sleep(reply.drip_s)
            self.wfile.write(b"" if reply.drip_s else everything)
            self.close_connection = reply.cut

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler
