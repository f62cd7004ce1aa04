"""What happens to sockets: settings, ends of every kind, slow peers and vanished ones."""

import contextlib
import hashlib
import socket
import threading
import time

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.descriptors import option, other_end
from harness.fake_node import who
from harness.far_away import FarAway
from harness.front import Node, front
from harness.ports import free_port
from harness.wire import Client

KEEP = {"on_role_change": "keep"}  # the checks of a node that is cut off end nothing


# Scripts of nodes: log in, and then


def logged_in(then):
    """Script: logs in, then then(connection)."""
    def script(connection):
        connection.packet()
        connection.send(connection.server.login_answer())
        then(connection)
    return script


def sink(connection):
    """Reads to the end, and remembers how it came."""
    connection.server.ends = getattr(connection.server, "ends", [])
    connection.server.received = bytearray()
    try:
        while data := connection.socket.recv(65536):
            connection.server.received += data
        connection.server.ends.append("FIN")
    except ConnectionResetError:
        connection.server.ends.append("RST")


def fountain(n_bytes):
    """Sends so many bytes that depend on their place."""
    def then(connection):
        block = bytes(i * i % 251 for i in range(1 << 16))
        for at in range(0, n_bytes, len(block)):
            connection.send(block[:n_bytes - at])
        sink(connection)
    return then


def digest_of_fountain(n_bytes):
    block = bytes(i * i % 251 for i in range(1 << 16))
    digest = hashlib.sha1(usedforsecurity=False)
    for at in range(0, n_bytes, len(block)):
        digest.update(block[:n_bytes - at])
    return digest.digest()


def read_all(client, n_bytes):
    """Digest of the next n bytes."""
    digest = hashlib.sha1(client.unread, usedforsecurity=False)
    n_bytes -= len(client.unread)
    client.unread = b""
    while n_bytes > 0:
        data = client.socket.recv(min(n_bytes, 1 << 20))
        if not data:
            raise EOFError(f"{n_bytes} bytes are missing")
        digest.update(data)
        n_bytes -= len(data)
    return digest.digest()


def session(r, **more):
    client = Client(r.at(), **more)
    client.log_in()
    return client


def received(node):
    return getattr(node.postgres, "received", None)


def has_ended(node, how):
    return process.wait_until(lambda: getattr(node.postgres, "ends", []) == [how], 10)


# Settings


@pytest.mark.parametrize("main, expected", [
    ({}, (1, 10, 5, 3)),
    ({"tcp_keepidle": "7s", "tcp_keepintvl": "2s", "tcp_keepcnt": "4"}, (1, 7, 2, 4)),
    ({"tcp_keepidle": "1500ms", "tcp_keepintvl": "500ms"}, (1, 2, 1, 3)),
    ({"tcp_keepalive": "0"}, (0, None, None, None)),
    ({"tcp_keepidle": "0", "tcp_keepintvl": "0", "tcp_keepcnt": "0"}, (1, "time", "intvl", "probes")),
], ids=["defaults", "others", "parts of seconds", "off", "the system's"])
def test_keepalive_settings_reach_both_sockets(start_router, main, expected):
    with Node(script=logged_in(sink)) as node:
        r = front(start_router, node, main=main)
        with session(r) as client:
            for ours in (client.socket, node.postgres.connections[0].socket):
                for which, want in zip((
                        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
                        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT)), expected):
                    found = option(r.process.pid, ours, *which)
                    if isinstance(want, str):
                        want = of_the_system(want)
                    assert want is None or found == want, which
                # The kernel's count would end peers that are merely slow.
                assert option(r.process.pid, ours, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


def of_the_system(name):
    with open(f"/proc/sys/net/ipv4/tcp_keepalive_{name}", encoding="ascii") as file:
        return int(file.read())


def test_nothing_is_held_back_to_fill_packets(start_router):
    with Node(script=logged_in(sink)) as node:
        r = front(start_router, node)
        with session(r) as client:
            for ours in (client.socket, node.postgres.connections[0].socket):
                assert option(r.process.pid, ours, socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_client_in_line_has_the_settings_too(start_router):
    with Node(role="replica") as node:
        r = front(start_router, node, main={"tcp_keepidle": "7s"})
        with Client(r.at()) as client:
            client.send(wire.startup(user="app"))
            assert process.wait_until(lambda: r.csv()["rw", "BACKEND"]["qcur"] == "1", 5)
            assert option(r.process.pid, client.socket, socket.IPPROTO_TCP,
                          socket.TCP_KEEPIDLE) == 7


def test_keepalive_is_asked_for_on_a_real_session(cluster, router):
    r = router(main={"tcp_keepidle": "3s"})
    with r.connect("rw") as connection:
        ours = socket.socket(fileno=socket.dup(connection.fileno()))
        with ours, other_end(r.process.pid, ours) as theirs:
            assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3


# Ends


def test_a_clients_reset_is_a_reset_for_the_server(start_router):
    with Node(script=logged_in(sink)) as node:
        r = front(start_router, node)
        session(r).reset()
        assert has_ended(node, "RST")
        assert r.log.wait("session ended")["reason"] == "CLIENT_RESET"


def test_a_servers_reset_is_a_reset_for_the_client(start_router):
    with Node(script=logged_in(lambda connection: connection.message() and connection.reset())) as node:
        r = front(start_router, node)
        with session(r) as client:
            client.send(wire.query("reset me"))
            with pytest.raises(ConnectionResetError):
                client.receive(1)
        assert r.log.wait("session ended")["reason"] == "SERVER_RESET"


def test_what_came_before_a_reset_arrives(start_router):
    n = 100_000

    def then(connection):
        connection.message()
        connection.send(b"x" * n)
        assert connection.receive(1) == b"!"  # all has arrived: now there is nothing to lose
        connection.reset()

    with Node(script=logged_in(then)) as node:
        r = front(start_router, node)
        with session(r) as client:
            client.send(wire.query("go"))
            assert client.receive(n) == b"x" * n
            client.send(b"!")
            with pytest.raises(ConnectionResetError):
                client.receive(1)


def test_a_clients_end_is_passed_on_and_the_answer_comes_back(start_router):
    """Half-close: the client sends no more, and reads on."""
    n = 3_000_000
    received = []

    def then(connection):
        data = b""
        while piece := connection.socket.recv(65536):
            data += piece
        received.append(data)
        connection.send(b"y" * n)

    with Node(script=logged_in(then)) as node:
        r = front(start_router, node)
        with session(r) as client:
            client.send(b"x" * n)
            client.finish()
            assert client.receive(n) == b"y" * n
            assert client.at_end()
        assert received == [b"x" * n]
        ended = r.log.wait("session ended")
        assert ended["reason"] == "CLIENT_CLOSED"
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)


def test_a_servers_end_is_passed_on_and_the_client_may_still_send(start_router):
    n = 3_000_000

    def then(connection):
        connection.send(b"y" * n)
        connection.finish()
        sink(connection)

    with Node(script=logged_in(then)) as node:
        r = front(start_router, node)
        with session(r) as client:
            assert client.receive(n) == b"y" * n
            assert client.at_end()
            client.send(b"x" * n)
            client.finish()
            assert has_ended(node, "FIN")
        assert received(node) == b"x" * n
        assert r.log.wait("session ended")["reason"] == "SERVER_CLOSED"
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)


def test_the_last_bytes_are_there_for_a_client_that_sleeps(start_router):
    """The server has ended and gone long before the client reads what it has sent. One
    that has all of it and does not close is closed some time."""
    n = 1_000_000  # fits into the kernel's buffers and ours
    with Node(script=logged_in(lambda connection: connection.send(bytes(n)))) as node:
        r = front(start_router, node, main={"tcp_user_timeout": "1s"})
        with session(r, receive_buffer=65536, timeout=60) as sleeps, session(r) as keeps:
            assert keeps.receive(n) == bytes(n)
            ended = r.log.wait("session ended", client="%s:%d" % keeps.socket.getsockname(),
                               seconds=40)
            assert ended["seconds"] > 5
            assert len(r.log.find("session ended")) == 1
            time.sleep(3)  # longer than it takes to be taken for vanished
            assert sleeps.receive(n) == bytes(n)
            assert sleeps.at_end()
        assert r.log.wait("session ended", since=1 + r.log.all.index(ended))["bytes_out"] > n


def test_both_end_at_once(start_router):
    with Node(script=logged_in(lambda connection: connection.message())) as node:
        r = front(start_router, node)
        for _ in range(30):
            client = session(r)
            client.send(wire.query("x"))
            client.finish()
            assert client.at_end()
            client.close()
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)
        assert process.wait_until(lambda: len(r.log.find("session ended")) == 30, 5)


# Idle ones


def echo(connection):
    while data := connection.socket.recv(65536):
        connection.send(data)


@pytest.mark.parametrize("setting, reason", [("client_timeout", "CLIENT_TIMEOUT"),
                                             ("server_timeout", "SERVER_TIMEOUT")])
def test_idle_timeouts(start_router, setting, reason):
    def then(connection):
        kind, _ = connection.message()
        while kind == "Q":  # sends, whether or not anybody answers
            connection.send(b"tick")
            time.sleep(0.1)

    with Node(script=lambda connection: logged_in(
            then if len(connection.server.connections) == 1 else echo)(connection)) as node:
        r = front(start_router, node, listener={setting: "1s"})
        with session(r) as receives, session(r) as talks, session(r) as idle:
            receives.send(wire.query("go"))
            began = time.monotonic()
            while time.monotonic() - began < 3:  # three times as long as an idle one lives
                assert receives.receive(4) == b"tick"
                talks.send(b"ping")
                assert talks.receive(4) == b"ping"
                time.sleep(0.05)
            assert idle.at_end()
            ended = r.log.wait("session ended")
            assert ended["reason"] == reason
            assert ended["client"] == "%s:%d" % idle.socket.getsockname()
            assert 1 <= ended["seconds"] < 3
            assert len(r.log.find("session ended")) == 1

            assert process.wait_until(lambda: talks_ended(r, talks), 10)  # now that it is idle


def talks_ended(r, client):
    return r.log.find("session ended", client="%s:%d" % client.socket.getsockname())


def test_a_session_that_only_sends_is_busy(start_router):
    with Node(script=logged_in(sink)) as node:
        r = front(start_router, node, listener={"client_timeout": "1s", "server_timeout": "1s"})
        with session(r) as client:
            for _ in range(50):
                client.send(b"x")
                time.sleep(0.05)
            assert r.log.find("session ended") == []
            assert process.wait_until(lambda: received(node) == b"x" * 50, 5)


def test_without_idle_timeouts_nothing_is_ended(start_router):
    with Node() as node:
        r = front(start_router, node)
        with session(r) as client:
            client.socket.settimeout(2)
            with pytest.raises(TimeoutError):
                client.socket.recv(1)
            client.socket.settimeout(10)
            assert who(client) == "a"


# Slow ones


def grows_little(r, before, kb):
    """A sanitizer keeps what is freed for a while."""
    return r.memory_kb() - before < (kb if r.sanitizer is None else 100_000)


def test_a_result_that_nobody_reads_is_not_kept(cluster, router):
    r = router()
    with r.connect("rw", sslmode="disable") as warm:  # code, pages, logs: all is there now
        warm.execute("select repeat('x', 10000000)")
    connection = psycopg.pq.PGconn.connect(r.dsn("rw", sslmode="disable").encode())
    try:
        before = r.memory_kb()
        connection.send_query(
            b"copy (select repeat('x', 1000) from generate_series(1, 200000)) to stdout")
        leader = cluster.leader()
        query = f"select wait_event from pg_stat_activity where pid = {connection.backend_pid}"
        assert process.wait_until(lambda: leader.sql(query) == "ClientWrite", 20)
        assert all(grows_little(r, before, 1024) for _ in range(20))
        assert leader.sql(query) == "ClientWrite"

        n = 0
        assert connection.get_result().status == psycopg.pq.ExecStatus.COPY_OUT
        while (got := connection.get_copy_data(0))[0] > 0:
            n += got[0]
        assert n == 200_000 * 1001
        assert grows_little(r, before, 4096)
    finally:
        connection.finish()


def test_bytes_that_no_server_reads_are_not_kept(start_router):
    go = threading.Event()
    n = 200_000_000
    digests = []

    def then(connection):
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert go.wait(30)
        digests.append(read_all(connection, n))
        connection.send(b"!")

    with Node(script=logged_in(then)) as node:
        r = front(start_router, node)
        with session(r, timeout=60) as client:
            before = r.memory_kb()
            sent = [0]
            digest = hashlib.sha1(usedforsecurity=False)

            def send():
                block = bytes(i * i % 251 for i in range(1 << 20))
                while sent[0] < n:
                    piece = block[:n - sent[0]]
                    client.send(piece)
                    digest.update(piece)
                    sent[0] += len(piece)

            sender = threading.Thread(target=send, daemon=True)
            sender.start()
            assert stands_still(lambda: sent[0])
            assert sent[0] < n / 2
            assert grows_little(r, before, 1024)
            go.set()
            sender.join(60)
            assert client.receive(1) == b"!"
            assert digests == [digest.digest()]


def test_a_flood_at_login_is_not_kept(start_router):
    """Before the first ReadyForQuery, either way."""
    n_sent = {"node": 0, "client": 0}
    is_over = threading.Event()
    parameter = wire.message("S", b"name\0" + b"x" * 60_000 + b"\0")

    def script(connection):
        connection.packet()
        if connection.server.name == "talks":
            connection.send(wire.message("R", b"\0\0\0\0"))
            while True:
                connection.send(parameter)
                n_sent["node"] += len(parameter)
        connection.send(wire.message("R", b"\0\0\0\3"))
        is_over.wait(60)

    def send(client):
        with contextlib.suppress(OSError):
            while True:
                client.send(parameter)
                n_sent["client"] += len(parameter)

    with Node("talks", script=script) as talks, Node("listens", script=script) as listens:
        talks.patroni.replica()
        r = front(start_router, talks, listens,
                  listeners={"talks": {"role": "replica"}, "listens": {"role": "primary"}})
        with Client(r.at("talks")) as reads_nothing, Client(r.at("listens")) as sends:
            before = r.memory_kb()
            for client in (reads_nothing, sends):
                client.send(wire.startup(user="app"))
            threading.Thread(target=send, args=(sends,), daemon=True).start()
            for side in n_sent:
                assert stands_still(lambda: n_sent[side])
                assert n_sent[side] < 50_000_000
            assert grows_little(r, before, 1024)
            assert reads_nothing.message() == ("R", b"\0\0\0\0")
            for _ in range(300):
                assert reads_nothing.message()[0] == "S"
            sends.reset()
            is_over.set()


def stands_still(number, seconds=0.5):
    """True when number() is the same for so long, within a longer time."""
    last = [number(), time.monotonic()]

    def is_still():
        now = number()
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - last[1] > seconds and now > 0

    return process.wait_until(is_still, 20)


def test_one_slow_reader_holds_up_nobody_else(start_router):
    n = 50_000_000
    with Node(script=lambda connection: logged_in(
            fountain(n) if len(connection.server.connections) == 1 else echo)(connection)) as node:
        r = front(start_router, node, main={"workers": "1"})
        with session(r, receive_buffer=65536) as slow, session(r) as quick:
            slow.receive(100)
            for _ in range(200):
                quick.send(b"ping")
                assert quick.receive(4) == b"ping"
            slow.unread = b""


# Vanished ones


@pytest.fixture(scope="module")
def cable():
    if FarAway.why_not():
        pytest.skip(FarAway.why_not())
    with FarAway() as far:
        yield far


@pytest.fixture
def far(cable):
    """A place at the end of a cable."""
    cable.heal()
    return cable


QUICK = {"tcp_keepidle": "1s", "tcp_keepintvl": "1s", "tcp_keepcnt": "2", "tcp_user_timeout": "3s"}


def far_client(far, r):
    with far.inside():
        client = Client(r.at())
    client.log_in()
    return client


def listen_where_the_cable_is(far):
    return {"bind": f"{far.here}:{free_port(far.here)}", **KEEP}


@pytest.mark.parametrize("main", [QUICK, {**QUICK, "tcp_user_timeout": "0"}],
                         ids=["user timeout", "keepalive alone"])
def test_an_idle_client_that_vanished_is_noticed(start_router, far, main):
    with Node(script=logged_in(sink)) as node:
        r = front(start_router, node, main=main, listener=listen_where_the_cable_is(far))
        client = far_client(far, r)
        client.socket.settimeout(2.5)
        with pytest.raises(TimeoutError):  # it answers the questions, and lives
            client.socket.recv(1)
        far.cut()
        cut = time.monotonic()
        ended = r.log.wait("session ended", seconds=20)
        assert ended["reason"] == "CLIENT_VANISHED"
        assert 1 < time.monotonic() - cut < 10
        assert has_ended(node, "FIN")
        client.close()


def test_an_idle_server_that_vanished_is_noticed(start_router, far):
    with far.inside():
        node = Node(script=logged_in(sink), address=far.there)
    with node:
        r = front(start_router, node, main=QUICK, listener=KEEP)
        with session(r) as client:
            client.socket.settimeout(2.5)
            with pytest.raises(TimeoutError):
                client.socket.recv(1)
            far.cut()
            client.socket.settimeout(20)
            assert client.at_end()
        assert r.log.wait("session ended")["reason"] == "SERVER_VANISHED"


def test_a_client_that_vanished_while_it_is_sent_to_is_noticed(start_router, far):
    # No keepalive: what was sent and not acknowledged must tell.
    with Node(script=logged_in(fountain(1 << 40))) as node:
        r = front(start_router, node, main={**QUICK, "tcp_keepalive": "0"},
                  listener=listen_where_the_cable_is(far))
        client = far_client(far, r)
        for _ in range(10):
            client.receive(100_000)
        far.cut()
        cut = time.monotonic()
        ended = r.log.wait("session ended", seconds=30)
        assert ended["reason"] == "CLIENT_VANISHED"
        assert time.monotonic() - cut < 20
        assert process.wait_until(lambda: r.sessions() == (0, 0), 5)
        client.close()


def test_a_server_that_vanished_while_it_is_sent_to_is_noticed(start_router, far):
    with far.inside():
        node = Node(script=logged_in(sink), address=far.there)
    with node:
        r = front(start_router, node, main={**QUICK, "tcp_keepalive": "0"}, listener=KEEP)
        with session(r) as client:
            client.send(b"x" * 1000)
            assert process.wait_until(lambda: received(node) == b"x" * 1000, 5)
            far.cut()
            client.send(b"y" * 1000)
            client.socket.settimeout(30)
            assert client.at_end()
        assert r.log.wait("session ended")["reason"] == "SERVER_VANISHED"


def test_a_real_server_that_vanished_is_noticed(cluster_with_cables, router):
    r = router(main=QUICK, listeners={"rw": {"role": "primary", "on_role_change": "keep"}})
    with r.connect("rw") as connection:
        connection.execute("select 1")
        cluster_with_cables.leader().cut()
        assert r.log.wait("session ended", seconds=20)["reason"] == "SERVER_VANISHED"
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")


def test_a_vanished_peer_is_noticed_and_a_slow_one_is_not_cut(start_router, far):
    """Neither takes anything for longer than tcp_user_timeout; one of them answers."""
    n = 30_000_000
    with Node(script=logged_in(fountain(n))) as node:
        # Without keepalive: the one that is there has nothing to fear from it.
        r = front(start_router, node, main={"tcp_user_timeout": "2s"},
                  listeners={"rw": {}, "far": listen_where_the_cable_is(far)})
        slow = session(r, receive_buffer=65536)
        with far.inside():
            vanishing = Client(r.at("far"), receive_buffer=65536)
        vanishing.log_in()
        for client in (slow, vanishing):
            client.receive(10)
        slow_began = time.monotonic()
        far.cut()
        cut = time.monotonic()

        ended = r.log.wait("session ended", listener="far", seconds=30)
        assert ended["reason"] == "CLIENT_VANISHED"
        assert 1.5 < time.monotonic() - cut < 25

        left = 7 - (time.monotonic() - slow_began)
        if left > 0:
            time.sleep(left)  # nothing is read for more than three times tcp_user_timeout
        assert r.log.find("session ended", listener="rw") == []
        slow.unread = bytes(i * i % 251 for i in range(10)) + slow.unread
        assert read_all(slow, n) == digest_of_fountain(n)
        slow.close()
        vanishing.close()
        assert r.log.wait("session ended", listener="rw")["reason"] == "CLIENT_CLOSED"


SIZES = (300_000, 700_000, 3_000_000, 30_000_000)


def test_slow_readers_are_not_cut_wherever_the_bytes_are(start_router):
    """In the kernel's buffers alone, or in ours too; what counts is that the peer answers."""
    with Node(script=lambda connection: logged_in(
            fountain(SIZES[len(connection.server.connections) - 1]))(connection)) as node:
        r = front(start_router, node, main={"tcp_user_timeout": "1s"})
        clients = {}
        for n in SIZES:
            clients[n] = session(r, receive_buffer=65536, timeout=60)
        for _ in range(2):
            time.sleep(3)  # nothing is read for three times tcp_user_timeout
            assert r.log.find("session ended") == []
            for client in clients.values():
                client.unread += client.socket.recv(10_000)
        for n, client in clients.items():
            assert read_all(client, n) == digest_of_fountain(n), n
            client.close()


def test_slow_servers_are_not_cut_wherever_the_bytes_are(start_router):
    go = threading.Event()
    received = {}

    def collect(connection):
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert go.wait(60)
        n = int(connection.receive(8))
        received[n] = read_all(connection, n)

    with Node(script=logged_in(collect)) as node:
        r = front(start_router, node, main={"tcp_user_timeout": "1s"})
        senders, clients = [], []
        for n in SIZES:
            clients.append(session(r, timeout=60))
            data = b"%08d" % n + bytes(range(256)) * (n // 256 + 1)
            senders.append(threading.Thread(target=clients[-1].send, args=(data[:n + 8],),
                                            daemon=True))
            senders[-1].start()
        time.sleep(5)
        assert r.log.find("session ended") == []
        go.set()
        for sender in senders:
            sender.join(60)
        assert process.wait_until(lambda: len(received) == len(SIZES), 30)
        for n in SIZES:
            data = (bytes(range(256)) * (n // 256 + 1))[:n]
            assert received[n] == hashlib.sha1(data, usedforsecurity=False).digest(), n
        for client in clients:
            client.close()


def test_a_cable_that_is_back_in_time_costs_nothing(start_router, far):
    with Node(script=logged_in(echo)) as node:
        r = front(start_router, node, main={**QUICK, "tcp_user_timeout": "20s", "tcp_keepcnt": "20"},
                  listener=listen_where_the_cable_is(far))
        client = far_client(far, r)
        far.cut()
        client.send(b"ping")
        client.socket.settimeout(1.5)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        far.heal()
        client.socket.settimeout(20)
        assert client.receive(4) == b"ping"
        client.close()
