"""A wire that carries one byte at a time, for programs that cannot be told to.

    with SlowWire(router.at("rw")) as wire:
        psycopg.connect(f"host=127.0.0.1 port={wire.port} ...")
"""

import contextlib
import socket
import threading


class SlowWire:
    def __init__(self, to):
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.n_bytes = [0, 0]  # that came from here, and from there
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                self._open += [near, far]
                for way, (source, target) in enumerate(((near, far), (far, near))):
                    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._carry, args=(way, source, target),
                                     daemon=True).start()

    def _carry(self, way, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.n_bytes[way] += len(data)
                for i in range(len(data)):
                    target.sendall(data[i:i + 1])
            target.shutdown(socket.SHUT_WR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()
        for one in self._open:
            one.close()
