"""Prepared statements of clients that share servers."""

import os
import random
import struct
import subprocess
import time

import psycopg
import pytest

from harness import pools, wire
from harness.background import Background
from harness.pools import (FLUSH, ONE_SERVER, SYNC, Later, bind, execute, join, logged_in, one, parse,
                           pid_of, run_unnamed)
from harness.wire import error_fields

PREPARED = "select name, statement from pg_prepared_statements order by prepare_time, name"


def describe(name):
    return wire.message("D", f"S{name}\0".encode())


def close(name):
    return wire.message("C", f"S{name}\0".encode())


def bind_text(name, *values):
    """Bind with parameters as text, to the unnamed portal."""
    body = f"\0{name}\0".encode() + struct.pack("!HH", 0, len(values))
    for value in values:
        body += struct.pack("!I", len(value)) + value.encode()
    return wire.message("B", body + struct.pack("!H", 0))


def run(name, *values):
    return bind_text(name, *values) + execute()


def kinds(messages):
    """Their types in a row, such as "12DCZ"."""
    return "".join(kind for kind, _ in messages)


def values(messages):
    """The one column of each row."""
    return [body[6:].decode() for kind, body in messages if kind == "D"]


def rounds(client, n=1):
    """Answers up to the n-th ReadyForQuery."""
    return [client.messages_until("Z") for _ in range(n)]


def prepared_on_server(client):
    """Texts of what its server has, the one prepared first at the front; by the unnamed statement."""
    client.send(pools.run_unnamed(PREPARED.replace("name, statement", "statement")) + SYNC)
    return values(client.messages_until("Z"))


# Drivers


@pytest.mark.parametrize("threshold", [0, 1, 5])
def test_psycopg(pool, threshold):
    """More clients than servers; each goes from server to server."""
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 3})
    clients = [psycopg.connect(r.dsn("pool"), autocommit=True, prepare_threshold=threshold)
               for _ in range(8)]

    def talk(number):
        client = clients[number]
        for turn in range(30):
            mark = f"{number}:{turn}"
            assert one(client, "select %s::text", (mark,)) == mark
            assert one(client, f"select %s::int + {turn % 7}", (turn,)) == turn + turn % 7
            with client.transaction():
                assert one(client, "select %s::text || 'x'", (mark,)) == mark + "x"
            if turn % 5 == 0:
                with pytest.raises(psycopg.errors.DivisionByZero):
                    client.execute("select 1 / %s::int", (0,))
        return number

    calls = [Later(lambda number=number: talk(number)) for number in range(8)]
    assert [call.result(60) for call in calls] == list(range(8))
    for client in clients:
        client.close()


def test_psycopg_in_a_pipeline(pool):
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 2})
    clients = [psycopg.connect(r.dsn("pool"), autocommit=True, prepare_threshold=0)
               for _ in range(5)]

    def talk(number):
        client = clients[number]
        for turn in range(10):
            with client.pipeline() as pipeline:
                cursors = [client.execute("select %s::int", (number * 1000 + turn * 10 + i,)) for i in range(5)]
                cursors.append(client.execute(f"select %s::int + {turn}", (number,)))
                if turn % 2:
                    pipeline.sync()
                cursors.append(client.execute("select %s::text", ("last",)))
            assert [cursor.fetchone()[0] for cursor in cursors] == \
                [number * 1000 + turn * 10 + i for i in range(5)] + [number + turn, "last"]
            with pytest.raises(psycopg.errors.DivisionByZero):
                with client.pipeline():
                    client.execute("select %s::int / 0", (turn,))
                    client.execute("select %s::text || 'never'", (f"{number}",))
        return number

    calls = [Later(lambda number=number: talk(number)) for number in range(5)]
    assert [call.result(60) for call in calls] == list(range(5))
    for client in clients:
        client.close()


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_psycopg_drops_what_it_has_too_many_of(pool, in_pipeline):
    """By SQL, with a libpq before 17; and all of them when a table is dropped."""
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 2})
    clients = [psycopg.connect(r.dsn("pool"), autocommit=True, prepare_threshold=0) for _ in range(3)]
    for client in clients:
        client.prepared_max = 2

    def ask(client, n):
        if not in_pipeline:
            return one(client, f"select %s::int + {n}", (n,))
        with client.pipeline():
            cursor = client.execute(f"select %s::int + {n}", (n,))
        return cursor.fetchone()[0]

    for n in [*range(5), *range(5)]:
        for client in clients:
            assert ask(client, n) == 2 * n
            client.execute("drop table if exists no_such_table", prepare=False)
    for client in clients:
        client.close()


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(cluster, pool, tmp_path, mode):
    """A thread for each client: it blocks while one of its clients prepares."""
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 2, "max_prepared_statements": 3})
    script = tmp_path / "script.sql"
    script.write_text("\\set x random(1, 1000)\n" +
                      "".join(f"select :x + {n};\n" for n in range(4)) +
                      "begin;\nselect :x * 2;\nselect :x * 3;\nend;\n")
    host, port = r.at("pool")
    run_of = subprocess.run(
        ["pgbench", "-n", "-M", mode, "-f", script, "-c", "8", "-j", "8", "-t", "60",
         "-h", host, "-p", str(port), "-U", "app", "app"],
        env={**os.environ, "PGPASSWORD": cluster.passwords["app"]},
        capture_output=True, text=True, timeout=100)
    assert run_of.returncode == 0, run_of.stderr
    assert "processed: 480/480" in run_of.stdout
    assert "error" not in run_of.stderr


# Names


def test_a_name_means_the_same_on_every_server(raw):
    r = raw(default_pool_size=2, workers=1)
    with logged_in(r) as client, logged_in(r) as other:
        client.send(parse("select 'mine'", "s") + SYNC)
        assert kinds(client.messages_until()) == "1Z"
        other.send(parse("select 'of the other'", "s") + SYNC)
        assert kinds(other.messages_until()) == "1Z"
        pids = set()
        for holds in (False, True):
            if holds:  # the server that the client has had till now
                pool_status = other.ask("begin")
                assert pools.status_of(pool_status) == "T"
            client.send(wire.query("begin") + wire.query("select pg_backend_pid()") + run("s") +
                        SYNC + wire.query("commit"))
            answers = rounds(client, 4)
            pids.add(pools.value_of(answers[1]))
            assert kinds(answers[2]) == "2DCZ" and values(answers[2]) == ["mine"]
        assert len(pids) == 2
        other.send(run("s") + SYNC)
        assert values(other.messages_until()) == ["of the other"]
        assert pools.status_of(other.ask("commit")) == "I"


def test_equal_statements_are_parsed_once(raw):
    r = raw(workers=1)
    clients = [logged_in(r) for _ in range(3)]
    for n, client in enumerate(clients):
        client.send(parse("select 'same'", f"name{n}") + describe(f"name{n}") + run(f"name{n}") + SYNC)
        answer = client.messages_until()
        assert kinds(answer) == "1tT2DCZ" and values(answer) == ["same"]
    assert prepared_on_server(clients[0]) == ["select 'same'"]
    clients[0].send(wire.message("P", b"name0x\0select $1\0" + struct.pack("!HI", 1, 23)) +
                    wire.message("P", b"name0y\0select $1\0" + struct.pack("!HI", 1, 25)) + SYNC)
    assert kinds(clients[0].messages_until()) == "11Z"
    assert prepared_on_server(clients[0]) == ["select 'same'", "select $1", "select $1"]
    for client in clients:
        client.close()


def test_a_name_that_is_not_prepared(raw):
    r = raw()
    with logged_in(r) as client, logged_in(r) as other:
        other.send(parse("select 1", "s") + SYNC)
        assert kinds(other.messages_until()) == "1Z"
        client.send(bind_text("s") + execute() + describe("s") + SYNC + run("s") + SYNC)
        for answer in rounds(client, 2):
            assert kinds(answer) == "EZ" and pools.errors_of(answer) == ["26000"]
        client.send(close("s") + SYNC)
        assert kinds(client.messages_until()) == "3Z"
        assert pools.value_of(client.ask("select 'fine'")) == "fine"
        other.send(run("s") + SYNC)
        assert values(other.messages_until()) == ["1"]


def test_a_name_cannot_be_taken_twice(raw):
    r = raw()
    with logged_in(r) as client:
        client.send(parse("select 'first'", "s") + SYNC + parse("select 'second'", "s") + run("s") + SYNC +
                    run("s") + SYNC)
        answers = rounds(client, 3)
        assert kinds(answers[0]) == "1Z"
        assert kinds(answers[1]) == "EZ" and pools.errors_of(answers[1]) == ["42P05"]
        assert values(answers[2]) == ["first"]
        client.send(parse("select 'third'", "t") + parse("select 'fourth'", "t") + SYNC + run("t") + SYNC)
        answers = rounds(client, 2)
        assert kinds(answers[0]) == "1EZ" and pools.errors_of(answers[0]) == ["42P05"]
        assert values(answers[1]) == ["third"]


def test_close(raw):
    """The name is gone, and free; the server keeps the statement."""
    r = raw(workers=1)
    with logged_in(r) as client, logged_in(r) as other:
        for c in (client, other):
            c.send(parse("select 'one'", "s") + SYNC)
            assert kinds(c.messages_until()) == "1Z"
        client.send(run("s") + close("s") + close("never") + parse("select 'two'", "s") + run("s") + SYNC)
        answer = client.messages_until()
        assert kinds(answer) == "2DC3312DCZ" and values(answer) == ["one", "two"]
        client.send(close("s") + run("s") + SYNC)
        answer = client.messages_until()
        assert kinds(answer) == "3EZ" and pools.errors_of(answer) == ["26000"]
        other.send(run("s") + SYNC)
        assert values(other.messages_until()) == ["one"]
        assert prepared_on_server(other) == ["select 'one'", "select 'two'"]


def test_answers_of_ours_come_with_a_flush(raw):
    """Till then the server is the client's, as if it had heard what we will answer."""
    r = raw(workers=1)
    with logged_in(r) as client, logged_in(r) as other:
        other.send(parse("select 'known'", "o") + SYNC)
        assert kinds(other.messages_until()) == "1Z"
        client.send(parse("select 'known'", "s"))
        time.sleep(0.3)  # nothing tells that it was read
        waiting = Later(lambda: pools.value_of(other.ask("select 'later'")))
        assert not waiting.is_over(0.3)
        client.send(FLUSH)
        assert client.message() == ("1", b"")
        assert waiting.result() == "later"

        client.send(run("s") + close("s") + FLUSH)
        assert kinds(client.messages_until("3")) == "2DC3"
        waiting = Later(lambda: pools.value_of(other.ask("select 'later'")))
        assert not waiting.is_over(0.3)  # no Sync yet
        client.send(SYNC)
        assert client.message() == ("Z", b"I")
        assert waiting.result() == "later"


def test_an_unnamed_statement_passes(raw):
    r = raw()
    with logged_in(r) as client:
        for n in range(3):
            client.send(parse(f"select {n}") + run("") + describe("") + close("") + SYNC)
            answer = client.messages_until()
            assert kinds(answer) == "12DCtT3Z" and values(answer) == [str(n)]
        assert prepared_on_server(client) == []


def test_an_unnamed_statement_may_be_bound_later(raw):
    """On another server, or when another client has prepared its own in between."""
    r = raw(default_pool_size=2, workers=1)
    with logged_in(r) as client, logged_in(r) as other:
        client.send(parse("select 'mine'") + describe("") + SYNC)
        assert kinds(client.messages_until()) == "1tTZ"
        other.send(run_unnamed("select 'of the other'") + SYNC)
        assert kinds(other.messages_until()) == "12DCZ"
        for holds in (False, True):
            if holds:
                assert pools.status_of(other.ask("begin")) == "T"
            client.send(run("") + SYNC + run("") + SYNC)
            assert [values(answer) for answer in rounds(client, 2)] == [["mine"], ["mine"]]
        assert pools.status_of(other.ask("commit")) == "I"
        client.ask("select 1")  # a simple query takes it away
        client.send(run("") + SYNC)
        assert pools.errors_of(client.messages_until()) == ["26000"]


def test_an_unnamed_statement_of_another_is_not_there(raw):
    r = raw(workers=1)
    with logged_in(r) as client, logged_in(r) as other:
        other.send(run_unnamed("select 'of the other'") + SYNC)
        assert kinds(other.messages_until()) == "12DCZ"
        client.send(run("") + SYNC + describe("") + SYNC)
        assert [pools.errors_of(answer) for answer in rounds(client, 2)] == [["26000"], ["26000"]]


@pytest.mark.parametrize("length", [10_000, 16_300, 16_384, 40_000, 1_000_000, 4_000_000])
def test_a_long_unnamed_statement_may_be_bound_later(raw, length):
    r = raw(default_pool_size=2, workers=1)
    text = "x" * length
    with logged_in(r) as client, logged_in(r) as other:
        for turn in range(2):
            client.send(parse(f"select '{text}{turn}'") + SYNC)
            assert kinds(client.messages_until()) == "1Z"
            other.send(run_unnamed(f"select '{text}of the other'") + SYNC)
            assert values(other.messages_until()) == [text + "of the other"]
            assert pools.status_of(other.ask("begin")) == "T"
            client.send(run("") + SYNC)
            assert values(client.messages_until()) == [f"{text}{turn}"]
            assert pools.status_of(other.ask("commit")) == "I"


def test_a_name_is_dropped_in_a_transaction(raw):
    """As psqlODBC says it."""
    r = raw()
    text = 'SAVEPOINT _per_query_svp_;DEALLOCATE "s";RELEASE _per_query_svp_'
    with logged_in(r) as client:
        client.send(parse("select 'first'", "s") + SYNC)
        assert kinds(client.messages_until()) == "1Z"
        assert pools.errors_of(client.ask(text)) == ["25P01"]  # not in a transaction: nothing was dropped
        client.send(run("s") + SYNC)
        assert values(client.messages_until()) == ["first"]
        client.ask("begin")
        client.ask("select 1/0")
        assert pools.errors_of(client.ask(text)) == ["25P02"]
        client.ask("rollback")
        client.send(run("s") + SYNC)
        assert values(client.messages_until()) == ["first"]
        client.ask("begin")
        assert pools.errors_of(client.ask(text)) == []
        client.send(parse("select 'second'", "s") + run("s") + SYNC)
        assert values(client.messages_until()) == ["second"]
        client.ask("commit")


# Errors


@pytest.mark.parametrize("parsed_before", [False, True])
def test_an_error_skips_what_we_would_answer(raw, parsed_before):
    r = raw()
    with logged_in(r) as client, logged_in(r) as other:
        if parsed_before:  # then Parse is not the server's business
            other.send(parse("select 'known'", "o") + parse("select 'kept'", "p") + SYNC)
            assert kinds(other.messages_until()) == "11Z"
        client.send(parse("select 'kept'", "kept") + SYNC +
                    run("kept") + parse("select nothing", "bad") + parse("select 'known'", "s") +
                    close("kept") + run("s") + SYNC +
                    run("kept") + SYNC + run("s") + SYNC +
                    parse("select 'known'", "s") + run("s") + SYNC + run("bad") + SYNC)
        answers = rounds(client, 6)
        assert kinds(answers[0]) == "1Z"
        assert kinds(answers[1]) == "2DCEZ" and pools.errors_of(answers[1]) == ["42703"]
        assert values(answers[2]) == ["kept"]
        assert pools.errors_of(answers[3]) == ["26000"]
        assert kinds(answers[4]) == "12DCZ" and values(answers[4]) == ["known"]
        assert pools.errors_of(answers[5]) == ["26000"]
        # A text has a name of its own on each worker, and the server has moved between two.
        assert set(prepared_on_server(client)) == {"select 'kept'", "select 'known'"}


def test_a_parse_that_failed_is_parsed_again(raw, cluster):
    r = raw()
    text = "select count(*) from prepared_things"
    with logged_in(r) as client, psycopg.connect(cluster.leader().dsn("app"), autocommit=True) as node:
        node.execute("drop table if exists prepared_things")
        for _ in range(2):
            client.send(parse(text, "s") + bind("s") + execute() + SYNC + run("s") + SYNC)
            answers = rounds(client, 2)
            assert [pools.errors_of(answer) for answer in answers] == [["42P01"], ["26000"]]
        node.execute("create table prepared_things (x int)")
        node.execute("grant all on prepared_things to public")
        client.send(parse(text, "s") + run("s") + SYNC + run("s") + SYNC)
        assert [values(answer) for answer in rounds(client, 2)] == [["0"], ["0"]]
        node.execute("drop table prepared_things")


def test_what_is_said_after_an_error_is_skipped(raw):
    """The error is known, the Sync has not been sent."""
    r = raw()
    with logged_in(r) as client:
        client.send(parse("select nothing", "bad") + FLUSH)
        assert client.error()["C"] == "42703"
        client.send(parse("select 1", "s") + run("s") + close("s") + FLUSH)
        client.send(SYNC + run("s") + SYNC)
        answers = rounds(client, 2)
        assert kinds(answers[0]) == "Z"
        assert pools.errors_of(answers[1]) == ["26000"]


def test_in_a_failed_transaction(raw):
    r = raw(default_pool_size=2, workers=1)
    with logged_in(r) as client:
        client.send(parse("select 'known'", "s") + parse("rollback", "back") + SYNC)
        assert kinds(client.messages_until()) == "11Z"
        client.send(wire.query("begin") + wire.query("select 1/0") + run("s") + SYNC + run("back") + SYNC +
                    run("s") + SYNC)
        answers = rounds(client, 5)
        assert pools.errors_of(answers[2]) == ["25P02"] and pools.status_of(answers[2]) == "E"
        assert kinds(answers[3]) == "2CZ" and pools.status_of(answers[3]) == "I"
        assert values(answers[4]) == ["known"]


def test_a_plan_that_fits_no_more_is_parsed_anew(raw, cluster):
    r = raw(workers=1)
    with logged_in(r) as client, psycopg.connect(cluster.leader().dsn("app"), autocommit=True) as node:
        node.execute("drop table if exists plan_things")
        node.execute("create table plan_things as select 1 as x")
        node.execute("grant all on plan_things to public")
        client.send(parse("select * from plan_things", "s") + run("s") + SYNC)
        assert values(client.messages_until()) == ["1"]
        node.execute("alter table plan_things alter x type text using 'now a text'")
        client.send(run("s") + SYNC)
        answer = client.messages_until()
        assert [error_fields(body)["M"] for kind, body in answer if kind == "E"] == \
            ["cached plan must not change result type"]
        client.send(close("s") + parse("select * from plan_things", "s") + run("s") + SYNC)
        answer = client.messages_until()
        assert kinds(answer) == "312DCZ" and values(answer) == ["now a text"]
        node.execute("drop table plan_things")


def test_a_name_may_be_dropped_by_sql(raw):
    r = raw(workers=1)
    with logged_in(r) as client, logged_in(r) as other:
        for c in (client, other):
            c.send(parse("select 'mine'", "s") + SYNC)
            assert kinds(c.messages_until()) == "1Z"
        answer = client.ask("DEALLOCATE s")
        assert kinds(answer) == "CZ" and answer[0][1] == b"DEALLOCATE\0"
        assert pools.errors_of(client.ask("DEALLOCATE s")) == ["26000"]
        client.send(run("s") + SYNC)
        assert pools.errors_of(client.messages_until()) == ["26000"]
        other.send(run("s") + SYNC)
        assert values(other.messages_until()) == ["mine"]
        client.send(wire.query("begin") + wire.query("prepare s as select 'by SQL'") +
                    wire.query("execute s") + wire.query("deallocate s") + wire.query("commit"))
        answers = rounds(client, 5)
        assert values(answers[2]) == ["by SQL"] and kinds(answers[3]) == "CZ"


def test_a_text_is_read_as_its_session_reads_it(raw):
    r = raw(workers=1)
    text = "select extract(month from '01/02/2003'::date)::text"
    with logged_in(r, DateStyle="ISO, MDY") as american, logged_in(r, DateStyle="ISO, DMY") as european:
        for client, month in ((american, "1"), (european, "2"), (american, "1")):
            client.send(parse(text, f"s{month}") + run(f"s{month}") + SYNC + close(f"s{month}") + SYNC)
            answers = rounds(client, 2)
            assert kinds(answers[0]) == "12DCZ" and values(answers[0]) == [month]
    with logged_in(r, client_encoding="LATIN1") as latin, logged_in(r, client_encoding="UTF8") as other:
        for client, length in ((latin, "2"), (other, "1")):
            client.send(parse("select length('\u00e9')::text", "l") + run("l") + SYNC)
            assert values(client.messages_until()) == [length]


def test_what_was_dropped_unseen_is_parsed_again(raw):
    r = raw(workers=1)
    with logged_in(r) as client:
        client.send(parse("select 'mine'", "s") + SYNC)
        assert kinds(client.messages_until()) == "1Z"
        assert pools.errors_of(client.ask("do $$ begin execute 'deallocate all'; end $$")) == []
        client.send(run("s") + SYNC + run("s") + SYNC)
        assert pools.errors_of(client.messages_until()) == ["26000"]
        client.messages_until()
        client.send(run("s") + SYNC)
        assert values(client.messages_until()) == ["mine"]


# All at once


@pytest.mark.parametrize("text", ["deallocate all", "discard all", "DEALLOCATE PREPARE ALL"])
@pytest.mark.parametrize("simple", [True, False])
def test_deallocate_all(raw, text, simple):
    r = raw(workers=1)
    with logged_in(r) as client, logged_in(r) as other:
        for c in (client, other):
            c.send(parse("select 'a'", "a") + parse("select 'b'", "b") + SYNC)
            assert kinds(c.messages_until()) == "11Z"
        client.send(wire.query(text) if simple else pools.run_unnamed(text) + SYNC)
        assert pools.errors_of(client.messages_until()) == []
        assert prepared_on_server(client) == []
        client.send(run("a") + SYNC + parse("select 'c'", "a") + run("a") + SYNC)
        answers = rounds(client, 2)
        assert pools.errors_of(answers[0]) == ["26000"]
        assert values(answers[1]) == ["c"]
        other.send(run("b") + run("a") + SYNC)  # its names are its own
        assert values(other.messages_until()) == ["b", "a"]


def test_a_reset_query_takes_all(pool):
    """The same servers serve sessions, which are reset behind their clients."""
    r = pool(main={**ONE_SERVER, "auth_type": "trust", "workers": 1},
             users={"postgres": "pool_mode=session"},
             databases={"app": "cluster=main user=app"})
    with logged_in(r) as client:
        client.send(parse("select 'mine'", "s") + SYNC)
        assert kinds(client.messages_until()) == "1Z"
        with logged_in(r, user="postgres") as session:
            session.send(parse("select 'of the session'", "s") + SYNC + run("s") + SYNC)
            assert [kinds(answer) for answer in rounds(session, 2)] == ["1Z", "2DCZ"]
        client.send(run("s") + SYNC)
        assert values(client.messages_until()) == ["mine"]
        assert prepared_on_server(client) == ["select 'mine'"]


# How many


def test_max_prepared_statements(raw):
    """The one used longest ago makes room; 0: names are not followed."""
    r = raw(max_prepared_statements=2, workers=1)
    with logged_in(r) as client:
        client.send(b"".join(parse(f"select '{name}'", name) for name in "abc") + SYNC)
        assert kinds(client.messages_until()) == "111Z"
        assert prepared_on_server(client) == ["select 'b'", "select 'c'"]
        client.send(run("b") + SYNC + run("a") + SYNC)
        assert [values(answer) for answer in rounds(client, 2)] == [["b"], ["a"]]
        assert prepared_on_server(client) == ["select 'b'", "select 'a'"]
        client.send(run("c") + run("a") + run("b") + describe("c") + run("c") + SYNC)
        answer = client.messages_until()
        assert kinds(answer) == "2DC2DC2DCtT2DCZ" and values(answer) == ["c", "a", "b", "c"]
        assert prepared_on_server(client) == ["select 'b'", "select 'c'"]
    r.stop()

    r = raw(max_prepared_statements=0, workers=1)
    with logged_in(r) as client, logged_in(r) as other:
        client.send(parse("select 'mine'", "s") + SYNC)
        assert kinds(client.messages_until()) == "1Z"
        other.send(parse("select 'mine'", "s") + SYNC)
        assert pools.errors_of(other.messages_until()) == ["42P05"]
        assert pools.value_of(client.ask("select name from pg_prepared_statements")) == "s"


def test_what_is_skipped_is_neither_closed_nor_parsed(raw):
    r = raw(max_prepared_statements=2, workers=1)
    with logged_in(r) as client:
        client.send(parse("select 'a'", "a") + parse("select 'b'", "b") + SYNC)
        assert kinds(client.messages_until()) == "11Z"
        client.send(run_unnamed("select nothing") + parse("select 'c'", "c") + parse("select 'd'", "d") + SYNC)
        assert pools.errors_of(client.messages_until()) == ["42703"]
        assert prepared_on_server(client) == ["select 'a'", "select 'b'"]
        client.send(run("a") + run("b") + SYNC + parse("select 'c'", "c") + run("c") + SYNC + run("a") + SYNC)
        assert [values(answer) for answer in rounds(client, 3)] == [["a", "b"], ["c"], ["a"]]


def test_session_pooling_touches_nothing(raw):
    r = raw(pool_mode="session")
    with logged_in(r) as client:
        client.send(parse("select 'mine'", "s") + run("s") + SYNC)
        assert kinds(client.messages_until()) == "12DCZ"
        assert pools.value_of(client.ask("select name from pg_prepared_statements")) == "s"


# Streams


def test_a_long_pipeline(raw):
    r = raw(default_pool_size=2, max_prepared_statements=5)
    with logged_in(r) as client, logged_in(r) as other:
        for c, n in ((client, 0), (other, 1)):
            c.send(b"".join(parse(f"select '{n}:{i}'", f"s{i}") + SYNC for i in range(20)))
            assert [kinds(answer) for answer in rounds(c, 20)] == ["1Z"] * 20
        pipeline = b"".join(run(f"s{i % 20}") + (SYNC if i % 3 == 0 else b"") for i in range(2000)) + SYNC
        with Background(lambda: pools.value_of(other.ask("select 1"))):
            sending = Later(lambda: client.send(pipeline))
            found = []
            for answer in rounds(client, 668):
                found += values(answer)
            sending.result()
        assert found == [f"0:{i % 20}" for i in range(2000)]


def test_byte_by_byte(raw):
    r = raw(workers=1)
    with logged_in(r) as client:
        for turn in range(2):
            for byte in (parse("select 'x' || $1", "s") + describe("s") + run("s", "yz") + close("s") +
                         SYNC):
                client.send(bytes([byte]))
            answer = client.messages_until()
            assert kinds(answer) == "1tT2DC3Z" and values(answer) == ["xyz"]


def test_long_messages(raw):
    """A Bind of megabytes streams; a Parse is held, up to 4 MB."""
    r = raw(default_pool_size=2, workers=1)
    long_text = "select $1 || '" + "x" * 1_500_000 + "'"
    value = "abcdefghij" * 1_500_000
    with logged_in(r) as client, logged_in(r) as other:
        client.send(parse("select length($1::text)::text", "length") + parse(long_text, "long") + SYNC)
        assert kinds(client.messages_until()) == "11Z"
        assert pools.status_of(other.ask("begin")) == "T"  # takes the server that it had
        sending = Later(lambda: client.send(run("length", value) + run("long", "y") + SYNC))
        answer = client.messages_until()
        sending.result()
        assert kinds(answer) == "2DC2DCZ"
        assert values(answer) == ["15000000", "y" + "x" * 1_500_000]
        assert pools.status_of(other.ask("commit")) == "I"
    with logged_in(r) as client:
        sending = Later(lambda: client.send(parse("select '" + "x" * 5_000_000 + "'", "s") + SYNC))
        assert client.error()["C"] == "54000"
        sending.is_over(5)
    with logged_in(r) as client:  # without a name it is no business of ours
        sending = Later(lambda: client.send(pools.run_unnamed("select length('" + "x" * 5_000_000 + "')") + SYNC))
        assert values(client.messages_until()) == ["5000000"]
        sending.result()


def invent(dice):
    """Pieces of what a client might say; it waits for the answers to each. What it has bound at
    once it does not mean again in another transaction."""
    texts = ["select 'one'", "select 'two'", "select 'three'", "select 'four'", "select nothing"]
    pieces, may_mean_unnamed = [], True
    for _ in range(dice.randint(1, 6)):
        piece = b""
        for _ in range(dice.randint(1, 30)):
            name, text, kind = dice.choice("abcd"), dice.choice(texts), dice.choice("PPPBBBBBDCCSSSQAUVWX")
            if kind in "UV":
                if kind == "V" and not may_mean_unnamed:
                    piece += SYNC  # else it might be skipped, and leave what it has bound at once
                may_mean_unnamed = kind == "V"
            elif kind in "WX" and not may_mean_unnamed:
                continue
            piece += {"P": lambda: parse(text, name), "B": lambda: run(name), "D": lambda: describe(name),
                      "C": lambda: close(name), "S": lambda: SYNC, "Q": lambda: wire.query("select 'simple'"),
                      "A": lambda: wire.query(f"deallocate {name}"),
                      "U": lambda: run_unnamed(text), "V": lambda: parse(text) + describe(""),
                      "W": lambda: run(""), "X": lambda: describe("")}[kind]()
        pieces.append(piece)
        if dice.random() < 0.3:
            pieces.append(wire.query("deallocate all"))
    return pieces


def play(client, pieces, dice):
    """Says them in bits; what was answered, in words."""
    heard = []
    for piece in [wire.query("deallocate all"), *pieces]:
        said = piece + SYNC + wire.query("select 'the end of it'")

        def send(said=said):
            at = 0
            while at < len(said):
                n = dice.choice([1, 7, 60, 5000])
                client.send(said[at:at + n])
                at += n

        sending = Later(send)
        while not heard or not heard[-1].endswith("the end of it"):
            kind, body = client.message()
            heard.append(kind + (error_fields(body)["C"] if kind == "E" else body.decode("latin-1")))
        heard += [kind for kind, _ in client.messages_until("Z")]
        sending.result()
    return heard


@pytest.mark.takes(200)
def test_whatever_a_client_says_is_answered_as_in_a_session(pool):
    """Four at once on two servers with room for three statements each."""
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 2, "max_prepared_statements": 3,
                   "auth_type": "trust"},
             databases={"app": "cluster=main", "session": "cluster=main dbname=app pool_mode=session pool_size=4"})

    def compare(seed):
        with logged_in(r) as client, logged_in(r, database="session") as session:
            for number in range(25):
                dice = random.Random(seed * 1000 + number)
                pieces = invent(dice)
                assert play(client, pieces, dice) == play(session, pieces, dice), (seed, number, pieces)
        return seed

    calls = [Later(lambda seed=seed: compare(seed)) for seed in range(4)]
    assert [call.result(150) for call in calls] == list(range(4))


def test_who_leaves_amid_a_pipeline_harms_nobody(raw):
    r = raw(max_prepared_statements=3)
    for turn in range(10):
        with logged_in(r) as client:
            client.send(b"".join(parse(f"select '{turn}{i}', pg_sleep(0.01)", f"s{i}") + run(f"s{i}") +
                                 close(f"s{i}") for i in range(5)) + SYNC)
            client.reset()
        with logged_in(r) as later:
            later.send(b"".join(parse(f"select '{turn}{i}', pg_sleep(0.01)", f"s{i}") for i in range(5)) + SYNC +
                       b"".join(bind(f"s{i}") for i in range(5)) + SYNC)
            assert [kinds(answer) for answer in rounds(later, 2)] == ["11111Z", "22222Z"]
