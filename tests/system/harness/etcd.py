"""A real etcd of one or more members, with keys as Patroni writes them, for what the
cluster's own etcd cannot be put through.

    with Etcd(folder, members=3) as etcd:
        etcd.put("/service/main/leader", "pg1")
        etcd.endpoints()                  # "127.0.0.1:2379,..."
        etcd.members[0].kill()            # .start(), .freeze(), .thaw()
        etcd.compact()
"""

import base64
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

from .ports import free_port


def text64(text):
    return base64.b64encode(text.encode()).decode()


class Member:
    def __init__(self, etcd, number):
        self.etcd, self.name = etcd, f"m{number}"
        self.port, self.peer_port = free_port(), free_port()
        self.process = None
        self.is_frozen = False

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    @property
    def peer(self):
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self):
        folder = os.path.join(self.etcd.folder, self.name)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        log = open(os.path.join(self.etcd.folder, self.name + ".log"), "ab")
        self.process = subprocess.Popen([
            "/usr/bin/etcd", "--name", self.name, "--data-dir", folder,
            "--listen-client-urls", f"http://{self.endpoint}",
            "--advertise-client-urls", f"http://{self.endpoint}",
            "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
            "--initial-cluster", ",".join(f"{m.name}={m.peer}" for m in self.etcd.members),
            "--unsafe-no-fsync", "--log-level", "warn", "--heartbeat-interval", "100",
            "--election-timeout", "1000", *self.etcd.options], stdout=log, stderr=log,
            env={**os.environ, "ETCD_UNSUPPORTED_ARCH": ""})
        log.close()

    def freeze(self):
        self.is_frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.is_frozen = False
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process, self.is_frozen = None, False

    def post(self, path, body, token=None, timeout=5):
        request = urllib.request.Request(
            f"http://{self.endpoint}{path}", json.dumps(body).encode(),
            {"Content-Type": "application/json", **({"Authorization": token} if token else {})})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)


class Etcd:
    def __init__(self, folder, members=1, options=()):
        self.folder, self.options = str(folder), list(options)
        self.token = None
        self.members = []
        for number in range(1, members + 1):
            self.members.append(Member(self, number))

    def __enter__(self):
        for member in self.members:
            member.start()
        try:
            if "--enable-grpc-gateway=false" not in self.options:
                self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for member in self.members:
            member.kill()

    def endpoints(self):
        return ", ".join(member.endpoint for member in self.members)

    def member_at(self, endpoint):
        return next(member for member in self.members if member.endpoint == endpoint)

    # Through any member that answers

    def call(self, path, body, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            for member in self.members:
                if member.process is None or member.is_frozen:
                    continue
                try:
                    return member.post("/v3" + path, body, self.token)
                except urllib.error.HTTPError as error:
                    last = f"{error}: {error.read()[:300]}"
                except (OSError, ValueError) as error:
                    last = str(error)
            if time.monotonic() > deadline:
                raise TimeoutError(f"etcd does not answer {path}: {last}")
            time.sleep(0.1)

    def wait(self):
        self.call("/kv/range", {"key": text64("any")})

    def put(self, key, value):
        if not isinstance(value, str):
            value = json.dumps(value, separators=(",", ":"))
        answer = self.call("/kv/put", {"key": text64(key), "value": text64(value)})
        return int(answer["header"]["revision"])

    def delete(self, key):
        self.call("/kv/deleterange", {"key": text64(key)})

    def compact(self):
        revision = self.call("/kv/range", {"key": text64("any")})["header"]["revision"]
        self.call("/kv/compaction", {"revision": revision, "physical": True})

    # Users

    def enable_auth(self, root, user, password, prefix):
        """From now on etcd wants a token; `user` may read what begins with `prefix`."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        self.call("/auth/user/add", {"name": "root", "password": root})
        self.call("/auth/user/grant", {"user": "root", "role": "root"})
        self.call("/auth/role/add", {"name": "reader"})
        self.call("/auth/role/grant", {"name": "reader", "perm": {
            "permType": "READ", "key": text64(prefix), "range_end": text64(end)}})
        self.call("/auth/user/add", {"name": user, "password": password})
        self.call("/auth/user/grant", {"user": user, "role": "reader"})
        self.call("/auth/enable", {})
        self.log_in("root", root)

    def log_in(self, user, password):
        self.token = None
        self.token = self.call("/auth/authenticate",
                               {"name": user, "password": password})["token"]

    # Patroni's keys

    def patroni(self, scope="main", namespace="/service", leader="n1", members=None, **config):
        """Keys of a cluster; members: name -> (port, REST port)."""
        base = f"{namespace.rstrip('/')}/{scope}"
        self.put(f"{base}/initialize", "7000000000000000001")
        self.put(f"{base}/config", {"ttl": 30, "loop_wait": 1, **config})
        members = members or {"n1": (5401, 8001), "n2": (5402, 8002), "n3": (5403, 8003)}
        for name, (port, rest_port) in members.items():
            self.put(f"{base}/members/{name}", {
                "conn_url": f"postgres://127.0.0.1:{port}/postgres",
                "api_url": f"http://127.0.0.1:{rest_port}/patroni", "state": "running",
                "role": "master" if name == leader else "replica", "version": "3.0.2",
                "xlog_location": 100 << 20, "timeline": 1})
        self.put(f"{base}/leader", leader)
