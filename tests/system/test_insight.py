"""What a pool knows of its queries: how long they took, and which errors their clients were told."""

import contextlib
import time

import psycopg
import pytest

from harness.pools import Later, join, one

MAIN = {"admin_users": "postgres", "stats_users": "app", "pool_mode": "transaction"}


def show(router, what):
    """Rows of the database app as dicts."""
    with psycopg.connect(router.dsn("pool", user="postgres", dbname="pgbouncer"), autocommit=True) as c:
        cursor = c.execute("SHOW " + what)
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row)) for row in cursor.fetchall()]
    return [row for row in rows if row["database"] == "app"]


def times_of(router):
    return {row["time"]: row for row in show(router, "LATENCIES")}


def errors_of(router):
    return {(row["source"], row["sqlstate"]): row["count"] for row in show(router, "ERRORS")}


def test_latencies_are_those_that_clients_see(pool, workers):
    r = pool(main=MAIN)
    n_clients, n_quick, slow_s = 8, 30, 0.4
    took = []
    for _ in range(n_clients):
        with join(r) as c:
            for _ in range(n_quick):
                c.execute("select 1")
            began = time.monotonic()
            c.execute(f"select pg_sleep({slow_s})")
            took.append(time.monotonic() - began)
    times = times_of(r)
    query = times["query"]
    assert query["count"] == n_clients * (n_quick + 1)
    assert query["p50_us"] < slow_s * 1e6 <= query["max_us"] * 1.07
    assert query["p99_us"] >= slow_s * 1e6 * 0.93  # 3 % of them slept
    assert query["max_us"] <= max(took) * 1e6 * 1.07
    assert n_clients * slow_s * 1e6 <= query["mean_us"] * query["count"] <= (sum(took) + 15) * 1e6
    assert times["transaction"]["count"] == query["count"]
    assert times["wait"]["count"] == query["count"] + 1  # the first login waits for one, too
    assert 1 <= times["connect"]["count"] <= workers
    assert 0 < times["connect"]["p50_us"] < 15e6


def test_a_transaction_is_longer_than_its_queries(pool):
    r = pool(main=MAIN)
    with join(r) as c:
        c.execute("begin")
        time.sleep(0.3)
        c.execute("commit")
    times = times_of(r)
    assert times["query"]["count"] == 2 and times["transaction"]["count"] == 1
    assert times["transaction"]["p50_us"] >= 0.3e6 * 0.93 > times["query"]["p50_us"]


def test_who_waits_for_a_server_is_counted(pool):
    r = pool(main={**MAIN, "default_pool_size": 1})
    with join(r) as first, join(r) as second:
        one(first, "select 1")
        asked = Later(lambda: first.execute("select pg_sleep(0.5)"))
        time.sleep(0.1)
        one(second, "select 1")
        asked.result()
    times = times_of(r)
    assert times["wait"]["count"] == 3 + 1 and times["connect"]["count"] == 1
    assert times["wait"]["max_us"] > times["wait"]["p50_us"]


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_errors_of_servers_are_counted_by_code(pool, mode):
    r = pool(main={**MAIN, "pool_mode": mode})
    with join(r) as c:
        for query, n in (("select nothing", 3), ("select 1/0", 2), ("do $$ begin raise 'x'; end $$", 1)):
            for _ in range(n):
                with contextlib.suppress(psycopg.Error):
                    c.execute(query)
        one(c, "select 1")
    assert errors_of(r) == {("server", "42703"): 3, ("server", "22012"): 2, ("server", "P0001"): 1}
    classes = {row["class"] for row in show(r, "ERRORS")}
    assert classes == {"42", "22", "P0"}


def test_more_codes_than_have_a_place_are_counted_by_class(pool):
    r = pool(main=MAIN)
    with join(r) as c:
        for i in range(40):
            with contextlib.suppress(psycopg.Error):
                c.execute(f"do $$ begin raise 'x' using errcode = 'P0{i:03}'; end $$")
    errors = errors_of(r)
    assert errors["server", "P0001"] == 1
    assert errors["server", None] == 16 and sum(errors.values()) == 40


def test_our_own_errors_are_counted_too(pool):
    r = pool(main={**MAIN, "query_timeout": "1s"})
    with join(r) as c, contextlib.suppress(psycopg.Error):
        c.execute("select pg_sleep(60)")
    errors = errors_of(r)
    assert errors["pgrouter", "57014"] == 1, errors


def test_an_error_longer_than_a_buffer_has_its_code(pool):
    r = pool(main=MAIN)
    with join(r) as c:
        for n in (3000, 5000, 40000):
            with pytest.raises(psycopg.errors.RaiseException) as raised:
                c.execute(f"do $$ begin raise '{'x' * n}'; end $$")
            assert len(raised.value.diag.message_primary) == n
        one(c, "select 1")
    assert errors_of(r) == {("server", "P0001"): 3}
