"""A client of transaction pooling whose server ends: what it is told, what it keeps, and what is asked
again. The rows are those of docs/failover.md."""

import contextlib
import threading
import time

import psycopg
import psycopg2
import pytest
from psycopg import errors

from cluster import process
from harness import wire
from harness.fake_postgres import FakePostgres, answer
from harness.lone import Lone
from harness.pools import (SYNC, Later, bind, errors_of, execute, join, logged_in, one, parse, pid_of, run_unnamed,
                           status_of, value_of)
from harness.wire import error_fields, message

QUICK = {"auth_type": "trust", "pool_mode": "transaction", "server_login_retry": "100ms",
         "server_tls_sslmode": "disable", "admin_users": "postgres"}
EXTENDED = [False, True]
EVENTS = ("replayed", "lost", "unknown")


@pytest.fixture(scope="module")
def lone_of_module():
    with Lone() as node:
        yield node


@pytest.fixture
def lone(lone_of_module):
    """A PostgreSQL with an empty table t (id, n)."""
    node = lone_of_module
    with node.connect() as connection:
        connection.execute("drop table if exists t; create table t (id int primary key, n int not null default 0)")
    return node


@pytest.fixture
def front(pool, lone):
    """Starts a router in front of it."""
    def start(line=None, users=None, **main):
        return pool(main={**QUICK, **main}, databases={"app": lone.line(**(line or {}))}, users=users)

    return start


def events(r):
    """What SHOW POOLS has counted of them."""
    with psycopg.connect(r.dsn("pool", user="postgres", dbname="pgbouncer"), autocommit=True) as console:
        cursor = console.execute("show pools")
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row)) for row in cursor.fetchall()]
    row = next(row for row in rows if row["database"] == "app")
    return tuple(int(row[name]) for name in EVENTS)


@contextlib.contextmanager
def cut(client, sqlstate):
    """The connection ends by this. Some versions of libpq tell the text, and no code, when they read the end of
    the connection together with it."""
    with pytest.raises(psycopg.OperationalError) as caught:
        yield
    words = {"08007": "whether the last request has taken effect is unknown", "57P01": "administrator command"}
    assert caught.value.sqlstate in (sqlstate, None)
    assert words[sqlstate] in str(caught.value)
    assert client.closed


def slowly(statement):
    """The same, which takes a second before it is done."""
    return statement.replace("<slowly>", "(select 1 from pg_sleep(1))")


INSERT = "insert into t (id) values (7) returning id + <slowly>"


# One statement, outside of a transaction


@pytest.mark.parametrize("replay, lives", [("off", False), ("unsent", False), ("aborted", True)])
@pytest.mark.parametrize("prepared", EXTENDED)
def test_replay(front, lone, replay, lives, prepared):
    """An INSERT that a shutdown cuts; by the simple protocol and by the extended one."""
    r = front(replay=replay)
    with join(r) as client:
        doing = Later(lambda: client.execute(slowly(INSERT), () if not prepared else None, prepare=prepared).fetchone())
        lone.pid_doing("into t")
        lone.restart()
        if lives:
            assert doing.result() == (8,)
        else:
            with pytest.raises(errors.SerializationFailure):
                doing.result()
        assert one(client, "select count(*) from t where id = 7") == int(lives)
    assert events(r) == ((1, 0, 0) if lives else (0, 1, 0))


def test_replay_of_a_prepared_statement(front, lone):
    """Its name means the same on the next server, also when it was prepared by what was cut."""
    r = front(replay="aborted")
    text = "insert into t (id) values ($1) returning id + (select 1 from pg_sleep(1))"
    with logged_in(r) as client:
        client.send(parse(text, "a") + bind("a", values=["1"]) + execute() + SYNC)
        lone.pid_doing("into t")
        lone.restart()
        assert value_of(client.messages_until()) == "2"
        client.send(bind("a", values=["2"]) + execute() + SYNC)
        lone.pid_doing("into t")
        lone.restart()
        assert value_of(client.messages_until()) == "3"
        client.send(bind("a", values=["3"]) + execute() + SYNC)
        assert value_of(client.messages_until()) == "4"
    assert lone.ask("select count(*) from t") == 3
    assert events(r) == (2, 0, 0)


@pytest.mark.parametrize("text", [
    "do $$ begin insert into t (id) values (7); commit; perform pg_sleep(1); end $$",
    "insert into t (id) values (7); select pg_sleep(1)"])
def test_what_may_have_committed_is_not_said_to_be_lost(front, lone, text):
    r = front(replay="aborted")
    with join(r) as client:
        doing = Later(lambda: client.execute(text))
        lone.pid_doing("pg_sleep")
        lone.restart()
        with cut(client, "08007"):
            doing.result()
    assert lone.ask("select count(*) from t") == int("do" in text.split())
    assert events(r) == (0, 0, 1)


@pytest.mark.parametrize("size, lives", [("16kB", False), ("64kB", True)])
def test_replay_buffer(front, lone, size, lives):
    r = front(replay="aborted", replay_buffer=size)
    with join(r) as client:
        doing = Later(lambda: one(client, slowly("insert into t (id) values (7) returning <slowly>") +
                                  f" + length('{'x' * 40000}')"))
        lone.pid_doing("into t")
        lone.restart()
        if lives:
            assert doing.result() == 40001
        else:
            with pytest.raises(errors.SerializationFailure):
                doing.result()
        assert one(client, "select count(*) from t") == int(lives)


@pytest.mark.parametrize("keeps", [0, 1])
def test_failover_keep_clients(front, lone, keeps):
    r = front(failover_keep_clients=keeps)
    with join(r) as idle, join(r) as client:
        idle.execute("begin")
        doing = Later(lambda: client.execute(slowly(INSERT)))
        lone.pid_doing("into t")
        lone.restart()
        for one_of_them, call in ((client, doing.result), (idle, lambda: idle.execute("select 1"))):
            with pytest.raises(errors.SerializationFailure) if keeps else cut(one_of_them, "57P01"):
                call()
            assert one_of_them.closed == (not keeps)


@pytest.mark.parametrize("line, users, lives", [
    ({}, {}, False), ({"replay": "aborted"}, {}, True), ({}, {"app": "replay=aborted"}, True),
    ({"replay": "aborted"}, {"app": "replay=unsent"}, False)])
def test_replay_of_a_database_and_of_a_user(front, lone, line, users, lives):
    r = front(line=line, users=users)
    with join(r) as client:
        doing = Later(lambda: client.execute(slowly(INSERT)).fetchone())
        lone.pid_doing("into t")
        lone.restart()
        if lives:
            assert doing.result() == (8,)
        else:
            with pytest.raises(errors.SerializationFailure):
                doing.result()


def test_rows_that_are_out_are_not_taken_back(front, lone):
    r = front(replay="aborted")
    with join(r) as client:
        text = "select repeat('x', 1000), case g when 100 then pg_sleep(2)::text end from generate_series(1, 100) g"
        doing = Later(lambda: client.execute(text).fetchall())
        lone.pid_doing("generate_series")
        time.sleep(0.5)
        lone.restart()
        with pytest.raises(errors.SerializationFailure):
            doing.result()
        assert one(client, "select 1") == 1
    assert events(r) == (0, 1, 0)


@pytest.mark.parametrize("prepared", EXTENDED)
def test_an_immediate_stop_leaves_the_outcome_unknown(front, lone, prepared):
    """But of what was idle in a transaction."""
    r = front(replay="aborted")
    with join(r) as idle, join(r) as client:
        idle.execute("begin")
        doing = Later(lambda: client.execute(slowly(INSERT), prepare=prepared))
        lone.pid_doing("into t")
        lone.restart("immediate")
        with cut(client, "08007"):
            doing.result()
        with pytest.raises(errors.SerializationFailure):
            idle.execute("select 1")
        idle.rollback()
        assert one(idle, "select 1") == 1
    assert events(r) == (0, 1, 1)


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("prepared", EXTENDED)
def test_a_wait_for_a_standby_that_is_cut_short(front, lone, silent, prepared):
    """It is committed here, and nowhere else: WARNING 57P01, or not even that."""
    r = front(replay="aborted")
    lone.set(synchronous_standby_names="nobody")
    try:
        with join(r) as client:
            if silent:
                client.execute("set client_min_messages = error")
            doing = Later(lambda: client.execute("insert into t (id) values (7)", prepare=prepared))
            assert process.wait_until(lambda: lone.ask(
                "select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == 1, 10)
            lone.stop()
            with cut(client, "08007"):
                doing.result()
    finally:
        lone.start()
        lone.set(synchronous_standby_names="")
    assert lone.ask("select count(*) from t") == 1
    assert events(r) == (0, 0, 1)


def test_a_slow_reader_whose_server_is_stopped(front, lone):
    """PostgreSQL ends without a word when it cannot be heard; nothing is taken for the end of the answer."""
    r = front(replay="aborted")
    client = wire.Client(r.at("pool"), receive_buffer=4096, timeout=20)
    client.log_in()
    client.send(wire.query("select repeat('x', 10000) from generate_series(1, 10000)"))
    assert process.wait_until(lambda: lone.ask(
        "select count(*) from pg_stat_activity where wait_event = 'ClientWrite'") == 1, 10)
    lone.restart()
    kinds = set()
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            kind, body = client.message()
            kinds.add(kind)
            if kind == "E":
                assert error_fields(body)["C"] == "08007"
    assert "D" in kinds and not kinds & {"C", "Z"}
    client.close()


# An administrator's word


@pytest.mark.parametrize("prepared", EXTENDED)
def test_what_an_administrator_ends_is_not_done_again(front, lone, prepared):
    r = front(replay="aborted")
    with join(r) as client, join(r) as other:
        lone.ask("insert into t (id) values (7) returning id")
        doing = Later(lambda: client.execute(
            "update t set n = n + 1 + 0 * (select 1 from pg_sleep(30)) where id = 7", prepare=prepared))
        pid = lone.pid_doing("update t")
        lone.ask(f"select pg_terminate_backend({pid})")
        with cut(client, "57P01"):
            doing.result()
        assert one(other, "select n from t where id = 7") == 0
    assert events(r) == (0, 0, 0)


def test_a_transaction_that_an_administrator_ends(front, lone):
    r = front()
    with join(r) as client:
        client.execute("begin")
        lone.ask(f"select pg_terminate_backend({pid_of(client)})")
        with cut(client, "57P01"):
            client.execute("select 1")


def test_what_postgresql_says_to_one_client_reaches_it(front):
    r = front()
    with logged_in(r) as client:
        client.ask("begin")
        client.ask("set local idle_in_transaction_session_timeout = 100")
        fields = client.error()
        assert (fields["S"], fields["C"]) == ("FATAL", "25P03")
        assert client.at_end()


@pytest.mark.parametrize("is_idle", [False, True])
def test_a_session_ends_with_its_server_in_its_words(front, lone, is_idle):
    r = front(pool_mode="session", replay="aborted")
    with logged_in(r) as client:
        pid = value_of(client.ask("select pg_backend_pid()"))
        if not is_idle:
            client.send(wire.query("select pg_sleep(30)"))
            lone.pid_doing("pg_sleep")
        lone.ask(f"select pg_terminate_backend({pid})")
        found = [error_fields(body) for kind, body in rest_of(client) if kind == "E"]
        assert [(fields["S"], fields["C"]) for fields in found] == [("FATAL", "57P01")]


def rest_of(client):
    found = []
    with contextlib.suppress(EOFError):
        while True:
            found.append(client.message())
    return found


# A transaction


def lose(client, lone, begin="begin; insert into t (id) values (7)"):
    """Its transaction, while it is idle in it."""
    client.execute(begin)
    lone.restart()


def test_a_lost_transaction_is_told_and_ends_as_any_other(front, lone):
    r = front()
    with join(r) as client:
        lose(client, lone)
        with pytest.raises(errors.SerializationFailure) as caught:
            client.execute("insert into t (id) values (8)")
        assert caught.value.diag.severity == caught.value.diag.severity_nonlocalized == "ERROR"
        assert "Nothing of it was committed" in caught.value.diag.message_detail
        assert client.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        for text in ("select 1", "commit and chain; select 1"):
            with pytest.raises(errors.InFailedSqlTransaction):
                client.execute("select 1")
        client.execute("rollback")
        assert client.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert one(client, "select count(*) from t") == 0
    assert events(r) == (0, 1, 0)


def test_commit_of_a_lost_transaction_is_no_success(front, lone):
    r = front()
    with join(r) as client:
        lose(client, lone)
        with pytest.raises(errors.SerializationFailure):
            client.execute("commit")
        assert client.info.transaction_status == psycopg.pq.TransactionStatus.IDLE  # as after any that fails
        assert one(client, "select count(*) from t") == 0


@pytest.mark.parametrize("extended", EXTENDED)
def test_rollback_of_a_lost_transaction_is_one(front, lone, extended):
    r = front()
    with logged_in(r) as client:
        assert status_of(client.ask("begin")) == "T"
        lone.restart()
        if extended:
            client.send(run_unnamed("rollback") + SYNC)
            messages = client.messages_until()
        else:
            messages = client.ask("rollback")
        assert errors_of(messages) == [] and status_of(messages) == "I"


def test_a_lost_transaction_by_the_extended_protocol(front, lone):
    """What follows the error is skipped up to Sync, however it comes; names stay what they were."""
    r = front()
    with logged_in(r) as client:
        client.send(parse("select 41 + 1", "a") + SYNC)
        client.messages_until()
        assert status_of(client.ask("begin")) == "T"
        lone.restart()
        client.send(bind("a"))
        assert client.error()["C"] == "40001"
        client.send(execute() + parse("select 1") + bind() + execute() + wire.message("H"))
        client.send(SYNC)
        assert [kind for kind, _ in client.messages_until()] == ["Z"]
        client.send(bind("a") + execute() + SYNC)
        messages = client.messages_until()
        assert errors_of(messages) == ["25P02"] and status_of(messages) == "E"
        assert status_of(client.ask("rollback")) == "I"
        client.send(bind("a") + execute() + SYNC)
        assert value_of(client.messages_until()) == "42"


def test_a_lost_transaction_and_a_long_parse(front, lone):
    """It was being collected when the server ended, or comes in pieces afterwards."""
    r = front()
    text = f"select length('{'x' * 100000}')"
    for is_begun in (False, True):
        with logged_in(r) as client:
            assert status_of(client.ask("begin")) == "T"
            said = parse(text, "long")
            if is_begun:
                client.send(said[:50000])
                time.sleep(0.2)
            lone.restart()
            client.send(said[50000:] if is_begun else said)
            client.send(bind("long") + execute() + SYNC)
            messages = client.messages_until()
            assert errors_of(messages) == ["40001"] and status_of(messages) == "E"
            assert status_of(client.ask("rollback")) == "I"
            client.send(said + bind("long") + execute() + SYNC)
            assert value_of(client.messages_until()) == "100000"


@pytest.mark.parametrize("extended", EXTENDED)
def test_a_transaction_that_is_lost_in_a_statement(front, lone, extended):
    r = front(replay="aborted")
    with logged_in(r) as client:
        client.ask("begin")
        client.ask("insert into t (id) values (7)")
        text = "update t set n = 1 + (select 1 from pg_sleep(2)) where id = 7"
        client.send(run_unnamed(text) + SYNC if extended else wire.query(text))
        lone.pid_doing("update t")
        lone.restart()
        messages = client.messages_until()
        assert errors_of(messages) == ["40001"] and status_of(messages) == "E"
        assert errors_of(client.ask("select 1")) == ["25P02"]
        assert status_of(client.ask("rollback")) == "I"
        assert value_of(client.ask("select count(*) from t")) == "0"


def test_a_transaction_that_is_lost_in_a_crash(front, lone):
    """No COMMIT was asked for: nothing was committed, whatever the server died of."""
    r = front()
    with join(r) as client:
        client.execute("begin; insert into t (id) values (7)")
        doing = Later(lambda: client.execute("update t set n = 1 + (select 1 from pg_sleep(2)) where id = 7"))
        lone.pid_doing("update t")
        lone.restart("immediate")
        with pytest.raises(errors.SerializationFailure):
            doing.result()
        client.execute("rollback")
        assert one(client, "select count(*) from t") == 0


def test_copy_in_a_shutdown(front, lone):
    r = front()
    with logged_in(r) as client:
        client.send(wire.query("copy t (id) from stdin"))
        assert client.message()[0] == "G"
        client.send(message("d", b"7\n"))
        lone.restart()
        messages = client.messages_until()
        assert errors_of(messages) == ["40001"] and status_of(messages) == "I"
        client.send(message("d", b"8\n") + message("c"))
        assert value_of(client.ask("select count(*) from t")) == "0"


def test_drivers_go_on_behind_a_lost_transaction(front, lone):
    """With their own BEGIN, and with what they do when a transaction has failed."""
    r = front()
    with psycopg.connect(r.dsn("pool")) as three, contextlib.closing(psycopg2.connect(r.dsn("pool"))) as two:
        for number in (1, 2):
            cursor = two.cursor()
            cursor.execute("insert into t (id) values (%s)", (number,))
            three.execute("insert into t (id) values (%s)", (10 + number,))
            lone.restart()
            with pytest.raises(psycopg2.errors.SerializationFailure):
                cursor.execute("select 1")
            with pytest.raises(errors.SerializationFailure):
                three.execute("select 1")
            two.rollback()
            three.rollback()
            cursor.execute("insert into t (id) values (%s)", (20 + number,))
            three.execute("insert into t (id) values (%s)", (30 + number,))
            two.commit()
            three.commit()
    assert lone.ask("select array_agg(id order by id) from t") == [21, 22, 31, 32]


# What no real server can be made to do when a test wants it


FATAL = wire.error("57P01", "terminating connection due to administrator command")
COMPLETE, READY = message("C", b"INSERT 0 1\0"), message("Z", b"I")
CUTS = {  # what a server says, in the simple protocol and in the extended one
    "C, FATAL": (COMPLETE + FATAL, COMPLETE + FATAL),
    "C, nothing": (COMPLETE, COMPLETE),
    "FATAL": (FATAL, message("1") + message("2") + FATAL),
    "57P02": (wire.error("57P02", "crash"), wire.error("57P02", "crash")),
    "C and Z, FATAL": (COMPLETE + READY + FATAL, message("1") + message("2") + COMPLETE + READY + FATAL),
    "warning": (wire.message("N", wire.error("57P01", "sync", "WARNING")[5:]),) * 2,
    "ERROR 57P01, Z": (wire.error("57P01", "a worker", "ERROR") + READY,) * 2,
}


class Ending:
    """A server that ends as the first query has it, and then refuses logins for a while."""

    def __init__(self, said):
        self.said, self.asked, self.until = said, [], None

    def run(self, connection):
        code, _ = connection.packet()
        if code in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
            connection.send(b"N")
            connection.packet()
        if self.until is not None and time.monotonic() < self.until:
            connection.send(wire.error("57P03", "the database system is shutting down"))
            return
        connection.send(connection.server.login_answer())
        while True:
            kind, body = connection.message()
            if kind == "X":
                return
            if kind not in "QS" or body[:1] == b"\0":  # server_check_query is empty
                continue
            self.asked.append(kind)
            if self.until is None:
                self.until = time.monotonic() + 0.5
                connection.send(self.said)
                if self.said.endswith(READY):
                    continue
                return
            if kind == "S":
                connection.send(message("1") + message("2"))
            connection.send(answer("well")[answer("well").index(b"D\0"):])


@pytest.mark.parametrize("extended", EXTENDED)
@pytest.mark.parametrize("what, simple, by_extended", [
    ("C, FATAL", "stays", "08007"), ("C, nothing", "stays", "08007"), ("FATAL", "again", "again"),
    ("57P02", "08007", "08007"), ("C and Z, FATAL", "stays", "stays"), ("warning", "08007", "08007"),
    ("ERROR 57P01, Z", "57P01", "57P01")])
def test_how_a_server_can_end(pool, extended, what, simple, by_extended):
    """`stays`: what was heard is success. `again`: it was asked once more. Else the error."""
    ending, expected = Ending(CUTS[what][extended]), by_extended if extended else simple
    with FakePostgres(ending.run) as fake:
        r = pool(main={**QUICK, "replay": "aborted"}, databases={"app": f"host={fake.address} port={fake.port}"})
        with logged_in(r) as client:
            client.send(run_unnamed("insert into t values (1)") + SYNC if extended
                        else wire.query("insert into t values (1)"))
            messages = []
            with contextlib.suppress(EOFError):
                messages = [client.message()]
                while messages[-1][0] != "Z":
                    messages.append(client.message())
            found = errors_of(messages)
            if expected in ("stays", "again"):
                assert found == [] and status_of(messages) == "I"
                assert ending.asked == ["S" if extended else "Q"] * (2 if expected == "again" else 1)
                assert [kind for kind, _ in messages if kind in "12"] == (
                    ["1", "2"] if extended else [])
            else:
                assert found == [expected]
                assert ("Z" in [kind for kind, _ in messages]) == (expected == "57P01")
            assert fake.errors == []


# Many


class Writer(threading.Thread):
    """Inserts rows of its own, one by one, and notes which of them it was told are there."""

    def __init__(self, r, number, is_over):
        super().__init__(daemon=True)
        self.r, self.number, self.is_over = r, number, is_over
        self.acknowledged, self.denied, self.unknown, self.surprises = set(), set(), set(), []

    def run(self):
        connection, i = None, 0
        while not self.is_over.is_set():
            i += 1
            row = self.number * 1000000 + i
            try:
                if connection is None or connection.closed:
                    connection = psycopg.connect(self.r.dsn("pool"), autocommit=True,
                                                 prepare_threshold=None if self.number % 2 else 0)
                connection.execute("insert into t (id) values (%s)", (row,))
                self.acknowledged.add(row)
            except errors.SerializationFailure:
                self.denied.add(row)
            except (errors.TransactionResolutionUnknown, errors.AdminShutdown, psycopg.OperationalError):
                self.unknown.add(row)
            except psycopg.Error as error:
                self.surprises.append(error)
        if connection is not None:
            connection.close()


@pytest.mark.takes(200)
@pytest.mark.parametrize("replay", ["unsent", "aborted"])
def test_nothing_is_doubled_and_nothing_that_was_acknowledged_is_missing(front, lone, replay):
    r = front(replay=replay, default_pool_size=20)
    is_over = threading.Event()
    writers = [Writer(r, number, is_over) for number in range(1, 9)]
    lone.ask("select count(*) from t")
    with lone.connect() as connection:  # a row that comes twice would be seen as one that fails
        connection.execute("alter table t drop constraint t_pkey")
    for writer in writers:
        writer.start()
    for n_round in range(6):
        time.sleep(0.3)
        lone.restart("immediate" if n_round == 3 else "fast")
        with contextlib.suppress(psycopg.Error), lone.connect() as connection:
            for _ in range(40):
                connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app' "
                                   "and pid <> pg_backend_pid() order by random() limit 1")
                time.sleep(0.005)
    time.sleep(0.3)
    is_over.set()
    for writer in writers:
        writer.join(30)
        assert not writer.is_alive()
    with lone.connect() as connection:
        rows = [row for row, in connection.execute("select id from t").fetchall()]
    present = set(rows)
    assert len(rows) == len(present), "doubled"
    for writer in writers:
        assert writer.surprises == []
        assert not writer.acknowledged - present, "acknowledged and missing"
        assert not writer.denied & present, "told to be lost, and there"
    n_replayed, n_lost, _ = events(r)
    assert (n_replayed > 0) == (replay == "aborted")
    assert n_lost > 0 or replay == "aborted"


def test_a_switchover_of_a_real_cluster(cluster, pool):
    """A statement in flight is done on the new primary, a transaction is lost, nobody is cut."""
    r = pool(main={**QUICK, "auth_type": "scram-sha-256", "server_tls_sslmode": "require", "replay": "aborted"})
    cluster.leader().sql("create table if not exists public.moved (id int); grant all on public.moved to app",
                         database="app")
    with join(r) as client, join(r) as idle:
        idle.execute("begin; insert into public.moved values (1)")
        doing = Later(lambda: one(client, "insert into public.moved values (2) "
                                          "returning id + (select 0 from pg_sleep(20))"))
        time.sleep(0.5)
        cluster.switchover()
        with pytest.raises(errors.SerializationFailure):
            idle.execute("select 1")
        idle.execute("rollback")
        assert doing.result(60) == 2
        assert one(idle, "select array_agg(id) from public.moved") == [2]
    cluster.wait_for_roles()
    cluster.leader().sql("drop table public.moved", database="app")


