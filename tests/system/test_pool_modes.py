"""When clients of a pool share servers, and that nothing of one is left for the next."""

import hashlib

import psycopg
import pytest

from cluster import process
from harness import pools, wire
from harness.background import Background
from harness.pools import ONE_SERVER, Later, Onlooker, join, logged_in, one, pid_of
from harness.wire import Client

MODES = ["session", "transaction"]


@pytest.fixture
def things(cluster):
    """A table of app's that is empty."""
    with psycopg.connect(cluster.leader().dsn("app"), autocommit=True) as connection:
        connection.execute("drop table if exists things")
        connection.execute("create table things (x int)")
        yield "things"
        connection.execute("drop table if exists things")


# Who shares


def test_pool_mode(pool):
    r = pool(main={**ONE_SERVER, "workers": 1})
    clients = [join(r) for _ in range(8)]
    assert len({pid_of(client) for client in clients * 2}) == 1
    for client in clients:
        client.close()
    r.stop()

    r = pool(main={"pool_mode": "session", "default_pool_size": 4, "workers": 1})
    clients = [join(r) for _ in range(4)]
    pids = [pid_of(client) for client in clients]
    assert len(set(pids)) == 4
    assert [pid_of(client) for client in clients] == pids
    clients[2].close()
    with join(r) as later:
        assert pid_of(later) == pids[2]
    for client in clients:
        client.close()


def test_pool_mode_of_the_most_specific(pool):
    """A user's goes before a database's, before a listener's, before that of all."""
    def is_shared(r, user="app", database="app"):
        with join(r, user=user, database=database) as a, join(r, user=user, database=database) as b:
            return pid_of(a) == pid_of(b)

    r = pool(main={"pool_mode": "session", "default_pool_size": 2, "workers": 1},
             listener={"pool_mode": "transaction"},
             databases={"app": "cluster=main", "kept": "cluster=main dbname=app pool_mode=session"},
             users={"postgres": "pool_mode=transaction"})
    assert is_shared(r)
    assert not is_shared(r, database="kept")
    assert is_shared(r, user="postgres", database="kept")


def test_a_transaction_keeps_its_server(pool):
    r = pool(main=ONE_SERVER)
    with join(r) as first, join(r) as second:
        first.execute("begin")
        mine = pid_of(first)
        waiting = Later(lambda: pid_of(second))
        assert not waiting.is_over(0.3)
        assert pid_of(first) == mine
        first.execute("commit")
        waiting.result()


def test_a_transaction_that_failed_keeps_its_server(pool):
    r = pool(main=ONE_SERVER)
    with join(r) as first, join(r) as second:
        first.execute("begin")
        with pytest.raises(psycopg.errors.DivisionByZero):
            first.execute("select 1/0")
        waiting = Later(lambda: one(second, "select 'fine'"))
        assert not waiting.is_over(0.3)
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            first.execute("select 1")
        first.execute("rollback")
        assert waiting.result() == "fine"
        assert one(first, "select 1") == 1


def test_a_query_without_a_sync_keeps_its_server(raw):
    """Its answer is there, but what it belongs to is not over."""
    r = raw()
    with logged_in(r) as first, logged_in(r) as second:
        first.send(pools.run_unnamed("select 'first'") + pools.FLUSH)
        assert pools.value_of(first.messages_until("C")) == "first"
        second.send(wire.query("select 'second'"))
        waiting = Later(lambda: pools.value_of(second.messages_until("Z")))
        assert not waiting.is_over(0.3)
        first.send(pools.SYNC)
        assert first.message() == ("Z", b"I")
        assert waiting.result() == "second"


def test_a_portal_is_read_in_parts(raw):
    r = raw()
    with logged_in(r) as client:
        client.send(pools.parse("select generate_series(1, 25)") + pools.bind() +
                    pools.execute(rows=10) + pools.FLUSH)
        n = sum(kind == "D" for kind, _ in client.messages_until("s"))
        client.send(pools.execute(rows=10) + pools.FLUSH)
        n += sum(kind == "D" for kind, _ in client.messages_until("s"))
        client.send(pools.execute() + pools.SYNC)
        n += sum(kind == "D" for kind, _ in client.messages_until("Z"))
        assert n == 25


# Nothing is left behind


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["says_goodbye", "closes", "resets"])
def test_who_leaves_in_a_transaction_leaves_nothing_behind(cluster, raw, things, mode, how):
    r = raw(pool_mode=mode)
    client = logged_in(r)
    client.ask("begin")
    assert pools.status_of(client.ask("insert into things values (1)")) == "T"
    with Onlooker(cluster.leader()) as node:
        assert node.count("state = 'idle in transaction'") == 1
        if how == "says_goodbye":
            client.send(pools.TERMINATE)
        if how == "resets":
            client.reset()
        client.close()
        with logged_in(r) as later:
            answer = later.ask("select count(*) from things")
            assert pools.value_of(answer) == "0"
            assert pools.status_of(answer) == "I"
            assert pools.errors_of(later.ask("drop table things")) == []  # no lock is left
        assert node.sees(0, "state like 'idle in transaction%'")


def test_a_session_is_reset_before_the_next(cluster, pool):
    r = pool(main={"pool_mode": "session", "default_pool_size": 1, "workers": 1})
    with join(r) as first:
        first.execute("create temp table mine (x int)")
        first.execute("set work_mem = '9MB'")
        first.execute("select pg_advisory_lock(4711)")
        first.execute("prepare p as select 1")
        pid = pid_of(first)
    with join(r) as second:
        assert pid_of(second) == pid
        assert one(second, "select to_regclass('pg_temp.mine') is null")
        assert one(second, "show work_mem") == "4MB"
        assert one(second, "select count(*) from pg_locks where locktype = 'advisory'") == 0
        assert one(second, "select count(*) from pg_prepared_statements") == 0


def test_who_leaves_with_a_query_under_way_harms_nobody(cluster, raw):
    r = raw()
    with logged_in(r) as client:
        client.send(wire.query("select pg_sleep(20)"))
        with Onlooker(cluster.leader()) as node:
            assert node.sees(1, "state = 'active' and query like '%pg_sleep(20)%'")
            client.reset()
            later = Later(lambda: pools.value_of(logged_in(r).ask("select 'next'")))
            assert later.result(10) == "next"
            assert node.sees(0, "query like '%pg_sleep(20)%' and state = 'active'")


@pytest.mark.parametrize("mode", MODES)
def test_who_leaves_in_a_large_result_harms_nobody(cluster, raw, mode):
    r = raw(pool_mode=mode)
    client = Client(r.at("pool"), receive_buffer=4096)
    client.log_in()
    client.send(wire.query("select repeat('x', 1000) from generate_series(1, 200000)"))
    client.receive(20000)
    client.reset()
    with logged_in(r) as later:
        assert pools.value_of(later.ask("select 'next'")) == "next"
        with Onlooker(cluster.leader()) as node:
            assert node.sees(0, "state = 'active' and query like '%200000%'")


@pytest.mark.parametrize("mode", MODES)
def test_who_leaves_in_a_copy_harms_nobody(cluster, raw, things, mode):
    r = raw(pool_mode=mode)
    client = logged_in(r)
    client.send(wire.query("copy things from stdin"))
    assert client.message()[0] == "G"
    client.send(wire.message("d", b"1\n2\n"))
    client.reset()
    with logged_in(r) as later:
        assert pools.value_of(later.ask("select count(*) from things")) == "0"

        leaver = Client(r.at("pool"), receive_buffer=4096)
    if mode == "session":
        later.close()
    leaver.log_in()
    leaver.send(wire.query("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout"))
    leaver.receive(20000)
    leaver.reset()
    with logged_in(r) as later:
        assert pools.value_of(later.ask("select 'next'")) == "next"


def test_what_follows_a_goodbye_is_not_done(cluster, raw, things):
    r = raw()
    with logged_in(r) as client:
        client.send(wire.query("insert into things values (1)") + pools.TERMINATE +
                    wire.query("insert into things values (2)"))
        with Onlooker(cluster.leader()) as node:
            assert process.wait_until(lambda: node.ask("select count(*) from things") == 1, 10)
            with logged_in(r) as later:  # on the same server, hence after the first
                assert pools.value_of(later.ask("select sum(x) from things")) == "1"


# All kinds of traffic


@pytest.mark.parametrize("mode", MODES)
def test_copy_in_and_out(pool, things, mode):
    r = pool(main={**ONE_SERVER, "pool_mode": mode})
    with join(r) as client:
        for _ in range(2):
            with client.cursor() as cursor:
                with cursor.copy("copy things from stdin") as copy:
                    for x in range(20000):
                        copy.write_row((x,))
                with cursor.copy("copy things to stdout") as copy:
                    assert sum(int(row[0]) for row in copy.rows()) == sum(range(20000))
                cursor.execute("truncate things")
        with client.cursor() as cursor, pytest.raises(psycopg.errors.InvalidTextRepresentation):
            with cursor.copy("copy things from stdin") as copy:
                copy.write("not a number\n")
        assert one(client, "select count(*) from things") == 0


def test_a_copy_keeps_its_server(raw, things):
    r = raw()
    with logged_in(r) as first, logged_in(r) as second:
        first.send(wire.query("copy things from stdin"))
        assert first.message()[0] == "G"
        second.send(wire.query("select count(*) from things"))
        waiting = Later(lambda: pools.value_of(second.messages_until("Z")))
        assert not waiting.is_over(0.3)
        first.send(wire.message("d", b"1\n") + wire.message("c"))
        assert pools.errors_of(first.messages_until("Z")) == []
        assert waiting.result() == "1"


def test_a_copy_that_fails_early_does_not_mix_up_answers(raw, things):
    """Its data come after the error: the server passes over them."""
    r = raw()
    with logged_in(r) as client:
        client.send(wire.query("copy things from stdin"))
        assert client.message()[0] == "G"
        client.send(wire.message("d", b"no number\n") + wire.message("d", b"1\n") * 5000 +
                    wire.message("c") + wire.query("select 'after'"))
        assert pools.errors_of(client.messages_until("Z")) == ["22P02"]
        assert pools.value_of(client.messages_until("Z")) == "after"

        client.send(wire.query("copy things from stdin"))
        assert client.message()[0] == "G"
        client.send(wire.message("f", b"I do not want to\0"))
        assert pools.errors_of(client.messages_until("Z")) == ["57014"]
        assert pools.value_of(client.ask("select 'again'")) == "again"


@pytest.mark.parametrize("mode", MODES)
def test_queries_in_a_row_are_answered_in_their_order(raw, mode):
    r = raw(pool_mode=mode)
    with logged_in(r) as client:
        client.send(b"".join(wire.query(f"select '{n}'") for n in range(300)))
        assert [pools.value_of(client.messages_until("Z")) for _ in range(300)] == \
            [str(n) for n in range(300)]
        client.send(b"".join(pools.run_unnamed(f"select '{n}'") + pools.SYNC for n in range(300)))
        assert [pools.value_of(client.messages_until("Z")) for _ in range(300)] == \
            [str(n) for n in range(300)]


def test_an_error_in_a_pipeline_skips_to_its_sync(raw):
    r = raw()
    with logged_in(r) as client:
        client.send(pools.run_unnamed("select 'a'") + pools.run_unnamed("select 1/0") +
                    pools.run_unnamed("select 'b'") + pools.SYNC +
                    pools.run_unnamed("select 'c'") + pools.SYNC)
        first = client.messages_until("Z")
        assert pools.errors_of(first) == ["22012"]
        assert [body[6:] for kind, body in first if kind == "D"] == [b"a"]
        assert pools.value_of(client.messages_until("Z")) == "c"


def test_pipelines_of_a_driver(pool, things):
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 2})
    clients = [join(r) for _ in range(4)]

    def insert(client):
        with client.pipeline():
            for x in range(50):
                client.execute("insert into things values (%s)", (x,))
            cursor = client.execute("select %s::int", (7,))
        return cursor.fetchone()[0]

    calls = [Later(lambda client=client: insert(client)) for client in clients]
    assert [call.result() for call in calls] == [7] * 4
    assert one(clients[0], "select count(*) from things") == 200
    for client in clients:
        client.close()


def test_several_statements_in_one_query(raw):
    r = raw()
    with logged_in(r) as first, logged_in(r) as second:
        answer = first.ask("select 'a'; begin; select 'b'")
        assert pools.status_of(answer) == "T"
        second.send(wire.query("select 'second'"))
        waiting = Later(lambda: pools.value_of(second.messages_until("Z")))
        assert not waiting.is_over(0.3)
        answer = first.ask("commit; select 'c'; select 1/0")
        assert pools.errors_of(answer) == ["22012"]
        assert waiting.result() == "second"
        assert pools.status_of(first.ask("")) == "I"  # an empty query


@pytest.mark.parametrize("mode", MODES)
def test_large_messages_both_ways(pool, mode):
    r = pool(main={**ONE_SERVER, "pool_mode": mode})
    large = "abcdefghij" * 1_500_000
    with join(r) as client:
        assert one(client, "select md5(%s)", (large,)) == hashlib.md5(large.encode()).hexdigest()
        assert one(client, "select repeat('abcdefghij', 1500000)") == large
        n = 0
        with client.cursor() as cursor:
            for row in cursor.stream("select repeat('x', 100) from generate_series(1, 50000)"):
                n += len(row[0])
        assert n == 5_000_000


def test_a_slow_reader_does_not_stop_the_others(raw, sanitizer):
    r = raw(default_pool_size=2)
    with Client(r.at("pool"), receive_buffer=4096) as slow, logged_in(r) as other:
        slow.log_in()
        slow.send(wire.query("select repeat('x', 1000) from generate_series(1, 50000)"))
        slow.receive(1000)
        before = r.memory_kb()
        with Background(lambda: pools.value_of(other.ask("select 1"))) as asking:
            asking.wait_for(200)
        assert asking.errors == []
        if sanitizer is None:  # which keep freed memory for a while
            assert r.memory_kb() - before < 8192  # what it does not read waits on the node


def test_many_clients_get_their_own_answers(pool, workers):
    """Each asks for what only it can have asked for."""
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 3})
    clients = [join(r) for _ in range(16)]

    def talk(number):
        client = clients[number]
        for turn in range(40):
            mark = f"{number}:{turn}"
            if turn % 3 == 0:
                with client.transaction():
                    assert one(client, "select %s", (mark,)) == mark
                    pid = pid_of(client)
                    assert pid_of(client) == pid
            elif turn % 7 == 0:
                with pytest.raises(psycopg.errors.RaiseException, match=mark):
                    client.execute(f"do $$ begin raise exception '{mark}'; end $$")
            else:
                assert one(client, f"select '{mark}'") == mark
        return number

    calls = [Later(lambda number=number: talk(number)) for number in range(16)]
    assert [call.result(60) for call in calls] == list(range(16))
    for client in clients:
        client.close()


def test_a_client_that_is_refused_amid_a_long_answer_is_told(raw):
    """What we answer to thousands of Parse comes with what the server says of BEGIN."""
    r = raw(pool_mode="statement")
    with logged_in(r) as client, logged_in(r) as other:
        client.send(pools.parse("select 1", "first") + pools.SYNC)
        client.messages_until("Z")
        client.send(b"".join(pools.parse("select 1", f"s{n}") for n in range(4000)) + wire.query("begin"))
        answer = client.messages_until("E")
        assert pools.errors_of(answer) == ["0A000"]
        assert client.at_end()
        assert pools.status_of(other.ask("select 1")) == "I"


def test_statement_pooling_knows_no_transactions(raw):
    r = raw(pool_mode="statement")
    client = logged_in(r)
    assert pools.status_of(client.ask("select 1; select 2")) == "I"
    client.send(wire.query("begin"))
    answer = client.messages_until("E")
    assert pools.errors_of(answer) == ["0A000"]
    assert client.at_end()
    again = logged_in(r)
    assert pools.status_of(again.ask("select 1")) == "I"
