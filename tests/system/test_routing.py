"""Which node a client gets, on a real cluster."""

import collections
import os
import stat
import subprocess

import psycopg
import pytest

from cluster import process
from harness.fake_postgres import FakePostgres
from harness.pools import Later
from harness.ports import free_port
from harness.wire import Client


def nodes_reached(router, listener, n):
    """How often each node answers to n clients that come one after the other."""
    found = collections.Counter()
    for _ in range(n):
        with router.connect(listener) as connection:
            found[where_is(connection)] += 1
    return found


def where_is(connection):
    """Address of the node behind a connection."""
    return connection.execute("select inet_server_addr()").fetchone()[0].compressed


def test_each_role_leads_to_its_nodes(cluster, router):
    roles = ("primary", "replica", "read-only", "any")
    r = router(listeners={role: {"role": role, "balance": "roundrobin"} for role in roles})
    leader = cluster.leader().address
    replicas = {node.address for node in cluster.nodes} - {leader}

    assert set(nodes_reached(r, "primary", 4)) == {leader}
    assert set(nodes_reached(r, "replica", 8)) == replicas
    assert set(nodes_reached(r, "read-only", 8)) == replicas | {leader}
    assert set(nodes_reached(r, "any", 8)) == replicas | {leader}


def test_roles_follow_a_switchover(cluster, router):
    r = router()
    old = cluster.leader()

    new = cluster.switchover()
    cluster.wait_for_roles()

    r.log.wait("primary changed", **{"is": new.name})
    assert set(nodes_reached(r, "rw", 2)) == {new.address}
    assert process.wait_until(lambda: old.address in nodes_reached(r, "ro", 4), 10)
    assert new.address not in nodes_reached(r, "ro", 4)


def test_balance(cluster, router):
    listeners = {balance: {"role": "any", "balance": balance}
                 for balance in ("roundrobin", "leastconn", "first", "random", "source")}
    r = router(listeners=listeners)
    everyone = {node.address for node in cluster.nodes}

    assert sorted(nodes_reached(r, "roundrobin", 9).values()) == [3, 3, 3]
    assert set(nodes_reached(r, "first", 6)) == {cluster.nodes[0].address}
    assert set(nodes_reached(r, "random", 40)) == everyone
    assert len(nodes_reached(r, "source", 6)) == 1


def test_leastconn_prefers_the_node_with_the_fewest(router):
    r = router(listeners={"rw": {"role": "any", "balance": "leastconn"}})
    sessions = [r.connect("rw") for _ in range(9)]
    on = collections.defaultdict(list)
    for connection in sessions:
        on[where_is(connection)].append(connection)
    assert sorted(map(len, on.values())) == [3, 3, 3]

    left, left_connections = on.popitem()
    for connection in left_connections:
        connection.close()
    assert process.wait_until(lambda: r.sessions()[0] == 6, 5)

    sessions += [r.connect("rw") for _ in range(3)]
    assert {where_is(connection) for connection in sessions[9:]} == {left}
    for connection in sessions:
        connection.close()


def test_source_balance_keeps_an_address_on_its_node(start_router):
    with FakePostgres(name="a") as a, FakePostgres(name="b") as b, FakePostgres(name="c") as c:
        r = start_router(nodes=", ".join(fake.node() for fake in (a, b, c)),
                         cluster={"check": "tcp"},
                         listeners={"rw": {"role": "any", "balance": "source"}})
        reached = {}
        for number in range(2, 40):
            names = set()
            for _ in range(2):
                with Client(r.at(), source=f"127.0.0.{number}") as client:
                    client.log_in()
                    names.add(row_of(client.ask("who")))
            assert len(names) == 1
            reached[number] = names.pop()
        assert set(reached.values()) == {"a", "b", "c"}


def row_of(messages):
    """The one value of an answer."""
    return next(body for kind, body in messages if kind == "D")[6:].decode()


def test_sessions_are_spread_over_the_workers(router, workers):
    r = router(main={"workers": 4})
    connections = [r.connect("rw") for _ in range(8)]
    for connection in connections:
        connection.execute("select 1")

    used = collections.Counter(event["worker"] for event in r.log.find("session began"))

    assert sorted(used.values()) == [2, 2, 2, 2]
    for connection in connections:
        connection.close()


def test_unix_socket_with_its_mode(cluster, router, tmp_path):
    path = os.path.join(tmp_path, ".s.PGSQL.5432")
    r = router(main={"unix_socket_mode": "0770"}, listeners={"rw": {"bind": path}})

    assert stat.S_IMODE(os.stat(path).st_mode) == 0o770
    assert set(nodes_reached(r, "rw", 1)) == {cluster.leader().address}
    r.stop()
    assert not os.path.exists(path)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_both_address_families(cluster, router, address):
    host = f"[{address}]" if ":" in address else address
    r = router(listeners={"rw": {"bind": f"{host}:{free_port(address)}"}})

    assert set(nodes_reached(r, "rw", 1)) == {cluster.leader().address}


def test_a_star_is_both_address_families(cluster, router):
    port = free_port()
    r = router(listeners={"rw": {"bind": f"*:{port}"}})

    for host in ("127.0.0.1", "::1"):
        dsn = r.dsn("rw") + f" host='{host}'"
        with psycopg.connect(dsn) as connection:
            assert where_is(connection) == cluster.leader().address


def test_channel_binding_passes_through(cluster, router):
    r = router()
    dsn = r.dsn("rw", sslmode="verify-full", sslrootcert=cluster.ca, channel_binding="require",
                hostaddr="127.0.0.1", host="localhost")

    with psycopg.connect(dsn) as connection:
        ssl = connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert ssl.fetchone()[0] is True


def test_a_plain_session_is_plain(router):
    r = router()
    with r.connect("rw", sslmode="disable") as connection:
        ssl = connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        assert ssl.fetchone()[0] is False


def test_psql_reads_and_writes(cluster, router):
    r = router()

    def psql(listener, query):
        done = subprocess.run([f"{cluster.programs}/psql", "-XAtc", query, r.dsn(listener)],
                              capture_output=True, text=True, check=False)
        return done.stdout.strip(), done.stderr

    assert psql("rw", "create table psql_was_here (x int)")[0] == "CREATE TABLE"
    cluster.wait_for_replay()
    assert psql("ro", "select count(*) from psql_was_here") == ("0", "")
    assert "read-only transaction" in psql("ro", "drop table psql_was_here")[1]
    assert psql("rw", "drop table psql_was_here")[0] == "DROP TABLE"


@pytest.mark.parametrize("choice", ["close", "keep"])
def test_on_role_change(cluster, router, choice):
    r = router(listeners={"ro": {"role": "replica", "on_role_change": choice}})
    old = cluster.leader()
    sessions = [r.connect("ro") for _ in range(4)]  # on both replicas
    where = {c: where_is(c) for c in sessions}

    new = cluster.switchover()
    assert r.log.wait("primary changed", **{"is": new.name})

    concerned = [c for c in sessions if where[c] == new.address]
    assert concerned
    if choice == "close":
        ended = r.log.wait("session ended", node=new.name)
        assert ended["reason"] == "ROLE_CHANGED"
        for connection in concerned:
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
    else:
        for connection in concerned:
            assert connection.execute("select pg_is_in_recovery()").fetchone()[0] is False
    for connection in set(sessions) - set(concerned):
        assert connection.execute("select 1").fetchone()[0] == 1  # nobody else was touched
    for connection in sessions:
        connection.close()
    assert old is not new


@pytest.mark.parametrize("mode", ["tcp", "pool"])
def test_ro_fallback(cluster, pool, mode):
    """When no replica is left: its clients wait, have the primary, or are refused at once."""
    ro = {"mode": mode, "bind": f"127.0.0.1:{free_port()}", "role": "replica", "queue_timeout": "60s",
          **({"cluster": "main"} if mode == "tcp" else {})}
    r = pool(main={"pool_mode": "transaction"}, more={"listener ro": ro})
    leader, replicas = cluster.leader(), cluster.replicas()
    of_cluster = r.sections["cluster main"]

    def choose(fallback, drained):
        of_cluster.update(ro_fallback=fallback, drain=",".join(node.name for node in drained))
        r.reload()

    def ask():
        with r.connect("ro", sslmode="disable") as client:  # libpq shows no refusal that comes before TLS
            return where_is(client)

    choose("primary", replicas[:1])
    assert ask() == replicas[1].address
    choose("primary", replicas)
    with r.connect("ro") as staying:
        assert where_is(staying) == leader.address
        choose("primary", [])
        assert ask() != leader.address
        if mode == "tcp":
            assert where_is(staying) == leader.address
    choose("error", replicas)
    with pytest.raises(psycopg.OperationalError, match="no replica is available"):
        ask()
    choose("wait", replicas)
    waiting = Later(ask)
    assert not waiting.is_over(1)
    if mode == "pool":
        choose("error", replicas)
        with pytest.raises(psycopg.OperationalError, match="no replica is available"):
            waiting.result()
        choose("wait", replicas)
        waiting = Later(ask)
        assert not waiting.is_over(0.5)
    choose("wait", [])
    assert waiting.result() != leader.address
