"""A web server for files on this machine, which can also cut connections and refuse requests."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: The path of a file that asks for a login.
FORBIDDEN = "/forbidden"
#: Paths that begin with this are cut after half of the file.
CUT = "/cut/"
#: Paths that begin with this are always answered with the whole file.
WHOLE = "/whole/"


@contextmanager
def web_server(files: dict[str, bytes], sent: list[int] | None = None) -> Iterator[str]:
    """Serve files by their paths; yield the address of the server.

    The number of bytes of each answer is added to `sent`.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            path = self.path.partition("?")[0]
            content = files.get(path.replace(CUT, "/").replace(WHOLE, "/"))
            if path == FORBIDDEN or content is None:
                self.send_error(403 if path == FORBIDDEN else 404)
                return
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if part and not path.startswith(WHOLE):
                begin, end = int(part[1]), min(int(part[2]) + 1, len(content))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
                content = content[begin:end]
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                if sent is not None:
                    sent.append(len(content))
                is_cut = path.startswith(CUT)
                self.wfile.write(content[: len(content) // 2] if is_cut else content)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
