"""Clients that need the primary wait while it changes, and go on when one is proven."""

import time

import psycopg
import pytest

from cluster import process
from harness.background import Background
from harness.pools import Later, Onlooker, join, one
from test_pool_routing import notes  # a fixture

__all__ = ["notes"]

QUICK = {"check_interval": "200ms"}
POOL = {"pool_mode": "transaction", "default_pool_size": 4}


def holds(r):
    """What the log says of each hold: (its begin, its end)."""
    began, ended = (r.log.find(words) for words in ("hold began", "hold ended"))
    return list(zip(began, ended))


def stop_primary(cluster):
    """There is no primary until Patroni's pause is over."""
    cluster.pause()
    cluster.leader().kill_postgres()


def test_a_switchover_is_held(cluster, pool, notes):
    """Statements that were not under way when the primary stopped see a wait, and nothing else."""
    r = pool(main=POOL, check=QUICK)
    turns = iter(range(10**9))
    clients = [join(r) for _ in range(8)]
    free = list(clients)

    def write():
        client = free.pop()
        turn = next(turns)
        client.execute("insert into notes values (%s)", (turn,))
        free.append(client)
        return turn

    old = cluster.leader()
    with Background(write, n_threads=4) as writing:
        writing.wait_for(50)
        new = cluster.switchover()
        ended = r.log.wait("hold ended", outcome="changed")
        writing.wait_for(100)
    assert (ended["left"], ended["is"]) == (old.name, new.name)
    assert r.log.wait("hold began")["leaves"] == old.name
    lost = [error for error in writing.errors if not isinstance(error, IndexError)]
    assert len(lost) <= 4, lost  # one for each thread: its statement was under way
    assert all(not getattr(error, "sqlstate", "") == "25006" for error in lost)
    for client in clients:
        client.close()


def test_a_primary_that_restarts_in_place_is_held(cluster, pool):
    r = pool(main=POOL, check=QUICK)
    client = join(r)
    leader = cluster.leader()
    stop_primary(cluster)
    r.log.wait("hold began", cause="loss", leaves=leader.name)
    waiting = Later(lambda: one(client, "select inet_server_addr()").compressed)
    assert not waiting.is_over(0.5)
    cluster.pause(False)
    assert waiting.result(60) == leader.address
    r.log.wait("hold ended", outcome="stayed", **{"is": leader.name})


def test_hold_timeout(cluster, pool):
    """query_wait_timeout does not count a hold; hold_timeout ends it."""
    r = pool(main={**POOL, "query_wait_timeout": "500ms"}, check={**QUICK, "hold_timeout": "2s"})
    client = join(r)
    stop_primary(cluster)
    r.log.wait("hold began", cause="loss")
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError) as refused:
        client.execute("select 1")
    assert time.monotonic() - began > 1
    assert "hold_timeout" in str(refused.value)
    r.log.wait("the primary has not come in time")
    r.log.wait("hold ended", outcome="timed out")

    late = join(r)
    with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
        late.execute("select 1")
    cluster.pause(False)
    assert process.wait_until(lambda: one(join(r), "select 1") == 1, 60)


def test_a_frozen_primary_holds_nobody_up(cluster, pool):
    """It says nothing any more, not even that it ends: who has a server there is cut off."""
    r = pool(main=POOL, check={**QUICK, "check_timeout": "500ms"})
    sleeping, idle = join(r), join(r)
    old = cluster.leader()
    assert one(idle, "select inet_server_addr()").compressed == old.address
    answer = Later(lambda: one(sleeping, "select pg_sleep(600)"))
    with Onlooker(old) as onlooker:
        onlooker.sees(1, "query like '%pg_sleep(600)%' and pid <> pg_backend_pid()")
    old.freeze()
    cluster.expire_leader()
    new = r.log.wait("hold ended", outcome="changed")
    with pytest.raises(psycopg.OperationalError) as lost:
        answer.result(10)
    assert lost.value.sqlstate in ("08007", "08006", None)
    assert "lost the role" in str(lost.value) or "unknown" in str(lost.value)
    assert one(idle, "select inet_server_addr()").compressed == cluster.node(new["is"]).address
    idle.close()
