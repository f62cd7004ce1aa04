"""How pgrouter ends, and what its clients see of it."""

import errno
import os
import signal
import socket
import time

import pytest

from cluster import process
from harness import wire
from harness.fake_node import ask_who, who
from harness.fake_postgres import FakePostgres
from harness.ports import free_port
from harness.wire import Client

TCP = {"check": "tcp", "check_interval": "300ms", "check_fast_interval": "50ms"}


@pytest.fixture
def server():
    with FakePostgres(name="a") as server:
        yield server


@pytest.fixture
def start(start_router, server):
    """A router in front of one node that is always up."""
    def start(**options):
        options.setdefault("nodes", server.node())
        return start_router(cluster=TCP, **options)

    return start


def session(router, listener="rw"):
    client = Client(router.at(listener))
    client.log_in()
    return client


def waiting_client(router, listener="rw", first=wire.startup(user="app", database="app")):
    """Has said what it wants, and has no answer."""
    n = int(router.csv()[listener, "BACKEND"]["qcur"])
    client = Client(router.at(listener), timeout=20)
    client.send(first)
    assert process.wait_until(lambda: int(router.csv()[listener, "BACKEND"]["qcur"]) == n + 1, 10)
    return client


def connect_error(router, listener="rw"):
    """0, or errno of a connect()."""
    at = router.at(listener)
    with socket.socket(socket.AF_UNIX if isinstance(at, str) else socket.AF_INET) as sock:
        sock.settimeout(5)
        return sock.connect_ex(at)


def ended(router, seconds=20):
    """The exit status, when it has ended by itself."""
    assert process.wait_until(lambda: not router.is_alive(), seconds), router.log.text()
    return router.process.returncode


def still_runs(router):
    """It answers a question that it was asked now."""
    return router.is_alive() and router.get("/healthz")[0] == 200


def refuses(router, listener="rw"):
    return process.wait_until(lambda: connect_error(router, listener) == errno.ECONNREFUSED, 10)


# SIGTERM


def test_sigterm_waits_for_sessions(cluster, router):
    r = router()
    session = r.connect()
    r.signal(signal.SIGTERM)
    r.log.wait("shutting down: no new clients")
    assert refuses(r, "rw") and refuses(r, "ro")
    assert session.execute("select 1").fetchone() == (1,)
    with session.cursor().copy("copy (select generate_series(1, 10000)) to stdout") as copy:
        assert sum(1 for _ in copy.rows()) == 10000
    assert still_runs(r)
    session.close()
    assert ended(r) == 0
    # The node closes as it reads the client's goodbye; where TLS has its own behind that, unread,
    # the node's kernel resets.
    assert r.log.find("session ended")[-1]["reason"] in ("CLIENT_CLOSED", "CLIENT_RESET",
                                                         "SERVER_CLOSED", "SERVER_RESET")


def test_sigterm_without_sessions_is_the_end(start):
    r = start()
    assert ask_who(r.at()) == "a"
    began = time.monotonic()
    r.signal(signal.SIGTERM)
    assert ended(r) == 0
    assert time.monotonic() - began < 10  # and not shutdown_timeout
    assert {event["thread"] for event in r.log.find("loop ended")} >= {"control", "worker-0"}


def test_readyz_says_that_it_is_ending(start):
    r = start()
    client = session(r)
    assert (r.get("/readyz")[0], r.get("/healthz")[0]) == (200, 200)
    r.signal(signal.SIGTERM)
    assert process.wait_until(lambda: r.get("/readyz")[0] == 503, 5)
    assert r.get("/healthz")[0] == 200
    rows = r.csv()  # who is still there is what one wants to know now
    assert (rows["rw", "FRONTEND"]["status"], rows["rw", "FRONTEND"]["scur"]) == ("STOP", "1")
    assert rows["rw", "a"]["scur"] == "1"
    client.close()
    assert ended(r) == 0


def test_shutdown_timeout_ends_what_is_left(start):
    r = start(main={"shutdown_timeout": "700ms"})
    clients = [session(r) for _ in range(3)]
    began = time.monotonic()
    r.signal(signal.SIGTERM)
    refuses(r)
    assert [who(client) for client in clients] == ["a"] * 3
    assert ended(r) == 0
    assert time.monotonic() - began >= 0.69
    assert all(client.at_end() for client in clients)
    assert [event["reason"] for event in r.log.find("session ended")] == ["SHUTDOWN"] * 3


def test_without_shutdown_timeout_the_last_session_is_awaited(start):
    r = start(main={"shutdown_timeout": "0"})
    client = session(r)
    r.signal(signal.SIGTERM)
    assert refuses(r)
    assert who(client) == "a" and still_runs(r)
    client.close()
    assert ended(r) == 0


def test_a_waiting_client_may_still_be_served_after_sigterm(start, server):
    server.refuse()
    r = start(listeners={"rw": {"queue_timeout": "60s"}})
    client = waiting_client(r)
    r.signal(signal.SIGTERM)
    assert refuses(r)
    server.open()
    client.messages_until("Z")
    assert who(client) == "a" and still_runs(r)
    client.close()
    assert ended(r) == 0


def test_a_place_that_becomes_free_after_sigterm_is_given(start):
    r = start(listeners={"rw": {"queue_timeout": "60s", "maxconn": "1"}})
    first = session(r)
    second = waiting_client(r)
    r.signal(signal.SIGTERM)
    assert refuses(r)
    first.close()
    second.messages_until("Z")
    assert who(second) == "a"
    second.close()
    assert ended(r) == 0


def test_a_waiting_client_is_told_at_the_end(start, server):
    server.refuse()
    r = start(main={"shutdown_timeout": "500ms"}, listeners={"rw": {"queue_timeout": "60s"}})
    client = waiting_client(r)
    r.signal(signal.SIGTERM)
    assert client.error()["C"] == "57P01"
    assert client.at_end()
    assert ended(r) == 0


# SIGINT, SIGQUIT, twice


@pytest.mark.parametrize("first", [wire.startup(user="app"), wire.ssl_request(), wire.gssenc_request()])
def test_sigint_sends_waiting_clients_away(start, server, first):
    r = start(listeners={"rw": {}, "gone": {"queue_timeout": "60s", "maxconn": "1"}})
    place, kept = session(r, "gone"), session(r)
    waiting = waiting_client(r, "gone")
    other = waiting_client(r, "gone", first)
    r.signal(signal.SIGINT)
    error = waiting.error()
    assert (error["S"], error["C"], error["M"]) == ("FATAL", "57P01", "pgrouter is shutting down")
    assert waiting.at_end()
    assert other.error()["C"] == "57P01"
    for client in (waiting, other):
        client.close()
    assert refuses(r)
    assert [who(client) for client in (place, kept)] == ["a", "a"] and still_runs(r)
    for client in (place, kept):
        client.close()
    assert ended(r) == 0


def test_sigint_waits_for_sessions_up_to_shutdown_timeout(start):
    r = start(main={"shutdown_timeout": "500ms"})
    client = session(r)
    r.signal(signal.SIGINT)
    refuses(r)
    assert ended(r) == 0
    assert client.at_end()


@pytest.mark.parametrize("first, second", [
    (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM),
    (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGQUIT)])
def test_a_second_signal_ends_it_now(start, first, second):
    r = start(main={"shutdown_timeout": "1h"})
    client = session(r)
    r.signal(first)
    r.log.wait("shutting down: no new clients")
    assert who(client) == "a"
    r.signal(second)
    assert ended(r) == 0
    assert client.at_end()
    assert r.log.find("session ended")[-1]["reason"] == "SHUTDOWN"


def test_sigquit_ends_it_now(start, server):
    r = start(main={"shutdown_timeout": "1h"}, listeners={
        "rw": {}, "full": {"maxconn": "1", "queue_timeout": "60s"}})
    clients = [session(r), session(r, "full")]
    waiting = waiting_client(r, "full")
    r.signal(signal.SIGQUIT)
    assert ended(r) == 0
    assert waiting.error()["C"] == "57P01"
    assert all(client.at_end() for client in clients)


def test_sighup_while_it_ends_changes_nothing(start):
    r = start()
    client = session(r)
    r.signal(signal.SIGTERM)
    assert refuses(r)
    r.signal(signal.SIGHUP)
    assert process.wait_until(lambda: any(event.get("name") == "Hangup" for event in r.log.find("signal")), 10)
    assert who(client) == "a"
    assert connect_error(r) == errno.ECONNREFUSED
    assert not r.log.find("configuration reloaded")
    client.close()
    assert ended(r) == 0


def test_servers_see_the_end_of_their_sessions(cluster, router):
    r = router()
    backends = [r.connect().pgconn.backend_pid for _ in range(3)]
    r.signal(signal.SIGQUIT)
    assert ended(r) == 0
    query = f"select count(*) from pg_stat_activity where pid = any('{{{','.join(map(str, backends))}}}')"
    assert process.wait_until(lambda: cluster.leader().sql(query) == "0", 10)


# The next one


def test_the_next_one_starts_while_the_last_one_ends(start):
    """A restart without a gap: the old one has let go of its addresses."""
    r = start()
    client = session(r)
    r.signal(signal.SIGTERM)
    assert refuses(r)
    sections = {name: dict(keys) for name, keys in r.sections.items()}
    del sections["stats"]  # the old one still tells how it is
    next_one = start(sections=sections, wait=False)
    assert process.wait_until(lambda: connect_error(next_one) == 0, 10)
    assert ask_who(next_one.at()) == who(client) == "a"
    client.close()
    assert ended(r) == 0


def test_sigkill_leaves_nothing_in_the_way(start, tmp_path):
    path = os.path.join(tmp_path, "socket")
    tcp = f"127.0.0.1:{free_port()}"
    r = start(listeners={"rw": {"bind": f"{path}, {tcp}"}})
    client = session(r)
    assert ask_who(path) == "a"
    r.kill()
    with pytest.raises((EOFError, ConnectionResetError, BrokenPipeError)):
        who(client)
    assert os.path.exists(path)

    again = start(sections=r.sections)
    assert ask_who(path) == ask_who(again.at("rw", 1)) == "a"
    again.stop()
    assert not os.path.exists(path)


def test_a_socket_of_another_one_is_not_taken_away(start, program, tmp_path):
    path = os.path.join(tmp_path, "socket")
    r = start(listeners={"rw": {"bind": path}})
    sections = {name: dict(keys) for name, keys in r.sections.items()}
    sections["stats"] = {"bind": f"127.0.0.1:{r.port('stats') + 1}"}
    other = start(sections=sections, wait=False)
    other.has_ended = True  # it has failed, as it should: nothing is left to judge
    assert ended(other) == 1
    assert "Address already in use" in other.log.wait("cannot start")["error"]
    assert ask_who(path) == "a"


def test_a_file_that_is_no_socket_is_not_removed(start, tmp_path):
    path = os.path.join(tmp_path, "precious")
    with open(path, "w", encoding="ascii") as file:
        file.write("data")
    r = start(listeners={"rw": {"bind": path}}, wait=False)
    r.has_ended = True
    assert ended(r) == 1
    r.log.wait("cannot start")
    with open(path, encoding="ascii") as file:
        assert file.read() == "data"


def test_many_sessions_end_at_once(start):
    r = start()
    clients = [session(r) for _ in range(300)]
    r.signal(signal.SIGQUIT)
    assert ended(r) == 0
    assert all(client.at_end() for client in clients)
