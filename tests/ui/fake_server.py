"""Serves the page over the fake app: `python -m tests.ui.fake_server --port 7900 --home DIR`."""

import argparse
import signal
import threading
from dataclasses import replace
from pathlib import Path

from tests.ui.fake_app import FakeApp
from tests.ui.stand_in import StandInTunnel
from ui.server import serve


def main() -> None:
    """Serves until interrupted or terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=7900)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--read-seconds", type=float, default=6.0)
    parser.add_argument("--word-seconds", type=float, default=0.05)
    parser.add_argument("--loading-seconds", type=float, default=0.0)
    parser.add_argument("--max-upload-mb", type=int, default=200)
    parser.add_argument("--public-port", type=int, default=0, help="of a stand-in of the tunnel")
    args = parser.parse_args()
    app = FakeApp(args.home, args.read_seconds, args.word_seconds, args.loading_seconds)
    app.settings = replace(app.settings, port=args.port, max_upload_mb=args.max_upload_mb)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with serve(app) as served:
        if args.public_port:
            app.sharing.roads["link"] = StandInTunnel(served.port, args.public_port)
        print(served.url, flush=True)
        while not ended.wait(0.5):
            pass


if __name__ == "__main__":
    main()
