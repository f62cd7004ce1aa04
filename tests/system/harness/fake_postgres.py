"""PostgreSQL servers that behave as a test wants.

    with FakePostgres() as server:              # logs everybody in, answers every query
        ...nodes = server.node("pg1")...

    def script(connection):                     # one call, in a thread, per connection
        code, body = connection.packet()
        connection.send(wire.error("57P03", "the database system is starting up"))

    with FakePostgres(script) as server: ...

Scripts that are ready: refuse_login, silent, close_at_once, reset_at_once, half_closed,
one_byte_at_a_time.
"""

import contextlib
import selectors
import socket
import struct
import threading
import time

from . import wire
from .ports import free_port


def friendly(connection):
    """Logs in without a password; answers every query with one row: the server's name."""
    if _log_in(connection):
        while True:
            kind, body = connection.message()
            if kind == "X":
                return
            if kind == "Q":
                connection.send(answer(connection.server.name, body))


def _log_in(connection):
    """False when it was a cancel request, which is remembered."""
    while True:
        code, body = connection.packet()
        if code in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
            connection.send(b"N")
        elif code == wire.CANCEL_REQUEST:
            connection.server.cancels.append((struct.unpack("!I", body[:4])[0], body[4:]))
            return False
        elif code == "TLS":
            return False
        else:
            connection.send(connection.server.login_answer())
            return True


def answer(text, _query=b""):
    """One row with one column."""
    value = text.encode()
    column = b"name\0" + struct.pack("!IHIHIH", 0, 0, 25, 0xFFFF, 0xFFFFFFFF, 0)
    return (wire.message("T", struct.pack("!H", 1) + column) +
            wire.message("D", struct.pack("!HI", 1, len(value)) + value) +
            wire.message("C", b"SELECT 1\0") + wire.message("Z", b"I"))


def refuse_login(code="57P03", text="the database system is starting up"):
    def script(connection):
        connection.packet()
        connection.send(wire.error(code, text))
    return script


def silent(connection):
    """Accepts, reads, and never says a word."""
    with contextlib.suppress(EOFError):
        while True:
            connection.receive(1)


def close_at_once(connection):
    connection.close()


def reset_at_once(connection):
    connection.reset()


def half_closed(connection):
    """Logs in, closes its sending half, and reads on."""
    if _log_in(connection):
        connection.finish()
        silent(connection)


def one_byte_at_a_time(connection):
    """The friendly one, in packets of one byte."""
    send = connection.send

    def dribble(data):
        for i in range(len(data)):
            send(data[i:i + 1])
            time.sleep(0.001)

    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.send = dribble
    friendly(connection)


class FakePostgres:
    """A thread that accepts, and one for each connection that runs `script`.

    connections  all that were accepted, oldest first
    cancels      (process id, key) of each CancelRequest that the ready scripts saw
    errors       exceptions of scripts, other than the peer's leaving
    """

    def __init__(self, script=friendly, address="127.0.0.1", port=None, name="fake", key_bytes=4):
        self.script, self.address, self.name = script, address, name
        self.port = port or free_port(address)
        self.key_bytes = key_bytes
        self.connections, self.cancels, self.errors = [], [], []
        self._process_id = 1000
        self._lock = threading.Lock()
        self._listener = None
        self.open()

    def open(self):
        """Listens (again)."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._listener = socket.create_server((self.address, self.port), family=family, backlog=1024)
        self._thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._thread.start()

    def refuse(self):
        """Listens no more: connecting is refused. Connections live on."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        listener.close()

    def close(self):
        self.refuse()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            connection.close()

    def node(self, name=None, rest_port=None):
        """As in the `nodes` setting."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{name or self.name}={host}:{self.port}" + (f":{rest_port}" if rest_port else "")

    def login_answer(self, **parameters):
        with self._lock:
            self._process_id += 1
            process_id = self._process_id
        key = struct.pack("!I", process_id) * (self.key_bytes // 4)
        return wire.login_answer(process_id, key, **parameters)

    def _accept(self, listener):
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            connection = wire.Connection(accepted, timeout=None)
            connection.server = self
            self.connections.append(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        try:
            self.script(connection)
        except (EOFError, OSError):
            pass
        except Exception as error:  # shown by the test
            self.errors.append(error)
        finally:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Crowd:
    """A server for thousands of idle sessions: one thread, no script. Logs everybody in,
    answers each query with one row."""

    def __init__(self, address="127.0.0.1", port=None):
        self.address, self.port = address, port or free_port(address)
        self.n_sessions = 0
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server((address, self.port), backlog=4096)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def node(self, name, rest_port=None):
        return f"{name}={self.address}:{self.port}" + (f":{rest_port}" if rest_port else "")

    def _serve(self):
        while not self._over:
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            accepted, _ = self._listener.accept()
                            self._selector.register(accepted, selectors.EVENT_READ, data=[False])
                else:
                    self._read(key)

    def _read(self, key):
        with contextlib.suppress(OSError):
            data = key.fileobj.recv(65536)
            if data[:1] == b"Q":
                key.fileobj.sendall(answer("crowd"))
                return
            if data and not key.data[0]:
                code = struct.unpack("!I", data[4:8])[0]
                if code in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
                    key.fileobj.sendall(b"N")
                    return
                if code != wire.CANCEL_REQUEST:
                    key.data[0] = True
                    self.n_sessions += 1
                    key.fileobj.sendall(wire.login_answer())
                    return
        self.n_sessions -= key.data[0]
        self._selector.unregister(key.fileobj)
        key.fileobj.close()

    def close(self):
        self._over = True
        self._thread.join(5)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
