"""A web server on this machine with a few files in memory, which can break off and ask for a password."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files` by path and lists the `requests` that came: (path, Range, Authorization).

    `broken_after`: so many bytes are sent of each answer, then the connection ends. `ranges`: whether it knows ranges.
    `refusals`: a status and headers for whatever begins with a path. `pause_seconds`: between 1,000 bytes and more.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.broken_after: int | None = None
        self.ranges = True
        self.refusals: dict[str, tuple[int, dict[str, str]]] = {}
        self.pause_seconds = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.requests.append((self.path, self.headers["Range"], self.headers["Authorization"]))
                refused = next((each for path, each in served.refusals.items() if self.path.startswith(path)), None)
                if refused:
                    self._answer(refused[0], **refused[1])
                elif self.path in served.redirects:
                    self._answer(302, Location=served.redirects[self.path])
                elif self.path in served.files:
                    self._send(served.files[self.path])
                else:
                    self._answer(404)

            def _send(self, contents: bytes) -> None:
                start = 0
                if served.ranges and (wanted := self.headers["Range"]):
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start and start >= len(contents):
                    self._answer(416)
                    return
                kind = served.types.get(self.path, "text/html")
                rest = contents[start:]
                self._answer(206 if start else 200, str(len(rest)), **{"Content-Type": kind})
                rest = rest[: served.broken_after]
                step = 1000 if served.pause_seconds else len(rest) or 1
                for at in range(0, len(rest), step):
                    self.wfile.write(rest[at : at + step])
                    time.sleep(served.pause_seconds)

            def _answer(self, status: int, length: str = "0", **headers: str) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": length, **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is printed."""

        return Handler
