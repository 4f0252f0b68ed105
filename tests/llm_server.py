"""A stand-in for a language model behind an OpenAI-compatible API, on loopback.

It rates a document by the share of the query's words in it, so its ratings mean nothing. The
protocol is real: the `openai` client sends requests to it over HTTP.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "sk-stand-in-secret"
MODEL = "stand-in"


@dataclass
class StandIn:
    """The state of a server, and how it answers."""

    url: str = ""
    #: Seconds that each call takes.
    latency_s: float = 0.0
    #: Answers to documents that contain the key.
    answers: dict[str, str] = field(default_factory=dict)
    #: Status codes of the next calls, in their order, before calls are answered.
    refusals: list[int] = field(default_factory=list)
    calls: int = 0
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of the answer to a call."""
        with self.lock:
            self.calls += 1
            refusal = self.refusals.pop(0) if self.refusals else None
        if key != f"Bearer {API_KEY}":
            return 401, {"error": {"message": "wrong key"}}
        if refusal is not None:
            return refusal, {"error": {"message": "not now"}}
        if body["model"] != MODEL:
            return 404, {"error": {"message": f"no model {body['model']}"}}
        time.sleep(self.latency_s)
        asked = body["messages"][-1]["content"]
        answer = next((said for part, said in self.answers.items() if part in asked), rate(asked))
        usage = {"prompt_tokens": len(asked) // 4, "completion_tokens": 1}
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [choice],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }


def rate(asked: str) -> str:
    """Return a rating: the share of the query's words that the document has, times ten."""
    query, document = re.fullmatch(
        r"Query: (.*)\n\nDocument:\n(.*)\n\n.*", asked, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    words = set(query.lower().split())
    return str(round(10 * len(words & set(document.lower().split())) / len(words)))


@contextmanager
def serving(**behavior: Any) -> Iterator[StandIn]:
    """Serve on a free port until the end of the block."""
    stand_in = StandIn(**behavior)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            with stand_in.lock:
                stand_in.at_once += 1
                stand_in.most_at_once = max(stand_in.most_at_once, stand_in.at_once)
            try:
                status, reply = stand_in.reply(self.headers.get("Authorization", ""), body)
            finally:
                with stand_in.lock:
                    stand_in.at_once -= 1
            sent = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def handle(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
