"""What servers of a pool log in as, and what is done to them between two clients."""

import time

import psycopg
import pytest

from harness.pools import Later, Onlooker, join, one, pid_of

ONE_SERVER = {"pool_mode": "session", "default_pool_size": 1, "workers": 1}


@pytest.mark.parametrize("query, expected", [
    ("DISCARD ALL", "4MB"), ("", "9MB"), ("set work_mem = '6MB'", "6MB"),
    ("reset all; set work_mem = '5MB'", "5MB")])
def test_server_reset_query(pool, query, expected):
    r = pool(main={**ONE_SERVER, "server_reset_query": query})
    with join(r) as first:
        first.execute("set work_mem = '9MB'")
        pid = pid_of(first)
    with join(r) as second:
        assert one(second, "show work_mem") == expected
        assert pid_of(second) == pid


def test_a_server_whose_reset_fails_is_closed(pool):
    r = pool(main={**ONE_SERVER, "server_reset_query": "select 1/0"})
    with join(r) as first:
        first.execute("set work_mem = '9MB'")
        pid = pid_of(first)
    with join(r) as second:
        assert one(second, "show work_mem") == "4MB"
        assert pid_of(second) != pid


def test_a_client_that_never_asked_for_anything_leaves_nothing(pool):
    r = pool(main=ONE_SERVER)
    for _ in range(5):
        join(r).close()
    with join(r) as client:
        assert one(client, "select 1") == 1


def test_dbname_user_and_password_of_a_database(cluster, pool):
    password = cluster.passwords["postgres"]
    r = pool(main={"pool_mode": "transaction"}, databases={
        "app": "cluster=main", "renamed": "cluster=main dbname=app",
        "forced": f"cluster=main dbname=postgres user=postgres password={password}"})
    who = "select current_user || '@' || current_database()"
    with join(r) as a, join(r, database="renamed") as b, join(r, database="forced") as c:
        assert [one(client, who) for client in (a, b, c)] == ["app@app", "app@app", "postgres@postgres"]


def test_server_reset_query_always(pool):
    for always, expected in ((0, "9MB"), (1, "4MB")):
        r = pool(main={**ONE_SERVER, "pool_mode": "transaction", "server_reset_query_always": always})
        with join(r) as first, join(r) as second:
            first.execute("set work_mem = '9MB'")
            assert one(second, "show work_mem") == expected
        r.stop()


def test_server_round_robin(pool):
    """Else the one that was used last is used again."""
    for turns, n_servers in ((0, 1), (1, 3)):
        r = pool(main={"pool_mode": "transaction", "default_pool_size": 3, "workers": 1,
                       "server_round_robin": turns})
        clients = [join(r) for _ in range(3)]
        for client in clients:
            client.execute("begin")
            client.execute("select 1")
        for client in clients:
            client.execute("commit")
        assert len({pid_of(clients[0]) for _ in range(9)}) == n_servers
        for client in clients:
            client.close()
        r.stop()


def test_server_check_query(cluster, pool):
    """What it does to a server tells that it was asked; one that fails it is not lent."""
    r = pool(main={**ONE_SERVER, "pool_mode": "transaction", "server_check_delay": "0",
                   "server_check_query": "set work_mem = '7MB'"})
    with join(r) as client:
        assert one(client, "show work_mem") == "7MB"
        client.execute("set work_mem = '9MB'")
        assert one(client, "show work_mem") == "7MB"
    r.stop()

    r = pool(main={**ONE_SERVER, "pool_mode": "transaction", "server_check_delay": "0",
                   "server_check_query": "select 1/(select count(*) from pg_roles where rolname = 'fit')"})
    leader = cluster.leader()
    leader.sql("create role fit")
    try:
        with join(r) as client:
            pid = pid_of(client)
            assert pid_of(client) == pid
            leader.sql("drop role fit")
            waiting = Later(lambda: pid_of(client))
            assert not waiting.is_over(1)
            leader.sql("create role fit")
            assert waiting.result() != pid
    finally:
        leader.sql("drop role if exists fit")


def test_server_check_delay(pool):
    r = pool(main={**ONE_SERVER, "pool_mode": "transaction", "server_check_delay": "2s",
                   "server_check_query": "set work_mem = '7MB'"})
    with join(r) as client:
        assert one(client, "show work_mem") == "4MB"  # it has just been opened
        assert one(client, "show work_mem") == "4MB"
        time.sleep(2.5)
        assert one(client, "show work_mem") == "7MB"


def test_a_dead_server_is_not_lent(cluster, pool):
    """The client does not see that the server it would have got had ended meanwhile."""
    r = pool(main={**ONE_SERVER, "pool_mode": "transaction", "server_check_delay": "0"})
    with join(r) as client, Onlooker(cluster.leader()) as node:
        for _ in range(5):
            pid = pid_of(client)
            node.ask(f"select pg_terminate_backend({pid})")
            assert pid_of(client) != pid


def test_connect_query(pool):
    r = pool(main=ONE_SERVER, databases={
        "app": "cluster=main connect_query='set work_mem = ''8MB'''",
        "bad": "cluster=main dbname=app connect_query='select 1/0'"})
    with join(r) as client:
        assert one(client, "show work_mem") == "8MB"
    with pytest.raises(psycopg.Error):
        join(r, database="bad", seconds=3)
