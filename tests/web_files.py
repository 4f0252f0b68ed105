"""A web server for files on this machine, which can also cut connections and refuse requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: The path of a file that asks for a login.
FORBIDDEN = "/forbidden"
#: Paths that begin with this are cut after half of the file.
CUT = "/cut/"


@contextmanager
def web_server(files: dict[str, bytes]) -> Iterator[str]:
    """Serve files by their paths; yield the address of the server."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def _answer(self, *, with_content: bool) -> None:
            content = files.get(self.path.replace(CUT, "/"))
            if self.path == FORBIDDEN or content is None:
                self.send_error(403 if self.path == FORBIDDEN else 404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                is_cut = self.path.startswith(CUT)
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
