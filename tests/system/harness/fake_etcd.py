"""etcd's JSON gateway as a test wants it, for what a real one cannot be made to do.

    with FakeEtcd() as etcd:
        etcd.put("/service/main/leader", "n1")    # and tells those that watch
        etcd.gateway = "/v3alpha"                 # 404 anywhere else
        etcd.cut = 7                              # bytes of a stream that are sent at once
        etcd.is_deaf = True                       # changes do not reach the streams
        etcd.cluster_id = "99"
        assert etcd.asked["/v3/watch"] == 1
"""

import base64
import collections
import contextlib
import json
import socket
import threading
import time

from .ports import free_port


def text64(text):
    return base64.b64encode(text.encode()).decode()


class FakeEtcd:
    def __init__(self, address="127.0.0.1"):
        self.address, self.port = address, free_port(address)
        self.gateway, self.cluster_id, self.cut = "/v3", "17", None
        self.is_deaf = self.is_silent = False
        self.keys, self.revision = {}, 1
        self.asked = collections.Counter()
        self.streams = []
        self.lock = threading.RLock()
        self._open = set()
        self._listener = socket.create_server((address, self.port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self):
        return f"{self.address}:{self.port}"

    def put(self, key, value):
        if not isinstance(value, str):
            value = json.dumps(value)
        with self.lock:
            self.revision += 1
            old = self.keys.get(key)
            kv = {"key": text64(key), "value": text64(value), "mod_revision": str(self.revision),
                  "create_revision": old["create_revision"] if old else str(self.revision)}
            self.keys[key] = kv
            self.tell({"events": [{"kv": kv}]})

    def delete(self, key):
        with self.lock:
            self.revision += 1
            del self.keys[key]
            self.tell({"events": [{"type": "DELETE", "kv": {
                "key": text64(key), "mod_revision": str(self.revision)}}]})

    def tell(self, result):
        """A message to all that watch."""
        if not self.is_deaf:
            self.say(json.dumps({"result": {"header": self._header(), **result}}) + "\n")

    def say(self, text):
        """Any text to all that watch."""
        for stream in list(self.streams):
            self._send(stream, text)

    def drop_streams(self):
        with self.lock:
            for stream in self.streams:
                with contextlib.suppress(OSError):
                    stream.shutdown(socket.SHUT_RDWR)
            self.streams = []

    def _send(self, stream, text):
        data = text.encode()
        pieces = [data] if not self.cut else [
            data[at:at + self.cut] for at in range(0, len(data), self.cut)]
        with contextlib.suppress(OSError):
            for piece in pieces:
                stream.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                if self.cut:
                    time.sleep(0.002)

    def _header(self):
        return {"cluster_id": self.cluster_id, "member_id": "1", "revision": str(self.revision),
                "raft_term": "2"}

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, ValueError, IndexError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            path = head.split()[1].decode()
            self.asked[path] += 1
            if not self.is_silent:
                self._answer(connection, path)
            while connection.recv(65536):
                pass
        connection.close()
        self._open.discard(connection)
        with self.lock:
            if connection in self.streams:
                self.streams.remove(connection)

    def _answer(self, connection, path):
        if path == self.gateway + "/kv/range":
            with self.lock:
                self._reply(connection, 200, {"header": self._header(), "kvs": list(self.keys.values())})
        elif path == self.gateway + "/watch":
            with self.lock:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                   b"Transfer-Encoding: chunked\r\n\r\n")
                self.streams.append(connection)
                self._send(connection, json.dumps(
                    {"result": {"header": self._header(), "created": True}}) + "\n")
        else:
            self._reply(connection, 404, None)

    @staticmethod
    def _reply(connection, status, body):
        text = "404 page not found" if body is None else json.dumps(body)
        connection.sendall((f"HTTP/1.1 {status} Any\r\nContent-Length: {len(text)}\r\n"
                            f"\r\n{text}").encode())
        connection.shutdown(socket.SHUT_WR)

    def close(self):
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
