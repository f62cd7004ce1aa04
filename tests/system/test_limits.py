"""How many clients are served, and what becomes of those beyond."""

import contextlib
import selectors
import socket
import subprocess
import threading
import time

import pytest

from cluster import process
from harness import wire
from harness.fake_node import who
from harness.fake_patroni import FakePatroni
from harness.fake_postgres import Crowd
from harness.front import Node, front
from harness.wire import Client

LOGIN = wire.startup(user="app", database="app")
TLS_ALERT = bytes.fromhex("15 03 03 00 02 02 50")


class CrowdNode(Crowd):
    """A node for many sessions at a time."""

    def __init__(self, name="a", role="primary"):
        super().__init__()
        self.name = name
        self.patroni = FakePatroni()
        getattr(self.patroni, role)()

    def __str__(self):
        return self.node(self.name, rest_port=self.patroni.port)

    def close(self):
        self.patroni.close()
        super().close()


def logged_in(at, **more):
    client = Client(at, **more)
    client.log_in()
    return client


def is_served_within(client, seconds):
    """Whether the answer to a StartupMessage that was sent comes in that time."""
    client.socket.settimeout(seconds)
    try:
        return client.messages_until("Z")[-1][0] == "Z"
    except TimeoutError:
        return False
    finally:
        client.socket.settimeout(10)


def waits(r, listener, n):
    return process.wait_until(lambda: int(r.csv()[listener, "BACKEND"]["qcur"]) == n, 10)


def close_all(clients):
    for client in clients:
        client.close()


# maxconn and max_client_conn


def limited(start_router, setting, n, *nodes, **options):
    if setting == "maxconn":
        return front(start_router, *nodes, listener={"maxconn": n, **options})
    return front(start_router, *nodes, main={"max_client_conn": n}, listener=options)


@pytest.mark.parametrize("setting", ["maxconn", "max_client_conn"])
def test_one_beyond_the_limit_waits_for_a_place(start_router, setting):
    with Node() as node:
        r = limited(start_router, setting, 3, node, queue_timeout="60s")
        inside = [logged_in(r.at()) for _ in range(3)]
        with Client(r.at()) as beyond:
            beyond.send(LOGIN)
            assert waits(r, "rw", 1)
            assert not is_served_within(beyond, 0.3)
            assert len(node.postgres.connections) == 3
            for client in inside:
                assert who(client) == "a"  # those inside notice nothing

            inside.pop().close()
            assert is_served_within(beyond, 10)
            assert who(beyond) == "a"
        close_all(inside)


@pytest.mark.parametrize("setting", ["maxconn", "max_client_conn"])
def test_one_beyond_the_limit_is_refused_after_queue_timeout(start_router, setting):
    with Node() as node:
        r = limited(start_router, setting, 1, node, queue_timeout="1s")
        inside = logged_in(r.at())
        began = time.monotonic()
        beyond = [Client(r.at()) for _ in range(3)]
        for client, packet in zip(beyond, (LOGIN, wire.ssl_request(), b"\x16\x03\x01")):
            client.send(packet)
        for client in beyond[:2]:
            error = client.error()
            assert (error["S"], error["C"]) == ("FATAL", "53300")
            assert f"({setting})" in error["M"]
            assert client.at_end()
        assert beyond[2].receive(7) == TLS_ALERT
        assert time.monotonic() - began > 0.95
        close_all(beyond)
        assert r.log.wait("client refused")["reason"] == "TOO_MANY_CLIENTS"
        assert len(node.postgres.connections) == 1

        assert who(inside) == "a"
        inside.close()
        logged_in(r.at()).close()  # and there is a place again


@pytest.mark.parametrize("setting", ["maxconn", "max_client_conn"])
def test_at_the_limit_without_a_queue_it_is_refused_at_once(start_router, setting):
    with Node() as node:
        r = limited(start_router, setting, 1, node, queue_timeout="0")
        with logged_in(r.at()):
            for _ in range(3):
                with Client(r.at()) as beyond:
                    beyond.send(LOGIN)
                    assert beyond.error()["C"] == "53300"
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)
        logged_in(r.at()).close()


def test_max_client_conn_holds_over_all_listeners(start_router):
    with Node() as node:
        listeners = {name: {"role": "any", "queue_timeout": "60s"} for name in ("one", "two")}
        r = front(start_router, node, main={"max_client_conn": 4}, listeners=listeners)
        inside = [logged_in(r.at(name)) for name in ("one", "two", "one", "two")]
        first = Client(r.at("one"))
        first.send(LOGIN)
        assert waits(r, "one", 1)
        second = Client(r.at("two"))
        second.send(LOGIN)
        assert waits(r, "two", 1)
        assert not is_served_within(first, 0.3)

        inside.pop().close()  # of "two": the place is for whoever came first
        assert is_served_within(first, 10)
        assert not is_served_within(second, 0.3)
        inside.pop(0).close()
        assert is_served_within(second, 10)
        close_all([first, second])
        close_all(inside)


def test_maxconn_of_a_listener(start_router):
    """It is its own: another listener goes on, and nobody overtakes within one."""
    with Node() as node:
        r = front(start_router, node, listeners={
            "full": {"maxconn": 2, "queue_timeout": "60s"}, "free": {"queue_timeout": "60s"}})
        inside = [logged_in(r.at("full")) for _ in range(2)]
        with Client(r.at("full")) as beyond:
            beyond.send(LOGIN)
            assert waits(r, "full", 1)
            with logged_in(r.at("free")) as free:  # passes by those who wait
                assert who(free) == "a"
            assert not is_served_within(beyond, 0.3)
            row = r.csv()["full", "FRONTEND"]
            assert (row["slim"], row["status"]) == ("2", "FULL")
            inside.pop().close()
            assert is_served_within(beyond, 10)
        close_all(inside)


@pytest.mark.parametrize("setting", ["maxconn", "max_client_conn"])
def test_a_raised_limit_lets_in_who_waits(start_router, setting):
    with Node() as node:
        r = limited(start_router, setting, 1, node, queue_timeout="60s")
        section = "listener rw" if setting == "maxconn" else "pgrouter"
        with logged_in(r.at()), Client(r.at()) as beyond:
            beyond.send(LOGIN)
            assert waits(r, "rw", 1)
            r.sections[section][setting] = 2
            r.reload()
            assert is_served_within(beyond, 10)


def test_who_leaves_before_its_turn_takes_no_place(start_router):
    with Node() as node:
        r = limited(start_router, "maxconn", 1, node, queue_timeout="60s")
        for leave in (Client.close, Client.reset):
            inside = logged_in(r.at())
            gone, stays = Client(r.at()), Client(r.at())
            gone.send(LOGIN)
            assert waits(r, "rw", 1)
            stays.send(LOGIN)
            assert waits(r, "rw", 2)
            leave(gone)
            assert waits(r, "rw", 1)
            inside.close()
            assert is_served_within(stays, 10)
            stays.close()
            assert process.wait_until(lambda: r.sessions() == (0, 0), 5)


class Rush:
    """Many clients that come at the same time and keep what they get."""

    def __init__(self, to, n):
        self.served, self.refused = set(), set()
        self._selector = selectors.DefaultSelector()
        self.all = [socket.socket() for _ in range(n)]
        for one in self.all:
            one.setblocking(False)
            one.connect_ex(to)
            self._selector.register(one, selectors.EVENT_WRITE)

    def watch(self, seconds, is_enough=lambda: False):
        """Reads what comes, until it is enough or the time is over."""
        end = time.monotonic() + seconds
        while not is_enough() and time.monotonic() < end:
            for key, events in self._selector.select(0.05):
                one = key.fileobj
                if events & selectors.EVENT_WRITE:
                    one.send(LOGIN)
                    self._selector.modify(one, selectors.EVENT_READ)
                else:
                    self._read(one)

    def _read(self, one):
        try:
            data = one.recv(65536)
        except ConnectionResetError:
            data = b""
        if data[:1] == b"R":
            self.served.add(one)
        elif data[:1] == b"E":
            self.refused.add(one)
        elif data == b"":
            self._selector.unregister(one)

    def close(self, *some):
        for one in some or self.all:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(one)
            one.close()
            self.served.discard(one)


@pytest.mark.parametrize("setting", ["maxconn", "max_client_conn"])
def test_limits_are_exact_over_all_workers(start_router, setting, workers):
    n, limit = 120, 37
    with CrowdNode() as node:
        r = limited(start_router, setting, limit, node, queue_timeout="60s")
        rush = Rush(r.at(), n)
        most = [0]

        def has(wanted):
            most[0] = max(most[0], node.n_sessions)
            return len(rush.served) == wanted

        rush.watch(20, lambda: has(limit))
        assert waits(r, "rw", n - limit)
        rush.watch(0.3, lambda: has(limit + 1))  # and no more
        assert len(rush.served) == limit
        assert {event["worker"] for event in r.log.find("session began")} == set(range(workers))

        n_left = n
        for n_leave in (1, 20, 1, 37, 30):  # as many come as leave, while there are any
            rush.close(*list(rush.served)[:n_leave])
            n_left -= n_leave
            expected = min(limit, n_left)
            rush.watch(20, lambda: has(expected))
            assert len(rush.served) == expected
        assert n_left < limit
        assert most[0] <= limit
        assert rush.refused == set()
        rush.close()


def test_a_cancel_request_passes_at_the_limit(start_router):
    with Node() as node:
        r = front(start_router, node, main={"max_client_conn": 2}, listener={"queue_timeout": "60s"})
        first, second = logged_in(r.at()), Client(r.at())
        process_id, key = second.log_in()
        with Client(r.at()) as beyond:
            beyond.send(LOGIN)
            assert waits(r, "rw", 1)
            with Client(r.at()) as canceller:
                canceller.send(wire.cancel_request(process_id, key))
                assert canceller.at_end()
            assert process.wait_until(lambda: node.postgres.cancels, 5)
            assert node.postgres.cancels == [(process_id, key)]
            assert not is_served_within(beyond, 0.2)
        close_all([first, second])


# What the kernel holds


@pytest.mark.parametrize("backlog", [7, 300])
def test_listen_backlog_is_given_to_the_kernel(start_router, backlog):
    with Node() as node:
        r = front(start_router, node, main={"listen_backlog": backlog})
        shown = subprocess.run(["ss", "-Hltn", f"sport = :{r.port()}"], capture_output=True,
                               text=True, check=True).stdout.split()
        assert shown[2] == str(backlog)


class TestDescriptors:
    """With a low limit of descriptors: 600, of which one half is kept for what is not a
    session's, suffice for 150 clients with a server each."""

    FIT = 150

    @staticmethod
    def start(start_router, node, limit):
        return front(start_router, node, prefix=["prlimit", f"--nofile={limit}:{limit}"],
                     listener={"queue_timeout": "60s"})

    def test_the_log_says_that_there_are_too_few(self, start_router):
        with Node() as node:
            r = self.start(start_router, node, 600)
            line = r.log.wait("max_client_conn is more than the descriptors suffice for")
            assert (line["max_client_conn"], line["suffice_for"]) == (1000, self.FIT)

    def test_the_soft_limit_is_raised_to_the_hard_one(self, start_router):
        with Node() as node:
            r = front(start_router, node, prefix=["prlimit", "--nofile=100:5000"])
            with open(f"/proc/{r.process.pid}/limits", encoding="ascii") as file:
                limits = next(line for line in file if line.startswith("Max open files"))
            assert limits.split()[3:5] == ["5000", "5000"]

    def test_who_does_not_fit_waits_in_the_kernel(self, start_router):
        with CrowdNode() as node:
            r = self.start(start_router, node, 600)
            rush = Rush(r.at(), self.FIT + 60)
            rush.watch(20, lambda: len(rush.served) == self.FIT)
            rush.watch(0.5, lambda: len(rush.served) > self.FIT)
            assert len(rush.served) == node.n_sessions == self.FIT
            assert r.sessions()[0] == self.FIT  # the others were not accepted

            rush.close(*list(rush.served)[:100])
            rush.watch(20, lambda: len(rush.served) == self.FIT + 60 - 100)
            assert len(rush.served) == self.FIT + 60 - 100
            assert rush.refused == set()
            rush.close()

    def test_far_too_few_descriptors_do_no_harm(self, start_router):
        """150: accepting fails before 256 clients are there."""
        with CrowdNode() as node:
            r = self.start(start_router, node, 150)
            inside = [logged_in(r.at()) for _ in range(5)]
            rush = Rush(r.at(), 200)
            rush.watch(2)
            assert rush.served
            assert rush.refused == set()  # the kernel keeps who does not fit

            cpu_before = r.cpu_seconds()
            rush.watch(1)
            if r.sanitizer is None:
                assert r.cpu_seconds() - cpu_before < 0.5  # it does not turn in circles
            for client in inside:  # those inside go on
                assert client.ask("still there?")

            n_before = len(rush.served)
            rush.close(*list(rush.served)[:10])
            rush.watch(20, lambda: len(rush.served) >= n_before)
            assert len(rush.served) >= n_before
            rush.close()
            assert process.wait_until(lambda: r.sessions()[0] == 5, 10)
            with logged_in(r.at()) as later:
                assert later.ask("who")
            close_all(inside)


def test_a_place_is_kept_by_who_says_nothing(start_router):
    """It counts as a client, until client_login_timeout."""
    with Node() as node:
        r = front(start_router, node, main={"client_login_timeout": "1s"},
                  listener={"maxconn": 1, "queue_timeout": "60s"})
        with Client(r.at()) as silent, Client(r.at()) as beyond:
            beyond.send(LOGIN)
            assert waits(r, "rw", 1)
            assert is_served_within(beyond, 10)
            assert silent.at_end()


def test_many_come_and_go(start_router):
    """Places are given back, however a client ends."""
    with Node() as node:
        r = front(start_router, node, main={"max_client_conn": 5}, listener={"queue_timeout": "60s"})

        def visit(number):
            ends = [Client.close, Client.reset, Client.finish]
            for turn in range(12):
                client = Client(r.at(), timeout=60)
                way = (number + turn) % 5
                if way == 0:
                    client.send(b"GET / HTTP/1.0\r\n\r\n")
                elif way == 1:
                    client.send(LOGIN)
                elif way > 2:
                    client.log_in()
                ends[(number * turn) % 3](client)
                client.close()

        visitors = [threading.Thread(target=visit, args=(number,), daemon=True)
                    for number in range(12)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(60)
        assert not any(visitor.is_alive() for visitor in visitors)
        assert process.wait_until(lambda: r.sessions() == (0, 0), 10)
        inside = [logged_in(r.at()) for _ in range(5)]
        with Client(r.at()) as beyond:
            beyond.send(LOGIN)
            assert waits(r, "rw", 1)
        close_all(inside)
