"""Clients of a pool, and a look at its servers from the other side.

    r = pool(main={"pool_mode": "transaction", "default_pool_size": 2})
    with join(r) as connection, Onlooker(cluster.leader()) as node:
        assert node.pids() == [pid_of(connection)]
"""

import struct
import threading

import psycopg

from cluster import process

from .wire import Client, error_fields, message

ONE_SERVER = {"pool_mode": "transaction", "default_pool_size": 1}


def join(router, listener="pool", seconds=15, **more):
    """A psycopg connection that commits each statement and prepares none."""
    return psycopg.connect(router.dsn(listener, **{"connect_timeout": seconds, **more}),
                           autocommit=True, prepare_threshold=None)


def logged_in(router, **more):
    """A client by hand, where no password is asked for."""
    client = Client(router.at("pool"))
    client.log_in(**more)
    return client


def one(connection, query, *arguments):
    """The one value of an answer."""
    return connection.execute(query, *arguments).fetchone()[0]


def pid_of(connection):
    """Of the server that it has just now."""
    return one(connection, "select pg_backend_pid()")


def value_of(messages):
    """The one value of an answer to wire.Client."""
    return next(body for kind, body in messages if kind == "D")[6:].decode()


def errors_of(messages):
    """SQLSTATEs in an answer to wire.Client."""
    return [error_fields(body)["C"] for kind, body in messages if kind == "E"]


def status_of(messages):
    """What ReadyForQuery says at the end of an answer: I, T or E."""
    assert messages[-1][0] == "Z"
    return messages[-1][1].decode()


# The extended protocol by hand


def parse(text, name=""):
    return message("P", f"{name}\0{text}\0".encode() + struct.pack("!H", 0))


def bind(name="", portal="", values=()):
    body = f"{portal}\0{name}\0".encode() + struct.pack("!HH", 0, len(values))
    for value in values:
        body += struct.pack("!I", len(value)) + value.encode()
    return message("B", body + struct.pack("!H", 0))


def execute(portal="", rows=0):
    return message("E", f"{portal}\0".encode() + struct.pack("!I", rows))


def run_unnamed(text):
    """Parse, Bind and Execute of a statement without a name."""
    return parse(text) + bind() + execute()


SYNC, FLUSH, TERMINATE = message("S"), message("H"), message("X")


# What a node sees


class Onlooker:
    """The superuser, on a node itself."""

    def __init__(self, node, database="app"):
        self.connection = psycopg.connect(node.dsn(database=database), autocommit=True)

    def ask(self, query):
        return one(self.connection, query)

    def pids(self, where="true"):
        """Processes of clients that are not the superuser's, the eldest first."""
        rows = self.connection.execute(
            "select pid from pg_stat_activity where backend_type = 'client backend' and "
            f"usename not in ('postgres', 'replicator', 'health') and {where} order by backend_start")
        return [pid for pid, in rows.fetchall()]

    def count(self, where="true"):
        return len(self.pids(where))

    def sees(self, n, where="true", seconds=10):
        """True as soon as there are n of them."""
        return process.wait_until(lambda: self.count(where) == n, seconds)

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Later:
    """A call in a thread of its own, whose end can be waited for.

        waiting = Later(lambda: one(connection, "select 1"))
        assert not waiting.is_over(0.3)
        assert waiting.result() == 1
    """

    def __init__(self, function):
        self._function, self._value, self._error = function, None, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._value = self._function()
        except Exception as error:  # the caller's business
            self._error = error

    def is_over(self, seconds=0):
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self, seconds=20):
        """What it returned; what it raised is raised."""
        assert self.is_over(seconds), f"a call does not end within {seconds} s"
        if self._error is not None:
            raise self._error
        return self._value
