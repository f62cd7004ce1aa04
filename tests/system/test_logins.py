"""How many servers log in to a node at a time, and for whom first."""

import contextlib
import threading
import time

import pytest

from harness import fake_postgres, wire
from harness.fake_patroni import FakePatroni
from harness.fake_postgres import Crowd, FakePostgres
from harness.ports import free_port
from harness.wire import Client

THOUSANDS = 4000

class Gate(FakePostgres):
    """Logs nobody in before it is told to; `arrived`: databases of the logins that wait, in
    the order in which they came."""

    def __init__(self):
        self.arrived, self.may_pass, self.most, self.n_open = [], threading.Semaphore(0), 0, 0
        self.lock = threading.Lock()
        super().__init__(self.attend)

    def attend(self, connection):
        code, body = connection.packet()
        if code in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
            connection.send(b"N")
            code, body = connection.packet()
        words = body.split(b"\0")
        with self.lock:
            self.arrived.append(words[words.index(b"database") + 1].decode())
            self.n_open += 1
            self.most = max(self.most, self.n_open)
        self.may_pass.acquire()
        with self.lock:
            self.n_open -= 1
        connection.send(self.login_answer())
        while True:
            kind, query = connection.message()
            if kind == "X":
                return
            if kind == "Q":
                connection.send(fake_postgres.answer("row", query))

    def sees(self, n, seconds=20):
        """That many have come, ever."""
        end = time.monotonic() + seconds
        while len(self.arrived) < n:
            assert time.monotonic() < end, f"{len(self.arrived)} logins instead of {n}"
            time.sleep(0.01)
        time.sleep(0.2)  # and no more
        assert len(self.arrived) == n

    def let_pass(self, n):
        for _ in range(n):
            self.may_pass.release()


@pytest.fixture
def gate():
    with Gate() as server, FakePatroni() as server.patroni:
        server.patroni.primary()
        yield server


@pytest.fixture
def start(start_router, gate, tmp_path):
    def start(**main):
        auth_file = tmp_path / "users.txt"
        auth_file.write_text('"app" "secret"\n')
        return start_router(sections={
            "pgrouter": {"pool_mode": "session", "auth_type": "trust", "auth_file": auth_file,
                         "max_client_conn": 500, "default_pool_size": 50, "server_connect_timeout": "60s",
                         **main},
            "cluster main": {"nodes": gate.node("pg1", gate.patroni.port), "check_interval": "200ms"},
            "databases": {"first": "cluster=main", "second": "cluster=main"},
            "listener pool": {"mode": "pool", "bind": f"127.0.0.1:{free_port()}"},
            "stats": {"bind": f"127.0.0.1:{free_port()}"}})
    return start


def come(stack, r, n, database):
    """So many clients, each of which asks something."""
    clients = [stack.enter_context(Client(r.at("pool"), timeout=60)) for _ in range(n)]
    for client in clients:
        client.log_in(database=database)
        client.send(wire.query("select 1"))
    return clients


def prepare(gate, r):
    """Each database was used once: who comes is let in before there is a server for him."""
    gate.let_pass(2)
    for database in ("first", "second"):
        with Client(r.at("pool"), timeout=30) as client:
            client.log_in(database=database)
            client.ask("select 1")
    gate.arrived.clear()
    gate.most = 0


def test_who_waits_longest_logs_in_first(start, gate):
    """Behind a hold 100 servers are opened: 4 at a time, and twice as many with each round;
    those of the database whose clients have come first are the first, whatever its pool's place."""
    r = start(login_concurrency=4)
    prepare(gate, r)
    gate.patroni.down()
    r.log.wait("hold began")
    with contextlib.ExitStack() as stack:
        clients = come(stack, r, 50, "second") + come(stack, r, 50, "first")
        gate.patroni.primary()
        r.log.wait("hold ended")
        for n, all_of_them in ((4, 4), (8, 12), (16, 28), (32, 60), (40, 100)):
            gate.sees(all_of_them)
            assert gate.n_open == n
            if all_of_them <= 28:
                assert set(gate.arrived) == {"second"}
            gate.let_pass(n)
        assert gate.arrived[:60].count("second") == 50
        for client in clients:
            client.messages_until("Z")
    assert gate.most == 40


def test_logins_that_hang_count_until_their_time_is_over(start, gate):
    r = start(login_concurrency=2, server_connect_timeout="2s", server_login_retry="100ms")
    prepare(gate, r)
    with contextlib.ExitStack() as stack:
        clients = come(stack, r, 6, "first")
        gate.sees(2)
        began = time.monotonic()
        while len(gate.arrived) < 4:
            time.sleep(0.01)
        assert time.monotonic() - began > 1
        assert set(gate.arrived) == {"first"}
        gate.let_pass(100)  # those that were given up too
        for client in clients:
            client.messages_until("Z")


def test_login_concurrency_0_is_no_limit(start, gate):
    r = start(login_concurrency=0)
    prepare(gate, r)
    with contextlib.ExitStack() as stack:
        clients = come(stack, r, 31, "first")  # one has the server that is there
        gate.sees(30)
        gate.let_pass(30)
        for client in clients:
            client.messages_until("Z")


def test_login_concurrency_is_reloaded(start, gate):
    r = start(login_concurrency=2)
    prepare(gate, r)
    with contextlib.ExitStack() as stack:
        clients = come(stack, r, 20, "first")
        gate.sees(2)
        r.sections["pgrouter"]["login_concurrency"] = 10
        r.reload()
        gate.sees(10)
        gate.let_pass(30)
        for client in clients:
            client.messages_until("Z")


# Is it a standby?


class Mute(FakePostgres):
    """A server that says at the login what `parameters` say, and answers whether it is in
    recovery with `answer`; `said`: all queries."""

    def __init__(self, answer, **parameters):
        self.parameters, self.answer, self.said = parameters, answer, []
        super().__init__(self.attend)

    def login_answer(self):
        return super().login_answer(**self.parameters)

    def attend(self, connection):
        if connection.packet()[0] in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
            connection.send(b"N")
            connection.packet()
        connection.send(self.login_answer())
        while True:
            kind, body = connection.message()
            if kind == "X":
                return
            query = body.rstrip(b"\0").decode()
            self.said.append(query)
            if "pg_is_in_recovery" in query:
                self.say_whether(connection)
            else:
                connection.send(fake_postgres.answer("row"))

    def say_whether(self, connection):
        if self.answer is None:
            connection.send(wire.error("42501", "permission denied") + wire.message("Z", b"I"))
        else:
            for byte in fake_postgres.answer(self.answer):  # as slow networks have it
                connection.send(bytes([byte]))


OLD = {"server_version": "13.14 (Debian 13.14-1)", "in_hot_standby": None}


@pytest.fixture
def behind(start_router, tmp_path):
    """A pool in front of such a server, which Patroni calls the primary."""
    with contextlib.ExitStack() as stack:
        def start(server, role="primary", **main):
            stack.enter_context(server)
            patroni = stack.enter_context(FakePatroni())
            patroni.primary()
            auth_file = tmp_path / "users.txt"
            auth_file.write_text('"app" "secret"\n')
            return start_router(sections={
                "pgrouter": {"pool_mode": "transaction", "auth_type": "trust", "auth_file": auth_file,
                             "server_login_retry": "200ms", **main},
                "cluster main": {"nodes": server.node("pg1", patroni.port), "check_interval": "200ms"},
                "databases": {"app": f"cluster=main role={role}"},
                "listener pool": {"mode": "pool", "bind": f"127.0.0.1:{free_port()}"},
                "stats": {"bind": f"127.0.0.1:{free_port()}"}})
        yield start


def ask(client):
    return [kind for kind, _ in client.ask("select 1")]


@pytest.mark.parametrize("answer, why", [
    ("t", "the node is in recovery, and was taken for the primary"),
    (None, "it does not say whether the node is in recovery"),
    ("perhaps", "it does not say whether the node is in recovery")])
def test_a_standby_that_does_not_say_so_is_not_lent(behind, answer, why):
    """PostgreSQL 13 has no in_hot_standby: it is asked."""
    server = Mute(answer, **OLD)
    r = behind(server)
    with Client(r.at("pool"), timeout=30) as client:
        client.send(wire.startup(user="app", database="app"))
        r.log.wait("server lost", text=why)
        server.answer = "f"
        client.messages_until("Z")
        assert ask(client) == ["T", "D", "C", "Z"]
    assert server.said[-2:] == ["SELECT pg_catalog.pg_is_in_recovery()", "select 1"]
    assert server.said.count("select 1") == 1


def test_the_connect_query_comes_behind_that(behind):
    server = Mute("f", **OLD)
    r = behind(server)
    r.sections["databases"]["app"] = "cluster=main role=primary connect_query='select 2'"
    r.reload()
    with Client(r.at("pool"), timeout=30) as client:
        client.log_in()
        assert ask(client) == ["T", "D", "C", "Z"]
    assert server.said == ["SELECT pg_catalog.pg_is_in_recovery()", "select 2", "select 1"]


@pytest.mark.parametrize("role, parameters", [
    ("primary", {"server_version": "14.0", "in_hot_standby": "off"}), ("read-only", OLD),
    ("any", OLD)])
def test_who_says_so_or_need_not_is_not_asked(behind, role, parameters):
    server = Mute("f", **parameters)
    r = behind(server, role)
    with Client(r.at("pool"), timeout=30) as client:
        client.log_in()
        ask(client)
    assert server.said == ["select 1"]


# Thousands


def test_thousands_who_wait_are_served_at_once(start_router, tmp_path):
    """4,000 clients of two pools behind a hold: no loop is held up by so many (the harness looks
    at its longest iteration), and all are served."""
    auth_file = tmp_path / "users.txt"
    auth_file.write_text('"app" "secret"\n')
    with Crowd() as server, FakePatroni() as patroni, contextlib.ExitStack() as stack:
        patroni.primary()
        r = start_router(sections={
            "pgrouter": {"pool_mode": "transaction", "auth_type": "trust", "auth_file": auth_file,
                         "max_client_conn": THOUSANDS + 10, "log_connections": 0, "log_disconnections": 0},
            "cluster main": {"nodes": server.node("pg1", patroni.port), "check_interval": "200ms"},
            "databases": {"first": "cluster=main", "second": "cluster=main"},
            "listener pool": {"mode": "pool", "bind": f"127.0.0.1:{free_port()}"},
            "stats": {"bind": f"127.0.0.1:{free_port()}"}})
        clients = [stack.enter_context(Client(r.at("pool"), timeout=60)) for _ in range(THOUSANDS)]
        for number, client in enumerate(clients):
            client.log_in(database=("first", "second")[number % 2])
        patroni.down()
        r.log.wait("hold began")
        for client in clients:
            client.send(wire.query("select 1"))
        patroni.primary()
        r.log.wait("hold ended")
        for client in clients:
            assert client.messages_until("Z")[-1][1] == b"I"
