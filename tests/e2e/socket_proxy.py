"""A proxy before the engine's socket, for faults of its event stream. Runs inside a guest, by Python alone.

    python3 socket_proxy.py LISTEN ENGINE

SIGUSR1 closes every event stream; SIGUSR2 lets each go silent (what the engine sends is dropped). It says "ready"
on stdout, and a line for each signal obeyed.
"""

from __future__ import annotations

import contextlib
import pathlib
import signal
import socket
import sys
import threading

_streams: list[socket.socket] = []
_silent = threading.Event()


def _pump(source: socket.socket, sink: socket.socket, *, events: bool = False) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if not (events and _silent.is_set()):
                sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _serve(client: socket.socket, engine_path: str) -> None:
    engine = socket.socket(socket.AF_UNIX)
    engine.connect(engine_path)
    head = client.recv(65536)
    events = b"/events?" in head.split(b"\r\n", 1)[0]
    if events:
        _streams.append(client)
    engine.sendall(head)
    threading.Thread(target=_pump, args=(client, engine), daemon=True).start()
    _pump(engine, client, events=events)


def _close(*_: object) -> None:
    for stream in _streams:
        with contextlib.suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)
    _streams.clear()
    print("closed", flush=True)


def _silence(*_: object) -> None:
    _silent.set()
    print("silent", flush=True)


def main(listen: str, engine_path: str) -> None:
    """Serve until ended."""
    signal.signal(signal.SIGUSR1, _close)
    signal.signal(signal.SIGUSR2, _silence)
    pathlib.Path(listen).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(listen)
        pathlib.Path(listen).chmod(0o666)
        server.listen(64)
        print("ready", flush=True)
        while True:
            client, _ = server.accept()
            threading.Thread(target=_serve, args=(client, engine_path), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
