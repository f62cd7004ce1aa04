"""The first packets of a connection, as clients and nodes send them and as they should not."""

import contextlib
import os
import random
import socket
import ssl
import struct
import threading
import time

import psycopg
import pytest

from cluster import process
from cluster.certificates import Authority
from harness import wire
from harness.fake_node import value, who
from harness.front import Node, front
from harness.fake_postgres import friendly, one_byte_at_a_time
from harness.slow_wire import SlowWire
from harness.wire import Client

LOGIN = wire.startup(user="app", database="app")


def first_packet_is_kept(kept, answer=b"N"):
    """Script: keeps the first packet as it came, answers `answer`, keeps what follows."""
    def script(connection):
        code, body = connection.packet()
        kept.append((code, body))
        if answer:
            connection.send(answer)
        rest = bytearray()
        kept.append(rest)
        while True:
            rest += connection.receive(1)
    return script


def quiet_for(client, seconds=0.3):
    """True when the peer neither says anything nor closes."""
    before = client.socket.gettimeout()
    client.socket.settimeout(seconds)
    try:
        client.unread += client.socket.recv(1)
        return False
    except TimeoutError:
        return True
    finally:
        client.socket.settimeout(before)


def is_closed_without_a_word(client):
    try:
        return client.at_end()
    except ConnectionResetError:
        return True


# What clients send


@pytest.mark.parametrize("protocol", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2])
def test_a_startup_message_reaches_the_node_as_it_is(start_router, protocol):
    kept = []
    with Node(script=first_packet_is_kept(kept, wire.login_answer())) as node:
        r = front(start_router, node)
        packet = wire.startup(protocol, user="äpp", database="x" * 5000, options="-c a=b")
        with Client(r.at()) as client:
            client.send(packet)
            assert client.messages_until("Z")[-1] == ("Z", b"I")
    assert kept[0] == (protocol, packet[8:])


@pytest.mark.parametrize("request_", [wire.ssl_request(), wire.gssenc_request()],
                         ids=["ssl", "gssenc"])
@pytest.mark.parametrize("answer", [b"S", b"G"])
def test_a_yes_passes_and_all_that_follows(start_router, request_, answer):
    kept = []
    with Node(script=first_packet_is_kept(kept, answer)) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(request_)
            assert client.receive(1) == answer
            client.send(b"\x16\x03\x01 not a packet at all")
            assert process.wait_until(lambda: len(kept) == 2 and len(kept[1]) == 23, 5)
    assert kept[0] == (struct.unpack("!I", request_[4:])[0], b"")
    assert kept[1] == b"\x16\x03\x01 not a packet at all"


def test_an_error_in_answer_to_sslrequest_passes(start_router):
    error = wire.error("53300", "sorry, too many clients already")
    with Node(script=lambda connection: (connection.packet(), connection.send(error))) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(wire.ssl_request())
            assert client.receive(len(error)) == error
            assert client.at_end()


def test_gssencrequest_is_answered_by_the_real_node(cluster, router):
    r = router()
    leader = cluster.leader()
    answers = []
    for at in ((leader.address, leader.port), r.at("rw")):
        with Client(at) as client:
            client.send(wire.gssenc_request())
            answers.append(client.receive(1))
    assert answers[0] in (b"G", b"N")
    assert answers[0] == answers[1]


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_one_byte_at_a_time_by_libpq(cluster, router, sslmode):
    r = router()
    with SlowWire(r.at("rw")) as slow:
        dsn = r.dsn("rw", sslmode=sslmode, port=slow.port)
        with psycopg.connect(dsn) as connection:
            row = connection.execute("select inet_server_addr(), repeat('x', 5000)").fetchone()
        assert row == (row[0], "x" * 5000)
        assert row[0].compressed == cluster.leader().address
        assert min(slow.n_bytes) > 100


def test_one_byte_at_a_time_each_way(start_router):
    with Node(script=one_byte_at_a_time) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for packet in (wire.ssl_request(), wire.gssenc_request(), LOGIN):
                for i in range(len(packet)):
                    client.send(packet[i:i + 1])
                    time.sleep(0.001)  # not one segment
                if packet is not LOGIN:
                    assert client.receive(1) == b"N"
            assert client.messages_until("Z")[-1] == ("Z", b"I")
            assert who(client) == "a"


# TLS


@pytest.fixture
def certificate(tmp_path):
    authority = Authority(str(tmp_path))
    key, path = authority.issue("node", ["localhost"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path, key)
    server.set_alpn_protocols(["postgresql"])
    client = ssl.create_default_context(cafile=authority.certificate)
    client.set_alpn_protocols(["postgresql"])
    return server, client


@pytest.mark.parametrize("asks_first", [False, True], ids=["direct", "sslrequest"])
def test_a_tls_handshake_passes(start_router, certificate, asks_first):
    server, client = certificate
    seen = []

    def script(connection):
        if asks_first:
            seen.append(connection.packet()[0])
            connection.send(b"S")
        connection.socket = server.wrap_socket(connection.socket, server_side=True)
        seen.append(connection.socket.selected_alpn_protocol())
        friendly(connection)

    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as inside:
            if asks_first:
                inside.send(wire.ssl_request())
                assert inside.receive(1) == b"S"
            inside.socket = client.wrap_socket(inside.socket, server_hostname="localhost")
            inside.log_in()
            assert who(inside) == "a"
        assert seen == ([wire.SSL_REQUEST] if asks_first else []) + ["postgresql"]


def test_a_clienthello_in_pieces(start_router):
    kept = []

    def script(connection):
        kept.append(connection.receive(12))
        connection.send(b"ServerHello")

    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(b"\x16")
            assert quiet_for(client)
            assert not node.postgres.connections  # not yet known what it is
            client.send(b"\x03\x01")
            assert process.wait_until(lambda: node.postgres.connections, 5)
            client.send(b"\x00\xf4\x01\x00\x00\xf0\x03\x03\x00")
            assert client.receive(11) == b"ServerHello"
    assert kept == [b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03\x00"]


# A node without TLS


@contextlib.contextmanager
def without_tls(node):
    node.reload(ssl="off")
    try:
        assert process.wait_until(lambda: node.sql("show ssl") == "off", 10)
        yield
    finally:
        node.sql("alter system reset ssl")
        node.sql("select pg_reload_conf()")
        assert process.wait_until(lambda: node.sql("show ssl") == "on", 10)


def test_a_real_node_without_tls(cluster, router):
    r = router()
    with without_tls(cluster.leader()):
        with r.connect("rw", sslmode="prefer", gssencmode="disable") as connection:
            query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
            assert connection.execute(query).fetchone() == (False,)
        with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
            r.connect("rw", sslmode="require")
        if isinstance(r.at("rw"), tuple):
            with Client(r.at("rw")) as client:
                client.send(wire.ssl_request())
                assert client.receive(1) == b"N"
                client.send(wire.startup(user="nobody", database="app"))
                assert client.message()[0] == "R"  # a password is asked for


def test_after_a_no_a_first_packet_follows_again(start_router):
    with Node() as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            for request_ in (wire.ssl_request(), wire.gssenc_request()):
                client.send(request_)
                assert client.receive(1) == b"N"
            assert client.log_in()[0] is not None
            assert who(client) == "a"
        assert len(node.postgres.connections) == 1  # all that went to one


def test_after_a_no_a_cancel_request_finds_its_session(start_router):
    with Node() as node:
        r = front(start_router, node)
        with Client(r.at()) as session, Client(r.at()) as client:
            process_id, key = session.log_in()
            client.send(wire.ssl_request())
            assert client.receive(1) == b"N"
            client.send(wire.cancel_request(process_id, key))
            assert client.at_end()
            assert process.wait_until(lambda: node.postgres.cancels, 5)
        assert node.postgres.cancels == [(process_id, key)]


def test_after_a_no_garbage_is_garbage(start_router):
    with Node() as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(wire.ssl_request())
            assert client.receive(1) == b"N"
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert is_closed_without_a_word(client)
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)


def test_a_no_with_more_behind_it_is_no_answer(start_router):
    """Bytes that a man in the middle has put there must not be taken for the node's."""
    def script(connection):
        if connection.packet()[0] != wire.SSL_REQUEST:
            raise AssertionError("what follows is not the node's business")
        connection.send(b"N" + wire.login_answer())

    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(wire.ssl_request())
            assert client.socket.recv(1) in (b"", b"E")
        assert r.log.wait(reason="SERVER_CONFUSED")
        assert not node.postgres.errors


def test_words_between_a_no_and_the_next_packet_end_it(start_router):
    go = threading.Event()

    def script(connection):
        connection.packet()
        connection.send(b"N")
        assert go.wait(10)
        connection.send(wire.login_answer())

    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(wire.ssl_request())
            assert client.receive(1) == b"N"
            go.set()
            assert is_closed_without_a_word(client)
        assert r.log.wait(reason="SERVER_CONFUSED")


# More than one packet at a time


def test_a_packet_behind_sslrequest_is_read_after_a_no(start_router):
    with Node() as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(wire.ssl_request() + LOGIN + wire.query("who"))
            assert client.receive(1) == b"N"
            assert client.messages_until("Z")
            assert value(client.messages_until("Z")) == "a"


def test_bytes_behind_sslrequest_pass_after_a_yes(start_router):
    """Whether they are an attack is the node's to say: it sees them."""
    kept = []
    with Node(script=first_packet_is_kept(kept, b"S")) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(wire.ssl_request() + LOGIN)
            assert client.receive(1) == b"S"
            assert process.wait_until(lambda: len(kept) == 2 and len(kept[1]) == len(LOGIN), 5)
    assert kept == [(wire.SSL_REQUEST, b""), LOGIN]


def test_bytes_behind_sslrequest_are_refused_by_the_real_node(cluster, router):
    r = router()
    with Client(r.at("rw")) as client:
        client.send(wire.ssl_request() + LOGIN)
        assert client.receive(1) == b"S"
        with contextlib.suppress(ConnectionResetError, EOFError):
            while client.message()[0] != "E":  # "received unencrypted data after SSL request"
                pass
    assert r.connect("rw").execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("n", [10, 20_000, 1_000_000])
def test_a_startup_message_with_more_behind_it(start_router, n):
    received = []

    def script(connection):
        connection.packet()
        connection.send(wire.login_answer())
        received.append(connection.message())
        connection.send(wire.message("C", b"SELECT 0\0") + wire.message("Z", b"I"))

    text = random.Random(n).randbytes(n).hex()[:n]
    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            threading.Thread(target=client.send, args=(LOGIN + wire.query(text),),
                             daemon=True).start()
            assert client.messages_until("Z")
            assert client.messages_until("Z")
        assert received == [("Q", text.encode() + b"\0")]


# Garbage


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls of another kind": b"\x16\x02\x00\x00\x10",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "zeros": b"\0" * 64,
    "random": random.Random(4711).randbytes(4000).replace(b"\x16", b"\x17"),
    **{f"length {n}": struct.pack("!II", n, wire.PROTOCOL_3_0) for n in range(8)},
    "length 10001": struct.pack("!II", 10001, wire.PROTOCOL_3_0) + b"x" * 9993,
    "length 2^31": struct.pack("!II", 1 << 31, wire.PROTOCOL_3_0),
    "length 2^32 - 1": struct.pack("!II", (1 << 32) - 1, wire.PROTOCOL_3_0),
    "long sslrequest": wire.packet(wire.SSL_REQUEST, b"more"),
    "long gssencrequest": wire.packet(wire.GSSENC_REQUEST, b"more"),
    "cancel without a key": wire.packet(wire.CANCEL_REQUEST, b"\0\0\0\1"),
    "cancel with too long a key": wire.cancel_request(1, b"k" * 257),
}


@pytest.mark.parametrize("main", [{}, {"verbose": 1}], ids=["usual", "verbose"])
def test_garbage_is_closed(start_router, main):
    with Node() as node:
        r = front(start_router, node, main=main)
        with Client(r.at()) as session:
            session.log_in()
            r.log.wait("session began")
            since = r.log.mark()
            for what, garbage in GARBAGE.items():
                with Client(r.at()) as client:
                    client.send(garbage)
                    assert is_closed_without_a_word(client), what
            assert who(session) == "a"  # nobody else was harmed
        r.log.wait("session ended")
        said = [event for event in r.log.all[since:]
                if "client" in event and event.name != "session ended"]
        if main:
            closed = [event for event in said if event.get("reason") == "NOT_POSTGRESQL"]
            assert len(closed) == len(GARBAGE)
        else:
            assert said == []
        assert len(node.postgres.connections) == 1


@pytest.mark.parametrize("part", [LOGIN[:1], LOGIN[:7], LOGIN[:-1], b"\x16",
                                  wire.ssl_request()[:5]], ids=len)
def test_half_a_packet_and_gone(start_router, part):
    with Node() as node:
        r = front(start_router, node)
        for end in (Client.close, Client.reset, Client.finish):
            client = Client(r.at())
            client.send(part)
            end(client)
            if end is Client.finish:
                assert is_closed_without_a_word(client)
                client.close()
        with Client(r.at()) as client:
            client.log_in()
        assert len(node.postgres.connections) == 1
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)


@pytest.mark.parametrize("protocol", [0x00020000, 0x00010000, 0x00040000, 0x04d2164f])
def test_protocols_that_nobody_speaks_are_told_so(start_router, protocol):
    with Node() as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(wire.packet(protocol, b"app\0" * 72))
            error = client.error()
            assert (error["S"], error["C"]) == ("FATAL", "0A000")
            assert client.at_end()
        assert not node.postgres.connections


# Time


def asks_for_a_password(connection):
    connection.packet()
    connection.send(wire.message("R", struct.pack("!I", 3)))
    connection.receive(1)


def says_no_forever(connection):
    while True:
        connection.packet()
        connection.send(b"N")


@pytest.mark.parametrize("case", ["nothing", "half a packet", "after a no", "password"])
def test_a_silent_client_is_sent_away(start_router, case):
    script = asks_for_a_password if case == "password" else says_no_forever
    with Node(script=script) as node:
        r = front(start_router, node, main={"client_login_timeout": "1s"})
        began = time.monotonic()
        with Client(r.at()) as client:
            if case == "half a packet":
                client.send(LOGIN[:20])
            elif case == "after a no":
                client.send(wire.ssl_request())
                assert client.receive(1) == b"N"
            elif case == "password":
                client.send(LOGIN)
                assert client.message() == ("R", struct.pack("!I", 3))
            assert quiet_for(client, 0.4)  # it lives
            if case == "password":
                error = client.error()
                assert (error["S"], error["C"]) == ("FATAL", "08P01")
                assert "client_login_timeout" in error["M"]
            assert is_closed_without_a_word(client)
            assert time.monotonic() - began > 0.95
        assert r.log.wait(reason="LOGIN_TIMEOUT")
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)


def test_the_login_timeout_counts_from_connecting(start_router):
    """Who asks for this and that without ever logging in does not live for ever."""
    with Node(script=says_no_forever) as node:
        r = front(start_router, node, main={"client_login_timeout": "1s"})
        began = time.monotonic()
        with Client(r.at()) as client, pytest.raises((EOFError, OSError)):
            while time.monotonic() - began < 5:
                client.send(wire.ssl_request())
                assert client.receive(1) == b"N"
                assert quiet_for(client, 0.2) or client.at_end()
        assert r.log.wait(reason="LOGIN_TIMEOUT")


def test_the_login_timeout_ends_no_session(start_router):
    with Node() as node:
        r = front(start_router, node, main={"client_login_timeout": "500ms"})
        with Client(r.at()) as plain, Client(r.at()) as silent:
            plain.log_in()
            assert is_closed_without_a_word(silent)
            assert quiet_for(plain, 0.5)
            assert who(plain) == "a"


def test_who_connects_and_leaves_is_not_in_the_log(start_router):
    with Node() as node:
        r = front(start_router, node)
        since = r.log.mark()
        for _ in range(20):
            Client(r.at()).close()
            Client(r.at()).reset()
        with Client(r.at()) as client:
            client.log_in()
            here = "%s:%d" % client.socket.getsockname()
        r.log.wait("session ended")
        assert {event["client"] for event in r.log.all[since:] if "client" in event} == {here}
        assert len(node.postgres.connections) == 1


# What nodes say at login


def test_a_refused_login_passes_unchanged(cluster, router):
    r = router()
    leader = cluster.leader()

    def refusal(dsn):
        connection = psycopg.pq.PGconn.connect(dsn.encode())
        try:
            assert connection.status == psycopg.pq.ConnStatus.BAD
            return connection.error_message.decode().partition("FATAL:")[2]
        finally:
            connection.finish()

    for wrong in ({"password": "wrong"}, {"dbname": "nowhere"}):
        for sslmode in ("disable", "require"):
            directly = cluster.dsn(leader.address, leader.port, sslmode=sslmode, **wrong)
            assert "FATAL" not in refusal(directly)  # one message
            assert refusal(r.dsn("rw", sslmode=sslmode, **wrong)) == refusal(directly) != ""


def test_a_refusal_is_passed_on_to_the_last_byte(start_router):
    refusal = wire.message("E", b"SFATAL\0VFATAL\0C28P01\0Mno\0" + b"Dx" * 40_000 + b"\0\0")

    def script(connection):
        connection.packet()
        connection.send(wire.message("R", struct.pack("!I", 3)))
        connection.message()
        connection.send(refusal)

    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert client.message() == ("R", struct.pack("!I", 3))
            client.send(wire.message("p", b"wrong\0"))
            assert client.receive(len(refusal)) == refusal
            assert client.at_end()
        assert r.log.wait(reason="REFUSED_BY_NODE")


NONSENSE = {
    "length 3": b"R\0\0\0\3",
    "length 0": b"R\0\0\0\0",
    "length 2^31 - 1": b"R\x7f\xff\xff\xff",
    "length 2^32 - 1": b"R\xff\xff\xff\xff",
    "a length of 2 MB": b"S" + struct.pack("!I", 2 << 20) + b"x" * 1000,
    "a key of 3 bytes": wire.message("K", b"\0\0\0\1" + b"key"),
    "a key of 257 bytes": wire.message("K", b"\0\0\0\1" + b"k" * 257),
    "another protocol": b"220 mail.example.com ESMTP\r\n",
}


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "after a good message"])
def test_a_node_that_breaks_the_protocol_ends_that_login_only(start_router, begun):
    def script(connection):
        code, body = connection.packet()
        what = next((what for what in NONSENSE if what.encode() + b"\0" in body), None)
        if what is None:
            connection.send(connection.server.login_answer())
            while connection.message()[0] == "Q":
                connection.send(wire.message("Z", b"I"))
            return
        connection.send((wire.message("R", b"\0\0\0\0") if begun else b"") + NONSENSE[what])
        connection.receive(1)  # until the router has had enough of it

    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as other:
            other.log_in()
            for what in NONSENSE:
                since = r.log.mark()
                with Client(r.at()) as client:
                    client.send(wire.startup(user=what))
                    kind, body = client.message()
                    if begun and kind == "R":  # may have been passed on already
                        kind, body = client.message()
                    assert kind == "E", what
                    assert wire.error_fields(body)["C"] == "08P01", what
                    assert client.at_end(), what
                assert r.log.wait(reason="SERVER_CONFUSED", since=since)
                assert other.ask("still there?")


def test_what_a_node_says_before_it_is_asked_is_no_answer(start_router):
    def script(connection):
        connection.send(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
        connection.receive(1000)

    with Node(script=script) as node:
        r = front(start_router, node)
        with Client(r.at()) as client:
            client.send(LOGIN)
            assert client.error()["C"] == "08P01"
        assert r.log.wait(reason="SERVER_CONFUSED")


@pytest.mark.parametrize("key_bytes", [4, 32, 256])
def test_a_key_of_any_length_passes(start_router, key_bytes):
    with Node(key_bytes=key_bytes) as node:
        r = front(start_router, node)
        with Client(r.at()) as session, Client(r.at()) as client:
            process_id, key = session.log_in()
            assert len(key) == key_bytes
            client.send(wire.cancel_request(process_id, key))
            assert client.at_end()
            assert process.wait_until(lambda: node.postgres.cancels, 5)
        assert node.postgres.cancels == [(process_id, key)]


def test_ten_thousand_bytes_are_the_longest_first_packet(start_router):
    kept = []
    with Node(script=first_packet_is_kept(kept, wire.login_answer())) as node:
        r = front(start_router, node)
        packet = wire.startup(user="app", options="o" * (10000 - 22))
        assert len(packet) + 1 >= 10000
        packet = packet[:8] + packet[8:][:9991] + b"\0"
        packet = struct.pack("!I", len(packet)) + packet[4:]
        with Client(r.at()) as client:
            client.send(packet)
            assert client.messages_until("Z")
    assert len(packet) == 10000
    assert kept[0] == (wire.PROTOCOL_3_0, packet[8:])


def test_through_a_unix_socket(start_router):
    with Node() as node:
        # Not in tmp_path: that may be too long for a socket's name.
        path = f"/tmp/pgrouter-startup-{os.getpid()}.sock"
        r = front(start_router, node, listener={"bind": path})
        with Client(path) as client:
            client.send(wire.ssl_request())
            assert client.receive(1) == b"N"
            client.log_in()
            assert who(client) == "a"
        assert r.log.wait("session ended")["client"] == "unix"
