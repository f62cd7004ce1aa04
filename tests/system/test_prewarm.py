"""Servers that are logged in to at the next primary before it is one."""

import contextlib

from cluster import process
from harness.background import Background
from harness.pools import Later, Onlooker, join, one
from test_console import console, row_of, show
from test_switchover import cluster_row, is_held, last_switchover, managed, order, post

__all__ = ["managed"]

N = 3  # of each node
MAIN = {"min_pool_size": N, "default_pool_size": 8}
PID = "select pg_backend_pid()"


def was_there(node, pid):
    """Whether the process has begun before the node was promoted: by its own clock, with
    the first process of a primary."""
    with Onlooker(node) as onlooker:
        began = {row[0]: row[1] for row in onlooker.connection.execute(
            "select coalesce(nullif(backend_type, 'client backend'), pid::text), backend_start from pg_stat_activity")}
        return began[str(pid)] < began["walwriter"]


def warm(r, **fields):
    """Process ids of the servers that are kept warm, by node."""
    found = {}
    with console(r) as c:
        for row in show(c, "SERVERS"):
            if row["state"] == "warm" and all(row[name] == value for name, value in fields.items()):
                found.setdefault(row["node"], set()).add(row["remote_pid"])
    return found


def counts(r):
    return {node: len(pids) for node, pids in warm(r).items()}


def sees_warm(r, expected, seconds=15):
    """True as soon as there are so many at each node."""
    return process.wait_until(lambda: counts(r) == expected, seconds)


def open_transaction(r, **more):
    client = join(r, **more)
    client.execute("begin")
    client.execute("select 1")
    return client


@contextlib.contextmanager
def switching(cluster, r, to):
    """While a switchover waits for a transaction; it is over behind this."""
    cluster.wait_for_roles()
    cluster.wait_for_replay()
    for node in cluster.replicas():  # as the router knows it
        r.log.wait("node changed", node=node.name, **{"is": "replica"})
    with contextlib.closing(open_transaction(r)) as busy:
        switchover = Later(lambda: order(r, f"SWITCHOVER TO {to.name} TIMEOUT 60"))
        assert process.wait_until(lambda: is_held(r), 10)
        yield
        busy.execute("commit")
        assert switchover.result(60)["proven"][1] == to.name


def test_the_first_lease_needs_no_login(cluster, managed):
    """Who waits has servers that were there when the node was promoted, and no others are opened."""
    r = managed(main=MAIN)
    old, (new, other) = cluster.leader(), cluster.replicas()
    clients = [join(r) for _ in range(N)]
    for client in clients:
        client.execute("select 1")
    with Onlooker(old) as leaving, switching(cluster, r, new):
        assert sees_warm(r, {new.name: N})
        before = warm(r)
        with console(r) as c:
            row = row_of(c, "POOLS", database="app", user="app")
        assert (row["sv_warm"], row["sv_idle"], row["sv_active"]) == (N, 0, 1)
        assert leaving.count() == 1
        waiting = [Later(lambda client=client: one(client, PID)) for client in clients]
        assert not any(call.is_over(0.1) for call in waiting)
    pids = {call.result() for call in waiting}
    assert pids <= before[new.name]
    assert all(was_there(new, pid) for pid in pids)
    with Onlooker(new) as there, Onlooker(other) as elsewhere:
        assert set(there.pids()) == before[new.name]
        assert elsewhere.sees(0)
    assert warm(r) == {}
    assert one(clients[0], "select pg_is_in_recovery()") is False


def test_without_prewarm_it_does(cluster, managed):
    r = managed(main=MAIN, prewarm="off")
    new = cluster.replicas()[0]
    with join(r) as client, Onlooker(new) as there:
        client.execute("select 1")
        with switching(cluster, r, new):
            waiting = Later(lambda: one(client, PID))
            assert not waiting.is_over(1)
            assert there.count() == 0 and warm(r) == {}
        assert not was_there(new, waiting.result())


def test_prewarm_is_reloaded(cluster, managed):
    r = managed(main=MAIN, prewarm="off")
    r.sections["cluster main"]["prewarm"] = "on"
    r.reload()
    new = cluster.replicas()[0]
    with switching(cluster, r, new):
        assert sees_warm(r, {new.name: N})


def test_only_where_servers_are_kept(cluster, managed):
    r = managed(main={"default_pool_size": 8})
    new = cluster.replicas()[0]
    with Onlooker(new) as there, switching(cluster, r, new):
        assert not process.wait_until(lambda: there.count() > 0, 1)


def test_they_go_when_the_primary_stays(cluster, managed):
    r = managed(main=MAIN)
    one_node, other = cluster.replicas()
    with join(r) as client, Onlooker(one_node) as there:
        client.execute("select 1")

        def is_warm():  # a hold by the hook does not last where nothing comes of it
            post(r, "/hold", body=f"node={cluster.leader().name}")
            return counts(r) == {one_node.name: N, other.name: N}

        assert process.wait_until(is_warm, 20)
        assert there.count() == N
        post(r, "/release")
        assert there.sees(0)
        assert process.wait_until(lambda: not is_held(r), 10)
        assert last_switchover(r)["outcome"] == "stayed"
        assert one(client, "select pg_is_in_recovery()") is False
    assert warm(r) == {}


def test_only_the_one_that_patroni_was_asked_for(cluster, managed):
    """Its request names the candidate: nobody logs in to the other one."""
    r = managed(main=MAIN, **cluster.etcd_settings())
    r.log.wait("etcd watched")
    new, other = cluster.replicas()
    with join(r) as client, Onlooker(other) as elsewhere:
        client.execute("select 1")
        with Background(elsewhere.count) as looking:
            cluster.switchover(to=new)
            assert was_there(new, one(client, PID))
        assert looking.errors == [] and max(looking.results) == 0
    assert r.log.wait("hold began")["cause"] == "request"


def test_limits_hold(cluster, managed):
    """What a pool may have counts them too, and the transaction that is still open."""
    r = managed(main={**MAIN, "default_pool_size": 3})
    new = cluster.replicas()[0]
    with switching(cluster, r, new):
        assert process.wait_until(lambda: sum(counts(r).values()) == 2, 15)
        assert not process.wait_until(lambda: sum(counts(r).values()) > 2, 1)


def test_who_waits_for_their_place_has_it(cluster, managed):
    """Clients of a replica need the place that servers have there which nobody needs yet."""
    r = managed(main={**MAIN, "max_node_connections": N, "server_idle_timeout": "1s"})
    r.sections["databases"]["near"] = "cluster=main dbname=app role=replica min_pool_size=0"
    r.reload()
    new = cluster.replicas()[0]
    with switching(cluster, r, new):
        assert sees_warm(r, {new.name: N})
        readers = [join(r, dbname="near") for _ in range(2)]
        for reader in readers:
            assert one(reader, "select pg_is_in_recovery()") is True
            reader.close()
    assert cluster_row(r)["primary"] == new.name


def test_those_that_are_ended_are_opened_again(cluster, managed):
    r = managed(main=MAIN)
    new = cluster.replicas()[0]
    with join(r) as client:
        client.execute("select 1")
        with switching(cluster, r, new):
            assert sees_warm(r, {new.name: N})
            before = warm(r)[new.name]
            with Onlooker(new) as there:  # as an administrator may
                there.ask("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'app'")
            assert process.wait_until(lambda: not before & warm(r).get(new.name, set()), 15)
            assert sees_warm(r, {new.name: N})
            waiting = Later(lambda: one(client, PID))
        assert was_there(new, waiting.result())


def test_connect_query_and_writes(cluster, managed):
    """They are as good as any other server of the pool."""
    r = managed(main=MAIN)
    r.sections["databases"]["app"] = "cluster=main connect_query='set work_mem = 7777'"
    r.reload()
    new = cluster.replicas()[0]
    with switching(cluster, r, new):
        assert sees_warm(r, {new.name: N})
        before = warm(r)[new.name]
    with join(r) as client:
        assert client.info.parameter_status("in_hot_standby") == "off"
        assert one(client, "show work_mem") == "7777kB"
        assert one(client, "show transaction_read_only") == "off"
        assert one(client, "select pg_backend_pid()") in before
        client.execute("create temp table t (x int)")
