"""Sessions that stay with their server, in session pooling and in tcp mode: they cannot be moved. When the
node goes they end at once, and whoever connects again waits for the next primary."""

import contextlib

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.pools import Later, join, logged_in, one
from harness.wire import error_fields
from test_switchover import managed, order, post

__all__ = ["managed"]

HINT = "Connect again: that leads to a node that has the role."
QUICK = {"check_interval": "200ms", "check_timeout": "500ms"}
SLEEP = "select pg_sleep(600)"


@pytest.fixture
def sessions(managed):
    """Router, and three sessions of a pool: one is idle, one in a transaction, one in a statement."""
    r = managed(main={"pool_mode": "session", "auth_type": "trust"}, **QUICK)
    clients = [logged_in(r) for _ in range(3)]
    idle, opened, busy = clients
    idle.ask("select 1")
    opened.ask("begin; select 1")
    busy.send(wire.query(SLEEP))
    yield r, clients
    for client in clients:
        client.close()


def told(client):
    """SQLSTATE and hint of the server's or our last word, up to the end of the connection."""
    found = []
    with contextlib.suppress(EOFError):
        while True:
            kind, body = client.message()
            if kind == "E":
                fields = error_fields(body)
                assert fields["S"] == fields["V"] == "FATAL"
                found.append((fields["C"], fields.get("H")))
    assert len(found) == 1
    return found[0]


def is_sleeping(node):
    return int(node.sql(f"select count(*) from pg_stat_activity where query = '{SLEEP}'")) > 0


def have_ended(r, n):
    """So many sessions, says the log, and nobody has asked anything of them meanwhile."""
    assert process.wait_until(lambda: len(r.log.find("session ended")) >= n, 20), r.log.text()


def is_writer(connection):
    with connection:
        return one(connection, "select not pg_is_in_recovery()")


# Session pooling


def test_a_switchover_ends_a_session_in_its_servers_words(cluster, sessions):
    r, clients = sessions
    old = cluster.leader()
    assert process.wait_until(lambda: is_sleeping(old), 10)
    new = Later(cluster.switchover)
    assert [told(client) for client in clients] == [("57P01", HINT)] * 3
    late = Later(lambda: is_writer(join(r)))
    assert new.result(60) is not old
    assert late.result(60)


def test_sessions_hold_no_command_up(cluster, sessions):
    r, clients = sessions
    assert process.wait_until(lambda: is_sleeping(cluster.leader()), 10)
    steps = order(r, "SWITCHOVER TIMEOUT 60")
    assert steps["asked"][0] < 60000 and "proven" in steps
    assert [told(client) for client in clients] == [("57P01", HINT)] * 3
    assert is_writer(join(r))


def test_a_hold_that_nothing_comes_of_ends_no_session(cluster, sessions):
    """They go on meanwhile; new ones wait until it is over."""
    r, (idle, opened, busy) = sessions
    assert process.wait_until(lambda: is_sleeping(cluster.leader()), 10)
    assert post(r, "/hold")[0] == 200
    late = Later(lambda: is_writer(join(r)))
    for client in (idle, opened):
        assert [kind for kind, _ in client.ask("select 1")][-1] == "Z"
    assert post(r, "/release")[0] == 200
    assert late.result(30)
    for client in (idle, opened):
        assert [kind for kind, _ in client.ask("select 1")][-1] == "Z"
    assert not [end for end in r.log.find("session ended") if end["reason"] != "CLIENT_CLOSED"]


@pytest.mark.parametrize("what", ["kill", "freeze"])
def test_a_primary_that_says_nothing_any_more(cluster, sessions, what):
    """Whether the statement under way has had an effect nobody knows: 57P01 would say that it has not."""
    r, clients = sessions
    old = cluster.leader()
    assert process.wait_until(lambda: is_sleeping(old), 10)
    getattr(old, what)()
    assert [told(client) for client in clients] == [("57P01", HINT), ("57P01", HINT), ("08006", HINT)]
    late = Later(lambda: is_writer(join(r)))
    cluster.expire_leader()
    assert late.result(60)


# mode = tcp


@pytest.mark.parametrize("what", ["switchover", "kill", "freeze"])
def test_a_session_of_tcp_mode(cluster, router, what):
    r = router(cluster=QUICK)
    old = cluster.leader()
    idle, opened, busy = clients = [join(r, "rw") for _ in range(3)]
    one(idle, "select 1")
    opened.execute("begin")
    answer = Later(lambda: busy.execute(SLEEP))
    assert process.wait_until(lambda: is_sleeping(old), 10)
    getattr(cluster if what == "switchover" else old, what)()
    have_ended(r, 3)
    with pytest.raises(psycopg.OperationalError):
        answer.result(20)
    for client in (idle, opened):
        with pytest.raises(psycopg.OperationalError):
            client.execute("select 1")
    late = Later(lambda: is_writer(join(r, "rw", seconds=60)))
    if what != "switchover":
        cluster.expire_leader()
    assert late.result(60)
    for client in clients:
        client.close()
