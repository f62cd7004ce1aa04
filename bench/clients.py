"""The writers of one change of the primary, each a process, and the observer beside them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading

import targets
from cluster import process

HERE = os.path.dirname(os.path.abspath(__file__))
NODE_MODULES = "/usr/local/lib/node_modules:/usr/lib/node_modules:/usr/share/nodejs"
JDBC = "/usr/share/java/postgresql.jar"


def has_module(name):
    return subprocess.run(["/usr/bin/python3", "-c", f"import {name}"], check=False,
                          stderr=subprocess.DEVNULL).returncode == 0


def has_node():
    return bool(shutil.which("node") and any(
        os.path.exists(os.path.join(folder, "pg", "package.json")) for folder in NODE_MODULES.split(":")))


def has_jdbc():
    return bool(shutil.which("java") and (shutil.which("javac") or shutil.which("ecj")) and os.path.exists(JDBC))


def python_writer(kind, folder):
    return ["/usr/bin/python3", os.path.join(HERE, "writers.py"), kind]


def node_writer(kind, folder):
    return [shutil.which("node"), os.path.join(HERE, "writer.js"), kind]


def java_writer(kind, folder):
    """Small: there may be several, and all they do is to wait."""
    return [shutil.which("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx64m",
            "-cp", f"{folder}:{JDBC}", "Writer"]


def compile_java(folder):
    compiler = shutil.which("javac") or shutil.which("ecj")
    release = [] if compiler.endswith("javac") else ["-11"]
    process.run([compiler, *release, "-cp", JDBC, "-d", folder, os.path.join(HERE, "Writer.java")])


# In the order in which writers take them.
KINDS = {
    "psycopg": (python_writer, lambda: has_module("psycopg")),  # extended protocol, named after 5 times
    "psycopg2": (python_writer, lambda: has_module("psycopg2")),  # simple
    "pgbench": (python_writer, lambda: True),  # simple
    "jdbc": (java_writer, has_jdbc),  # extended, named after 5 times
    "node": (node_writer, has_node),  # extended
    "psycopg-simple": (python_writer, lambda: has_module("psycopg")),
    "pgbench-extended": (python_writer, lambda: True),
    "node-simple": (node_writer, has_node),
}


class Writers:
    """The clients of one change."""

    def __init__(self, given, folder, cluster, change):
        self._folder = tempfile.mkdtemp(dir=folder)
        self._children = []
        for client in range(given.clients):
            kind = given.drivers[client % len(given.drivers)]
            result = os.path.join(self._folder, f"{client}.json")
            environment = {
                **os.environ, "NODE_PATH": NODE_MODULES,
                "PGHOST": targets.ADDRESS, "PGPORT": str(change.ports[client % len(change.ports)]),
                "PGUSER": "app", "PGPASSWORD": cluster.passwords["app"], "PGDATABASE": "app",
                "PGSSLMODE": change.tls_mode,
                "WRITER_RUN": str(change.run), "WRITER_CLIENT": str(client),
                "WRITER_SHAPE": change.case.shape, "WRITER_PAUSE": str(given.pause),
                "WRITER_ERROR_PAUSE": str(given.error_pause), "WRITER_THINK": "0.01",
                "WRITER_RESULT": result, "WRITER_PGBENCH": os.path.join(cluster.programs, "pgbench")}
            log = os.path.join(self._folder, f"{client}.log")
            child, _ = process.spawn(KINDS[kind][0](kind, folder), log, self._folder, environment)
            self._children.append((kind, child, result, log))

    def check(self):
        for kind, child, _, log in self._children:
            if child.poll() is not None:
                with open(log, encoding="utf-8", errors="replace") as file:
                    raise RuntimeError(f"the writer {kind} has ended:\n{file.read()}")

    def finish(self):
        """What all of them have tried."""
        self.check()
        for _, child, _, _ in self._children:
            child.send_signal(signal.SIGTERM)
        found = []
        for kind, child, result, log in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(20)
            if not os.path.exists(result):
                with open(log, encoding="utf-8", errors="replace") as file:
                    raise RuntimeError(f"the writer {kind} has left no list:\n{file.read()}")
            with open(result, encoding="utf-8") as file:
                found.append(json.load(file))
        return found

    def close(self):
        for _, child, _, _ in self._children:
            with contextlib.suppress(ProcessLookupError):  # with what it has started
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        process.remove_tree(self._folder)


class Observer:
    """observer.py, and what it says."""

    def __init__(self, cluster):
        self.events = []
        self._child = subprocess.Popen(["/usr/bin/python3", os.path.join(HERE, "observer.py")], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        # Without TLS and Kerberos, which would take longer to say that nobody is there.
        nodes = {node.name: node.dsn(database="app", sslmode="disable", gssencmode="disable", connect_timeout=2,
                                     tcp_user_timeout=2000, application_name="observer") for node in cluster.nodes}
        self._child.stdin.write(json.dumps(nodes) + "\n")
        self._child.stdin.flush()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._child.stdout:
            self.events.append(json.loads(line))

    def first_write(self, since, is_elsewhere, old):
        """The event of the first node that took a write after `since`, of others than `old` if
        is_elsewhere; None when there is none yet."""
        return next((event for event in list(self.events)
                     if event["at"] >= since and not (is_elsewhere and event["node"] == old.name)), None)

    def close(self):
        self._child.kill()
        self._child.wait()
