"""However many look on, they have a share of the threads' time and no more: the rest is for
those who work. The share is of processor time, which other processes can only make less."""

import contextlib
import glob
import socket
import threading
import time

from cluster import process
from harness.fake_node import ask_who, fake_nodes, setting
from harness.ports import free_port
from harness.wire import Client, query

FOR_S = 4
PART = 0.2  # of a processor: much more than the share, much less than they would take
QUICK = {"check_interval": "2s", "check_fast_interval": "2s", "check_timeout": "2s"}


def processor_seconds(r, begins):
    """Of all threads whose names begin so."""
    found = 0
    for task in glob.glob(f"/proc/{r.process.pid}/task/*"):
        with contextlib.suppress(FileNotFoundError), open(f"{task}/comm", encoding="ascii") as file:
            if not file.read().startswith(begins):
                continue
            with open(f"{task}/schedstat", encoding="ascii") as file:
                found += int(file.read().split()[0]) / 1e9
    return found


def part_of_time(r, threads, crowd, works):
    """The part of a processor that the threads take while the crowd is there, and how many answers
    it has had: `crowd` is one member's life, called with an event at which it ends, `works` what
    others do meanwhile."""
    over, counts = threading.Event(), []
    members = [threading.Thread(target=lambda: counts.append(crowd(over))) for _ in range(4)]
    for member in members:
        member.start()
    time.sleep(1)  # what was saved is gone
    began, used = time.monotonic(), processor_seconds(r, threads)
    while time.monotonic() < began + FOR_S:
        works()
        time.sleep(0.2)
    used, took = processor_seconds(r, threads) - used, time.monotonic() - began
    over.set()
    for member in members:
        member.join(60)
    assert len(counts) == len(members)
    return used / took, sum(counts)


def ask_on(visitors, questions, answer, over):
    """Sends the same on each connection, as fast as it is taken; counts answers by what one of them
    has once."""
    n = 0
    for visitor in visitors:
        visitor.setblocking(False)
    while not over.is_set():
        moved = 0
        for visitor in visitors:
            with contextlib.suppress(BlockingIOError):
                moved += visitor.send(questions)
            with contextlib.suppress(BlockingIOError):
                got = visitor.recv(1 << 20)
                n += got.count(answer)
                moved += len(got)
        if moved == 0:
            over.wait(0.001)
    for visitor in visitors:
        visitor.close()
    return n


def ask_for_pages(at, over):
    visitors = [socket.create_connection(at, 30) for _ in range(4)]
    return ask_on(visitors, b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 ", over)


def test_pages(start_router):
    with fake_nodes("a") as (a,):
        a.patroni.replica()
        names = [f"n{n}" for n in range(40)]
        nodes = ", ".join(f"{name}=127.0.0.1:{a.postgres.port}:{a.patroni.port}" for name in names)
        r = start_router(nodes=nodes, cluster=QUICK, listeners={f"l{n}": {"role": "any"} for n in range(6)},
                         wait=False)
        r.wait_until_ready(30)

        def works():
            assert ask_who(r.at("l0")) == "a"
            assert r.get("/healthz")[0] == 200

        part, n = part_of_time(r, "pgrouter", lambda over: ask_for_pages(r.at("stats"), over), works)
        assert part < PART and n > 4


def test_a_page_that_costs_more_than_there_is(start_router):
    """Who looks at a large page live keeps nobody from the port, and is no more when gone."""
    with fake_nodes("a") as (a,):
        a.patroni.replica()
        nodes = ", ".join(f"n{n}=127.0.0.1:{a.postgres.port}:{a.patroni.port}" for n in range(120))
        r = start_router(nodes=nodes, cluster={**QUICK, "check_interval": "10s", "check_fast_interval": "10s"},
                         listeners={f"l{n}": {"role": "any"} for n in range(50)}, wait=False)
        r.wait_until_ready(60)
        r.is_slowed = True  # six thousand rows are written in one piece
        with socket.create_connection(r.at("stats"), 30) as viewer:
            viewer.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            seen = 0
            while seen < 20000000:  # several pictures
                assert r.get("/healthz", timeout=10)[0] == 200
                seen += len(viewer.recv(1 << 20))
        assert r.get("/stats", timeout=30)[0] == 200


def ask_for_clients(at, over):
    visitors = []
    for _ in range(2):
        console = Client(at, timeout=60)
        console.log_in(user="postgres", database="pgbouncer")
        visitors.append(console.socket)
    return ask_on(visitors, query("SHOW CLIENTS"), b"Z\0\0\0\5I", over)


def test_rows_of_the_console(raw):
    """Whoever asks for all clients in a loop, clients that work are served."""
    r = raw(admin_users="postgres", workers=1)
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(Client(r.at("pool"), timeout=30)).log_in()

        def works():
            with Client(r.at("pool")) as client:
                client.log_in()
                assert [kind for kind, _ in client.ask("select 1")] == list("TDCZ")

        part, n = part_of_time(r, "worker-", lambda over: ask_for_clients(r.at("pool"), over), works)
        assert part < PART and n > 4


def test_the_port_moves_among_a_crowd(start_router):
    """Requests that are waiting, or were not even read, when the address is left."""
    with fake_nodes("a") as (a,):
        r = start_router(nodes=setting(a), cluster=QUICK)
        before = r.at("stats")
        with contextlib.ExitStack() as stack:
            visitors = [stack.enter_context(socket.create_connection(before, 30)) for _ in range(150)]
            for visitor in visitors:
                visitor.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n" * 8)
            r.sections["stats"]["bind"] = f"127.0.0.1:{free_port()}"
            r.reload()
            for visitor in visitors:
                with contextlib.suppress(ConnectionResetError):
                    while visitor.recv(1 << 20):
                        pass
        assert r.get("/healthz")[0] == 200
        assert ask_who(r.at()) == "a"
