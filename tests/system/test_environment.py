"""Without a file the environment is the configuration: the contract of the HAProxy image.

Its ports cannot be chosen, so each router has a network namespace of its own."""

import base64
import collections
import contextlib
import http.client
import os
import signal
import socket
import statistics
import subprocess
import time

import psycopg
import pytest

from cluster import network, process
from harness import wire
from harness.fake_node import fake_nodes, who
from harness.fake_postgres import FakePostgres
from harness.router import Router
from harness.space import Space
from harness.wire import Client

WHY_NOT = network.namespaces_work()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

RW, RO, STATS = 5432, 5433, 8404


@pytest.fixture
def space():
    with Space() as space:
        yield space


@pytest.fixture
def start(program, request, tmp_path):
    """Function that starts a router in a namespace with these variables."""
    started = []
    request.node.routers = started
    tmp_path.chmod(0o755)

    def start(space, wait=True, **variables):
        router = Router(program, str(tmp_path), None, variables, prefix=space.prefix)
        started.append(router)
        router.space = space
        if wait:
            assert process.wait_until(lambda: is_ready(router) or not router.is_alive(), 20)
            assert router.is_alive(), router.log.text()
        return router

    yield start
    for router in started:
        if getattr(request.node, "call_failed", False):
            router.kill()
        else:
            router.stop()


def get(router, path, host="127.0.0.1", password=None):
    """Status and body of a page; the password is admin's."""
    headers = {}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
    with router.space.inside():
        connection = http.client.HTTPConnection(host, STATS, timeout=10)
        connection.connect()
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def is_ready(router):
    with contextlib.suppress(OSError):
        return get(router, "/readyz")[0] == 200


def rows(router):
    lines = get(router, "/stats;csv")[1].splitlines()
    columns = lines[0].removeprefix("# ").split(",")
    return {tuple(line.split(",")[:2]): dict(zip(columns, line.split(","))) for line in lines[1:]}


def client(router, port=RW, host="127.0.0.1"):
    with router.space.inside():
        return Client((host, port), timeout=20)


def session(router, port=RW, host="127.0.0.1"):
    one = client(router, port, host)
    one.log_in()
    return one


def name_behind(router, port=RW, host="127.0.0.1"):
    with session(router, port, host) as one:
        return who(one)


@contextlib.contextmanager
def nodes_in(space, *names):
    with space.inside():
        nodes = fake_nodes(*names)
        opened = nodes.__enter__()
    try:
        yield opened
    finally:
        nodes.__exit__(None, None, None)


def setting(*nodes):
    """Fake nodes, as POSTGRES_NODES; their names are 127.0.0.1 and the rest."""
    return ",".join(f"127.0.0.1:{node.postgres.port}:{node.patroni.port}" for node in nodes)


# Roles, addresses, names


def test_the_environment_alone_is_enough(cluster_with_cables, start):
    """On the real cluster: primary, replicas by turns, statistics, both address families."""
    cluster = cluster_with_cables
    with Space(cluster) as space:
        r = start(space, POSTGRES_NODES=",".join(
            f"{node.address}:{node.port}:{node.rest_port}" for node in cluster.nodes))
        leader = cluster.leader()
        replicas = {node.address for node in cluster.nodes if node is not leader}

        def where(host, port):
            with contextlib.nullcontext() if host == space.address else space.inside():
                with psycopg.connect(cluster.dsn(host, port)) as connection:
                    row = connection.execute("select host(inet_server_addr()), pg_is_in_recovery()")
                    return row.fetchone()

        for host in (space.address, "127.0.0.1", "::1"):
            assert where(host, RW) == (leader.address, False)
            turns = collections.Counter(where(host, RO) for _ in range(6))
            assert turns == {(address, True): 3 for address in replicas}
            assert get(r, "/stats", host)[0] == get(r, "/stats;csv", host)[0] == 200

        names = {node.address for node in cluster.nodes}  # a number stays whole
        table = rows(r)
        assert {row for proxy, row in table} == names | {"FRONTEND", "BACKEND"}
        assert {proxy for proxy, _ in table} == {"postgresql_primary", "postgresql_replicas"}
        assert table["postgresql_primary", leader.address]["status"] == "UP"
        assert table["postgresql_replicas", "BACKEND"]["algo"] == "roundrobin"

        new = cluster.switchover()
        r.log.wait("primary changed", seconds=30, **{"is": new.address})
        assert where(space.address, RW) == (new.address, False)


def test_names_are_cut_at_the_first_dot(space, start):
    r = start(space, POSTGRES_NODES="pg1.one.internal:5432:8008,pg2:5432:8008,pg3.internal:5432:8008,")
    assert {name for _, name in rows(r)} == {"pg1", "pg2", "pg3", "FRONTEND", "BACKEND"}


def test_names_that_would_be_equal_stay_whole(space, start):
    r = start(space, POSTGRES_NODES="db.one:5432:8008,db.two:5432:8008,db.two:5433:8009")
    names = {name for _, name in rows(r)} - {"FRONTEND", "BACKEND"}
    assert len(names) == 3 and {"db.one"} < names


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_node_is_not_asked_who_it_is(space, start, host):
    """Both ports lead to it, while it accepts connections."""
    with nodes_in(space, "unused") as (other,):
        with space.inside():
            only = FakePostgres(name="only", address=host)
        shown = f"[{host}]" if ":" in host else host
        r = start(space, POSTGRES_NODES=f"{shown}:{only.port}:{other.patroni.port}")
        assert [name_behind(r, port) for port in (RW, RO)] == ["only", "only"]
        only.refuse()
        r.log.wait("node changed", seconds=20, **{"is": "down"})
        with space.inside():
            only.open()
        r.log.wait("node changed", seconds=20, was="down")
        assert [name_behind(r, port) for port in (RW, RO)] == ["only", "only"]
        assert not other.patroni.asked
        only.close()


def test_rise_is_two_and_fall_is_three(space, start):
    with nodes_in(space, "a", "b") as (a, b):
        r = start(space, POSTGRES_NODES=setting(a, b))
        row = next(row for (proxy, name), row in rows(r).items() if row["type"] == "2")
        assert (row["check_rise"], row["check_fall"]) == ("2", "3")
        assert (name_behind(r, RW), name_behind(r, RO)) == ("a", "b")


# Variables


def test_haproxy_max_conn(space, start):
    with nodes_in(space, "a", "b") as (a, b):
        r = start(space, POSTGRES_NODES=setting(a, b), HAPROXY_MAX_CONN="2")
        sessions = [session(r, RW), session(r, RO)]
        third = client(r, RW)
        third.send(wire.startup(user="app"))
        assert process.wait_until(lambda: rows(r)["postgresql_primary", "BACKEND"]["qcur"] == "1", 10)
        sessions[1].close()
        third.messages_until("Z")
        assert who(third) == "a"
        for one in (sessions[0], third):
            one.close()


def test_max_conn_is_1000_when_it_is_not_set(space, start):
    r = start(space, POSTGRES_NODES="127.0.0.1:1:2", HAPROXY_MAX_CONN="")
    assert rows(r)["postgresql_primary", "FRONTEND"]["slim"] == "1000"


@pytest.mark.parametrize("side", ["CLIENT", "SERVER"])
def test_haproxy_idle_timeouts(space, start, side):
    with nodes_in(space, "a", "b") as (a, b):
        r = start(space, POSTGRES_NODES=setting(a, b), **{f"HAPROXY_TIMEOUT_{side}": "700"})
        for port in (RW, RO):
            idle, began = session(r, port), time.monotonic()
            assert idle.at_end()
            assert time.monotonic() - began > 0.6
            idle.close()
        reasons = {event["reason"] for event in r.log.find("session ended")}
        assert reasons == {f"{side}_TIMEOUT"}


def hanging_server():
    """A port whose line is full: connecting to it takes for ever."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    while True:
        filler = socket.socket()
        filler.settimeout(0.3)
        fillers.append(filler)
        try:
            filler.connect(listener.getsockname())
        except TimeoutError:
            return listener, fillers


def test_haproxy_timeout_connect(space, start):
    with nodes_in(space, "a", "b", "c") as (a, b, c):
        with space.inside():
            hanging, fillers = hanging_server()
        r = start(space, HAPROXY_TIMEOUT_CONNECT="400ms", POSTGRES_NODES=setting(a, c) +
                  f",127.0.0.1:{hanging.getsockname()[1]}:{b.patroni.port}")
        began, times = time.monotonic(), []
        for _ in range(4):
            assert name_behind(r, RO) == "c"
            times.append(time.monotonic() - began)
            began = time.monotonic()
        assert 0.39 < max(times) < 8  # 10 s where nothing is said
        for one in (hanging, *fillers):
            one.close()


def test_haproxy_check_interval(space, start):
    with nodes_in(space, "a", "b") as (a, b):
        start(space, POSTGRES_NODES=setting(a, b), HAPROXY_CHECK_INTERVAL="600ms")

        def last_gap():
            times = [at for at, _ in a.patroni.asked_at][-4:]
            return statistics.median(later - earlier for earlier, later in zip(times, times[1:]))

        assert process.wait_until(lambda: len(a.patroni.asked_at) > 10 and last_gap() > 0.5, 20)
        n = len(a.patroni.asked_at)
        assert process.wait_until(lambda: len(a.patroni.asked_at) >= n + 3, 20)
        assert 0.5 < last_gap() < 2.5  # 3 s where nothing is said


def test_sighup_keeps_it_running(space, start):
    with nodes_in(space, "a", "b") as (a, b):
        r = start(space, POSTGRES_NODES=setting(a, b))
        kept = session(r)
        r.signal(signal.SIGHUP)
        r.log.wait("configuration reloaded")
        assert who(kept) == name_behind(r) == "a"
        kept.close()


# Mistakes


def run(program, space, *arguments, **variables):
    """What it says before it ends by itself."""
    return subprocess.run([*space.prefix, program, *arguments], env={**os.environ, **variables},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("nodes", [
    "", " ", ",", "pg1", "pg1:5432", "pg1:5432:", "pg1::8008", ":5432:8008", "pg1:5432:8008:1", "pg1:x:8008",
    "pg1:5432:x", "pg1:0:8008", "pg1:5432:0", "pg1:65536:8008", "pg1:-1:8008", "pg1:5432:8008,,pg2:5432:8008",
    "pg1:5432:8008,pg2:5432", "pg1:5432:8008 pg2:5432:8008", "::1:5432:8008", "[::1:5432:8008", "[::1]5432:8008",
    "[pg1]:5432:8008", "[]:5432:8008", "name=pg1:5432:8008", "pg 1:5432:8008", "pg1:5432:8008;x",
    "pg1:5432:8008\n[listener x]", "pg1:5432:8008,pg1:5432:8008", "pg\u00e91:5432:8008", "$(x):5432:8008",
    "pg1:5432:8008," * 2000 + "x"])
def test_a_malformed_entry_is_a_clear_message(program, space, nodes):
    done = run(program, space, POSTGRES_NODES=nodes)
    assert done.returncode == 1, done.stderr
    assert "POSTGRES_NODES" in done.stderr
    assert all(len(line) < 500 for line in done.stderr.splitlines())


def test_without_anything_it_says_what_it_needs(program, space):
    done = run(program, space)
    assert done.returncode == 1
    assert "POSTGRES_NODES" in done.stderr and "FILE.ini" in done.stderr


@pytest.mark.parametrize("name, text", [
    ("MAX_CONN", "many"), ("MAX_CONN", "0"), ("MAX_CONN", "-1"), ("MAX_CONN", "1.5"), ("MAX_CONN", "9" * 30),
    ("TIMEOUT_CONNECT", "soon"), ("TIMEOUT_CONNECT", "1ms"), ("TIMEOUT_CLIENT", "10 s"), ("TIMEOUT_CLIENT", "1w"),
    ("TIMEOUT_SERVER", "5mm"), ("TIMEOUT_SERVER", "-5s"), ("CHECK_INTERVAL", "1s\nx"), ("CHECK_INTERVAL", "2000d")])
def test_a_wrong_value_is_named(program, space, name, text):
    done = run(program, space, POSTGRES_NODES="pg1:5432:8008", **{f"HAPROXY_{name}": text})
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"HAPROXY_{name}: '") and "expected" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_all_mistakes_are_named_at_once(program, space):
    done = run(program, space, POSTGRES_NODES="pg1,pg2:1:2,pg3:x:y", HAPROXY_MAX_CONN="x", HAPROXY_TIMEOUT_CLIENT="y")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 4
    assert "entry 1 'pg1'" in done.stderr and "entry 3 'pg3:x:y'" in done.stderr


@pytest.mark.parametrize("text", ["250ms", "250", "250000us", "10s", "30m", "2h", "1d"])
def test_durations_are_haproxys(program, space, text):
    done = run(program, space, "-t", POSTGRES_NODES="pg1:5432:8008", HAPROXY_TIMEOUT_CLIENT=text)
    assert (done.returncode, done.stdout) == (0, "environment: ok\n"), done.stderr


def test_a_port_that_is_taken_is_named(program, space):
    with space.inside():
        taken = socket.create_server(("127.0.0.1", RO))
    with taken:
        done = run(program, space, POSTGRES_NODES="127.0.0.1:1:2")
    assert done.returncode == 1
    assert "5433" in done.stderr and "Address already in use" in done.stderr


def test_a_file_stands_above_the_environment(space, program, start, tmp_path):
    path = tmp_path / "file.ini"
    path.write_text("[cluster main]\nnodes = a=127.0.0.1:1\ncheck = tcp\n[listener rw]\nbind = 127.0.0.1:7777\n")
    r = Router(program, str(tmp_path), None, {"POSTGRES_NODES": "nonsense"}, [str(path)], space.prefix)
    r.log.wait("pgrouter is running")
    with space.inside():
        assert socket.create_connection(("127.0.0.1", 7777)).close() is None
    r.stop()


# Pools


def joined(cluster, r, port, user="app", password=None, host="127.0.0.1", **more):
    """A psycopg connection to a pool in the router's namespace."""
    with r.space.inside():
        return psycopg.connect(host=host, port=port, user=user, dbname="app", connect_timeout=10, autocommit=True,
                               password=password or cluster.passwords[user], **more)


def address_of(connection):
    return connection.execute("select host(inet_server_addr())").fetchone()[0]


def nodes_of(cluster):
    return ",".join(f"{node.address}:{node.port}:{node.rest_port}" for node in cluster.nodes)


def test_a_pool_mode_makes_both_ports_pools(cluster_with_cables, start, tmp_path):
    """The password from a file, as secrets are mounted."""
    cluster = cluster_with_cables
    secret = tmp_path / "password"
    secret.write_text(cluster.passwords["app"] + "\n")
    with Space(cluster) as space:
        r = start(space, POSTGRES_NODES=nodes_of(cluster), PGROUTER_POOL_MODE="transaction", POSTGRES_USER="app",
                  POSTGRES_PASSWORD_FILE=str(secret), PGROUTER_DEFAULT_POOL_SIZE="1")
        leader = cluster.leader()
        clients = [joined(cluster, r, RW) for _ in range(4)]
        assert {address_of(client) for client in clients} == {leader.address}
        pids = {client.execute("select pg_backend_pid()").fetchone() for client in clients}
        assert len(pids) == 1  # four clients, one server
        with joined(cluster, r, RO) as reader:
            assert address_of(reader) in {node.address for node in cluster.replicas()}
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            joined(cluster, r, RW, password="wrong")
        for one in clients:
            one.close()


def test_the_variables_of_pgbouncers_images(cluster_with_cables, start):
    cluster = cluster_with_cables
    leader = cluster.leader()
    common = {"POOL_MODE": "statement", "MAX_CLIENT_CONN": "2", "LISTEN_PORT": "6432"}
    host = {"DB_HOST": leader.address, "DB_PORT": str(leader.port), "DB_USER": "app", "DB_NAME": "app",
            "DB_PASSWORD": cluster.passwords["app"]}
    url = {"DATABASE_URL": f"postgres://app:{cluster.passwords['app']}@{leader.address}:{leader.port}/app"}
    for variables in (host, url):
        with Space(cluster) as space:
            r = start(space, **common, **variables)
            with joined(cluster, r, 6432) as client:
                assert address_of(client) == leader.address
                with pytest.raises(psycopg.OperationalError, match="not allowed in statement pooling"):
                    client.execute("begin")
            with pytest.raises(psycopg.OperationalError, match="no such database"), r.space.inside():
                psycopg.connect(host="127.0.0.1", port=6432, user="app", dbname="other",
                                password=cluster.passwords["app"])
            r.stop()


def test_settings_in_the_environment_count_more_than_the_file(space, program, tmp_path):
    path = tmp_path / "file.ini"
    path.write_text("[pgrouter]\nmax_client_conn = 5\n[cluster main]\nnodes = a=127.0.0.1:1\ncheck = tcp\n"
                    "[listener rw]\nbind = 127.0.0.1:7777\n[stats]\nbind = 127.0.0.1:8404\n")
    r = Router(program, str(tmp_path), None, {"PGROUTER_MAX_CLIENT_CONN": "6", "HAPROXY_STATS_PASSWORD": "s3cret"},
               [str(path)], space.prefix)
    r.space = space
    r.log.wait("pgrouter is running")
    assert get(r, "/stats;csv", password="s3cret")[1].count(",6,") > 0
    assert get(r, "/stats")[0] == 401
    r.stop()
    done = run(program, space, "-t", str(path), PGROUTER_MAX_CLIENT_CONN="many")
    assert done.returncode == 1 and done.stderr.startswith("PGROUTER_MAX_CLIENT_CONN: max_client_conn = 'many'")


def test_a_password_for_the_statistics(space, start):
    with nodes_in(space, "a") as (a,):
        r = start(space, POSTGRES_NODES=setting(a), HAPROXY_STATS_PASSWORD="s3cr:t")
        assert get(r, "/stats")[0] == get(r, "/stats;csv")[0] == get(r, "/")[0] == 401
        assert get(r, "/stats", password="s3cr:")[0] == get(r, "/stats", password="")[0] == 401
        assert get(r, "/stats", password="s3cr:t")[0] == 200
        assert get(r, "/healthz")[0] == get(r, "/readyz")[0] == 200


# Containers


@pytest.fixture
def mounted(space, tmp_path):
    """Function that says how to start a program that finds these files: {path: text}."""
    def mount(files):
        script = []
        for number, (path, text) in enumerate(files.items()):
            folder, ours = os.path.dirname(path), tmp_path / f"mounted-{number}"
            ours.mkdir(exist_ok=True)
            ours.chmod(0o755)
            (ours / os.path.basename(path)).write_text(text)
            script.append(f"mkdir -p {folder} && mount --bind {ours} {folder}")
        # Of the folders' parents copies, so that nothing is made on this machine.
        etc = tmp_path / "etc"
        for name in ("upper", "work"):
            (etc / name).mkdir(parents=True, exist_ok=True)
        begin = f"mount -t tmpfs none /usr/local/etc && mount -t overlay -o lowerdir=/etc,upperdir={etc}/upper," \
                f"workdir={etc}/work none /etc && rm -rf /etc/haproxy /etc/pgbouncer /etc/pgrouter"
        return [*space.prefix, "unshare", "--mount", "sh", "-ec", "\n".join([begin, *script, 'exec "$@"']), "sh"]

    done = subprocess.run([*mount({}), "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("no mounts of a test's own here: " + done.stderr.strip())
    return mount


INI = "[cluster main]\nnodes = a=127.0.0.1:1\ncheck = tcp\n[listener rw]\nbind = 127.0.0.1:%d\n"
BOUNCER = "[databases]\n* = host=127.0.0.1 port=1\n[pgbouncer]\nlisten_port = %d\nlisten_addr = 127.0.0.1\n" \
          "unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = /etc/pgbouncer/userlist.txt\n"


def listens(space, port):
    with space.inside(), contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


@pytest.mark.parametrize("files, variables, port", [
    ({"/etc/pgrouter/pgrouter.ini": INI % 7001, "/etc/pgbouncer/pgbouncer.ini": "[nonsense"}, {}, 7001),
    ({"/etc/pgbouncer/pgbouncer.ini": BOUNCER % 7002}, {"DATABASE_URL": "postgres://app:secret@x/y"}, 7002),
    ({}, {"POSTGRES_NODES": "127.0.0.1:1:2"}, RW)])
def test_a_container_takes_what_is_mounted(program, space, mounted, tmp_path, files, variables, port):
    prefix = mounted(files)
    r = Router(program, str(tmp_path), None, variables, ["--container"], prefix)
    r.log.wait("pgrouter is running")
    assert listens(space, port)
    done = subprocess.run([*prefix, program, "--container", "healthcheck"], env={**os.environ, **variables},
                          capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    r.stop()
    done = subprocess.run([*prefix, program, "--container", "healthcheck"], env={**os.environ, **variables},
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_a_container_without_passwords_says_so(program, mounted):
    done = subprocess.run([*mounted({"/etc/pgbouncer/pgbouncer.ini": BOUNCER % 7002}), program, "--container"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "auth_file: '/etc/pgbouncer/userlist.txt' cannot be read" in done.stderr


@pytest.mark.parametrize("path", ["/usr/local/etc/haproxy/haproxy.cfg", "/etc/haproxy/haproxy.cfg"])
def test_a_container_refuses_haproxys_file(program, mounted, path):
    done = subprocess.run([*mounted({path: "global\n"}), program, "--container"], capture_output=True, text=True,
                          env={**os.environ, "POSTGRES_NODES": "a:1:2"}, timeout=30, check=False)
    assert done.returncode == 1 and path in done.stderr and len(done.stderr.splitlines()) == 1


def test_healthcheck_tells_alive_from_not(program, space, start):
    variables = {"POSTGRES_NODES": "127.0.0.1:1:2,127.0.0.2:1:2"}
    assert run(program, space, "healthcheck", **variables).returncode == 1
    r = start(space, wait=False, **variables)
    r.log.wait("pgrouter is running")
    assert run(program, space, "healthcheck", **variables).returncode == 0
    r.signal(signal.SIGSTOP)
    began = time.monotonic()
    done = run(program, space, "healthcheck", **variables)
    assert done.returncode == 1 and "http://127.0.0.1:8404/healthz" in done.stderr
    assert time.monotonic() - began < 10
    r.signal(signal.SIGCONT)
    r.is_slowed = True
