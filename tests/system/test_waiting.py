"""Clients that cannot be served at once: they wait, go elsewhere, or are told why."""

import socket
import struct
import threading
import time

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.fake_node import value, who
from harness.fake_postgres import (close_at_once, friendly, refuse_login, reset_at_once)
from harness.front import Node, front
from harness.wire import Client

LOGIN = wire.startup(user="app", database="app")
CLIENT_HELLO = b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03" + b"r" * 233
TLS_ALERT = bytes.fromhex("15 03 03 00 02 02 50")
FIRST = {"role": "any", "balance": "first"}


def is_silent(*clients, seconds=0.3):
    """True when none of them gets a byte or an end for so long."""
    end = time.monotonic() + seconds
    for client in clients:
        client.socket.settimeout(max(end - time.monotonic(), 0.01))
        try:
            client.unread += client.socket.recv(1)
            return False
        except TimeoutError:
            client.socket.settimeout(10)
    return True


def waits(r, n=1):
    """n clients stand in line, by the stats page."""
    return process.wait_until(lambda: int(r.csv()["rw", "BACKEND"]["qcur"]) == n, 10)


# For a primary


def test_served_as_soon_as_a_primary_appears(start_router):
    with Node(role="replica") as node:
        # Rounds are far apart: those who wait make them come sooner.
        r = front(start_router, node, cluster={"check_interval": "20s"},
                  listener={"queue_timeout": "60s"})
        with Client(r.at()) as plain, Client(r.at()) as asks_for_tls:
            plain.send(LOGIN)
            asks_for_tls.send(wire.ssl_request())
            assert is_silent(plain, asks_for_tls)
            assert node.postgres.connections == []

            node.patroni.primary()
            appeared = time.monotonic()

            assert plain.messages_until("Z")
            assert asks_for_tls.receive(1) == b"N"
            assert time.monotonic() - appeared < 3
            assert who(plain) == "a"
        began = r.log.wait("session began")
        assert 0.3 <= began["waited_seconds"] < 10


def test_real_clients_wait_for_the_next_primary(cluster, router):
    r = router(listeners={"rw": {"role": "primary", "queue_timeout": "60s"}})
    old = cluster.leader()
    reached = []

    def connect(sslmode):
        with r.connect("rw", sslmode=sslmode, connect_timeout=60) as connection:
            query = "select inet_server_addr(), pg_is_in_recovery()"
            reached.append(connection.execute(query).fetchone())

    old.kill()
    r.log.wait("primary changed", **{"is": "none"}, seconds=30)
    threads = [threading.Thread(target=connect, args=(sslmode,), daemon=True)
               for sslmode in ("disable", "require", "prefer", "disable")]
    for thread in threads:
        thread.start()
    cluster.expire_leader()
    new = cluster.wait_for_leader(other_than=old)
    for thread in threads:
        thread.join(60)

    assert [(address.compressed, standby) for address, standby in reached] == (
        [(new.address, False)] * len(threads))


def test_what_a_client_sends_meanwhile_is_kept(start_router):
    received = []

    def script(connection):
        connection.packet()
        connection.send(wire.login_answer())
        received.append(connection.message())
        connection.send(wire.message("Z", b"I"))

    query = b"x" * 1_000_000
    with Node(role="replica", script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            packets = LOGIN + wire.message("Q", query)
            sender = threading.Thread(target=client.send, args=(packets,), daemon=True)
            sender.start()
            assert waits(r)
            node.patroni.primary()
            assert client.messages_until("Z")
            assert client.messages_until("Z")
            sender.join()
        assert received == [("Q", query)]


def test_refused_after_queue_timeout(start_router):
    with Node(role="replica") as node:
        r = front(start_router, node, listener={"queue_timeout": "1s"})
        began = time.monotonic()
        clients = [Client(r.at()) for _ in range(4)]
        plain, ssl, gss, direct = clients
        for client, packet in zip(clients, (LOGIN, wire.ssl_request(), wire.gssenc_request(),
                                            CLIENT_HELLO)):
            client.send(packet)
        assert is_silent(*clients, seconds=0.5)  # they wait

        for client in (plain, ssl, gss):
            error = client.error()
            assert (error["S"], error["V"], error["C"]) == ("FATAL", "FATAL", "57P03")
            assert "primary" in error["M"]
            assert client.at_end()
        assert direct.receive(7) == TLS_ALERT
        assert direct.at_end()
        assert time.monotonic() - began > 0.95
        for client in clients:
            client.close()

        refused = r.log.wait("client refused")
        assert refused["listener"] == "rw"
        assert refused["reason"] == "NO_NODE"
        assert node.postgres.connections == []


@pytest.mark.parametrize("role, words", [("primary", "primary"), ("replica", "no replica"),
                                         ("read-only", "neither a primary nor a replica"),
                                         ("any", "no node")])
def test_the_refusal_says_which_role_is_missing(start_router, role, words):
    with Node(role="down") as node:
        r = front(start_router, node, listener={"role": role, "queue_timeout": "0"})
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert words in client.error()["M"]


def why_libpq_fails(dsn):
    connection = psycopg.pq.PGconn.connect(dsn.encode())
    try:
        assert connection.status == psycopg.pq.ConnStatus.BAD
        return connection.error_message.decode()
    finally:
        connection.finish()


def test_libpq_shows_the_reason(start_router):
    with Node(role="replica") as node:
        r = front(start_router, node, listener={"queue_timeout": "0"})
        assert "primary" in why_libpq_fails(r.dsn("rw", sslmode="disable"))


@pytest.mark.parametrize("sslmode", ["prefer", "require"])
def test_libpq_does_not_go_on_in_clear_text(start_router, sslmode):
    """Newer ones show no text that came before TLS, since anybody may have sent it."""
    with Node(role="replica") as node:
        r = front(start_router, node, listener={"queue_timeout": "0"})
        said = why_libpq_fails(r.dsn("rw", sslmode=sslmode))
        assert "error response during SSL exchange" in said or "primary" in said
        assert r.csv()["rw", "FRONTEND"]["stot"] == "1"  # no second attempt


def test_queue_timeout_of_zero_does_not_wait(start_router):
    with Node(role="replica") as node:
        r = front(start_router, node, listener={"queue_timeout": "0"})
        for packet, answer in ((LOGIN, b"E"), (wire.ssl_request(), b"E"), (CLIENT_HELLO, TLS_ALERT)):
            began = time.monotonic()
            with Client(r.at()) as client:
                client.send(packet)
                assert client.receive(len(answer)) == answer
            assert time.monotonic() - began < 2  # far below any timeout that there is


def test_a_refusal_is_read_though_the_client_goes_on_sending(start_router):
    """An RST in answer to unread bytes would take the error away with it."""
    with Node(role="replica") as node:
        r = front(start_router, node, listener={"queue_timeout": "500ms"})
        clients = [Client(r.at()) for _ in range(10)]
        for client in clients:
            threading.Thread(target=send_all, args=(client, LOGIN + b"x" * 300_000),
                             daemon=True).start()
        for client in clients:
            assert client.error()["C"] == "57P03"
            client.close()


def send_all(client, data):
    try:
        client.send(data)
    except OSError:
        pass


# For another node


class FullBacklog:
    """Connecting hangs: the kernel holds as many as it may, and nobody accepts."""

    def __init__(self, port):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(0)
        self.inside = []
        while self._fits():
            pass

    def _fits(self):
        one = socket.socket()
        one.settimeout(0.3)
        self.inside.append(one)
        try:
            one.connect(self.listener.getsockname())
            return True
        except TimeoutError:
            return False

    def close(self):
        for one in [*self.inside, self.listener]:
            one.close()


def test_connect_timeout_moves_on(start_router):
    with Node("a") as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener={**FIRST, "connect_timeout": "700ms"})
        a.postgres.refuse()
        full = FullBacklog(a.postgres.port)
        try:
            began = time.monotonic()
            with Client(r.at()) as client:
                client.send(LOGIN)
                assert is_silent(client, seconds=0.4)
                client.messages_until("Z")
                assert time.monotonic() - began >= 0.65
                assert who(client) == "b"
        finally:
            full.close()


def test_connect_timeout_is_repeated_until_queue_timeout(start_router):
    with Node("a") as a:
        r = front(start_router, a, listener={**FIRST, "connect_timeout": "300ms",
                                             "queue_timeout": "1500ms"})
        a.postgres.refuse()
        full = FullBacklog(a.postgres.port)
        try:
            began = time.monotonic()
            with Client(r.at()) as client:
                client.send(LOGIN)
                assert client.error()["C"] == "57P03"
            assert time.monotonic() - began >= 1.45
        finally:
            full.close()
        assert int(r.csv()["rw", "a"]["econ"]) >= 2


def refuses(node):
    node.postgres.refuse()


def resets(node):
    node.postgres.script = reset_at_once


def closes(node):
    node.postgres.script = close_at_once


def resets_after_the_packet(node):
    def script(connection):
        connection.packet()
        connection.reset()
    node.postgres.script = script


def closes_after_the_packet(node):
    def script(connection):
        connection.packet()
    node.postgres.script = script


def says(code):
    def trouble(node):
        node.postgres.script = refuse_login(code, "go away")
    trouble.__name__ = f"says_{code}"
    return trouble


def says_57P03_in_pieces(node):
    def script(connection):
        connection.packet()
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        error = wire.error("57P03", "the database system is starting up")
        for i in range(len(error)):
            connection.send(error[i:i + 1])
            time.sleep(0.002)  # not one segment
    node.postgres.script = script


def says_57P03_behind_a_protocol_note(node):
    """As a server of 3.0 does when the client asks for 3.2."""
    def script(connection):
        connection.packet()
        connection.send(wire.message("v", struct.pack("!II", 0, 0)) +
                        wire.error("57P03", "the database system is starting up"))
    node.postgres.script = script


TROUBLES = [refuses, resets, closes, resets_after_the_packet, closes_after_the_packet,
            says("57P01"), says("57P02"), says("57P03"), says_57P03_in_pieces,
            says_57P03_behind_a_protocol_note]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_another_node_gets_it(start_router, trouble):
    with Node("a") as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener=FIRST)
        trouble(a)
        for _ in range(3):
            with Client(r.at()) as client:
                client.send(LOGIN)
                answer = client.messages_until("Z")
                assert [kind for kind, _ in answer] == ["R", "S", "S", "K", "Z"]
                assert who(client) == "b"
        assert r.log.find("client refused") == []


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_only_node_is_tried_again(start_router, trouble):
    with Node("a") as a:
        r = front(start_router, a)
        trouble(a)
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert waits(r)
            assert is_silent(client)
            a.postgres.script = friendly
            if trouble is refuses:
                a.postgres.open()
            assert [kind for kind, _ in client.messages_until("Z")] == ["R", "S", "S", "K", "Z"]
            assert who(client) == "a"


@pytest.mark.parametrize("trouble", [refuses, closes, says("57P03")])
def test_the_only_node_is_tried_until_queue_timeout(start_router, trouble):
    with Node("a") as a:
        r = front(start_router, a, listener={"queue_timeout": "1s"})
        trouble(a)
        began = time.monotonic()
        with Client(r.at()) as client:
            client.send(LOGIN)
            error = client.error()
            assert error["C"] == "57P03"
            assert "go away" not in error["M"]  # our words: nothing of the node's came through
            assert client.at_end()
        assert time.monotonic() - began >= 0.95
        assert int(r.csv()["rw", "a"]["wretr"]) >= 2


def test_a_request_to_encrypt_goes_elsewhere_too(start_router):
    with Node("a", script=close_at_once) as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener=FIRST)
        with Client(r.at()) as client:
            client.send(wire.ssl_request())
            assert client.receive(1) == b"N"
            client.log_in()
            assert who(client) == "b"


def test_after_a_no_the_login_may_go_elsewhere(start_router):
    def script(connection):
        connection.packet()
        connection.send(b"N")
        connection.packet()
        connection.send(wire.error("57P03", "the database system is shutting down"))

    with Node("a", script=script) as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener=FIRST)
        with Client(r.at()) as client:
            client.send(wire.ssl_request())
            assert client.receive(1) == b"N"
            client.log_in()
            assert who(client) == "b"


@pytest.mark.parametrize("code", ["53300", "28000", "57P04", "3D000"])
def test_other_refusals_are_the_clients(start_router, code):
    with Node("a", script=refuse_login(code, "no")) as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener=FIRST)
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert client.error()["C"] == code
        assert b.postgres.connections == []


def test_a_shutdown_in_the_middle_of_a_login_is_the_clients(start_router):
    """Something of the node has reached the client: there is no going back."""
    def script(connection):
        connection.packet()
        connection.send(wire.message("R", struct.pack("!I", 3)))
        connection.message()
        connection.send(wire.error("57P01", "terminating connection"))

    with Node("a", script=script) as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener=FIRST)
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert client.message()[0] == "R"
            client.send(wire.message("p", b"secret\0"))
            assert client.error()["C"] == "57P01"
            assert client.at_end()
        assert b.postgres.connections == []


def test_trouble_makes_the_nodes_be_asked_at_once(start_router):
    with Node("a") as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener=FIRST, cluster={"check_interval": "1h"})
        refuses(a)
        before = [node.patroni.asked["/primary"] for node in (a, b)]
        with Client(r.at()) as client:
            client.log_in()
        assert process.wait_until(lambda: all(
            node.patroni.asked["/primary"] > n for node, n in zip((a, b), before)), 5)


def test_a_silent_node_loses_its_client_when_it_is_found_down(start_router):
    """It accepts, reads, and says nothing; the checks find out."""
    hold = threading.Event()

    def script(connection):
        connection.packet()
        hold.wait(30)

    with Node("a", script=script) as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener=FIRST, cluster={"check_interval": "100ms"})
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert process.wait_until(lambda: a.postgres.connections, 5)
            a.patroni.refuse()
            assert client.messages_until("Z")
            assert who(client) == "b"
        hold.set()


# Who waits


def test_the_client_leaves_while_waiting(start_router):
    with Node(role="replica") as node:
        r = front(start_router, node)
        for leave in (Client.close, Client.reset, Client.finish):
            client = Client(r.at())
            client.send(LOGIN)
            assert waits(r)
            leave(client)
            assert waits(r, 0)
            if leave is Client.finish:
                assert client.at_end()
                client.close()
        assert len(r.log.find(reason="LEFT_THE_QUEUE")) == 3

        node.patroni.primary()
        with Client(r.at()) as client:
            client.log_in()
        assert len(node.postgres.connections) == 1  # nothing was opened for those who left


def test_the_client_leaves_while_a_node_is_connected_to(start_router):
    with Node("a") as a:
        r = front(start_router, a, listener={"connect_timeout": "10s"})
        a.postgres.refuse()
        full = FullBacklog(a.postgres.port)
        try:
            client = Client(r.at())
            client.send(LOGIN)
            assert is_silent(client)
            client.close()
            assert r.log.wait(reason="LEFT_THE_QUEUE")
        finally:
            full.close()


def test_first_come_first_served(start_router):
    with Node() as node:
        r = front(start_router, node, listener={"maxconn": 1, "queue_timeout": "60s"})
        clients = []
        for n in range(8):
            clients.append(Client(r.at()))
            clients[-1].send(LOGIN)
            if n == 0:
                assert clients[0].messages_until("Z")
            else:
                assert waits(r, n)
        while clients:
            served, clients = clients[0], clients[1:]
            assert who(served) == "a"
            assert is_silent(*clients, seconds=0.1)
            served.close()
            if clients:
                assert clients[0].messages_until("Z")


def test_many_who_wait_are_all_served(start_router, workers):
    with Node(role="replica") as node:
        r = front(start_router, node, listener={"queue_timeout": "60s"})
        clients = [Client(r.at()) for _ in range(100)]
        for client in clients:
            client.send(LOGIN)
        assert waits(r, 100)
        node.patroni.primary()
        for client in clients:
            assert client.messages_until("Z")
        assert len({event["worker"] for event in r.log.find("session began")}) == workers
        for client in clients:
            assert value(client.ask("who")) == "a"
            client.close()


def test_a_node_that_is_not_configured_any_more_is_not_waited_for(start_router):
    """The listener's nodes are replaced by a reload while a client waits for them."""
    with Node("a", role="replica") as a, Node("b", role="primary") as b:
        r = front(start_router, a)
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert waits(r)
            r.sections["cluster main"]["nodes"] = str(b)
            r.reload()
            assert client.messages_until("Z")
            assert who(client) == "b"
