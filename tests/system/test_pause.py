"""PAUSE, RESUME, RECONNECT, WAIT_CLOSE, KILL, DISABLE and ENABLE on the console, over all workers."""

import signal
import threading
import time

import psycopg
import pytest

from cluster import process
from harness.background import Background
from harness.pools import Onlooker, join, one, pid_of

N = 6  # clients: some on each worker
MAIN = {"pool_mode": "transaction", "admin_users": "postgres", "default_pool_size": 3}
DATABASES = {"app": "cluster=main", "other": "cluster=main dbname=app"}


@pytest.fixture
def halted(pool, cluster):
    """Starts a router with two databases: it, its console, and who looks on at the primary."""
    opened = []

    def start(**main):
        r = pool(main={**MAIN, **main}, databases=DATABASES)
        console = join(r, database="pgbouncer", user="postgres")
        onlooker = Onlooker(cluster.leader())
        opened.extend((console, onlooker))
        return r, console, onlooker

    yield start
    for one_of in opened:
        one_of.close()


def column(console, name, database="app"):
    cursor = console.execute("show databases")
    names = [description.name for description in cursor.description]
    return next(row[names.index(name)] for row in cursor.fetchall() if row[0] == database)


def clients(r, n=N, database="app"):
    joined = [join(r, database=database) for _ in range(n)]
    assert all(one(client, "select 1") == 1 for client in joined)
    return joined


class Later(threading.Thread):
    """A call that takes its time: .result or .error, once it is over."""

    def __init__(self, function):
        super().__init__(daemon=True)
        self.function, self.result, self.error = function, None, None
        self.start()

    def run(self):
        try:
            self.result = self.function()
        except Exception as error:  # the test's business
            self.error = error

    def is_over(self, seconds=15):
        self.join(seconds)
        return not self.is_alive()


def waiting(console, database="app"):
    cursor = console.execute("show pools")
    names = [description.name for description in cursor.description]
    return sum(row[names.index("cl_waiting")] for row in cursor.fetchall() if row[0] == database)


def test_pause_waits_for_transactions_and_clients_wait_for_resume(halted):
    r, console, onlooker = halted()
    joined = clients(r)
    other = join(r, database="other")
    busy = joined[0]
    busy.execute("begin")
    pid = pid_of(busy)
    with join(r, database="pgbouncer", user="postgres") as pausing:
        pause = Later(lambda: pausing.execute("PAUSE app").statusmessage)
        assert process.wait_until(lambda: column(console, "paused") == 1, 10)
        asked = [Later(lambda client=client: one(client, "select 2")) for client in joined[1:]]
        assert process.wait_until(lambda: waiting(console) == N - 1, 10)
        new = Later(lambda: join(r))
        assert one(busy, "select 3") == 3, "what is in a transaction goes on"
        assert pid in onlooker.pids() and pause.is_alive()
        assert one(other, "select 4") == 4, "other databases do not stand still"
        busy.execute("commit")
        assert pause.is_over() and pause.error is None and pause.result == "PAUSE"
    assert pid not in onlooker.pids()
    assert all(call.is_alive() for call in asked)
    assert column(console, "paused", "other") == 0
    assert console.execute("RESUME app").statusmessage == "RESUME"
    assert all(call.is_over() and call.result == 2 for call in asked)
    assert new.is_over() and one(new.result, "select 5") == 5
    assert column(console, "paused") == 0
    for client in [*joined, other, new.result]:
        client.close()


def test_pause_of_all_and_its_end_by_resume(halted):
    r, console, onlooker = halted()
    joined = clients(r, 2) + clients(r, 2, "other")
    assert console.execute("PAUSE").statusmessage == "PAUSE"
    assert onlooker.pids() == []
    assert console.execute("pause").statusmessage == "PAUSE", "once more is no error"
    calls = [Later(lambda client=client: one(client, "select 1")) for client in joined]
    assert process.wait_until(lambda: waiting(console) == 2 and waiting(console, "other") == 2, 10)
    r.reload()
    assert all(call.is_alive() for call in calls), "a reload does not end it"
    assert console.execute("resume").statusmessage == "RESUME"
    assert all(call.is_over() and call.result == 1 for call in calls)
    assert console.execute("RESUME app").statusmessage == "RESUME", "nor is there an error"

    joined[0].execute("begin")
    with join(r, database="pgbouncer", user="postgres") as pausing:
        pause = Later(lambda: pausing.execute("PAUSE"))
        assert process.wait_until(lambda: column(console, "paused", "other") == 1, 10)
        console.execute("RESUME")
        assert pause.is_over() and pause.error.sqlstate == "57014"
    assert one(joined[0], "select 1") == 1
    for client in joined:
        client.close()


def test_nothing_is_lost_while_a_database_is_paused_again_and_again(halted):
    r, console, _ = halted()
    joined = clients(r)
    with Background(lambda: one(joined[0], "select 1")), Background(lambda: one(joined[1], "select 1")) as asking:
        for _ in range(15):
            console.execute("PAUSE app")
            console.execute("RESUME app")
            time.sleep(0.02)
        n = len(asking.results)
        assert process.wait_until(lambda: len(asking.results) > n + 10, 10)
    assert not asking.errors and set(asking.results) == {1}
    for client in joined:
        client.close()


def test_reconnect_closes_each_server_after_its_use(halted):
    r, console, onlooker = halted()
    joined = clients(r)
    busy = joined[0]
    busy.execute("begin")
    pid, before = pid_of(busy), set(onlooker.pids())
    assert console.execute('RECONNECT "app"').statusmessage == "RECONNECT"
    assert process.wait_until(lambda: set(onlooker.pids()) & before == {pid}, 10), "idle ones go at once"
    assert one(joined[1], "select pg_backend_pid()") not in before
    close_needed = console.execute("show servers")
    names = [description.name for description in close_needed.description]
    assert sum(row[names.index("close_needed")] for row in close_needed.fetchall()) == 1
    with join(r, database="pgbouncer", user="postgres") as waits:
        wait = Later(lambda: waits.execute("WAIT_CLOSE app").statusmessage)
        assert not wait.is_over(0.3)
        assert pid_of(busy) == pid
        busy.execute("commit")
        assert wait.is_over() and wait.result == "WAIT_CLOSE"
    assert pid not in onlooker.pids()
    assert pid_of(busy) not in before
    assert console.execute("WAIT_CLOSE").statusmessage == "WAIT_CLOSE"
    for client in joined:
        client.close()


def test_kill_drops_clients_and_servers_and_new_ones_wait(halted):
    r, console, onlooker = halted()
    joined = clients(r)
    other = join(r, database="other")
    joined[0].execute("begin")
    sleeping = Later(lambda: joined[1].execute("select pg_sleep(600)"))
    assert onlooker.sees(1, "query like '%pg_sleep(600)%' and state = 'active'")
    assert console.execute("KILL app").statusmessage == "KILL"
    assert sleeping.is_over() and "due to administrator command" in str(sleeping.error)
    for client in joined[2:]:
        with pytest.raises(psycopg.OperationalError, match="due to administrator command"):
            client.execute("select 1")
    for client in joined:
        client.close()
    assert one(other, "select 1") == 1
    other.close()
    assert column(console, "paused") == 1
    def come():
        with join(r) as client:
            return one(client, "select 1")

    new = Later(come)
    assert process.wait_until(lambda: waiting(console) == 1, 10)
    assert onlooker.sees(0, "query like '%pg_sleep(600)%'"), "its statement is not left running"
    assert new.is_alive()
    console.execute("RESUME app")
    assert new.is_over() and new.result == 1


def test_kill_client_ends_one(halted):
    r, console, _ = halted()
    joined = clients(r, 3)
    cursor = console.execute("show clients")
    names = [description.name for description in cursor.description]
    ids = sorted(row[names.index("id")] for row in cursor.fetchall() if row[names.index("database")] == "app")
    assert console.execute(f"KILL_CLIENT {ids[0]}").statusmessage == "KILL_CLIENT"

    def is_dead(client):
        try:
            client.execute("select 1")
        except psycopg.OperationalError:
            return True
        return False

    assert [is_dead(client) for client in joined].count(True) == 1
    with pytest.raises(psycopg.Error) as caught:
        console.execute(f"KILL_CLIENT {ids[0]}")
    assert caught.value.sqlstate == "42704"
    for client in joined:
        client.close()


def test_a_disabled_database_refuses_new_clients_only(halted):
    r, console, _ = halted()
    client = join(r)
    assert console.execute("DISABLE app").statusmessage == "DISABLE"
    assert column(console, "disabled") == 1
    for _ in range(N):
        with pytest.raises(psycopg.OperationalError, match='database "app" is disabled'):
            join(r)
    assert one(client, "select 1") == 1
    with join(r, database="other") as other:
        assert one(other, "select 1") == 1
    assert console.execute("ENABLE app").statusmessage == "ENABLE"
    with join(r) as new:
        assert one(new, "select 1") == 1
    client.close()


@pytest.mark.parametrize("command, sqlstate", [
    ("PAUSE nothing", "3D000"), ("KILL nothing", "3D000"), ("DISABLE", "42601"), ("ENABLE", "42601"),
    ("KILL_CLIENT", "42601"), ("KILL_CLIENT one", "42601"), ("PAUSE a b", "42601"), ('PAUSE "app', "42601"),
    ("PAUSEapp", "42601"), ("DRAIN", "42601"), ("DRAIN nobody", "42704"), ("READY other/a", "42704"), ("KILL_CLIENT 99999999999999999999999", "42601")])
def test_mistakes_are_told(halted, command, sqlstate):
    _, console, _ = halted()
    with pytest.raises(psycopg.Error) as caught:
        console.execute(command)
    assert caught.value.sqlstate == sqlstate


def test_only_admins_may(pool, cluster):
    r = pool(main={**MAIN, "admin_users": "nobody", "stats_users": "postgres"}, databases=DATABASES)
    with join(r, database="pgbouncer", user="postgres") as console:
        for command in ("PAUSE", "RESUME", "KILL app", "KILL_CLIENT 1", "DISABLE app", "ENABLE app",
                        "RECONNECT", "WAIT_CLOSE", "DRAIN x", "MAINTENANCE x", "READY x"):
            with pytest.raises(psycopg.Error) as caught:
                console.execute(command)
            assert caught.value.sqlstate == "42501", command


def test_a_shutdown_ends_a_pause_that_waits(halted):
    r, console, _ = halted()
    busy = join(r)
    busy.execute("begin")
    busy.execute("select 1")
    with join(r, database="pgbouncer", user="postgres") as pausing:
        pause = Later(lambda: pausing.execute("PAUSE"))
        assert process.wait_until(lambda: column(console, "paused") == 1, 10)
        console.execute("SHUTDOWN")
        assert pause.is_over() and pause.error is not None
    assert process.wait_until(lambda: not r.is_alive(), 20)


def test_signals_pause_and_resume_all(halted):
    r, console, onlooker = halted()
    client = join(r)
    since = r.log.mark()
    r.signal(signal.SIGUSR1)
    r.log.wait("pause or resume done", since=since)
    assert column(console, "paused") == 1 and onlooker.pids() == []
    call = Later(lambda: one(client, "select 1"))
    assert process.wait_until(lambda: waiting(console) == 1, 10)
    r.signal(signal.SIGUSR2)
    assert call.is_over() and call.result == 1
    client.close()


def test_a_node_is_taken_out_and_back(halted, cluster):
    r, console, onlooker = halted()
    leader = cluster.leader()
    client = join(r)

    def state():
        cursor = console.execute("show nodes")
        names = [description.name for description in cursor.description]
        row = next(row for row in cursor.fetchall() if row[names.index("name")] == leader.name)
        return row[names.index("draining")], row[names.index("maintenance")]

    client.execute("begin")
    pid = pid_of(client)
    assert console.execute(f"DRAIN {leader.name}").statusmessage == "DRAIN"
    assert state() == (1, 0)
    assert r.log.wait("node state set", node=leader.name, state="drain")["by"] == "console, user postgres"
    assert pid_of(client) == pid
    client.execute("commit")
    assert process.wait_until(lambda: onlooker.pids() == [], 10)
    call = Later(lambda: one(client, "select 1"))
    assert process.wait_until(lambda: waiting(console) == 1, 10), "writers wait"
    assert console.execute(f"MAINTENANCE main/{leader.name}").statusmessage == "MAINTENANCE"
    assert state() == (1, 1)
    assert console.execute(f"READY {leader.name}").statusmessage == "READY"
    assert call.is_over() and call.result == 1
    assert process.wait_until(lambda: state() == (0, 0), 10)
    client.close()
