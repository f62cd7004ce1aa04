"""Which nodes the servers of a pool are on, and that they follow the roles."""

import collections
import time

import psycopg
import pytest

from cluster import process
from harness.background import Background
from harness.pools import Later, Onlooker, join, one
from harness.ports import free_port

TRANSACTION = {"pool_mode": "transaction", "default_pool_size": 4}
QUICK = {"check_interval": "200ms"}


def where_is(client):
    """Address of the node that has just answered."""
    return one(client, "select inet_server_addr()").compressed


def where_are(router, database="app", n=8, listener="pool"):
    """How many of n clients that work together each node has."""
    clients = [join(router, listener, database=database) for _ in range(n)]
    for client in clients:
        client.execute("begin")
    found = collections.Counter(where_is(client) for client in clients)
    for client in clients:
        client.close()
    return found


@pytest.fixture
def notes(cluster):
    """A table of app's that is empty."""
    with psycopg.connect(cluster.leader().dsn("app"), autocommit=True) as connection:
        connection.execute("drop table if exists notes")
        connection.execute("create table notes (x bigint primary key)")
    cluster.wait_for_replay()
    return "notes"


def test_a_pool_follows_the_roles_of_its_cluster(cluster, pool):
    roles = ("primary", "replica", "read-only", "any")
    r = pool(main={**TRANSACTION, "default_pool_size": 8}, check=QUICK, databases={
        "app": "cluster=main", **{role: f"cluster=main role={role} dbname=app" for role in roles}})
    leader = cluster.leader().address
    replicas = {node.address for node in cluster.replicas()}
    assert set(where_are(r)) == set(where_are(r, "primary")) == {leader}
    assert set(where_are(r, "replica")) == replicas
    assert set(where_are(r, "read-only")) <= replicas | {leader}
    assert set(where_are(r, "any")) <= replicas | {leader}

    new = cluster.switchover()
    r.log.wait("primary changed", **{"is": new.name})
    assert set(where_are(r, "primary")) == {new.address}
    cluster.wait_for_roles()
    now = {node.address for node in cluster.replicas()}
    assert process.wait_until(lambda: set(where_are(r, "replica")) == now, 15)


def test_a_listener_of_a_pool_has_a_role_of_its_own(cluster, pool):
    """One line of [databases] is both: each role is a pool, with its own limit."""
    def listener(role):
        return {"mode": "pool", "bind": f"127.0.0.1:{free_port()}", "role": role}

    r = pool(main={**TRANSACTION, "stats_users": "app"}, check=QUICK,
             databases={"app": "cluster=main", "old": "cluster=main role=replica dbname=app"},
             more={"listener ro": listener("replica"), "listener rw": listener("primary")})
    leader = cluster.leader().address
    replicas = {node.address for node in cluster.replicas()}
    assert set(where_are(r, n=4)) == {leader}
    assert set(where_are(r, "old", n=4)) == replicas
    for database in ("app", "old"):
        assert set(where_are(r, database, n=4, listener="ro")) == replicas
        assert set(where_are(r, database, n=4, listener="rw")) == {leader}
    with join(r, dbname="pgbouncer") as console:
        pools = [(row[0], row[-5]) for row in console.execute("show pools").fetchall()]
    assert pools == [("app", "primary"), ("app", "primary"), ("app", "replica"), ("old", "primary"),
                     ("old", "replica"), ("old", "replica"), ("pgbouncer", None)]

    r.sections["listener ro"]["role"] = "primary"
    r.reload()
    assert set(where_are(r, n=4, listener="ro")) == {leader}
    new = cluster.switchover()
    r.log.wait("primary changed", **{"is": new.name})
    assert set(where_are(r, n=4, listener="rw")) == set(where_are(r, n=4)) == {new.address}


def test_a_database_with_hosts_of_its_own(cluster, pool):
    a, b = cluster.replicas()
    r = pool(main={**TRANSACTION, "default_pool_size": 8, "follow_hosts": 0}, databases={
        "one": f"host={a.address} port={a.port} dbname=app",
        "both": f"host={a.address},{b.address} port={a.port} dbname=app"})
    assert set(where_are(r, "one")) == {a.address}
    assert set(where_are(r, "both")) == {a.address, b.address}


def test_a_host_that_is_an_alias_follows_the_primary(cluster, pool):
    """As files do that name a proxy in front of the cluster."""
    databases = {"app": "host=proxy.example port=5000"}
    r = pool(main=TRANSACTION, check={**QUICK, "aliases": "proxy.example"}, databases=databases)
    assert set(where_are(r, n=4)) == {cluster.leader().address}
    new = cluster.switchover()
    r.log.wait("primary changed", **{"is": new.name})
    assert set(where_are(r, n=4)) == {new.address}


def test_a_host_that_is_a_node_follows_the_primary_unless_told(cluster, pool):
    node = cluster.replicas()[0]
    databases = {"app": f"host={node.address} port={node.port}"}
    for follows, expected in (("1", cluster.leader()), ("0", node)):
        r = pool(main={**TRANSACTION, "follow_hosts": follows}, databases=databases)
        assert set(where_are(r, n=4)) == {expected.address}
        r.stop()


def test_no_write_reaches_a_replica_after_a_switchover(cluster, pool, notes):
    """Errors belong to the change itself; once the new primary is known there is none."""
    r = pool(main={**TRANSACTION, "query_wait_timeout": "30s", "server_login_retry": "200ms"}, check=QUICK)
    turns = iter(range(10**9))

    def write():
        with join(r) as client:
            for _ in range(20):
                client.execute("insert into notes values (%s)", (next(turns),))
                time.sleep(0.002)

    with Background(write, n_threads=6) as writing:
        writing.wait_for(12)
        new = cluster.switchover()
        r.log.wait("primary changed", **{"is": new.name})
        known = time.monotonic()
        writing.wait_for(30)
        since = [error for at, error in writing.failed if at > known + 0.5]
        assert since == []
        assert [error for error in writing.errors if getattr(error, "sqlstate", "") == "25006"] == []


def test_idle_servers_on_the_old_primary_are_closed(cluster, pool):
    r = pool(main=TRANSACTION, check=QUICK)
    old = cluster.leader()
    clients = [join(r) for _ in range(4)]
    for client in clients:
        assert where_is(client) == old.address
    new = cluster.switchover()
    r.log.wait("primary changed", **{"is": new.name})
    for client in clients:  # clients that were idle do not notice
        assert where_is(client) == new.address
    cluster.wait_for_roles()
    with Onlooker(old) as node:
        assert node.sees(0)
    for client in clients:
        client.close()


def test_clients_wait_while_there_is_no_primary(cluster, pool, notes):
    r = pool(main={**TRANSACTION, "query_wait_timeout": "60s", "server_login_retry": "200ms"}, check=QUICK)
    old = cluster.leader()
    inside = [join(r) for _ in range(6)]
    old.kill()
    # What is left of servers on a node that was killed ends at the first word.
    assert r.log.wait("primary changed", **{"is": "none"})
    waiting = [Later(lambda client=client: one(client, "select pg_is_in_recovery()"))
               for client in inside]
    beyond = Later(lambda: where_is(join(r, seconds=60)))
    assert not any(call.is_over(0.2) for call in [*waiting, beyond])
    cluster.expire_leader()
    new = cluster.wait_for_leader(other_than=old)
    assert [call.result(30) for call in waiting] == [False] * 6
    assert beyond.result(30) == new.address
    for client in inside:
        client.close()


def test_a_transaction_on_a_primary_that_is_killed_is_told(cluster, pool, notes):
    """It is lost, and its client must know; the next goes to the new primary."""
    r = pool(main={**TRANSACTION, "query_wait_timeout": "60s", "server_login_retry": "200ms"}, check=QUICK)
    old = cluster.leader()
    with join(r) as client:
        client.execute("begin")
        client.execute("insert into notes values (1)")
        old.kill()
        with pytest.raises(psycopg.OperationalError):
            client.execute("commit")
    cluster.expire_leader()
    new = cluster.wait_for_leader(other_than=old)
    with join(r, seconds=60) as later:
        assert where_is(later) == new.address
        assert one(later, "select count(*) from notes") == 0


def test_what_was_committed_is_there_after_a_switchover(cluster, pool, notes):
    """Each insert that was acknowledged, and none twice."""
    r = pool(main={**TRANSACTION, "query_wait_timeout": "30s", "server_login_retry": "200ms"}, check=QUICK)
    turns, acknowledged = iter(range(10**9)), []

    def write():
        with join(r) as client:
            for _ in range(20):
                x = next(turns)
                client.execute("insert into notes values (%s)", (x,))
                acknowledged.append(x)

    with Background(write, n_threads=4) as writing:
        writing.wait_for(8)
        new = cluster.switchover()
        r.log.wait("primary changed", **{"is": new.name})
        writing.wait_for(12)
    with psycopg.connect(new.dsn("app")) as connection:
        found = [x for x, in connection.execute("select x from notes").fetchall()]
    assert set(acknowledged) <= set(found)
    unknown = [error for error in writing.errors if isinstance(error, psycopg.errors.UniqueViolation)]
    assert unknown == []


def test_replicas_share_the_readers(cluster, pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 8}, check=QUICK,
             databases={"app": "cluster=main role=replica"})
    found = where_are(r)
    assert set(found) == {node.address for node in cluster.replicas()}
    gone, left = cluster.replicas()
    gone.kill()
    r.log.wait("node changed", node=gone.name, **{"is": "down"})
    assert set(where_are(r)) == {left.address}


def test_two_listeners_lead_to_the_same_pool(cluster, pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 1},
             more={"listener second": {"mode": "pool", "bind": f"127.0.0.1:{free_port()}"}})
    with join(r) as first, join(r, listener="second") as second:
        first.execute("begin")
        first.execute("select 1")
        waiting = Later(lambda: one(second, "select 1"))
        assert not waiting.is_over(0.3)
        first.execute("commit")
        assert waiting.result() == 1


@pytest.mark.parametrize("how, n_nodes", [("round-robin", 3), ("disable", 1)])
def test_load_balance_hosts(cluster, pool, how, n_nodes):
    hosts = ",".join(node.address for node in cluster.nodes)
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 6, "workers": 1, "follow_hosts": 0},
             databases={"app": f"host={hosts} port={cluster.nodes[0].port} load_balance_hosts={how}"})
    clients = [join(r) for _ in range(6)]
    for client in clients:
        client.execute("begin")
    assert len({where_is(client) for client in clients}) == n_nodes
    for client in clients:
        client.close()


def test_a_session_ends_where_the_role_has_gone(cluster, pool):
    """In session pooling: its server is not lent to it any longer."""
    r = pool(main={"pool_mode": "session"}, databases={"app": "cluster=main role=replica"})
    replica = cluster.replicas()[0]
    sessions = [join(r) for _ in range(4)]
    mine = [session for session in sessions if where_is(session) == replica.address]
    assert mine
    cluster.switchover(to=replica)

    def has_ended(session):
        try:
            session.execute("select 1")
            return False
        except psycopg.OperationalError:
            return True

    assert process.wait_until(lambda: all(has_ended(session) for session in mine), 15)
    for session in sessions:
        session.close()
