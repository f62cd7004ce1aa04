"""Patroni's REST API as a test wants it.

    with FakePatroni() as patroni:
        patroni.primary()                       # 200 on /primary, body of a running leader
        patroni.replica(lag=0)                  # 503 on /primary, 200 on /replica
        patroni.answers["/primary"] = Answer(500, "not json", after=0.5)
        patroni.silent = True                   # accepts, reads, says nothing
        assert patroni.asked["/primary"] > 3
"""

import collections
import contextlib
import json
import socket
import threading
import time

from .ports import free_port


class Answer:
    """`body`: a dict becomes JSON; `after`: seconds to wait first; `raw`: bytes in place
    of a whole HTTP answer."""

    def __init__(self, status=200, body="", after=0.0, raw=None):
        self.status, self.body, self.after, self.raw = status, body, after, raw

    def encode(self):
        if self.raw is not None:
            return self.raw
        body = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return (f"HTTP/1.0 {self.status} status\r\nContent-Type: application/json\r\n\r\n"
                f"{body}").encode()


class FakePatroni:
    def __init__(self, address="127.0.0.1", port=None):
        self.address, self.port = address, port or free_port(address)
        self.answers = {}
        self.asked = collections.Counter()  # path -> requests
        self.asked_at = []  # (time.monotonic(), path) of each request
        self.silent = False
        self._listener = None
        self._open = set()
        self.open()

    # What it says

    def primary(self, timeline=1, state="running", system_identifier="7000000000000000001", **more):
        body = self._body("master", timeline, state, system_identifier,
                          {"location": 100 << 20}, **more)
        self._say(primary=200 if state == "running" else 503, replica=503, body=body)

    def replica(self, timeline=1, state="running", lag=0, streaming=True,
                system_identifier="7000000000000000001", tags=None, **more):
        position = (100 << 20) - lag
        xlog = {"received_location": position, "replayed_location": position,
                "replayed_timestamp": None, "paused": False}
        if streaming:
            more["replication_state"] = "streaming"
        if tags:
            more["tags"] = tags
        serves = state == "running" and not (tags or {}).get("noloadbalance")
        self._say(primary=503, replica=200 if serves else 503,
                  body=self._body("replica", timeline, state, system_identifier, xlog, **more))

    def down(self, state="stopped"):
        """Patroni lives, its PostgreSQL does not."""
        self._say(primary=503, replica=503,
                  body=self._body("replica", None, state, "7000000000000000001", None))

    @staticmethod
    def _body(role, timeline, state, system_identifier, xlog, **more):
        body = {"state": state, "role": role, "server_version": 150020, "timeline": timeline,
                "xlog": xlog, "database_system_identifier": system_identifier,
                "dcs_last_seen": int(time.time()),
                "patroni": {"version": "3.0.2", "scope": "main"}, **more}
        return {key: value for key, value in body.items() if value is not None}

    def _say(self, primary, replica, body):
        self.answers["/primary"] = Answer(primary, body)
        self.answers["/replica"] = Answer(replica, body)
        self.answers["/patroni"] = Answer(200, body)

    # How it lives

    def open(self):
        self._listener = socket.create_server((self.address, self.port), backlog=256)
        self._thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._thread.start()

    def refuse(self):
        """Listens no more."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        listener.close()

    def close(self):
        self.refuse()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError, IndexError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(4096)
                if not data:
                    break
                head += data
            if head:
                path = head.split()[1].decode("latin-1")
                self.asked[path] += 1
                self.asked_at.append((time.monotonic(), path))
                self._answer(connection, path)
        self._open.discard(connection)

    def _answer(self, connection, path):
        while self.silent:
            if connection.recv(4096) == b"":
                return
        answer = self.answers.get(path, Answer(404, "{}"))
        time.sleep(answer.after)
        connection.sendall(answer.encode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
