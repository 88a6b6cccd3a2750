"""A stand-in of the tunnel: a proxy on this machine that passes every byte on, under a name that is not ours."""

import socket
import socketserver
import threading
from contextlib import suppress

PUBLIC_NAME = "pods.localhost"
"""Browsers take every name under `localhost` for this machine, and as safe as HTTPS."""


class StandInTunnel:
    """A road whose address is `http://pods.localhost:<port>`, for as long as it is open."""

    label = "A link on the internet"

    def __init__(self, port: int, public_port: int) -> None:
        self._port = port
        self._public_port = public_port
        self._server: socketserver.ThreadingTCPServer | None = None
        self._sockets: set[socket.socket] = set()

    def open(self) -> str:
        tunnel = self

        class Passing(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", tunnel._port)) as inside:
                    tunnel._sockets |= {self.request, inside}
                    back = threading.Thread(target=_pass_on, args=(inside, self.request), daemon=True)
                    back.start()
                    _pass_on(self.request, inside)
                    back.join()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", self._public_port), Passing)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://{PUBLIC_NAME}:{self._public_port}"

    def close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65_536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
