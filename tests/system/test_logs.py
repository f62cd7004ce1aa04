"""What the log says, and what nobody can make it say."""

import json
import random
import re
import threading
import time

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.fake_node import who
from harness.fake_patroni import Answer
from harness.fake_postgres import refuse_login
from harness.front import Node, front
from harness.router import LINE
from harness.slow_wire import SlowWire
from harness.wire import Client

LOGIN = wire.startup(user="app", database="app")
WINDOW_S, LINES_IN_A_WINDOW = 10, 10
FORGED = ("\n2026-11-22 00:00:00.000 UTC [1] info    forged line=1\r\n"
          '{"event":"forged"}\n\x1b[2K\0\x7f')


def here(client):
    return "%s:%d" % client.socket.getsockname()


class Counting(Client):
    """Counts what it sends and gets."""

    n_sent = n_received = 0

    def send(self, data):
        super().send(data)
        self.n_sent += len(data)

    def receive(self, n):
        self.n_received += n
        return super().receive(n)


# Sessions


@pytest.mark.parametrize("n_out, n_back", [(0, 0), (10, 20), (70_000, 3), (5, 5_000_000),
                                           (5_000_000, 7)])
@pytest.mark.parametrize("first", [b"", wire.ssl_request()], ids=["plain", "after a no"])
def test_session_lines_have_true_counts(start_router, n_out, n_back, first):
    def script(connection):
        if first:
            connection.packet()
            connection.send(b"N")
        connection.packet()
        connection.send(connection.server.login_answer())
        while connection.message()[0] == "Q":
            connection.send(wire.message("D", b"x" * n_back) + wire.message("Z", b"I"))

    with Node(script=script) as node:
        r = front(start_router, node)
        with Counting(r.at()) as client:
            if first:
                client.send(first)
                assert client.receive(1) == b"N"
            client.log_in()
            if n_out:
                client.send(wire.query("x" * n_out))
                client.messages_until("Z")
            address = here(client)
        began, ended = r.log.wait("session began"), r.log.wait("session ended")

    assert began["client"] == ended["client"] == address
    for line in (began, ended):
        assert (line["listener"], line["node"]) == ("rw", "a")
        assert line["worker"] in range(8)
    assert 0 <= ended["seconds"] < 60
    assert (ended["bytes_in"], ended["bytes_out"]) == (client.n_sent, client.n_received)
    assert (ended["reason"], ended["text"]) == ("CLIENT_CLOSED", "client closed the connection")


def test_session_lines_have_the_fields_of_the_manual(start_router):
    with Node() as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.log_in()
        both = {"client", "listener", "node", "waited_seconds", "worker"}
        assert set(r.log.wait("session began")) == both
        assert set(r.log.wait("session ended")) == both | {
            "seconds", "bytes_in", "bytes_out", "reason", "text"}


CLOSE_NOTIFY_BYTES = 24


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_counts_are_those_of_the_wire(cluster, router, sslmode):
    r = router()
    with SlowWire(r.at("rw")) as slow:  # it counts
        with psycopg.connect(r.dsn("rw", sslmode=sslmode, port=slow.port)) as connection:
            connection.execute("select repeat('x', 3000)")
        ended = r.log.wait("session ended")
        assert process.wait_until(lambda: slow.n_bytes[0] == ended["bytes_in"], 5)
        # The last of it, the node's close_notify, may find that the client has left.
        assert 3000 < slow.n_bytes[1] <= ended["bytes_out"] <= slow.n_bytes[1] + CLOSE_NOTIFY_BYTES
    assert ended["node"] == cluster.leader().name


def test_seconds_are_those_of_the_session(start_router):
    with Node(role="replica") as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(LOGIN)
            came = time.monotonic()
            assert process.wait_until(lambda: r.csv()["rw", "BACKEND"]["qcur"] == "1", 5)
            time.sleep(0.5)
            node.patroni.primary()
            client.messages_until("Z")
            served = time.monotonic()
            time.sleep(0.5)
        ended = r.log.wait("session ended")
        gone = time.monotonic()
    began = r.log.wait("session began")
    assert 0.5 <= began["waited_seconds"] <= served - came + 0.1
    assert 0.5 <= ended["seconds"] <= gone - served + 0.5


@pytest.mark.parametrize("began", [0, 1])
@pytest.mark.parametrize("ended", [0, 1])
def test_session_lines_can_be_turned_off(start_router, began, ended):
    with Node() as node:
        r = front(start_router, node, main={"log_connections": began, "log_disconnections": ended})
        for _ in range(3):
            with Client(r.at()) as client:
                client.log_in()
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)
        r.stop()
        assert len(r.log.find("session began")) == 3 * began
        assert len(r.log.find("session ended")) == 3 * ended


def test_a_reload_turns_session_lines_on_and_off(start_router):
    with Node() as node:
        r = front(start_router, node, main={"log_connections": "1"})
        for on in (0, 1):
            r.sections["pgrouter"]["log_connections"] = on
            r.reload()
            since = r.log.mark()
            with Client(r.at()) as client:
                client.log_in()
            r.log.wait("session ended", since=since)
            assert len(r.log.find("session began", since=since)) == on


def test_each_session_that_ended_has_begun(start_router):
    with Node() as node:
        r = front(start_router, node)
        ends = (Client.close, Client.reset, Client.finish)
        for number in range(30):
            client = Client(r.at())
            client.log_in()
            ends[number % 3](client)
            client.close()
        assert process.wait_until(lambda: len(r.log.find("session ended")) == 30, 5)
        assert ({event["client"] for event in r.log.find("session began")} ==
                {event["client"] for event in r.log.find("session ended")})


def test_a_refused_login_is_a_refusal(start_router):
    """It never became a session, so no session ended."""
    with Node(script=refuse_login("28P01", "no")) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert client.error()["C"] == "28P01"
            assert client.at_end()
            address = here(client)
        line = r.log.wait(reason="REFUSED_BY_NODE")
        assert line.name == "client refused"
        assert (line["client"], line["listener"]) == (address, "rw")
        assert r.log.find("session ended") == []


# What is not a session


def strangers(r, node):
    """One of each kind that is not worth a line."""
    Client(r.at()).close()
    for packet in (b"GET / HTTP/1.0\r\n\r\n", wire.packet(0x00020000, b"\0" * 8),
                   wire.cancel_request(1, b"none")):
        with Client(r.at()) as client:
            client.send(packet)
            try:
                client.receive(1)
                client.socket.recv(1000)
            except (EOFError, ConnectionResetError):
                pass
    with Client(r.at()) as client:
        process_id, key = client.log_in()
        with Client(r.at()) as canceller:
            canceller.send(wire.cancel_request(process_id, key))
            assert canceller.at_end()
    assert process.wait_until(lambda: r.sessions() == (0, 0), 5)


@pytest.mark.parametrize("verbose", [0, 1])
def test_verbose_shows_what_is_not_a_session(start_router, verbose):
    with Node() as node:
        r = front(start_router, node, main={"verbose": verbose})
        since = r.log.mark()
        strangers(r, node)
        r.stop()
        lines = [event for event in r.log.all[since:] if "reason" in event]
        quiet = {"SAID_NOTHING", "NOT_POSTGRESQL", "PROTOCOL_TOO_OLD", "CANCEL_UNKNOWN", "CANCEL_DONE"}
        assert {event["reason"] for event in lines} == {"CLIENT_CLOSED"} | (quiet if verbose else set())
        for event in lines:
            if event["reason"] in quiet:
                assert (event.name, event.level) == ("connection closed", "debug")
                assert (event["listener"], event["client"].partition(":")[0]) == ("rw", "127.0.0.1")
            else:
                assert event.level == "info"


# Refusals


def refuse_many(r, n):
    for _ in range(n):
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert client.error()["C"] == "57P03"
            assert client.at_end()


def test_refusals_are_counted_where_they_are_not_logged(start_router, workers):
    with Node(role="replica") as node:
        r = front(start_router, node, listener={"queue_timeout": "0"})
        began = time.monotonic()
        refuse_many(r, 30)
        first = r.log.wait("client refused")
        n_windows = (time.monotonic() - began) // WINDOW_S + 1
        assert set(first) >= {"client", "listener", "reason", "text"}
        assert first.level == "warning"
        assert process.wait_until(lambda: int(r.csv()["rw", "FRONTEND"]["dreq"]) == 30, 5)
        assert len(r.log.find("client refused")) <= LINES_IN_A_WINDOW * n_windows + 1

        # In the next window they are logged again, and say how many were left out.
        n = 30

        def n_told():
            lines = r.log.find("client refused")
            left_out = sum(line["left_out_before"] for line in lines)
            return len(lines) + left_out if left_out else 0

        def all_are_told():
            nonlocal n
            refuse_many(r, workers)
            n += workers
            return process.wait_until(lambda: n_told() == n, 1)

        assert process.wait_until(all_are_told, 2 * WINDOW_S, step=0.5)


def test_what_a_refusal_says_is_in_the_log(start_router):
    with Node(role="replica") as node:
        r = front(start_router, node, listener={"queue_timeout": "0"})
        with Client(r.at()) as client:
            client.send(LOGIN)
            said = client.error()["M"]
        assert said in r.log.wait("client refused").line.replace('\\"', '"')


# Forms


def lively(start_router, node, **main):
    """Router whose log has lines of many kinds, some of them with nasty texts in them."""
    r = front(start_router, node, main={"verbose": 1, **main}, listener={"queue_timeout": "0"},
              cluster={"check_interval": "100ms"})
    strangers(r, node)
    with Client(r.at()) as client:
        name = FORGED.replace("\0", "")
        client.send(wire.startup(user=name, application_name=name))
        client.messages_until("Z")
        client.send(wire.query(FORGED))
        client.messages_until("Z")
    for nonsense in (FORGED.encode(), b"\x16" + FORGED.encode(), b"\0\0\0\x50" + FORGED.encode()):
        with Client(r.at()) as client:
            client.send(nonsense)
            client.finish()
            try:
                client.socket.recv(1000)
            except ConnectionResetError:
                pass
    since = r.log.mark()
    for answer in (Answer(503, {"state": FORGED, "role": FORGED}), Answer(503, FORGED),
                   Answer(503, {"state": FORGED, "role": "replica"}),
                   Answer(raw=FORGED.encode()), Answer(raw=b"HTTP/1.0 503 " + FORGED.encode()),
                   Answer(503, {"state": "running", "role": "repl\"ica\\", "timeline": FORGED})):
        node.patroni.answers["/primary"] = answer
        asked = node.patroni.asked["/primary"]
        assert process.wait_until(lambda: node.patroni.asked["/primary"] > asked + 3, 10)
    r.log.wait("primary changed", since=since)
    with Client(r.at()) as client:
        client.send(LOGIN)
        assert client.error()["C"] == "57P03"
    r.sections["listener rw"]["maxconn"] = re.sub("[\r\n\0]", "", FORGED)
    r.reload(expect="configuration")
    r.sections["listener rw"]["maxconn"] = "x" * 5000
    r.reload(expect="configuration")
    del r.sections["listener rw"]["maxconn"]
    r.reload()
    return r


def test_text_lines_cannot_be_forged(start_router):
    with Node() as node:
        r = lively(start_router, node)
        r.stop()
    assert len({event.name for event in r.log.all}) > 8
    for event in r.log.all:
        assert LINE.fullmatch(event.line), event.line
        assert not re.search(r"[\x00-\x1f\x7f]", event.line), event.line
        assert event.name and not event.name.startswith("forged")


def test_json_lines(start_router):
    with Node() as node:
        r = lively(start_router, node, log_format="json")
        r.stop()
    for event in r.log.all:
        line = json.loads(event.line)
        assert {"time", "pid", "level", "event"} <= set(line), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["pid"] == r.process.pid
        assert line["level"] in ("error", "warning", "info", "debug")
        assert line["event"] != "forged"
    ended = r.log.find("session ended")[0]
    assert isinstance(ended["bytes_in"], int) and isinstance(ended["seconds"], (int, float))
    assert isinstance(ended["client"], str)
    assert {"pgrouter is running", "session began", "session ended", "client refused",
            "connection closed", "node changed", "primary changed", "configuration reloaded",
            "configuration", "loop ended"} <= {event.name for event in r.log.all}


def test_json_lines_are_utf8(start_router):
    """Also where the configuration is not."""
    with Node() as node:
        r = front(start_router, node, main={"log_format": "json"})
        with open(r.ini, "ab") as file:
            file.write(b"[listener \xff\xfe]\nbind = 127.0.0.1:\xc3\x28\n")
        since = r.log.mark()
        r.signal(1)
        r.log.wait("configuration", since=since)
        for event in r.log.all[since:]:
            assert "\ufffd" not in event.line, event.line  # the reader's mark for what is not
            json.loads(event.line)


def test_the_format_follows_a_reload(start_router):
    with Node() as node:
        r = front(start_router, node)
        for log_format in ("json", "text"):
            r.sections["pgrouter"]["log_format"] = log_format
            r.reload()
            since = r.log.mark()
            with Client(r.at()) as client:
                client.log_in()
            line = r.log.wait("session ended", since=since).line
            assert line.startswith("{") == (log_format == "json")


def test_a_log_that_nobody_reads_stops_nobody(start_router):
    """Lines beyond what is kept are counted, and the count is told."""
    n = 12_000
    with Node() as node:
        r = front(start_router, node, main={"verbose": 1})
        with Client(r.at()) as session:
            session.log_in()
            with r.log._changed:  # the reader of the log stands still
                for number in range(n):
                    with Client(r.at()) as client:
                        client.send(b"GET / HTTP/1.0\r\n\r\n")
                        client.socket.recv(1)
                    if number % 1000 == 0:
                        assert who(session) == "a"
                assert who(session) == "a"

        def all_told():
            with Client(r.at()) as client:  # the next line that gets through says it
                client.send(b"?" * 8)
                client.socket.recv(1)
            return r.log.find("log lines dropped")

        assert process.wait_until(all_told, 10)
        r.stop()
        n_dropped = sum(event["lines"] for event in r.log.find("log lines dropped"))
        assert n_dropped > 0
        n_logged = len(r.log.find("connection closed", reason="NOT_POSTGRESQL"))
        assert n_logged + n_dropped >= n


def test_many_write_at_the_same_time(start_router):
    """Lines of all workers come whole."""
    with Node() as node:
        r = front(start_router, node)
        n = 40

        def visit(seed):
            for _ in range(n):
                with Client(r.at()) as client:
                    client.log_in()
                    client.ask("x" * random.Random(seed).randrange(1000))

        visitors = [threading.Thread(target=visit, args=(seed,), daemon=True)
                    for seed in range(4)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join(60)
        assert process.wait_until(lambda: len(r.log.find("session ended")) == 4 * n, 10)
        assert all(LINE.fullmatch(event.line) for event in r.log.all)
