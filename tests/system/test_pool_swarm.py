"""A file as it runs on a Docker Swarm: any database, sessions, one fixed host; and what Odoo does
with it by psycopg2."""

import pytest

from cluster import process
from harness.pools import Later, Onlooker
from harness.ports import free_port

psycopg2 = pytest.importorskip("psycopg2", reason="psycopg2 is not installed")

pytestmark = pytest.mark.usefixtures("main_thread_collects")

TENANTS = ("tenant_a", "tenant_b", "tenant_c")


@pytest.fixture
def swarm(cluster, start_router, tmp_path):
    """The dsn of a database, as Odoo makes it; .router"""
    leader = cluster.leader()
    for name in TENANTS:
        leader.sql(f"drop database if exists {name} with (force)")
    leader.sql("alter role app createdb")
    (tmp_path / "userlist.txt").write_text(f'"app" "{cluster.passwords["app"]}"\n')
    port = free_port()
    r = start_router(passwords=cluster.passwords, sections={
        "databases": {"*": f"host=patroni-node1 port={leader.port} pool_size=25"},
        "pgbouncer": {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "md5",
            "auth_file": tmp_path / "userlist.txt", "admin_users": "postgres, pgbouncer_admin",
            "pool_mode": "session", "max_client_conn": 10000, "default_pool_size": 25, "min_pool_size": 10,
            "reserve_pool_size": 5, "reserve_pool_timeout": 3, "max_db_connections": 100,
            "max_user_connections": 100, "server_idle_timeout": 600, "server_lifetime": 3600,
            "server_connect_timeout": 15, "server_login_retry": 1, "query_timeout": 0,
            "ignore_startup_parameters": "extra_float_digits,application_name"},
        "cluster main": {"nodes": cluster.nodes_setting(), "aliases": "patroni-node1",
                         "check_interval": "200ms"},
        "stats": {"bind": f"127.0.0.1:{free_port()}"}})

    def dsn(database):
        return cluster.dsn("127.0.0.1", port, "app", database, application_name="odoo-4711", connect_timeout=15)

    dsn.router = r
    yield dsn
    for name in TENANTS:
        cluster.leader().sql(f"drop database if exists {name} with (force)")
    cluster.leader().sql("alter role app nocreatedb")


def connect(dsn, database):
    """As Odoo's pool does."""
    connection = psycopg2.connect(dsn(database))
    connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ)
    return connection


def run(connection, query, *values):
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall() if cursor.description else None


def by_itself(dsn, database, *queries):
    connection = psycopg2.connect(dsn(database))
    connection.autocommit = True
    found = [run(connection, query) for query in queries]
    connection.close()
    return found


def create(dsn, name):
    by_itself(dsn, "postgres", f'create database "{name}" encoding \'unicode\' template "template0"')
    by_itself(dsn, name, "create table partner (id serial primary key, name text, touched int default 0)",
              "insert into partner (name) select 'partner ' || x from generate_series(1, 2000) x")


def test_tenants(cluster, swarm):
    """Each with its database, which the router has never heard of before."""
    for name in TENANTS:
        create(swarm, name)

    def work(name, number):
        for turn in range(3):
            connection = connect(swarm, name)
            for _ in range(4):
                connection.reset()  # when it is borrowed
                connection.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ)
                assert run(connection, "select current_database(), current_setting('transaction_isolation')") == \
                    [(name, "repeatable read")]
                with connection.cursor("partners") as cursor:
                    cursor.itersize = 300
                    cursor.execute("select name from partner order by id")
                    assert [text for text, in cursor] == [f"partner {x}" for x in range(1, 2001)]
                run(connection, 'savepoint "a-b-c"')
                with pytest.raises(psycopg2.errors.UniqueViolation):
                    run(connection, "insert into partner values (1)")
                run(connection, 'rollback to savepoint "a-b-c"')
                run(connection, 'release savepoint "a-b-c"')
                run(connection, "create temp table mine on commit drop as select %s as x", number)
                assert run(connection, "select x from mine") == [(number,)]
                mine = number * 100 + turn
                run(connection, "insert into partner (id, name) values (%s, 'x')", 10000 + mine)
                connection.rollback()
                run(connection, "select pg_advisory_lock(%s)", mine)
                try:
                    run(connection, "update partner set touched = touched + 1 where id = %s", number + 1)
                    connection.commit()
                finally:
                    run(connection, "select pg_advisory_unlock(%s)", mine)
                connection.commit()
            connection.close()
        return True

    calls = [Later(lambda name=name, number=number: work(name, number)) for name in TENANTS for number in range(5)]
    assert all(call.result(80) for call in calls)
    for name in TENANTS:
        assert by_itself(swarm, name, "select sum(touched) from partner") == [[(5 * 12,)]]


def test_the_bus(swarm):
    """Odoo listens in the database postgres, in a session of its own."""
    listening = psycopg2.connect(swarm("postgres"))
    listening.autocommit = True
    run(listening, "listen imbus")
    by_itself(swarm, "postgres", "notify imbus, 'first'")

    def has_heard():
        listening.poll()
        return listening.notifies

    assert process.wait_until(has_heard, 10)
    assert listening.notifies[0].payload == "first"
    listening.close()


def test_a_tenant_is_dropped(cluster, swarm):
    """Odoo ends all sessions with it, and drops it at once; servers that wait for clients do not
    stand in its way."""
    create(swarm, "tenant_a")
    connections = [connect(swarm, "tenant_a") for _ in range(3)]
    for connection in connections:
        run(connection, "select 1")
    with Onlooker(cluster.leader()) as node:
        # min_pool_size
        assert process.wait_until(lambda: node.count("datname = 'tenant_a'") >= 10, 10)
    by_itself(swarm, "postgres",
              "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'tenant_a' "
              "and pid != pg_backend_pid()",
              'drop database "tenant_a"')
    for connection in connections:
        with pytest.raises(psycopg2.OperationalError):
            run(connection, "select 1")
        connection.close()
    with pytest.raises(psycopg2.OperationalError):
        by_itself(swarm, "tenant_a", "select 1")
    create(swarm, "tenant_a")
    assert by_itself(swarm, "tenant_a", "select count(*) from partner") == [[(2000,)]]


def test_the_next_write_goes_to_the_new_primary(cluster, swarm):
    """The file names one node, and none by its role."""
    create(swarm, "tenant_b")
    session = connect(swarm, "tenant_b")
    run(session, "select 1")
    session.commit()
    new = cluster.switchover()
    swarm.router.log.wait("primary changed", **{"is": new.name})
    with pytest.raises(psycopg2.OperationalError):
        run(session, "select 1")
    session.close()
    answers = by_itself(swarm, "tenant_b", "update partner set touched = 7 where id = 7",
                        "select host(inet_server_addr()), pg_is_in_recovery()")
    assert answers[1] == [(new.address, False)]
