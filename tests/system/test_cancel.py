"""Cancel requests: to the node that issued the key, and nowhere else."""

import contextlib
import threading
import time

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.fake_node import who
from harness.fake_postgres import friendly
from harness.front import Node, front
from harness.wire import Client


def send_cancel(at, process_id, key, **more):
    """Returns when the router has closed, as PQcancel() does."""
    with Client(at, **more) as client:
        client.send(wire.cancel_request(process_id, key))
        assert client.at_end()


def encrypted(connection):
    """Script: says yes to a request to encrypt, and from then on nobody understands a
    word; a cancel request in clear is remembered."""
    code, _ = connection.packet()
    if code == wire.SSL_REQUEST:
        connection.send(b"S")
        connection.receive(1)
    else:
        connection.unread = b""
        connection.server.cancels.append("in clear")


def encrypted_session(at, **more):
    client = Client(at, **more)
    client.send(wire.ssl_request())
    assert client.receive(1) == b"S"
    return client


def closed(r, reason, n=1):
    """n connections were closed for that reason (debug lines: verbose = 1)."""
    return process.wait_until(lambda: len(r.log.find(reason=reason)) >= n, 10)


# On a real cluster


class Sleeper:
    """A session in a long query."""

    def __init__(self, r, listener, **more):
        self.connection = r.connect(listener, **more)
        self.outcome = None
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()

    def _sleep(self):
        try:
            self.connection.execute("select pg_sleep(60), 'a sleeper'")
            self.outcome = "slept well"
        except psycopg.Error as error:
            self.outcome = error.sqlstate

    def is_asleep(self):
        return self._thread.is_alive()

    def cancel(self):
        self.connection.cancel()

    def wait(self, seconds=10):
        self._thread.join(seconds)
        return self.outcome


def n_asleep(cluster):
    query = ("select count(*) from pg_stat_activity"
             " where query like '%a sleeper%' and wait_event = 'PgSleep'")
    return sum(int(node.sql(query)) for node in cluster.nodes)


@pytest.mark.parametrize("listener", ["rw", "ro"])
@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_a_query_is_cancelled_and_no_other(cluster, router, listener, sslmode):
    r = router(main={"verbose": 1})
    sleepers = [Sleeper(r, listener, sslmode=sslmode) for _ in range(6)]
    assert process.wait_until(lambda: n_asleep(cluster) == 6, 15)
    for n_cancelled, sleeper in enumerate(sleepers, 1):
        assert all(other.is_asleep() for other in sleepers[n_cancelled - 1:])
        sleeper.cancel()
        assert sleeper.wait() == "57014"
        assert sleeper.connection.execute("select 1").fetchone() == (1,)  # the session lives on
    for sleeper in sleepers:
        sleeper.connection.close()


def test_a_cancel_request_finds_its_session_from_any_worker(cluster, router, workers):
    r = router(main={"verbose": 1})
    sleepers = [Sleeper(r, "rw", sslmode="disable") for _ in range(5)]  # one more than workers
    assert process.wait_until(lambda: n_asleep(cluster) == 5, 15)
    for sleeper in sleepers:
        sleeper.cancel()
        assert sleeper.wait() == "57014"
    assert closed(r, "CANCEL_DONE", 5)
    took = [event["worker"] for event in r.log.find(reason="CANCEL_DONE")]
    had = [event["worker"] for event in r.log.find("session began")]
    if workers > 1:
        assert took != had  # another worker's session was found
        assert len(set(had)) == workers
    for sleeper in sleepers:
        sleeper.connection.close()


def test_a_mixed_company(cluster, router):
    """Sessions in clear and with TLS, on primary and replicas, of one address."""
    r = router()
    sleepers = [Sleeper(r, listener, sslmode=sslmode) for listener in ("rw", "ro", "ro")
                for sslmode in ("disable", "require")]
    assert process.wait_until(lambda: n_asleep(cluster) == 6, 15)
    for sleeper in sleepers[::2] + sleepers[1::2]:
        sleeper.cancel()
        assert sleeper.wait() == "57014"
    for sleeper in sleepers:
        sleeper.connection.close()


# Keys that are known


def test_it_goes_to_the_node_of_its_session_alone(start_router):
    with Node("a") as a, Node("b", role="replica") as b, Node("c", role="replica") as c:
        r = front(start_router, a, b, c, listener={"role": "any", "balance": "roundrobin"})
        nodes = {node.name: node for node in (a, b, c)}
        with contextlib.ExitStack() as stack:
            for _ in range(9):
                session = stack.enter_context(Client(r.at()))
                process_id, key = session.log_in()
                here = nodes[who(session)]
                n = len(here.postgres.cancels)
                send_cancel(r.at(), process_id, key)
                assert process.wait_until(lambda: len(here.postgres.cancels) == n + 1, 5)
                assert here.postgres.cancels[-1] == (process_id, key)
        assert [len(node.postgres.cancels) for node in nodes.values()] == [3, 3, 3]


def test_a_key_is_known_at_every_listener(start_router):
    """Who shows the key may cancel, whichever way he comes."""
    with Node() as node:
        r = front(start_router, node, listeners={"one": {}, "two": {"role": "any"}})
        with Client(r.at("one")) as session:
            process_id, key = session.log_in()
            send_cancel(r.at("two"), process_id, key)
            assert process.wait_until(lambda: node.postgres.cancels == [(process_id, key)], 5)


def test_the_end_of_the_connection_says_that_the_node_has_acted(start_router):
    acted = threading.Event()

    def script(connection):
        code, _ = connection.packet()
        if code == wire.CANCEL_REQUEST:
            time.sleep(0.5)
            acted.set()
        else:
            connection.send(connection.server.login_answer())
            connection.receive(1)

    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as session:
            send_cancel(r.at(), *session.log_in())
            assert acted.is_set()


@pytest.mark.parametrize("leave", [Client.close, Client.reset, Client.finish])
def test_a_client_that_does_not_wait(start_router, leave):
    with Node() as node:
        r = front(start_router, node)
        with Client(r.at()) as session:
            process_id, key = session.log_in()
            for n in range(1, 11):
                client = Client(r.at())
                client.send(wire.cancel_request(process_id, key))
                leave(client)
                assert process.wait_until(lambda: len(node.postgres.cancels) == n, 5)
                client.close()
            assert who(session) == "a"
        assert set(node.postgres.cancels) == {(process_id, key)}


def test_one_byte_at_a_time(start_router):
    with Node(key_bytes=32) as node:
        r = front(start_router, node)
        with Client(r.at()) as session, Client(r.at()) as client:
            process_id, key = session.log_in()
            packet = wire.cancel_request(process_id, key)
            for i in range(len(packet)):
                client.send(packet[i:i + 1])
                time.sleep(0.001)  # not one segment
            assert client.at_end()
            assert process.wait_until(lambda: node.postgres.cancels == [(process_id, key)], 5)


def test_a_node_that_cannot_be_reached_keeps_nobody(start_router):
    with Node() as node:
        r = front(start_router, node, listener={"connect_timeout": "500ms"})
        with Client(r.at()) as session:
            process_id, key = session.log_in()
            node.postgres.refuse()
            send_cancel(r.at(), process_id, key)  # is closed
            node.postgres.open()
            send_cancel(r.at(), process_id, key)
            assert process.wait_until(lambda: node.postgres.cancels == [(process_id, key)], 5)
            assert who(session) == "a"


def test_a_node_that_says_nothing_keeps_nobody(start_router):
    hold = threading.Event()

    def script(connection):
        code, _ = connection.packet()
        if code == wire.CANCEL_REQUEST:
            hold.wait(30)
        else:
            connection.send(connection.server.login_answer())
            connection.receive(1)

    with Node(script=script) as node:
        r = front(start_router, node, listener={"connect_timeout": "500ms"})
        with Client(r.at()) as session:
            send_cancel(r.at(), *session.log_in())
        assert process.wait_until(lambda: r.sessions() == (0, 0), 10)
        hold.set()


# Keys that are not


def test_an_unknown_key_goes_nowhere(start_router):
    with Node(key_bytes=32) as node:
        r = front(start_router, node, main={"verbose": 1})
        send_cancel(r.at(), 1, b"nobody")  # nobody at all is there
        with Client(r.at()) as session:
            process_id, key = session.log_in()
            for wrong in ((process_id, key[:-1] + b"!"), (process_id + 1, key),
                          (process_id, key[:4]), (process_id, key + b"!"), (0, b"\0" * 4)):
                send_cancel(r.at(), *wrong)
            assert closed(r, "CANCEL_UNKNOWN", 6)
            assert who(session) == "a"
        assert len(node.postgres.connections) == 1
        assert node.postgres.cancels == []


def test_a_key_is_forgotten_with_its_session(start_router):
    with Node() as node:
        r = front(start_router, node, main={"verbose": 1})
        for leave in (Client.close, Client.reset):
            session = Client(r.at())
            process_id, key = session.log_in()
            leave(session)
            assert process.wait_until(lambda: r.sessions() == (0, 0), 5)
            send_cancel(r.at(), process_id, key)
        assert closed(r, "CANCEL_UNKNOWN", 2)
        assert len(node.postgres.connections) == 2


def test_behind_tls_it_goes_to_the_nodes_of_that_address(start_router):
    with Node("a", script=encrypted) as a, Node("b", script=encrypted, role="replica") as b, \
            Node("c", script=encrypted, role="replica") as c:
        r = front(start_router, a, b, c, main={"verbose": 1},
                  listeners={"rw": {"role": "any", "balance": "roundrobin"}, "other": {"role": "any"}})
        first, second = encrypted_session(r.at()), encrypted_session(r.at())
        with first, second:
            asked = [node for node in (a, b, c) if node.postgres.connections]
            assert len(asked) == 2

            send_cancel(r.at(), 4711, b"key?")
            assert all(process.wait_until(lambda: node.postgres.cancels == ["in clear"], 5)
                       for node in asked)
            third = next(node for node in (a, b, c) if node not in asked)
            assert third.postgres.connections == []

            send_cancel(r.at(), 4711, b"key?", source="127.0.0.2")  # another address
            send_cancel(r.at("other"), 4711, b"key?")  # another listener
            assert closed(r, "CANCEL_UNKNOWN", 2)
        assert [len(node.postgres.cancels) for node in asked] == [1, 1]
        assert third.postgres.connections == []


def test_a_session_in_clear_gets_no_request_that_is_not_its_own(start_router):
    """Its key is known: what is not it cannot mean it."""
    def script(connection):
        (encrypted if connection.server.name == "a" else friendly)(connection)

    with Node("a", script=script) as a, Node("b", script=script) as b:
        b.patroni.replica()
        r = front(start_router, a, b, listener={"role": "any", "balance": "roundrobin"})
        sessions = {}
        for _ in range(2):  # one on each
            session = Client(r.at())
            session.send(wire.ssl_request())
            sessions[session.receive(1)] = session
        assert set(sessions) == {b"S", b"N"}
        plain = sessions[b"N"]
        plain.log_in()
        send_cancel(r.at(), 4711, b"key?")
        assert process.wait_until(lambda: a.postgres.cancels == ["in clear"], 5)
        assert b.postgres.cancels == []
        assert who(plain) == "b"
        for session in sessions.values():
            session.close()


# Too many


def test_twenty_a_second_and_address(start_router):
    with Node() as node:
        r = front(start_router, node)
        with Client(r.at()) as session, Client(r.at(), source="127.0.0.2") as other:
            process_id, key = session.log_in()
            other_id, other_key = other.log_in()
            began = time.monotonic()
            for _ in range(100):
                send_cancel(r.at(), process_id, key)
            seconds = int(time.monotonic() - began) + 2  # that were begun, at most
            assert 20 <= len(node.postgres.cancels) <= min(20 * seconds, 99)
            assert r.log.wait(reason="CANCEL_LIMIT")["client"].startswith("127.0.0.1:")

            n = len(node.postgres.cancels)
            send_cancel(r.at(), other_id, other_key, source="127.0.0.2")  # nobody else's fault
            assert process.wait_until(lambda: (other_id, other_key) in node.postgres.cancels, 5)
            assert len(node.postgres.cancels) == n + 1

            def passes():
                send_cancel(r.at(), process_id, key)
                return len(node.postgres.cancels) > n + 1

            assert process.wait_until(passes, 5, step=0.3)  # the next second
            assert who(session) == "a"


def test_the_limit_holds_for_unknown_keys_too(start_router):
    with Node(script=encrypted) as node:
        r = front(start_router, node)
        with encrypted_session(r.at()):
            began = time.monotonic()
            for n in range(100):
                send_cancel(r.at(), n, b"guess")
            seconds = int(time.monotonic() - began) + 2
            assert process.wait_until(lambda: len(node.postgres.cancels) >= 20, 5)
            assert len(node.postgres.cancels) <= min(20 * seconds, 99)
