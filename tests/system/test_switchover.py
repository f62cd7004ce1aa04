"""SWITCHOVER, what is shown of it, and holds that are asked for by HTTP."""

import contextlib
import http.client
import json
import os
import stat
import subprocess
import threading
import time

import psycopg
import pytest

from cluster import process
from harness.background import Background
from harness.fake_patroni import FakePatroni
from harness.fake_postgres import FakePostgres
from harness.pools import Later, join, one
from harness.ports import free_port
from test_console import console, row_of, show
from test_pool_routing import notes  # a fixture

__all__ = ["notes"]

HERE = os.path.dirname(os.path.abspath(__file__))
BEFORE_STOP = os.path.join(HERE, "..", "..", "docker", "postgres", "before_stop.sh")
MAIN = {"admin_users": "postgres", "stats_users": "app", "pool_mode": "transaction",
        "default_pool_size": 8}
QUICK = {"check_interval": "200ms"}
STEPS = ["held", "drained", "asked", "gone", "proven", "ended", "lent"]
TOKEN = "open sesame"


@pytest.fixture
def managed(cluster, pool):
    """A pool whose router may have Patroni switch over; keywords are settings of its cluster."""
    def start(main=None, wait=True, **check):
        return pool(
            wait=wait,
            main={**MAIN, **(main or {})},
            check={**QUICK, "restapi_user": "patroni",
                   "restapi_password": cluster.passwords["patroni"], **check},
            more={"stats": {"bind": f"127.0.0.1:{free_port()}", "control_token": TOKEN}})

    return start


def order(router, command="SWITCHOVER"):
    """The time line: {step: (ms, detail)}."""
    with console(router) as c:
        return {step: (ms, detail) for step, ms, detail in c.execute(command).fetchall()}


def refusal(router, command):
    """SQLSTATE and message of a command that is refused."""
    with console(router) as c, pytest.raises(psycopg.Error) as refused:
        c.execute(command)
    return refused.value.sqlstate, refused.value.diag.message_primary


def last_switchover(router):
    with console(router) as c:
        rows = show(c, "SWITCHOVERS")
    return rows[-1] if rows else None


def cluster_row(router):
    with console(router) as c:
        return row_of(c, "CLUSTERS")


def is_held(router):
    return cluster_row(router)["hold"] is not None


def node_row(router, name):
    with console(router) as c:
        return row_of(c, "NODES", name=name)


class Writers(Background):
    """Each thread is a client that inserts rows of its own, and notes which were acknowledged."""

    def __init__(self, router, work, n_threads=8):
        own, counter, lock = threading.local(), iter(range(10**9)), threading.Lock()

        def write():
            if not hasattr(own, "client"):
                own.client = join(router)
            with lock:
                turn = next(counter)
            work(own.client, turn)
            return turn

        super().__init__(write, n_threads)


def single(client, turn):
    client.execute("insert into notes values (%s)", (turn,))


def transaction(client, turn):
    with client.transaction():
        client.execute("insert into notes values (%s)", (turn,))
        time.sleep(0.02)


@contextlib.contextmanager
def paused(cluster):
    """Patroni's automatic failover is off."""
    cluster.pause()
    try:
        yield
    finally:
        cluster.pause(False)


def rows_of(cluster):
    with psycopg.connect(cluster.leader().dsn("app")) as connection:
        return sorted(x for x, in connection.execute("select x from notes").fetchall())


# It works


@pytest.mark.parametrize("work", [single, transaction])
def test_a_switchover_that_nobody_notices(cluster, managed, notes, work):
    r = managed()
    old, new = cluster.leader(), cluster.replicas()[0]
    with Writers(r, work) as writing:
        writing.wait_for(50)
        steps = order(r, f"SWITCHOVER main TO {new.name}")
        writing.wait_for(100)
    assert writing.errors == []
    assert rows_of(cluster) == sorted(writing.results)
    assert cluster.leader() is new
    assert list(steps) == STEPS
    assert (steps["gone"][1], steps["proven"][1]) == (old.name, new.name)
    times = [steps[name][0] for name in ("held", "drained", "asked", "gone", "proven")]
    assert times == sorted(times) and times[0] == 0

    assert process.wait_until(lambda: last_switchover(r)["clients_held"] > 0, 10)
    row = last_switchover(r)
    assert (row["cluster"], row["number"], row["cause"], row["outcome"]) == ("main", 1, "command", "changed")
    assert (row["from"], row["to"], row["sign"]) == (old.name, new.name, "SWITCHOVER by postgres")
    for step in ("drained", "gone", "proven", "ended"):
        assert row[f"{step}_ms"] == steps[step][0]
    assert steps["ended"][0] <= row["lent_ms"] <= steps["lent"][0]  # another worker may have been earlier
    assert 1 <= row["clients_held"] <= 8
    assert steps["proven"][0] / 2 < row["longest_wait_ms"] < steps["ended"][0] + 10000
    assert (row["transactions_lost"], row["outcomes_unknown"]) == (0, 0)
    page = r.get("/")[2]
    assert f"<td>{old.name} &rarr; {new.name}</td>" in page and "are held" not in page


def test_any_node_and_back(cluster, managed):
    r = managed()
    first = cluster.leader()
    steps = order(r)
    assert steps["proven"][1] != first.name
    cluster.wait_for_roles()
    r.log.wait("node changed", node=first.name, **{"is": "replica"})
    assert order(r, f"switchover to \"{first.name}\" timeout 1")["proven"][1] == first.name
    with console(r) as c:
        assert [row["number"] for row in show(c, "SWITCHOVERS")] == [1, 2]
    assert cluster_row(r)["primary"] == first.name


def test_a_client_that_leaves_does_not_stop_it(cluster, managed):
    r = managed()
    old = cluster.leader()
    with join(r) as busy:
        busy.execute("begin")
        busy.execute("select 1")
        with subprocess.Popen(["psql", "-XAt", r.dsn("pool", user="postgres", dbname="pgbouncer"),
                               "-c", "SWITCHOVER TIMEOUT 20"], stdout=subprocess.DEVNULL) as psql:
            r.log.wait("switchover begun", **{"from": old.name})
            psql.kill()
        assert is_held(r)
        busy.execute("commit")
    done = r.log.wait("switchover done")
    assert done["from"] == old.name != done["to"]
    assert last_switchover(r)["outcome"] == "changed"


def test_drain_timeout(cluster, managed):
    """Transactions have so much time, and then none."""
    r = managed(switchover_drain_timeout="700ms")
    with contextlib.closing(join(r)) as busy:
        busy.execute("begin")
        busy.execute("select 1")
        steps = order(r)
        assert "drained" not in steps or steps["drained"][0] >= steps["asked"][0]
        assert steps["asked"][0] >= 700
        with pytest.raises(psycopg.Error):
            busy.execute("select 1")
    cluster.wait_for_roles()
    r.sections["cluster main"]["switchover_drain_timeout"] = "1h"
    r.reload()
    with contextlib.closing(join(r)) as busy:
        busy.execute("begin")
        busy.execute("select 1")
        assert "drained" not in (steps := order(r, "SWITCHOVER TIMEOUT 0")) or \
            steps["drained"][0] >= steps["asked"][0]


def test_the_command_line(cluster, managed, program):
    r = managed()
    old, new = cluster.leader(), cluster.replicas()[0]

    def run(*arguments, password=cluster.passwords["postgres"]):
        return subprocess.run([program, "switchover", *arguments, r.ini], capture_output=True, text=True,
                              timeout=60, check=False, env={**os.environ, "PGPASSWORD": password})

    done = run("--to", old.name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f'pgrouter: node "{old.name}" is the primary already\n'
    assert "authentication failed" in run(password="wrong").stderr
    assert run("--timeout", "soon").returncode == 1
    done = run("--cluster", "main", "--to", new.name, "--timeout", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines() if not line.startswith("lent")] == \
        [step for step in STEPS if step != "lent"]
    assert cluster.leader() is new


def test_the_command_line_finds_a_unix_socket(cluster, pool, program, tmp_path):
    tmp_path.chmod(0o755)
    r = pool(main=MAIN, listener={"bind": f"127.0.0.1:{free_port()}, {tmp_path}/.s.PGSQL.7432"})
    done = subprocess.run([program, "switchover", "--to", "nobody", r.ini], capture_output=True, text=True,
                          timeout=60, check=False,
                          env={**os.environ, "PGPASSWORD": cluster.passwords["postgres"]})
    assert 'has no node "nobody"' in done.stderr
    assert subprocess.run([program, "--to", "x", r.ini], capture_output=True, check=False).returncode == 1


# It does not


def test_what_is_asked_for_wrongly(cluster, managed):
    r = managed()
    leader = cluster.leader().name
    for command, sqlstate, why in (
            ("SWITCHOVER other", "42704", 'there is no cluster "other"'),
            ("SWITCHOVER TO nobody", "42704", 'cluster "main" has no node "nobody"'),
            (f"SWITCHOVER TO {leader}", "55000", f'node "{leader}" is the primary already'),
            ("SWITCHOVER main TO", "42601", "expected the name of a node behind TO"),
            ("SWITCHOVER TIMEOUT soon", "42601", "expected a duration")):
        said = refusal(r, command)
        assert said[0] == sqlstate and why in said[1], said
    with console(r, user="app") as c, pytest.raises(psycopg.Error) as refused:
        c.execute("SWITCHOVER")
    assert refused.value.sqlstate == "42501"
    with console(r, user="app") as c:
        assert show(c, "SWITCHOVERS") == [], "nobody was held"
        assert len(show(c, "NODES")) == 3
    with paused(cluster):
        assert process.wait_until(lambda: cluster_row(r)["paused"] == 1, 10)
        said = refusal(r, "SWITCHOVER")
        assert said[0] == "55000" and "Patroni is paused" in said[1]
    assert last_switchover(r) is None


def test_restapi_user_and_password(cluster, managed):
    r = managed(restapi_user="", restapi_password="")
    said = refusal(r, "SWITCHOVER")
    assert "no auth header received" in said[1] and "restapi_user" in said[1]
    r.log.wait("hold ended", outcome="stayed")
    r.sections["cluster main"].update(restapi_user="patroni", restapi_password="wrong")
    r.reload()
    assert "not authenticated" in refusal(r, "SWITCHOVER")[1]
    r.sections["cluster main"]["restapi_password"] = cluster.passwords["patroni"]
    r.reload()
    assert "proven" in order(r)


def test_a_refusal_of_patronis_ends_the_hold(cluster, managed, notes):
    r = managed()
    leader, lame = cluster.leader(), cluster.replicas()[0]
    lame.set_tags(nofailover=True)
    assert process.wait_until(lambda: (lame.status() or {}).get("tags", {}).get("nofailover"), 20)
    with Writers(r, single) as writing:
        writing.wait_for(50)
        said = refusal(r, f"SWITCHOVER TO {lame.name}")
        writing.wait_for(50)
    assert said[0] == "55000"
    assert "no good candidates have been found (HTTP status 412)" in said[1]
    assert writing.errors == []
    assert cluster.leader() is leader
    row = last_switchover(r)
    assert (row["outcome"], row["from"], row["to"]) == ("stayed", leader.name, leader.name)


def test_one_at_a_time(cluster, managed):
    r = managed()
    with join(r) as busy:
        busy.execute("begin")
        busy.execute("select 1")
        first = Later(lambda: order(r, "SWITCHOVER TIMEOUT 30"))
        r.log.wait("switchover begun")
        assert refusal(r, "SWITCHOVER") == ("55006", 'a switchover of cluster "main" is under way already')
        assert not first.is_over(0.2)
        busy.execute("commit")
    assert "proven" in first.result(60)


def test_a_patroni_that_does_not_answer(managed, cluster):
    """Nobody is held for it."""
    r = managed(check_timeout="500ms", fall=100)
    leader = cluster.leader()
    leader.freeze_patroni()
    try:
        said = refusal(r, "SWITCHOVER")
    finally:
        leader.thaw_patroni()
    assert said[0] == "55000" and f'Patroni of node "{leader.name}" does not answer' in said[1]


def test_the_end_of_pgrouter_ends_the_command(cluster, managed):
    r = managed()
    busy = join(r)
    busy.execute("begin")
    busy.execute("select 1")
    waiting = Later(lambda: refusal(r, "SWITCHOVER TIMEOUT 30"))
    r.log.wait("switchover begun")
    r.stop(number=3)
    with contextlib.suppress(AssertionError, psycopg.Error):
        waiting.result(10)
    assert waiting.is_over()
    busy.close()


# By HTTP


def post(router, path, token=TOKEN, body="", **headers):
    """Status and answer of the stats port."""
    connection = http.client.HTTPConnection(*router.at("stats"), timeout=5)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    with contextlib.closing(connection):
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_hold_by_http_needs_the_token(cluster, managed):
    r = managed()
    status, answer = post(r, "/hold", token="open")
    assert (status, list(answer)) == (401, ["error"])
    assert post(r, "/hold", token=None)[0] == 401
    assert r.get("/hold")[0] == 405
    assert post(r, "/hold", body="x" * 5000)[0] == 413
    assert post(r, "/hold?node=nobody")[0] == 404
    assert not is_held(r)
    r.sections["stats"]["control_token"] = ""
    r.reload()
    for token in (None, "", TOKEN):
        status, answer = post(r, "/hold", token=token)
        assert status == 403 and "control_token" in answer["error"]
    assert not is_held(r)


def by_curl(path, target, *more):
    """Status and answer, by the unix socket `path`."""
    done = subprocess.run(
        ["curl", "--silent", "--unix-socket", path, "--write-out", "\n%{http_code}", "-X", "POST",
         f"http://pgrouter{target}", *more], capture_output=True, text=True, timeout=20, check=True)
    answer, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(answer)


def test_a_hold_over_a_unix_socket(cluster, managed, tmp_path):
    """No token is needed there, wherever else one is, and whatever is sent as one."""
    path = str(tmp_path / "stats.sock")
    leader = cluster.leader().name
    r = managed()
    tcp = r.sections["stats"]["bind"]
    for token in (TOKEN, ""):
        r.sections["stats"].update(bind=f"{tcp}, {path}", control_token=token, unix_socket_mode="0600")
        r.reload()
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        status, answer = by_curl(path, "/hold", "-d", f"node={leader}", "-H", "Authorization: Bearer wrong")
        assert (status, answer["node"]) == (200, leader)
        assert is_held(r) and cluster_row(r)["hold_sign"] == "POST /hold from unix"
        assert by_curl(path, "/release") == (200, {"cluster": "main", "released": True})
        assert process.wait_until(lambda: not is_held(r), 10)
        assert by_curl(path, "/hold", "-d", "node=nobody")[0] == 404
        assert post(r, "/hold", token="wrong")[0] == (401 if token else 403), "by TCP as before"
        assert not is_held(r)
    r.sections["stats"]["unix_socket_mode"] = "0640"
    r.reload()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    assert by_curl(path, "/release") == (200, {"cluster": "main", "released": False})


def test_a_hold_by_http(cluster, managed):
    r = managed()
    leader = cluster.leader()
    assert post(r, "/release") == (200, {"cluster": "main", "released": False})

    def hold():  # again and again: it does not last where nothing comes of it
        time.sleep(0.2)
        return post(r, "/hold", body=f"node={leader.name}")

    with join(r) as client:
        client.execute("select 1")
        with Background(hold) as holding:
            holding.wait_for(1)
            waiting = Later(lambda: one(client, "select 1"))
            assert not waiting.is_over(0.5)
            assert process.wait_until(lambda: cluster_row(r)["waiting"] == 1, 5)
            row = cluster_row(r)
            assert (row["hold"], row["hold_cause"], row["hold_sign"]) == (1, "hook", "POST /hold from 127.0.0.1")
            assert row["hold_since"].endswith(" UTC")
            assert node_row(r, leader.name)["leaving"] == 1
            assert "Clients are held since" in r.get("/")[2]
            assert not waiting.is_over()
        assert holding.results == [(200, {"cluster": "main", "node": leader.name, "hold": 1})] * len(holding.done)
        assert post(r, "/release") == (200, {"cluster": "main", "released": True})
        assert waiting.result(10) == 1
    assert process.wait_until(lambda: cluster_row(r)["waiting"] == 0, 5)
    row = cluster_row(r)
    assert (row["hold"], row["hold_cause"], row["hold_sign"], row["hold_since"]) == (None, None, None, None)
    assert node_row(r, leader.name)["leaving"] == 0


def test_the_hook_of_patroni(cluster, managed):
    """before_stop.sh is what calls it; a primary that does not go is served again."""
    r = managed()
    host, port = r.at("stats")
    done = subprocess.run(["bash", BEFORE_STOP], capture_output=True, text=True, timeout=20, check=True, env={
        **os.environ, "PGROUTER_URLS": f"http://{host}:{port}/", "PGROUTER_TOKEN": TOKEN})
    assert f"http://{host}:{port}/ holds" in done.stdout
    assert is_held(r)
    r.log.wait("hold ended", outcome="stayed", seconds=15)
    with join(r) as client:
        assert one(client, "select 1") == 1


def test_the_hook_before_a_switchover(cluster, managed, notes):
    """With transactions of 20 ms: as Patroni's before_stop, then the stop."""
    r = managed()
    with Writers(r, transaction) as writing:
        writing.wait_for(50)
        assert post(r, "/hold")[0] == 200
        assert process.wait_until(lambda: last_switchover(r)["drained_ms"] is not None, 5)
        new = cluster.switchover()
        writing.wait_for(100)
    assert writing.errors == []
    assert rows_of(cluster) == sorted(writing.results)
    row = last_switchover(r)
    assert (row["cause"], row["outcome"], row["to"]) == ("hook", "changed", new.name)


# Views


COLUMNS = {
    "CLUSTERS": "name primary timeline system_id hold hold_cause hold_sign hold_since waiting paused rivals "
                "why_no_primary primary_since alarm",
    "NODES": "cluster name host port check_port address role up state said_by timeline lag lagging sessions "
             "draining leaving checks_failed downs down_ms last_check_ago_ms last_check_ms "
             "maintenance weight",
    "SWITCHOVERS": "cluster number cause outcome from to sign began drained_ms gone_ms proven_ms lent_ms "
                   "ended_ms clients_held statements_sent_again transactions_lost outcomes_unknown "
                   "longest_wait_ms",
}


def test_columns(managed):
    r = managed()
    with console(r) as c:
        for view, names in COLUMNS.items():
            assert [column.name for column in c.execute(f"SHOW {view}").description] == names.split()


def test_the_row_of_a_cluster_moves(cluster, managed):
    r = managed()
    leader = cluster.leader()
    before = cluster_row(r)
    assert (before["name"], before["primary"]) == ("main", leader.name)
    assert before["system_id"] == str(leader.sql("select system_identifier from pg_control_system()"))
    assert before["timeline"] == leader.status()["timeline"]
    assert (before["paused"], before["rivals"], before["why_no_primary"]) == (0, 0, None)
    assert before["primary_since"].endswith(" UTC")

    time.sleep(1.1)  # primary_since counts seconds
    new = cluster.switchover()
    r.log.wait("hold ended", outcome="changed")
    after = cluster_row(r)
    assert (after["primary"], after["timeline"]) == (new.name, before["timeline"] + 1)
    assert after["primary_since"] > before["primary_since"]

    with paused(cluster):
        assert process.wait_until(lambda: cluster_row(r)["paused"] == 1, 10)
        new.kill_postgres()
        assert process.wait_until(lambda: cluster_row(r)["primary"] is None, 10)
        row = cluster_row(r)
    assert row["why_no_primary"] and row["primary_since"] is None
    assert (row["hold_cause"], row["timeline"]) == ("loss", after["timeline"])


def test_the_rows_of_nodes_move(cluster, managed):
    leader = cluster.wait_for_roles()  # the test before has killed its PostgreSQL
    r = managed()
    replica, other = cluster.replicas()
    row = node_row(r, leader.name)
    assert (row["cluster"], row["host"], row["address"]) == ("main", leader.address, leader.address)
    assert (row["port"], row["check_port"]) == (leader.port, leader.rest_port)
    assert (row["role"], row["up"], row["said_by"], row["lag"]) == ("primary", 1, "patroni", None)
    assert row["timeline"] == leader.status()["timeline"] and "200 running" in row["state"]
    assert (row["sessions"], row["draining"], row["lagging"], row["leaving"]) == (0, 0, 0, 0)
    assert row["last_check_ago_ms"] < 60000 and row["last_check_ms"] < 60000
    assert node_row(r, replica.name)["role"] == "replica"
    assert process.wait_until(lambda: node_row(r, replica.name)["lag"] == 0, 20)

    with join(r) as client:
        client.execute("select 1")
        assert process.wait_until(lambda: node_row(r, leader.name)["sessions"] == 1, 5)

    r.sections["cluster main"].update(drain=other.name, max_lag="1MB")
    r.reload()
    assert (node_row(r, other.name)["draining"], node_row(r, replica.name)["draining"]) == (1, 0)

    with paused(cluster):  # else Patroni has the replica go on within a loop_wait
        replica.sql("select pg_wal_replay_pause()")
        with psycopg.connect(leader.dsn("app"), autocommit=True) as connection:
            connection.execute("create table if not exists ballast (x text)")
            connection.execute("insert into ballast select repeat('x', 1000) from generate_series(1, 4000)")
        assert process.wait_until(lambda: node_row(r, replica.name)["lagging"] == 1, 20)
        assert node_row(r, replica.name)["lag"] > 1 << 20
        replica.sql("select pg_wal_replay_resume()")
    assert process.wait_until(lambda: node_row(r, replica.name)["lagging"] == 0, 20)

    before = node_row(r, other.name)
    other.freeze()
    try:
        assert process.wait_until(lambda: node_row(r, other.name)["up"] == 0, 20)
        row = node_row(r, other.name)
        assert row["downs"] == before["downs"] + 1
        assert row["checks_failed"] >= before["checks_failed"] + 2
        assert row["state"] != before["state"]
        first = row["down_ms"]
        assert process.wait_until(lambda: node_row(r, other.name)["down_ms"] > first, 5)
    finally:
        other.thaw()


@pytest.fixture
def two_fakes(start_router, tmp_path):
    """A pool before two nodes that say what a test wants."""
    with FakePatroni() as a, FakePatroni("127.0.0.2") as b, FakePostgres() as here, \
            FakePostgres(address="127.0.0.2") as there:
        a.primary(patroni={"version": "4.0.0", "scope": "main", "name": "a"})
        b.replica()
        auth_file = tmp_path / "users.txt"
        auth_file.write_text('"postgres" ""\n"app" ""\n')
        r = start_router(sections={
            "pgrouter": {"admin_users": "postgres", "stats_users": "app", "auth_type": "trust",
                         "auth_file": auth_file},
            "cluster main": {"nodes": f"a=127.0.0.1:{here.port}:{a.port}, b=127.0.0.2:{there.port}:{b.port}",
                             **QUICK},
            "databases": {"app": "cluster=main"},
            "listener pool": {"mode": "pool", "bind": f"127.0.0.1:{free_port()}"},
            "stats": {"bind": f"127.0.0.1:{free_port()}"}}, passwords={})
        assert process.wait_until(lambda: cluster_row(r)["primary"] == "a", 20)
        yield r, a, b


def page(router):
    status, _, body = router.get("/")
    assert status == 200
    return body


def test_two_primaries_are_an_alarm_until_one_is_gone(two_fakes):
    """Two of them on one timeline: everywhere it is said, and nobody gets writers."""
    r, _, b = two_fakes
    assert (cluster_row(r)["rivals"], cluster_row(r)["alarm"]) == (0, None)
    assert "role=alert" not in page(r)
    b.primary(patroni={"version": "4.0.0", "scope": "main", "name": "b"})
    assert process.wait_until(lambda: cluster_row(r)["rivals"] == 1, 20)
    said = "a and b both claim to be the primary on timeline 1"
    row = cluster_row(r)
    alarm = said + ": nobody gets writers"
    assert (row["alarm"], row["why_no_primary"], row["primary"]) == (alarm, said, None)
    assert f"<p class=bad role=alert>{alarm}.</p>" in page(r)
    r.log.wait("two primaries, writes stop", evidence=said)
    b.replica()
    assert process.wait_until(lambda: cluster_row(r)["rivals"] == 0, 20)
    assert cluster_row(r)["alarm"] is None and "role=alert" not in page(r)
    r.log.wait("one primary again")


def test_a_writable_node_that_is_not_named_is_an_alarm(two_fakes):
    r, _, b = two_fakes
    b.primary()
    b.answers["/primary"].status = 503
    said = "b is writable on timeline 1 and is not the primary"
    assert process.wait_until(lambda: cluster_row(r)["alarm"] == said, 20)
    assert cluster_row(r)["primary"] == "a" and node_row(r, "b")["up"] == 0
    assert said in page(r)
    b.replica()
    assert process.wait_until(lambda: cluster_row(r)["alarm"] is None, 20)


def test_reset_cluster_begins_anew(two_fakes):
    """After a restore everybody is on an older timeline than was seen."""
    r, a, b = two_fakes
    a.primary(timeline=5)
    assert process.wait_until(lambda: cluster_row(r)["timeline"] == 5, 20)
    a.replica(timeline=5)
    b.primary(timeline=4)
    said = "b is writable on timeline 4 and is not the primary"
    assert process.wait_until(lambda: cluster_row(r)["alarm"] == said, 20)
    assert cluster_row(r)["primary"] is None
    assert refusal(r, "RESET CLUSTER other") == (
        "42704", 'there is no cluster "other": see SHOW CLUSTERS')
    assert refusal(r, "RESET CLUSTER main other")[1] == "expected RESET CLUSTER [cluster]"
    with console(r, user="app") as c, pytest.raises(psycopg.Error, match="admin access needed"):
        c.execute("RESET CLUSTER main")
    assert not r.log.find("timelines forgotten")
    with console(r) as c:
        assert c.execute("RESET CLUSTER main").statusmessage == "RESET"
    r.log.wait("timelines forgotten", cluster="main", highest_timeline=5, by="postgres")
    assert process.wait_until(lambda: cluster_row(r)["primary"] == "b", 20)
    row = cluster_row(r)
    assert (row["timeline"], row["alarm"]) == (4, None)
