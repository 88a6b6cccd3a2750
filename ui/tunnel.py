"""The ways to a shared page: Gradio's tunnel, which a server of Gradio's ends, and the local network."""

import logging
import secrets
import socket
from pathlib import Path

import httpx
from gradio import networking, tunneling
from gradio.exceptions import ChecksumMismatchError, ShareCertificateWriteError

from app.errors import NotShared

log = logging.getLogger(__name__)


class GradioTunnel:
    """A public address under gradio.live that leads to a port of this machine for as long as it is open."""

    label = "A link on the internet"

    def __init__(self, port: int) -> None:
        self._port = port
        self._tunnel: tunneling.Tunnel | None = None

    def open(self) -> str:
        """The address. The first time Gradio's tunnel program is fetched and checked. Raises NotShared."""
        before = set(map(id, tunneling.CURRENT_TUNNELS))
        try:
            url = networking.setup_tunnel("127.0.0.1", self._port, secrets.token_urlsafe(32), None, None)
        except (RuntimeError, httpx.HTTPError, ValueError) as error:
            self._close_new(before)
            log.info("no tunnel", exc_info=error)
            program = "" if Path(tunneling.BINARY_PATH).exists() else ", and to fetch the tunnel program once"
            raise NotShared(
                "The link could not be opened: Gradio's tunnel server did not answer.",
                f"An internet connection is needed for it{program}. Without one, start DocPod with --listen.",
            ) from error
        except (OSError, ChecksumMismatchError, ShareCertificateWriteError) as error:
            self._close_new(before)
            log.info("no tunnel", exc_info=error)
            raise NotShared(
                f"The link could not be opened: the tunnel program cannot be used ({error}).",
                f"A virus scanner may have removed {tunneling.BINARY_PATH}. Without it, start DocPod with --listen.",
            ) from error
        self._tunnel = next(each for each in tunneling.CURRENT_TUNNELS if each.url == url)
        return f"https://{url.partition('://')[2].rstrip('/')}"

    def close(self) -> None:
        """Ends the tunnel's process."""
        tunnel, self._tunnel = self._tunnel, None
        if tunnel:
            _end(tunnel)

    def _close_new(self, before: set[int]) -> None:
        for tunnel in [each for each in tunneling.CURRENT_TUNNELS if id(each) not in before]:
            _end(tunnel)


def _end(tunnel: tunneling.Tunnel) -> None:
    tunnel.kill()
    tunneling.CURRENT_TUNNELS.remove(tunnel)


class LocalNetwork:
    """The address of this machine on its network, where the page listens on it."""

    label = "The local network"

    def __init__(self, port: int) -> None:
        self._port = port

    def open(self) -> str:
        """The address, by which this machine would reach others. Raises NotShared."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Nothing is sent: this only asks the system which of its addresses it would use.
                probe.connect(("192.0.2.1", 9))
            except OSError as error:
                raise NotShared("This machine is on no network.", "Connect it to one first.") from error
            return f"http://{probe.getsockname()[0]}:{self._port}"

    def close(self) -> None:
        """Nobody is let in any longer, which is all there is to close."""
