"""Queries that take longer than log_min_duration: one line each."""

import psycopg
import pytest

from cluster import process
from harness.pools import join, one, pid_of

LINE = "cluster=main role=primary dbname=app"
MAIN = {"pool_mode": "transaction", "default_pool_size": 1, "log_min_duration": "1s"}


def slow(router, n, **fields):
    """The lines of slow queries: as many as `n`."""
    assert process.wait_until(lambda: len(router.log.find("slow query", **fields)) >= n, 10)
    found = router.log.find("slow query", **fields)
    assert len(found) == n, found
    return found


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_slow_queries_are_logged(cluster, pool, mode):
    r = pool(main={**MAIN, "pool_mode": mode, "log_min_duration": "2s"})
    with join(r) as c:
        pid = pid_of(c)
        c.execute("select 1")
        c.execute("select pg_sleep(2.1)")
        c.execute("select 1")
    line, = slow(r, 1)
    assert (line["database"], line["user"], line["node"]) == ("app", "app", cluster.leader().name)
    assert line["server_pid"] == pid and 2.1 <= line["seconds"] < 30
    assert line["client"].startswith("127.0.0.1:")
    assert "statement" not in line


def test_none_is_logged_unless_asked_for(pool):
    r = pool(main={**MAIN, "log_min_duration": "0", "log_statement_bytes": 100})
    with join(r) as c:
        c.execute("select pg_sleep(1.1)")
    assert r.log.find("slow query") == []
    r.sections["pgrouter"]["log_min_duration"] = "1s"
    r.reload()
    with join(r) as c:
        c.execute("select pg_sleep(1.1)")
    slow(r, 1, statement="select pg_sleep(1.1)")


def test_as_much_of_the_statement_is_shown_as_is_set(pool):
    """Of simple and extended queries, and of prepared ones, whose text came long before."""
    r = pool(main={**MAIN, "log_statement_bytes": 30})
    with join(r) as c:
        c.execute("select 'quick'")
        c.execute("select pg_sleep(1.1)")
        c.execute("select pg_sleep(%s)", [1.1])
        c.execute("select pg_sleep(1.1), 'more than is to be seen'")
        c.execute("select pg_sleep(%s), 'prepared'", [0.0], prepare=True)
        c.execute("select pg_sleep(%s), 'prepared'", [1.1], prepare=True)
        c.execute("select 'a\nb\"', pg_sleep(1.1)")
    shown = [line["statement"] for line in slow(r, 5)]
    assert shown == ["select pg_sleep(1.1)", "select pg_sleep($1)", "select pg_sleep(1.1), 'more th",
                     "select pg_sleep($1), 'prepared", "select 'a\nb\"', pg_sleep(1.1)"]


def test_each_database_has_its_own_patience(pool):
    r = pool(main={**MAIN, "log_statement_bytes": 100},
             databases={"app": LINE, "patient": LINE + " log_min_duration=1h",
                        "never": LINE + " log_min_duration=0"})
    for database in ("app", "patient", "never"):
        with join(r, database=database) as c:
            c.execute("select pg_sleep(1.1)")
    assert slow(r, 1)[0]["database"] == "app"


def test_a_query_that_fails_is_logged_too(pool):
    r = pool(main=MAIN)
    with join(r) as c, pytest.raises(psycopg.errors.DivisionByZero):
        c.execute("select 1/(select 0 from pg_sleep(1.1))")
    slow(r, 1)


def test_many_are_counted_and_left_out(pool):
    r = pool(main={**MAIN, "log_min_duration": "1ms"})
    with join(r) as c:
        for _ in range(40):
            c.execute("select pg_sleep(0.003)")
        assert one(c, "select 1") == 1
    assert process.wait_until(lambda: len(r.log.find("slow query")) >= 10, 10)
    assert 10 <= len(r.log.find("slow query")) <= 20
