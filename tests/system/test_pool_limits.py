"""How many servers a pool has, whichever worker its clients are on."""

import contextlib
import time

import psycopg
import pytest

from cluster import process
from harness.background import Background
from harness.pools import Later, Onlooker, join, one, pid_of

TRANSACTION = {"pool_mode": "transaction"}


class Crowd:
    """Clients that never rest, and the most of them that a node has served at a time."""

    def __init__(self, *clients):
        self.clients = list(clients)
        self.n_done = [0] * len(clients)

    def work(self, node, seconds, where="true", until=0):
        """Most servers that were at work together during so many seconds, and during 20 more
        while they were fewer than `until`."""
        most, end = 0, time.monotonic() + seconds

        def goes_on():
            return time.monotonic() < (end if most >= until else end + 20)

        def go_on(number):
            while goes_on():
                self.clients[number].execute("select pg_sleep(0.02)")
                self.n_done[number] += 1

        calls = [Later(lambda number=number: go_on(number)) for number in range(len(self.clients))]
        while goes_on():
            most = max(most, node.count(f"state = 'active' and {where}"))
        for call in calls:
            call.result()
        return most

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()


def crowd(router, n, **more):
    return Crowd(*[join(router, **more) for _ in range(n)])


# Each limit over all workers: four times as many clients as servers


def test_default_pool_size_holds_over_all_workers(cluster, pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 5})
    with crowd(r, 20) as clients, Onlooker(cluster.leader()) as node:
        assert clients.work(node, 4) == 5
        assert min(clients.n_done) > 0
        assert node.count() <= 5


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_one_more_than_default_pool_size_waits(pool, mode):
    r = pool(main={"pool_mode": mode, "default_pool_size": 3})
    busy = [join(r) for _ in range(3)]
    for client in busy:
        client.execute("begin")
        client.execute("select 1")
    with join(r) as beyond:
        waiting = Later(lambda: one(beyond, "select 1"))
        assert not waiting.is_over(0.5)
        busy[1].execute("commit")
        if mode == "session":
            assert not waiting.is_over(0.3)
            busy[1].close()
        assert waiting.result() == 1
    for client in busy:
        client.close()


def test_pool_size_of_a_database_and_of_a_user(cluster, pool):
    """The user's goes before the database's, and that before default_pool_size."""
    r = pool(main={**TRANSACTION, "default_pool_size": 9},
             databases={"app": "cluster=main pool_size=2", "wide": "cluster=main dbname=app"},
             users={"postgres": "pool_size=4"})
    # Queries tell who is who: the superuser is a client here, too.
    with Onlooker(cluster.leader()) as node:
        with crowd(r, 8) as clients:
            assert clients.work(node, 2) == 2
        with crowd(r, 36, database="wide") as clients:
            assert clients.work(node, 3) == 9
        busy = [join(r, user="postgres", database="app") for _ in range(5)]
        for client in busy[:4]:
            client.execute("begin")
            client.execute("select 1")
        waiting = Later(lambda: one(busy[4], "select 1"))
        assert not waiting.is_over(0.5)
        busy[0].execute("commit")
        assert waiting.result() == 1
        for client in busy:
            client.close()


def test_max_db_connections_holds_over_all_workers(cluster, pool):
    """Over the users of a database; the database's own goes before that of all."""
    second = {"second": cluster.passwords["app"]}
    leader = cluster.leader()
    leader.sql(f"create role second login password '{cluster.passwords['app']}'")
    try:
        secrets = {user: cluster.passwords[user] for user in ("app", "postgres")} | second
        r = pool(main={**TRANSACTION, "max_db_connections": 6}, secrets=secrets,
                 databases={"app": "cluster=main",
                            "small": "cluster=main dbname=app max_db_connections=3"})
        r.passwords = {**cluster.passwords, **second}
        for database, limit in (("app", 6), ("small", 3)):
            both = Crowd(*[join(r, user=user, database=database)
                           for user in ("app", "second") for _ in range(2 * limit)])
            with both, Onlooker(leader) as node:
                assert both.work(node, 3) == limit
                assert min(both.n_done) > 0
        r.stop()
    finally:
        leader.sql("drop role second")


def test_max_user_connections_holds_over_all_workers(cluster, pool):
    """Over the databases of a user; the user's own goes before that of all."""
    databases = {"app": "cluster=main", "other": "cluster=main dbname=app"}
    for users, main, limit in (({}, {"max_user_connections": 5}, 5),
                               ({"app": "max_user_connections=3"}, {"max_user_connections": 5}, 3)):
        r = pool(main={**TRANSACTION, **main}, databases=databases, users=users)
        both = Crowd(*[join(r, database=database)
                       for database in databases for _ in range(2 * limit)])
        with both, Onlooker(cluster.leader()) as node:
            assert both.work(node, 3) == limit
            assert min(both.n_done) > 0
        r.stop()


def test_max_node_connections_holds_over_all_pools(cluster, pool):
    """Each replica may have three: idle servers of one pool make room for another's."""
    r = pool(main={**TRANSACTION, "max_node_connections": 3},
             databases={name: "cluster=main role=replica dbname=app" for name in ("a", "b", "c")})
    with Onlooker(cluster.replicas()[0]) as one_node, Onlooker(cluster.replicas()[1]) as other:
        everyone = Crowd(*[join(r, database=name) for name in ("a", "b", "c") for _ in range(8)])
        with everyone:
            with Background(lambda: other.count("state = 'active'")) as looking:
                assert everyone.work(one_node, 4) == 3
            assert max(looking.results) == 3
            assert looking.errors == []
            assert min(everyone.n_done) > 0
            assert one_node.count() <= 3 and other.count() <= 3


def test_idle_servers_of_one_pool_make_room_for_another(cluster, pool):
    r = pool(main={**TRANSACTION, "max_node_connections": 4},
             databases={"a": "cluster=main dbname=app", "b": "cluster=main dbname=app"})
    with Onlooker(cluster.leader()) as node:
        for name in ("a", "b", "a"):
            with crowd(r, 4, database=name) as clients:
                assert clients.work(node, 1) == 4
                assert node.sees(4)


# Who waits


@pytest.mark.parametrize("n_workers", [1, 4])
def test_who_has_waited_longest_is_next(pool, n_workers):
    r = pool(main={**TRANSACTION, "default_pool_size": 1, "workers": n_workers})
    holder = join(r)
    holder.execute("begin")
    holder.execute("select 1")
    clients = [join(r) for _ in range(8)]
    calls = []
    for client in clients:
        calls.append(Later(lambda client=client: one(client, "select clock_timestamp()")))
        assert not calls[-1].is_over(0.1)
    holder.execute("commit")
    served_at = [call.result() for call in calls]
    assert served_at == sorted(served_at)
    for client in [holder, *clients]:
        client.close()


def test_who_leaves_the_queue_is_not_served(cluster, pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 1})
    with join(r) as holder, join(r) as patient:
        holder.execute("begin")
        holder.execute("select 1")
        leaver = join(r)
        leaver.pgconn.send_query(b"create table by_who_left (x int)")
        waiting = Later(lambda: one(patient, "select 'served'"))
        assert not waiting.is_over(0.3)
        leaver.close()
        assert process.wait_until(lambda: r.sessions()[0] == 2, 5)
        holder.execute("commit")
        assert waiting.result() == "served"
        assert one(patient, "select to_regclass('by_who_left') is null")


def test_a_refused_client_takes_no_place(pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 2, "query_wait_timeout": "400ms"})
    for _ in range(3):
        busy = [join(r) for _ in range(2)]
        for client in busy:
            client.execute("begin")
            client.execute("select 1")
        beyond = [join(r) for _ in range(4)]
        calls = [Later(lambda client=client: client.execute("select 1")) for client in beyond]
        for call in calls:
            with pytest.raises(psycopg.Error, match="query_wait_timeout"):
                call.result()
        for client in [*busy, *beyond]:
            client.close()


def test_places_of_servers_that_died_are_given_back(cluster, pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 2, "server_login_retry": "100ms"})
    with Onlooker(cluster.leader()) as node:
        for _ in range(4):
            with crowd(r, 8) as clients:
                assert clients.work(node, 0.5, until=2) == 2
            for pid in node.pids():
                node.ask(f"select pg_terminate_backend({pid})")
            assert process.wait_until(lambda: node.count() == 0, 10)


def test_a_server_that_dies_under_a_client_ends_that_client_only(cluster, pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 2})
    with join(r) as victim, join(r) as other, Onlooker(cluster.leader()) as node:
        victim.execute("begin")
        pid = pid_of(victim)
        other.execute("begin")
        other.execute("select 1")
        node.ask(f"select pg_terminate_backend({pid})")
        with pytest.raises(psycopg.OperationalError):
            victim.execute("select 1")
        assert one(other, "select 'still here'") == "still here"
        other.execute("commit")
        with join(r) as later:
            assert one(later, "select 1") == 1


# Above and below


def test_reserve_pool(cluster, pool):
    r = pool(main={**TRANSACTION, "default_pool_size": 2, "reserve_pool_size": 3,
                   "reserve_pool_timeout": "1s"})
    with crowd(r, 12) as clients, Onlooker(cluster.leader()) as node:
        for client in clients.clients[:2]:
            client.execute("begin")
            client.execute("select 1")
        waiting = Later(lambda: one(clients.clients[2], "select 1"))
        assert not waiting.is_over(0.6)
        assert waiting.result(5) == 1
        assert node.count() == 3
        for client in clients.clients[:2]:
            client.execute("commit")
        for client in clients.clients[:10]:
            client.execute("begin") if client in clients.clients[:5] else None
        calls = [Later(lambda client=client: one(client, "select 1")) for client in clients.clients[:8]]
        assert node.sees(5)
        time.sleep(2)
        assert node.count() == 5
        for client, call in zip(clients.clients[:5], calls):
            call.result()
            client.execute("commit")
        for call in calls:
            call.result()


def test_reserve_pool_of_a_database_and_of_a_user(cluster, pool):
    """The user's goes before the database's, and that before the general one."""
    r = pool(main={**TRANSACTION, "default_pool_size": 1, "reserve_pool_size": 0,
                   "reserve_pool_timeout": "500ms"},
             databases={"app": "cluster=main reserve_pool_size=1", "none": "cluster=main dbname=app"},
             users={"postgres": "reserve_pool_size=2"})

    def served(**more):
        """How many of five get a server, each in a transaction that stays open."""
        clients = [join(r, **more) for _ in range(5)]
        calls = [Later(lambda client=client: client.execute("begin; select 1")) for client in clients]
        time.sleep(2)
        n = sum(call.is_over() for call in calls)
        for client in clients:
            client.close()
        return n

    assert served(database="none") == 1
    assert served(database="app") == 2
    assert served(database="none", user="postgres") == 3


@pytest.mark.parametrize("where", ["main", "database"])
def test_min_pool_size_is_kept_open(cluster, pool, where):
    r = pool(main={**TRANSACTION, "default_pool_size": 9, "server_idle_timeout": "1s",
                   "min_pool_size": 3 if where == "main" else 0},
             databases={"app": "cluster=main" + (" min_pool_size=3" if where == "database" else "")})
    with join(r) as client, Onlooker(cluster.leader()) as node:
        assert one(client, "select 1") == 1
        assert node.sees(3)
        time.sleep(2.5)
        assert node.count() == 3
        for pid in node.pids():
            node.ask(f"select pg_terminate_backend({pid})")
        assert node.sees(3)


def test_min_pool_size_needs_no_client_where_the_user_is_known(cluster, pool):
    """A database with a user of its own; its servers go to the new primary by themselves."""
    r = pool(main=TRANSACTION, databases={"app": "cluster=main user=app min_pool_size=3",
                                          "cold": "cluster=main dbname=app min_pool_size=3"})
    with Onlooker(cluster.leader()) as node:
        assert node.sees(3)
        r.sections["databases"]["app"] = "cluster=main user=app min_pool_size=5"
        r.reload()
        assert node.sees(5)
        time.sleep(1.5)
        assert node.count() == 5


def test_min_pool_size_waits_for_a_key_and_says_so(cluster, pool):
    """With a SCRAM secret there is nothing to log in with until a client has shown its key."""
    with Onlooker(cluster.leader()) as node:
        secret = node.ask("select rolpassword from pg_authid where rolname = 'app'")
        r = pool(main={**TRANSACTION, "admin_users": "postgres", "min_pool_size": 2,
                       "server_login_retry": "1s"},
                 databases={"app": "cluster=main user=app"},
                 secrets={"app": secret, "postgres": cluster.passwords["postgres"]})
        with psycopg.connect(r.dsn("pool", user="postgres", dbname="pgbouncer"), autocommit=True) as c:
            assert process.wait_until(lambda: "no client has logged in by SCRAM yet" in
                                      c.execute("SHOW POOLS").fetchone()[-6], 10)
            assert node.count() == 0
            with join(r):
                assert node.sees(2)
            assert c.execute("SHOW POOLS").fetchone()[-6] == ""


# New settings


def test_a_reload_applies_to_pools_that_nobody_comes_to(cluster, pool):
    """Who waits already is served by what it sets free, and idle servers have its times."""
    r = pool(main={**TRANSACTION, "default_pool_size": 1})
    with contextlib.ExitStack() as stack, Onlooker(cluster.leader()) as node:
        clients = [stack.enter_context(join(r)) for _ in range(8)]
        clients[0].execute("begin")
        clients[0].execute("select 1")
        waiting = [Later(lambda client=client: one(client, "select 1 from pg_sleep(1)"))
                   for client in clients[1:4]]
        assert not any(call.is_over(0.3) for call in waiting)
        r.sections["pgrouter"]["default_pool_size"] = 4
        r.reload()
        assert [call.result() for call in waiting] == [1, 1, 1]
        assert node.count() == 4
        clients[0].execute("commit")
        r.sections["pgrouter"]["server_idle_timeout"] = "1s"
        r.reload()
        assert node.sees(0)
        r.sections["pgrouter"]["default_pool_size"] = 2
        r.reload()
        calls = [Later(lambda client=client: one(client, "select pg_backend_pid() from pg_sleep(0.2)"))
                 for client in clients]
        assert len({call.result() for call in calls}) == 2


def refused(router, **more):
    with pytest.raises(psycopg.OperationalError) as caught:
        join(router, **more)
    return str(caught.value)


def test_max_db_client_connections(pool):
    r = pool(main={**TRANSACTION, "max_db_client_connections": 3},
             databases={"app": "cluster=main", "small": "cluster=main dbname=app max_db_client_connections=2"})
    for database, limit in (("app", 3), ("small", 2)):
        clients = [join(r, database=database) for _ in range(limit)]
        assert "max_db_client_connections" in refused(r, database=database)
        clients.pop().close()
        assert process.wait_until(lambda: r.sessions()[0] == limit - 1, 5)
        clients.append(join(r, database=database))
        for client in clients:
            client.close()
        assert process.wait_until(lambda: r.sessions()[0] == 0, 5)


def test_max_user_client_connections(pool):
    r = pool(main={**TRANSACTION, "max_user_client_connections": 3},
             databases={"app": "cluster=main", "other": "cluster=main dbname=app"},
             users={"postgres": "max_user_client_connections=1"})
    clients = [join(r), join(r), join(r, database="other"), join(r, user="postgres", database="app")]
    assert "max_user_client_connections" in refused(r)
    assert "max_user_client_connections" in refused(r, database="other")
    assert "max_user_client_connections" in refused(r, user="postgres", database="other")
    for client in clients:
        client.close()
    assert process.wait_until(lambda: r.sessions()[0] == 0, 5)
    join(r).close()


def test_autodb_idle_timeout_forgets_a_database(pool):
    r = pool(main={**TRANSACTION, "autodb_idle_timeout": "1s", "server_idle_timeout": "500ms",
                   "workers": 1, "verbose": 1},
             databases={"*": "cluster=main", "named": "cluster=main dbname=app"})
    with join(r) as client, join(r, database="named") as other:
        assert one(client, "select 1") == one(other, "select 1") == 1
        time.sleep(2.5)
        assert not r.log.find("database forgotten")  # it has a client
    r.log.wait("database forgotten", database="app")
    with join(r) as client:
        assert one(client, "select 'known again'") == "known again"
    time.sleep(2)
    assert not r.log.find("database forgotten", database="named")
