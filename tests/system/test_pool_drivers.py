"""Drivers of Python with their default settings, more clients than servers.

Each answer is checked to belong to its question: what was asked for has the client's
number in it. Drivers of other languages: test_pool_drivers_elsewhere.py.
"""

import asyncio
import importlib
import io
import ssl

import psycopg
import pytest

from cluster.certificates import Authority
from harness.drivers import N_CLIENTS, N_SERVERS, N_TURNS, Way, has_moved
from harness.pools import Later, Onlooker

LONG = 5_000_000

pytestmark = pytest.mark.usefixtures("main_thread_collects")


def module(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} is not installed: {error}")


# The pool, and the way there


def settings(how):
    """transaction and tls: fewer servers than clients."""
    if how == "session":
        return {"pool_mode": "session", "default_pool_size": N_CLIENTS + 2}
    return {"pool_mode": "transaction", "default_pool_size": N_SERVERS}


@pytest.fixture
def things(cluster):
    """A table of which each client uses its own rows."""
    with psycopg.connect(cluster.leader().dsn("app"), autocommit=True) as connection:
        connection.execute("drop table if exists driver_things")
        connection.execute("create table driver_things (client int, turn int, tag text)")
    return "driver_things"


@pytest.fixture
def way(pool, things, tmp_path):
    """Function: the way to a pool of that kind."""
    def start(how="transaction", **main):
        main = {**settings(how), **main}
        if how != "tls":
            return Way(pool(main=main))
        authority = Authority(str(tmp_path))
        key, certificate = authority.issue("router", ("127.0.0.1", "localhost"))
        r = pool(main={**main, "client_tls_sslmode": "require", "client_tls_key_file": key,
                       "client_tls_cert_file": certificate})
        return Way(r, sslmode="verify-full", sslrootcert=authority.certificate)

    return start


def all_at_once(function, n=N_CLIENTS, seconds=90):
    """function(number) in as many threads; what they have returned."""
    calls = [Later(lambda number=number: function(number)) for number in range(n)]
    return [call.result(seconds) for call in calls]


# Drivers that follow DB-API: a module each, with what differs


class Psycopg2:
    mark, module = "%s", "psycopg2"

    def connect(self, way, **more):
        return module("psycopg2").connect(way.dsn(**more))

    def sqlstate(self, error):
        return error.pgcode


class Psycopg3(Psycopg2):
    module = "psycopg"

    def connect(self, way, **more):
        return psycopg.connect(way.dsn(**more))

    def sqlstate(self, error):
        return error.sqlstate


class Odbc:
    mark, module = "?", "pyodbc"

    def connect(self, way, **more):
        pyodbc = module("pyodbc")
        if "PostgreSQL Unicode" not in pyodbc.drivers():
            pytest.skip("ODBC's driver for PostgreSQL (odbc-postgresql) is not installed")
        parts = {"Driver": "{PostgreSQL Unicode}", "Server": way.host, "Port": way.port, "UID": way.user,
                 "PWD": way.password, "Database": way.database,
                 "SSLmode": way.tls.get("sslmode", "disable"), **more}
        if way.tls:
            parts["pqopt"] = "{sslrootcert=" + way.tls["sslrootcert"] + "}"
        pyodbc.pooling = False
        return pyodbc.connect(";".join(f"{key}={value}" for key, value in parts.items()))

    def sqlstate(self, error):
        return error.args[0]


DRIVERS = {"psycopg2": Psycopg2(), "psycopg": Psycopg3(), "odbc": Odbc()}


@pytest.fixture(params=DRIVERS)
def driver(request):
    found = DRIVERS[request.param]
    module(found.module)
    return found


def row_of(cursor, query, *values):
    cursor.execute(query, values)
    return tuple(cursor.fetchone())


def talk(driver, connection, number, turns=N_TURNS):
    """Statements with parameters many times, errors, transactions that end either way. Returns
    the servers that the client has been on."""
    module_of = importlib.import_module(driver.module)
    mark, cursor, pids = driver.mark, connection.cursor(), set()
    for turn in range(turns):
        connection.autocommit = turn % 4 < 2
        tag = f"{number}:{turn}"
        found = row_of(cursor, f"select cast({mark} as text), cast({mark} as int) + 1, pg_backend_pid()",
                       tag, turn)
        assert found[:2] == (tag, turn + 1)
        pids.add(found[2])
        query = f"select '{turn % 7}' || cast({mark} as text)"
        assert row_of(cursor, query, tag) == (f"{turn % 7}{tag}",)
        if turn % 5 == 0:
            with pytest.raises(module_of.Error) as caught:
                row_of(cursor, f"select 1 / cast({mark} as int)", 0)
            assert driver.sqlstate(caught.value) == "22012"
            if not connection.autocommit:
                connection.rollback()
        if connection.autocommit:
            continue
        insert = f"insert into driver_things values ({mark}, {mark}, {mark})"
        cursor.execute(insert, (number, turn, "kept"))
        connection.commit()
        cursor.execute(insert, (number, turn, "taken back"))
        connection.rollback()
    query = f"select count(*), max(tag) from driver_things where client = {mark}"
    assert row_of(cursor, query, number) == (turns // 2, "kept")
    connection.rollback()
    return pids


@pytest.mark.parametrize("how", ["transaction", "tls", "session"])
def test_clients_share_servers(way, driver, how):
    to = way(how)
    connections = [driver.connect(to) for _ in range(N_CLIENTS)]
    servers = all_at_once(lambda number: talk(driver, connections[number], number))
    assert has_moved(servers) == (how != "session")
    for connection in connections:
        connection.close()


def test_large_results(way, driver):
    to = way()

    def ask(number):
        connection = driver.connect(to)
        cursor = connection.cursor()
        letter = "abcdefgh"[number]
        for _ in range(2):
            found, = row_of(cursor, f"select repeat(cast({driver.mark} as text), {LONG})", letter)
            assert found == letter * LONG
            cursor.execute(f"select x * {driver.mark} from generate_series(1, 30000) x", (number + 1,))
            assert [x for x, in cursor.fetchall()] == list(range(number + 1, 30000 * (number + 1) + 1, number + 1))
            connection.commit()
        connection.close()
        return True

    assert all(all_at_once(ask, 3))


@pytest.mark.parametrize("text", ["discard all", "deallocate all"])
def test_all_statements_are_dropped(way, driver, text):
    """Each client's are its own; it goes on with others."""
    to = way()
    connections = [driver.connect(to) for _ in range(4)]

    def ask(number):
        connection = connections[number]
        cursor = connection.cursor()
        connection.autocommit = True
        for turn in range(10):
            if number == 0 and turn % 3 == 2:
                cursor.execute(text)
            # psycopg prepares what was said five times, and does not know that it was dropped.
            for _ in range(1 if number == 0 else 6):
                query = f"select cast({driver.mark} as text) || '{turn // 3}'"
                assert row_of(cursor, query, f"{number}:") == (f"{number}:{turn // 3}",)
        return True

    assert all(all_at_once(ask, 4))
    for connection in connections:
        connection.close()


def test_a_server_that_was_ended(cluster, way, driver):
    """By who was on it: an error, and a new connection is as good as ever. While nobody was on
    it: nothing."""
    to = way()
    module_of = importlib.import_module(driver.module)
    victim, other = driver.connect(to), driver.connect(to)
    victim.autocommit = other.autocommit = True
    for _ in range(7):
        assert row_of(other.cursor(), f"select cast({driver.mark} as int)", 7) == (7,)
    with pytest.raises(module_of.Error):
        victim.cursor().execute("select pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(module_of.Error):
        victim.cursor().execute("select 1")
    with Onlooker(cluster.leader()) as node:
        node.connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        assert node.sees(0)
    assert row_of(other.cursor(), f"select cast({driver.mark} as int)", 7) == (7,)
    again = driver.connect(to)
    assert row_of(again.cursor(), f"select cast({driver.mark} as int)", 8) == (8,)
    for connection in (victim, other, again):
        connection.close()


# psycopg2 and psycopg


@pytest.fixture(params=["psycopg2", "psycopg"])
def libpq_driver(request):
    module(DRIVERS[request.param].module)
    return DRIVERS[request.param]


def test_cancel(way, libpq_driver):
    """The query that is meant, and no other."""
    to = way()
    module_of = importlib.import_module(libpq_driver.module)

    def ask(number):
        connection = libpq_driver.connect(to)
        for turn in range(5):
            waiting = Later(lambda: connection.cursor().execute("select pg_sleep(30)"))
            while not waiting.is_over(0.1):  # it may not have been on a server
                connection.cancel()
            with pytest.raises(module_of.errors.QueryCanceled):
                waiting.result()
            connection.rollback()
            with connection.cursor() as cursor:
                assert row_of(cursor, "select %s::text", f"{number}:{turn}") == (f"{number}:{turn}",)
            connection.commit()
        connection.close()
        return True

    def work(number):
        connection = libpq_driver.connect(to)
        connection.autocommit = True
        for turn in range(300):
            assert row_of(connection.cursor(), "select %s::int, %s::text", number, f"{turn}") == (number, f"{turn}")
        connection.close()
        return True

    others = Later(lambda: all(all_at_once(work, 3)))
    assert all(all_at_once(ask, 2))
    assert others.result(60)


def test_copy_with_psycopg2(way):
    psycopg2 = module("psycopg2")
    to = way()

    def copy(number):
        connection = psycopg2.connect(to.dsn())
        cursor = connection.cursor()
        lines = "".join(f"{number}\t{turn}\ta line of {number}\n" for turn in range(20000))
        cursor.copy_expert("copy driver_things from stdin", io.StringIO(lines))
        connection.commit()
        out = io.StringIO()
        cursor.copy_expert(f"copy (select * from driver_things where client = {number} order by turn) to stdout", out)
        assert out.getvalue() == lines
        with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
            cursor.copy_expert("copy driver_things from stdin", io.StringIO(f"{number}\tnone\tx\n"))
        connection.rollback()
        assert row_of(cursor, "select count(*) from driver_things where client = %s", number) == (20000,)
        connection.close()
        return True

    assert all(all_at_once(copy, 4))


def test_copy_with_psycopg(way):
    to = way()

    def copy(number):
        with psycopg.connect(to.dsn()) as connection, connection.cursor() as cursor:
            with cursor.copy("copy driver_things from stdin") as copying:
                for turn in range(5000):
                    copying.write_row((number, turn, f"a line of {number}"))
            connection.commit()
            with cursor.copy("copy (select * from driver_things where client = %s order by turn) to stdout",
                             (number,)) as copying:
                copying.set_types(["int4", "int4", "text"])
                assert list(copying.rows()) == [(number, turn, f"a line of {number}") for turn in range(5000)]
            with pytest.raises(psycopg.errors.QueryCanceled):  # the driver fails the COPY
                with cursor.copy("copy driver_things from stdin") as copying:
                    copying.write_row((number, 1 // 0, ""))
            connection.rollback()
            assert row_of(cursor, "select count(*) from driver_things where client = %s", number) == (5000,)
        return True

    assert all(all_at_once(copy, 4))


def test_notices_reach_who_has_caused_them(way):
    to = way()

    def ask(number):
        heard = []
        with psycopg.connect(to.dsn(), autocommit=True) as connection:
            connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
            for turn in range(50):
                connection.execute(f"do $$ begin raise notice '{number}:{turn}'; end $$")
        assert heard == [f"{number}:{turn}" for turn in range(50)]
        return True

    assert all(all_at_once(ask))


def test_settings_of_a_session_with_psycopg2(way):
    """Those that the driver itself makes stay with their client."""
    psycopg2 = module("psycopg2")
    to = way()

    def ask(number):
        connection = psycopg2.connect(to.dsn(application_name=f"client {number}"))
        connection.set_client_encoding("LATIN1" if number % 2 else "UTF8")
        connection.set_session(readonly=number % 3 == 0, isolation_level="SERIALIZABLE" if number % 2 else None)
        cursor = connection.cursor()
        for _ in range(N_TURNS):
            assert row_of(cursor, "select current_setting('application_name'), %s::text", "\u00e9") == \
                (f"client {number}", "\u00e9")
            assert row_of(cursor, "show client_encoding") == ("LATIN1" if number % 2 else "UTF8",)
            assert row_of(cursor, "show transaction_read_only") == ("on" if number % 3 == 0 else "off",)
            assert row_of(cursor, "show transaction_isolation") == ("serializable" if number % 2 else "read committed",)
            connection.commit()
        connection.close()
        return True

    assert all(all_at_once(ask))


def test_cursors_with_psycopg2(way):
    """A named cursor lives for a transaction, on one server."""
    psycopg2 = module("psycopg2")
    to = way()

    def ask(number):
        connection = psycopg2.connect(to.dsn())
        for _ in range(5):
            with connection.cursor("numbers") as cursor:
                cursor.itersize = 100
                cursor.execute("select x + %s from generate_series(1, 2000) x", (number,))
                assert [x for x, in cursor] == list(range(number + 1, number + 2001))
            connection.commit()
        connection.close()
        return True

    assert all(all_at_once(ask))


# asyncpg


def for_asyncpg(way):
    """Arguments of its connect() and create_pool()."""
    found = {"host": way.host, "port": way.port, "user": way.user, "password": way.password,
             "database": way.database}
    if way.tls:
        found["ssl"] = ssl.create_default_context(cafile=way.tls["sslrootcert"])
    return found


async def talk_by_asyncpg(asyncpg, connection, number):
    pids = set()
    for turn in range(N_TURNS):
        tag = f"{number}:{turn}"
        found = await connection.fetchrow("select $1::text, $2::int + 1, pg_backend_pid()", tag, turn)
        assert tuple(found)[:2] == (tag, turn + 1)
        pids.add(found[2])
        assert await connection.fetchval(f"select '{turn % 7}' || $1::text", tag) == f"{turn % 7}{tag}"
        if turn % 5 == 0:
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetchval("select 1 / $1::int", 0)
        if turn % 2:
            continue
        async with connection.transaction():
            await connection.execute("insert into driver_things values ($1, $2, $3)", number, turn, "kept")
            numbers = [x async for x, in connection.cursor("select $1 + x from generate_series(1, 200) x", turn)]
            assert numbers == list(range(turn + 1, turn + 201))
        with pytest.raises(ZeroDivisionError):
            async with connection.transaction():
                await connection.execute("insert into driver_things values ($1, $2, $3)", number, turn, "taken back")
                raise ZeroDivisionError
    found = await connection.fetchrow("select count(*), max(tag) from driver_things where client = $1", number)
    assert tuple(found) == (N_TURNS // 2, "kept")
    return pids


@pytest.mark.parametrize("how", ["transaction", "tls", "session"])
def test_asyncpg(way, how):
    asyncpg = module("asyncpg")
    to = way(how)

    async def main():
        async with asyncpg.create_pool(min_size=N_CLIENTS, max_size=N_CLIENTS, **for_asyncpg(to)) as clients:
            async def ask(number):
                async with clients.acquire() as connection:
                    return await talk_by_asyncpg(asyncpg, connection, number)

            return await asyncio.gather(*(ask(number) for number in range(N_CLIENTS)))

    assert has_moved(asyncio.run(main())) == (how != "session")


def test_asyncpgs_own_pool(way):
    """It resets a connection that is given back to it; whoever gets that next has lost nothing."""
    asyncpg = module("asyncpg")
    to = way()

    async def main():
        async with asyncpg.create_pool(min_size=4, max_size=4, server_settings={"application_name": "mine"},
                                       **for_asyncpg(to)) as clients:
            async def ask(number):
                for turn in range(25):
                    async with clients.acquire() as connection:
                        assert await connection.fetchval("select $1::text", f"{number}:{turn}") == f"{number}:{turn}"
                        assert await connection.fetchval("show application_name") == "mine"
                        if turn % 5 == 0:
                            await connection.execute("set application_name = 'other'")

            await asyncio.gather(*(ask(number) for number in range(8)))

    asyncio.run(main())


def test_asyncpg_asks_for_types(cluster, way):
    """That it does not know; in several queries, which may be on several servers."""
    asyncpg = module("asyncpg")
    with psycopg.connect(cluster.leader().dsn("app"), autocommit=True) as node:
        node.execute("drop type if exists driver_pair, driver_mood cascade")
        node.execute("create type driver_mood as enum ('fine', 'well')")
        node.execute("create type driver_pair as (mood driver_mood, numbers int[])")
    to = way()

    async def ask(number):
        connection = await asyncpg.connect(**for_asyncpg(to))
        for turn in range(10):
            pairs = [("fine", [number, turn]), ("well", [])]
            found = await connection.fetchval("select $1::driver_pair[]", pairs)
            assert [tuple(pair) for pair in found] == pairs
        await connection.close()

    async def main():
        await asyncio.gather(*(ask(number) for number in range(N_CLIENTS)))

    asyncio.run(main())


def test_asyncpg_times_out(way):
    """It cancels then, sometimes before the query has reached its server; and copies."""
    asyncpg = module("asyncpg")
    to = way()

    async def ask(number):
        connection = await asyncpg.connect(**for_asyncpg(to))
        for turn in range(4):
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetchval("select pg_sleep($1)", 4, timeout=0.2)
            assert await connection.fetchval("select $1::text", f"{number}:{turn}", timeout=30) == f"{number}:{turn}"
        rows = [(number, turn, "copied") for turn in range(5000)]
        await connection.copy_records_to_table("driver_things", records=rows)
        out = io.BytesIO()
        await connection.copy_from_query("select * from driver_things where client = $1 order by turn", number,
                                         output=out)
        assert out.getvalue() == b"".join(b"%d\t%d\tcopied\n" % row[:2] for row in rows)
        long = await connection.fetchval("select repeat($1, $2)", str(number), LONG, timeout=30)
        assert long == str(number) * LONG
        heard = []
        connection.add_log_listener(lambda _, notice: heard.append(notice.message))
        await connection.execute(f"do $$ begin raise notice 'for {number}'; end $$")
        await asyncio.sleep(0)
        assert heard == [f"for {number}"]
        await connection.close()

    async def main():
        await asyncio.gather(*(ask(number) for number in range(4)))

    asyncio.run(main())


def test_asyncpg_loses_its_server(cluster, way):
    asyncpg = module("asyncpg")
    to = way()

    async def main():
        victim, other = [await asyncpg.connect(**for_asyncpg(to)) for _ in range(2)]
        assert await other.fetchval("select $1::int", 7) == 7
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await victim.execute("select pg_terminate_backend(pg_backend_pid())")
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await victim.fetchval("select 1")
        with Onlooker(cluster.leader()) as node:
            node.connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
            assert node.sees(0)
        assert await other.fetchval("select $1::int", 7) == 7  # prepared elsewhere
        again = await asyncpg.connect(**for_asyncpg(to))
        assert await again.fetchval("select $1::int", 8) == 8
        await other.close()
        await again.close()

    asyncio.run(main())
