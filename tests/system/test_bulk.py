"""Much at once: bytes, sessions, connections."""

import concurrent.futures
import hashlib
import os
import select
import socket
import struct
import threading
import time
import zlib

import pytest

from cluster import process
from harness import wire
from harness.background import Background
from harness.fake_node import who
from harness.fake_postgres import Crowd, FakePostgres
from harness.wire import Client

TCP = {"check": "tcp", "check_interval": "1s", "check_timeout": "5s"}
BULK_BYTES = int(float(os.environ.get("PGROUTER_BULK_GB", "2")) * (1 << 30))
ROW_BYTES = 1 << 20
BULK_TIMEOUT_S = 120  # each way; it takes some seconds on a machine with nothing else to do


@pytest.fixture
def rows(sanitizer):
    """How many rows of a megabyte; a sanitizer is content with fewer."""
    return BULK_BYTES // ROW_BYTES // (8 if sanitizer else 1)


# COPY, in binary and with rows that cost PostgreSQL little


FILLER = "repeat(md5('x'), %d)::bytea" % (ROW_BYTES // 32)


@pytest.mark.takes(BULK_TIMEOUT_S)
@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_copy_to_the_client(cluster, router, rows, sslmode):
    """All of it, in its order."""
    rows //= 1 if sslmode == "disable" else 8  # TLS costs both ends much, and us nothing
    r = router()
    filler = hashlib.md5(b"x").hexdigest().encode() * (ROW_BYTES // 32)
    query = (f"copy (with f as materialized (select {FILLER} as filler) "
             f"select n, filler from generate_series(1, {rows}) n, f) to stdout (format binary)")
    expected, n = BINARY_HEAD, 0
    with r.connect(sslmode=sslmode) as connection:
        with connection.cursor().copy(query) as copy:
            for data in copy:
                n += 1
                expected += binary_row(n, filler) if n <= rows else BINARY_TAIL
                assert bytes(data) == expected
                expected = b""
    assert n == rows + 1
    assert r.log.wait("session ended")["bytes_out"] > rows * ROW_BYTES


BINARY_HEAD = b"PGCOPY\n\xff\r\n\0" + struct.pack("!II", 0, 0)
BINARY_TAIL = struct.pack("!h", -1)


def binary_row(number, data):
    return struct.pack("!hiii", 2, 4, number, len(data)) + data


@pytest.mark.takes(BULK_TIMEOUT_S)
def test_copy_from_the_client(cluster, router, rows):
    """Into a view that looks at what comes and keeps nothing: it is not the disk that is
    tested."""
    r = router()
    with r.connect(sslmode="disable") as connection:
        for statement in (
                "drop schema if exists sink cascade", "create schema sink",
                "create view sink.door as select 0 as number, ''::bytea as data",
                "create table sink.seen (number int, length int)",
                "create table sink.filler (data bytea)",
                "alter table sink.filler alter data set storage external",
                f"insert into sink.filler select {FILLER}",
                """create function sink.note() returns trigger language plpgsql as $$ begin
                   insert into sink.seen select new.number, length(new.data) from sink.filler
                   where data = new.data;
                   return null; end $$""",
                "create trigger note instead of insert on sink.door for each row "
                "execute function sink.note()"):
            connection.execute(statement)
        filler = connection.execute("select data from sink.filler").fetchone()[0]
        with connection.cursor().copy("copy sink.door from stdin (format binary)") as copy:
            copy.write(BINARY_HEAD)
            for number in range(1, rows + 1):
                copy.write(binary_row(number, filler))
            copy.write(BINARY_TAIL)
        found = connection.execute("select count(*), min(number), max(number), count(distinct number), "
                                   "sum(length) from sink.seen").fetchone()
        assert found == (rows, 1, rows, rows, rows * ROW_BYTES)
        connection.execute("drop schema sink cascade")
    assert r.log.wait("session ended")["bytes_in"] > rows * ROW_BYTES


def test_copies_both_ways_at_once(cluster, router, sanitizer):
    """Others are served meanwhile, and no copy sees another one's rows."""
    r = router(main={"workers": "2"})
    rows = 20000 if sanitizer else 100000

    def copy_out(number):
        with r.connect() as connection:
            with connection.cursor().copy(
                    f"copy (select {number} || ':' || n || repeat('x', 200) "
                    f"from generate_series(1, {rows}) n) to stdout") as copy:
                return all(bytes(row).startswith(b"%d:%d" % (number, n + 1)) and len(row) > 200
                           for n, row in enumerate(copy))

    def copy_in(number):
        with r.connect() as connection:
            connection.execute("create temp table mine (who int, n int, filler text)")
            with connection.cursor().copy("copy mine from stdin") as copy:
                for n in range(rows):
                    copy.write(b"%d\t%d\t%s\n" % (number, n, b"y" * 200))
            return connection.execute("select count(*), count(distinct n), min(who), max(who) from mine"
                                      ).fetchone() == (rows, rows, number, number)

    def small():
        with r.connect("ro") as connection:
            return connection.execute("select 1").fetchone()

    with Background(small) as others, concurrent.futures.ThreadPoolExecutor(6) as pool:
        done = [pool.submit(function, number) for number in range(3) for function in (copy_out, copy_in)]
        assert all(one.result(110) for one in done)
    assert len(others.done) > 3 and not others.errors


# Sessions


@pytest.mark.takes(240)
def test_5000_idle_sessions(start_router, sanitizer):
    n = 5000
    with Crowd() as crowd:
        r = start_router(nodes=crowd.node("crowd"), cluster=TCP, main={"max_client_conn": str(n + 10)},
                         listeners={"rw": {"queue_timeout": "60s"}})
        first = Client(r.at())
        first.log_in()
        before, clients = r.memory_kb(), []
        for _ in range(n):
            clients.append(Client(r.at(), timeout=60))
            clients[-1].log_in()
        assert crowd.n_sessions == n + 1
        row = r.csv()["rw", "crowd"]
        assert (row["scur"], row["stot"]) == (str(n + 1), str(n + 1))
        if sanitizer is None:
            per_session = (r.memory_kb() - before) / n
            assert per_session < 2, f"{per_session} kB for an idle session"
        cpu = r.cpu_seconds()
        for client in clients[::7]:
            assert who(client) == "crowd"
        began = time.monotonic()
        with Client(r.at()) as one_more:
            one_more.log_in()
            assert who(one_more) == "crowd"
        assert time.monotonic() - began < 5
        assert r.cpu_seconds() - cpu < 5  # nobody looks at all of them for each event

        for number, client in enumerate(clients):
            client.close() if number % 2 else client.reset()
        first.close()
        assert process.wait_until(lambda: r.csv()["rw", "crowd"]["scur"] == "0", 60)
        assert process.wait_until(lambda: crowd.n_sessions == 0, 30)


@pytest.mark.takes(240)
def test_many_short_connections(start_router, sanitizer):
    n = 1000 if sanitizer else 4000
    with Crowd() as crowd:
        r = start_router(nodes=crowd.node("crowd"), cluster=TCP)

        def short(number):
            with Client(r.at(), timeout=60) as client:
                if number % 3 == 0:
                    client.send(wire.ssl_request())
                    assert client.receive(1) == b"N"
                client.log_in()
                answer = who(client)
                if number % 2:
                    client.send(wire.message("X"))
                    assert client.at_end()
                return answer

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(short, range(n)))
        assert answers == ["crowd"] * n
        assert process.wait_until(lambda: r.csv()["rw", "crowd"]["scur"] == "0", 30)
        row, front = r.csv()["rw", "crowd"], r.csv()["rw", "FRONTEND"]
        assert (row["stot"], front["stot"], row["econ"], front["dreq"]) == (str(n), str(n), "0", "0")
        assert len(os.listdir(f"/proc/{r.process.pid}/fd")) < 100


def test_a_burst_is_accepted(start_router):
    """All at once, before anybody is served; more than one turn of the accepting thread."""
    n = 500
    with Crowd() as crowd:
        r = start_router(nodes=crowd.node("crowd"), cluster=TCP, listeners={"rw": {"queue_timeout": "60s"}})
        sockets = []
        for _ in range(n):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(r.at())
            sockets.append(sock)
        clients = [wire.Connection(sock, timeout=60) for sock in sockets]
        for client in clients:
            client.send(wire.startup(user="app"))
        for client in clients:
            client.messages_until("Z")
        for client in clients:
            client.close()


# Slow ones


def fill(sock, limit, quiet=0.5):
    """Writes until the socket has taken no more for a while; how many bytes went."""
    sock.setblocking(False)
    ready = select.poll()
    ready.register(sock, select.POLLOUT)
    n, block = 0, b"z" * 65536
    while n < limit and ready.poll(quiet * 1000):
        try:
            n += sock.send(block)
        except BlockingIOError:
            continue
    return n


@pytest.mark.takes(180)
def test_slow_readers_hold_no_memory(cluster, router, sanitizer):
    """Their servers wait; the router keeps what fits a few buffers, and all arrives."""
    n_readers, n_bytes = 10, 64 << 20
    r = router(main={"tcp_user_timeout": "0"})
    chunk = 1 << 14
    query = f"copy (select n || repeat('s', {chunk}) from generate_series(1, {n_bytes // chunk}) n) to stdout"
    before = r.memory_kb()
    readers, generators = [], []
    for _ in range(n_readers):
        connection = r.connect(sslmode="disable")
        readers.append(connection)
        generators.append(connection.cursor().copy(query))

    def stuck():
        with r.connect("rw") as connection:
            waiting = connection.execute("select count(*) from pg_stat_activity where wait_event = 'ClientWrite'")
            return waiting.fetchone()[0] >= n_readers

    started = [generator.__enter__() for generator in generators]
    assert process.wait_until(stuck, 60, step=0.2)
    if sanitizer is None:
        assert r.memory_kb() - before < n_readers * 300
    with r.connect() as connection:  # others have the road
        assert connection.execute("select 1").fetchone() == (1,)

    for generator, copy in zip(generators, started):
        sums = 0
        for number, row in enumerate(copy, 1):
            assert bytes(row).startswith(b"%ds" % number)
            sums += len(row)
        assert sums > n_bytes
        generator.__exit__(None, None, None)
    for connection in readers:
        connection.close()


def test_a_slow_server_holds_no_memory(start_router, sanitizer):
    released = threading.Event()
    sums = {}

    def slow(connection):
        connection.packet()
        connection.send(connection.server.login_answer())
        released.wait(100)
        total = 0
        with connection.socket:
            check = 0
            while data := connection.socket.recv(1 << 20):
                total += len(data)
                check = zlib.crc32(data, check)
        sums[total] = check

    with FakePostgres(slow) as server:
        r = start_router(nodes=server.node(), cluster={**TCP, "check_interval": "1h"},
                         main={"tcp_user_timeout": "0"})
        before, sent, clients = r.memory_kb(), [], []
        for _ in range(10):
            client = Client(r.at(), timeout=60)
            client.send(wire.startup(user="app"))
            client.messages_until("Z")
            clients.append(client)
            sent.append(fill(client.socket, 1 << 30))
        if sanitizer is None:
            assert r.memory_kb() - before < 10 * 300
        assert max(sent) < 64 << 20  # it was held back, at the latest by what the kernel keeps
        released.set()
        for client in clients:
            client.socket.setblocking(True)
            client.finish()
        assert process.wait_until(lambda: len(sums) == len(set(sent)), 60)
        for total, check in sums.items():
            whole, rest = divmod(total, 1 << 20)
            block = b"z" * (1 << 20)
            expected = 0
            for _ in range(whole):
                expected = zlib.crc32(block, expected)
            assert zlib.crc32(b"z" * rest, expected) == check
        assert set(sums) == set(sent)
        for client in clients:
            client.close()


def test_a_slow_reader_is_not_in_the_way_of_a_fast_one(start_router):
    """Also when both share a worker."""
    flood = threading.Event()

    def flooding(connection):
        connection.packet()
        connection.send(connection.server.login_answer())
        kind, body = connection.message()
        if body.startswith(b"flood"):
            while not flood.is_set():
                connection.send(b"D" + (65540).to_bytes(4, "big") + b"f" * 65536)
        else:
            while kind == "Q":
                connection.send(wire.message("C", body) + wire.message("Z", b"I"))
                kind, body = connection.message()

    with FakePostgres(flooding) as server:
        r = start_router(nodes=server.node(), cluster={**TCP, "check_interval": "1h"}, main={"workers": "1"})
        slow = [Client(r.at(), receive_buffer=8192) for _ in range(5)]
        for client in slow:
            client.log_in()
            client.send(wire.query("flood"))
        fast, times = Client(r.at()), []
        fast.log_in()
        for n in range(300):
            began = time.monotonic()
            assert fast.ask(f"ask {n}")[0] == ("C", f"ask {n}\0".encode())
            times.append(time.monotonic() - began)
        assert sorted(times)[150] < 0.5, times
        flood.set()
        for client in (*slow, fast):
            client.reset()
