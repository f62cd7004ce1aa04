"""/api/v1: the rows of SHOW commands as JSON."""

import contextlib
import json
import threading

import psycopg
import pytest

from harness.pools import join, one
from harness.ports import free_port

LINE = "cluster=main role=primary dbname=app"
MAIN = {"pool_mode": "transaction", "admin_users": "postgres"}
VIEWS = ["clusters", "nodes", "switchovers", "events", "history", "pools", "databases", "stats", "latencies", "errors", "lists", "users",
         "peers"]


def api(router, name="", expect=200):
    status, headers, body = router.get("/api/v1" + name, timeout=20)
    assert status == expect and headers["Content-Type"] == "application/json", body
    return json.loads(body)


def show(router, what):
    with psycopg.connect(router.dsn("pool", user="postgres", dbname="pgbouncer"), autocommit=True) as c:
        cursor = c.execute("SHOW " + what)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, [int(v) if hasattr(v, "as_tuple") else v for v in row]))
                for row in cursor.fetchall()]


def fits(schema, answer):
    """Whether an answer is one of the schema's, as far as the schema says anything."""
    kinds = {"string": str, "integer": int, "null": type(None)}
    view = next(one for one in schema["oneOf"] if one["properties"]["view"]["const"] == answer["view"])
    items = view["properties"]["rows"]["items"]
    return all(set(items["required"]) == set(row) and all(
        isinstance(value, tuple(kinds[kind] for kind in items["properties"][name]["type"]))
        for name, value in row.items()) for row in answer["rows"])


def test_what_there_is(pool):
    r = pool(main=MAIN)
    assert api(r)["views"] == VIEWS == api(r, "/")["views"]
    assert "no such view" in api(r, "/nothing", expect=404)["error"]
    assert r.get("/api/v1x")[0] == 404
    assert len(api(r, "/schema")["oneOf"]) == len(VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_rows_are_those_of_the_console(pool, view):
    r = pool(main=MAIN, more={"peers": {"1": "host=127.0.0.1 port=6543"}})
    with join(r) as c:
        one(c, "select 1")
        with contextlib.suppress(psycopg.Error):
            c.execute("select nothing")
        answer = api(r, "/" + view)
        assert answer["view"] == view and fits(api(r, "/schema"), answer)
        shown = show(r, view)
        assert [list(row) for row in answer["rows"]] == [list(row) for row in shown]
        assert answer["rows"] or view in ("switchovers", "history")
        if view in ("users", "peers", "latencies", "errors"):  # nothing of them goes on by itself
            assert answer["rows"] == shown


def test_names_are_strings_whatever_they_are(pool):
    names = ['a"b', "a\\b", "a\nb", "ä€", "\1"]
    r = pool(main=MAIN, databases={"*": LINE})
    for name in names:
        psycopg.connect(r.dsn("pool") + " dbname='" + name.replace("\\", "\\\\") + "'").close()
    assert {row["database"] for row in api(r, "/pools")["rows"]} >= set(names)


def test_a_long_answer_comes_whole(pool):
    """Of more rows than one piece has room for, and from many at a time."""
    n = 1500
    r = pool(main=MAIN, databases={f"database_{i:05}": LINE for i in range(n)})
    whole = []

    def ask():
        for _ in range(3):
            status, _, body = r.get("/api/v1/databases", timeout=60)
            if status == 200:
                rows = json.loads(body)["rows"]
                whole.append([row["name"] for row in rows if row["name"].startswith("database_")])
            else:
                assert status == 503 and "too many" in body

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [f"database_{i:05}" for i in range(n)]
    assert len(whole) > 6 and all(names == expected for names in whole)


def test_a_password_is_asked_for_as_for_the_page(pool):
    r = pool(main=MAIN, more={"stats": {"bind": f"127.0.0.1:{free_port()}", "auth": "ops:secret"}})
    assert r.get("/api/v1/pools")[0] == 401 == r.get("/api/v1")[0]
    assert r.get("/api/v1/pools", user="ops:secret")[0] == 200
