"""docker/compose.yml from nothing, as its README says it, and what may happen to such a cluster.

The tests share one cluster and leave it whole; each waits for what it needs. With PGROUTER_KEEP_STACK=1
it stays there for a look. BASE_IMAGE, ETCD_IMAGE and PG_MAJOR of the environment say what images are made of."""

import io
import json
import os
import pathlib
import re
import subprocess
import tarfile
import threading
import time
import urllib.error

import psycopg
import pytest

from cluster import engine, process
from cluster.engine import docker, inspect
from stack import (BUILD_S, COMPOSE, ETCD, IMAGES, POSTGRES, ROUTERS, STAND_INS, TOP, UP_S, Stack,
                   image, readme_block, wait_for_exit)

WHY_NOT = engine.why_none()
# Whichever test comes first has the images built, and the cluster made.
pytestmark = [pytest.mark.engine, pytest.mark.takes(BUILD_S + 2 * UP_S),
              pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

FIRST_START = "A cluster on one machine"


@pytest.fixture(scope="module")
def images():
    """Their names; removed at the end."""
    builder = Stack(f"pgrouter-build-{os.getpid()}")
    builder.build()
    yield {name: image(name) for name in IMAGES}
    for name in IMAGES:
        docker("rmi", image(name), check=False)


@pytest.fixture(scope="module")
def fresh(images):
    """A cluster that was made by the README's lines, and what they have printed."""
    del images
    stack = Stack(f"pgrouter-test-{os.getpid()}")
    try:
        stack.printed = stack.run_lines(readme_block(FIRST_START))
        yield stack
    finally:
        if os.environ.get("PGROUTER_KEEP_STACK") is None:
            stack.remove()


@pytest.fixture
def stack(fresh):
    """With all of it healthy, whatever was done to it before."""
    fresh.settles()
    return fresh


class Writer:
    """Writes rows through new connections until it is stopped; knows what was confirmed."""

    def __init__(self, stack, name):
        self.stack, self.name = stack, name
        self.confirmed, self.errors = [], []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        number = 0
        while not self.stopped.is_set():
            number += 1
            text = f"{self.name} {number}"
            try:
                self.stack.query(f"INSERT INTO kept VALUES ('{text}')")
                self.confirmed.append(text)
            except psycopg.Error as error:
                self.errors.append(str(error))
            time.sleep(0.05)

    def __enter__(self):
        self.stack.write(self.name)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(60)

    def goes_on(self, seconds=120):
        """From now on something more is confirmed."""
        count = len(self.confirmed)
        assert process.wait_until(lambda: len(self.confirmed) > count + 2, seconds), self.errors[-3:]

    def expect_all(self):
        rows = {row[0] for row in self.stack.answers(f"SELECT what FROM kept WHERE what LIKE '{self.name} %'")}
        assert not set(self.confirmed) - rows


# Images


def test_the_routers_image_is_what_platforms_expect(images):
    config = inspect(images["router"])["Config"]
    assert config["User"] == "pgrouter"
    assert set(config["ExposedPorts"]) == {"5432/tcp", "5433/tcp", "8404/tcp"}
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/pgrouter", "--container", "healthcheck"]
    assert config["Entrypoint"] == ["/usr/local/bin/pgrouter", "--container"]
    assert config["Labels"]["org.opencontainers.image.licenses"] == "ISC"
    said = docker("run", "--rm", "--read-only", "--entrypoint", "bash", images["router"], "-c",
                  "id -u; psql --version; pgrouter --version; ! command -v gcc cc meson")
    assert re.fullmatch(r"10001\npsql \(PostgreSQL\) \d+.*\npgrouter \d.*\n", said), said


def test_the_routers_image_adds_little_to_its_base(images):
    base = inspect("debian:bookworm-slim")["Size"] if "BASE_IMAGE" not in os.environ else \
        inspect(os.environ["BASE_IMAGE"])["Size"]
    assert inspect(images["router"])["Size"] - base < 60e6


def test_without_nodes_the_router_says_what_is_missing(images):
    name = f"pgrouter-test-none-{os.getpid()}"
    try:
        docker("run", "--detach", "--name", name, images["router"])
        assert wait_for_exit(name, 20) == 1
        assert "POSTGRES_NODES" in docker("logs", name)
    finally:
        docker("rm", "--force", name)


@pytest.mark.parametrize("folder", ["/usr/local/etc/haproxy", "/etc/haproxy"])
def test_a_mounted_haproxy_cfg_is_refused(images, folder):
    """By a sentence; nobody believes that it has been obeyed."""
    name = f"pgrouter-test-cfg-{os.getpid()}"
    try:
        docker("create", "--name", name, "-e", "POSTGRES_NODES=a:5432:8008", images["router"])
        docker("cp", os.path.join(os.path.dirname(__file__), "haproxy"), f"{name}:{os.path.dirname(folder)}")
        docker("start", name)
        assert wait_for_exit(name, 20) == 1
        assert f"{folder}/haproxy.cfg" in docker("logs", name)
    finally:
        docker("rm", "--force", name)


def test_labels_say_what_an_image_was_built_from(images):
    del images  # their layers are there now
    tag = f"pgrouter/router:labels-{os.getpid()}"
    said = {"VERSION": "9.8.7", "REVISION": "abcdef", "SOURCE": "https://example.org/it"}
    base = {"BASE_IMAGE": os.environ.get("BASE_IMAGE", STAND_INS["BASE_IMAGE"])}
    try:
        docker("build", "-q", "-f", "docker/router/Dockerfile", "-t", tag,
               *(f"--build-arg={name}={value}" for name, value in {**base, **said}.items()), ".",
               cwd=TOP, seconds=BUILD_S, env={**os.environ, "DOCKER_BUILDKIT": "1"})
        labels = inspect(tag)["Config"]["Labels"]
        assert {name: labels[f"org.opencontainers.image.{name.lower()}"] for name in said} == said
    finally:
        docker("rmi", tag, check=False)


def test_the_readmes_lines_that_build_images(images):
    lines = readme_block("Building them")
    assert len(lines.splitlines()) == len(IMAGES)
    tag = f"lines-{os.getpid()}"
    try:
        subprocess.run(["bash", "-euc", re.sub(r"-t (\S+)", rf"-q -t \1:{tag}", lines)], cwd=TOP, check=True,
                       env={**os.environ, "DOCKER_BUILDKIT": "1"}, timeout=BUILD_S)
        for name in images:
            assert inspect(f"{IMAGES[name]}:{tag}")["Config"]["Entrypoint"]
    finally:
        for name in IMAGES.values():
            docker("rmi", f"{name}:{tag}", check=False)


def test_etcd_is_taken_from_an_image_that_is_named(images):
    """As the published one is by default: two programs in /usr/local/bin."""
    tag = f"pgrouter/etcd:taken-{os.getpid()}"
    base = os.environ.get("BASE_IMAGE", STAND_INS["BASE_IMAGE"])
    try:
        docker("build", "-q", "-f", "docker/etcd/Dockerfile", "-t", tag, f"--build-arg=ETCD_IMAGE={images['etcd']}",
               f"--build-arg=BASE_IMAGE={base}", ".", cwd=TOP, seconds=BUILD_S,
               env={**os.environ, "DOCKER_BUILDKIT": "1"})
        assert "etcd Version: 3." in docker("run", "--rm", "--entrypoint", "etcd", tag, "--version")
    finally:
        docker("rmi", tag, check=False)


@pytest.mark.parametrize("user, number", [(None, "10002"), ("", "0")])
def test_etcd_run_as(images, user, number):
    """etcd and its volume are this user's; and a health check may ask elsewhere."""
    name = f"pgrouter-test-etcd-{os.getpid()}"
    more = [] if user is None else ["-e", f"ETCD_RUN_AS={user}"]
    try:
        docker("run", "--detach", "--name", name, "-e", "ETCD_NAME=one", "-e", f"ETCD_INITIAL_CLUSTER=one=http://{name}:2380",
               "-e", "ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:3379", "-e", "HEALTH_URL=http://127.0.0.1:3379/health",
               "-e", "ETCD_ADVERTISE_CLIENT_URLS=http://127.0.0.1:3379", "--hostname", name, *more, images["etcd"])
        assert process.wait_until(lambda: inspect(name)["State"]["Health"]["Status"] == "healthy", 60, 0.3), \
            docker("logs", name)
        assert docker("exec", name, "stat", "-c", "%u", "/proc/1", "/var/lib/etcd/member").split() == [number] * 2
    finally:
        docker("rm", "--force", "--volumes", name)


# From nothing


def test_the_lines_of_the_readme_lead_to_a_cluster(fresh):
    """Made, written to, read from, and looked at."""
    created, inserted, recovery, statistics = re.fullmatch(
        r"(.*CREATE TABLE)\n(.*INSERT 0 1)\n(.*\(1 row\))\n\n(.*)", fresh.printed, re.S).groups()
    assert created and re.search(r"\d{4}-\d\d-\d\d", inserted)
    assert recovery.split() == ["pg_is_in_recovery", "-------------------", "t", "(1", "row)"]
    assert "postgresql_primary,BACKEND" in statistics


def test_ports_are_where_variables_say(images):
    """On this machine alone unless somebody asks for more."""
    del images
    for bind, ports in ((None, None), ("0.0.0.0", ("1", "2", "3"))):
        names = ("BIND_ADDRESS", "PRIMARY_PORT", "REPLICAS_PORT", "STATS_PORT")
        given = {} if bind is None else dict(zip(names, (bind, *ports)))
        environment = {name: value for name, value in os.environ.items() if name not in names}
        said = docker("compose", "-f", COMPOSE, "config", "--format", "json", cwd=TOP, env={**environment, **given})
        published = json.loads(said)["services"]["router"]["ports"]
        assert [(port["host_ip"], port["published"], port["target"]) for port in published] == \
            list(zip([bind or "127.0.0.1"] * 3, ports or ("5432", "5433", "8404"), (5432, 5433, 8404)))


def test_every_service_becomes_healthy(stack):
    assert {name: stack.health(name) for name in (*ETCD, *POSTGRES, "router")} == \
        dict.fromkeys((*ETCD, *POSTGRES, "router"), "healthy")


def test_the_statistics_show_one_primary_and_two_replicas(stack):
    status = stack.status()
    assert len(status["postgresql_primary"]) == 1
    assert status["postgresql_replicas"] == set(POSTGRES) - status["postgresql_primary"]


def test_writes_and_reads_end_where_they_belong(stack):
    leader = stack.leader()
    address = _address(stack, leader)
    assert stack.query("SELECT pg_is_in_recovery(), host(inet_server_addr())") == [(False, address)]
    seen = {stack.query("SELECT pg_is_in_recovery(), host(inet_server_addr())", "REPLICAS_PORT")[0]
            for _ in range(6)}
    assert seen == {(True, _address(stack, name)) for name in POSTGRES if name != leader}


def test_the_router_runs_on_a_read_only_root_without_rights(stack):
    container = stack.container("router")
    assert inspect(container)["HostConfig"]["ReadonlyRootfs"]
    assert "CapEff:\t0000000000000000" in docker("exec", container, "cat", "/proc/1/status")
    assert "Read-only" in docker("exec", container, "bash", "-c", "touch /tmp/x", check=False)


def test_the_console_of_a_platform_reaches_the_database_from_inside(stack):
    said = stack.compose("exec", "-T", "router", "bash", "+H", "-c",
                         "psql postgresql://railway:railway@localhost:5432/railway -Atc 'SELECT 40 + 2'")
    assert said.strip() == "42"


# What may happen to it


def test_a_switchover_loses_nothing(stack):
    """By patronictl, to a node of choice, while somebody writes."""
    old = stack.leader()
    new = next(name for name in POSTGRES if name != old)
    with Writer(stack, "switchover") as writer:
        writer.goes_on()
        stack.compose("exec", "-T", old, "patronictl", "switchover", "--force", "--candidate", new)
        assert process.wait_until(lambda: stack.status()["postgresql_primary"] == {new}, 60, 0.2)
        writer.goes_on()
    assert stack.leader() == new
    writer.expect_all()


def test_the_readmes_switchover(stack):
    """Its second block: the table of members, then another leader."""
    old = stack.leader()
    printed = stack.run_lines(readme_block(FIRST_START, 1))
    assert re.search(rf"\| {old} .*\| Leader +\| running", printed), printed
    assert all(f"| {name} " in printed for name in POSTGRES)
    assert process.wait_until(lambda: stack.status()["postgresql_primary"] - {old}, 60, 0.2)


def test_a_killed_leader_is_followed_by_another_and_comes_back(stack):
    old = stack.leader()
    with Writer(stack, "kill") as writer:
        writer.goes_on()
        docker("kill", stack.container(old))
        assert process.wait_until(lambda: stack.status()["postgresql_primary"] - {old}, 120, 0.2), stack.logs()
        writer.goes_on()
    assert stack.answers("SELECT pg_is_in_recovery()", "REPLICAS_PORT") == [(True,)]
    stack.compose("start", old)
    assert stack.settles() != old
    stack.expect("kill")


def test_a_routers_stop_lets_sessions_end(stack):
    """SIGTERM: no new clients, the one that is served gets its answer, and the exit status is 0."""
    container = stack.container("router")
    with stack.connect() as connection:
        connection.execute("SELECT 1")
        stopping = threading.Thread(target=lambda: stack.compose("stop", "router"))
        stopping.start()
        assert process.wait_until(lambda: not _accepts(stack), 20, 0.1)
        assert connection.execute("SELECT pg_sleep(2), 7").fetchone()[1] == 7
        assert inspect(container)["State"]["Running"]
    stopping.join(60)
    state = inspect(container)["State"]
    assert (state["Running"], state["ExitCode"]) == (False, 0), docker("logs", "--tail=20", container)
    stack.compose("start", "router")
    stack.settles()


@pytest.mark.parametrize("member", ["etcd-2", "etcd-1"])
def test_an_etcd_that_lost_its_volume_joins_again(stack, member):
    """Also the one that would begin a cluster if it found none."""
    stack.etcd_settles()
    leader, epoch = stack.leader(), _timeline(stack)
    stack.lose_volume(member)
    stack.etcd_settles()
    stack.write(f"without the volume of {member}")
    assert (stack.settles(), _timeline(stack)) == (leader, epoch)


def test_a_postgres_that_lost_its_volume_is_made_anew(stack):
    lost = next(name for name in POSTGRES if name != stack.leader())
    stack.write("before the loss")
    stack.lose_volume(lost)
    assert stack.settles() != lost
    stack.expect("before the loss")


@pytest.mark.parametrize("how", ["restart", "down and up"])
def test_everything_may_be_restarted(stack, how):
    stack.write(f"before {how}")
    if how == "restart":
        stack.compose("restart")
    else:
        stack.compose("down")
        stack.compose("up", "-d")
    stack.settles()
    stack.expect(f"before {how}")
    stack.write(f"after {how}")


def test_the_readmes_routers_scale(stack):
    """Its third block: each has ports of its own, and each leads to the same primary."""
    ranges = {name: f"{ports[0]}-{ports[-1]}" for name, ports in stack.ports.items()}
    lines = re.sub(r"(\w+_PORT)=\S+", lambda found: f"{found[1]}={ranges[found[1]]}", readme_block(FIRST_START, 2))
    try:
        stack.run_lines(lines)
        leader = stack.leader()
        status = stack.status()
        assert len(stack.containers("router")) == ROUTERS
        address = _address(stack, leader)
        for number in range(ROUTERS):
            assert process.wait_until(lambda number=number: _accepts(stack, number), 30, 0.2), stack.logs("router")
            assert stack.query("SELECT host(inet_server_addr())", number=number) == [(address,)]
            assert stack.query("SELECT pg_is_in_recovery()", "REPLICAS_PORT", number) == [(True,)]
            assert process.wait_until(lambda number=number: stack.status(number) == status, 30, 0.2)
    finally:
        stack.compose("rm", "--force", "--stop", "router")
        stack.compose("up", "-d")
    assert stack.answers() == [(1,)]


def test_a_router_that_does_not_answer_is_ill(stack):
    """The command of the health check, in one line."""
    container = stack.container("router")
    assert docker("exec", container, "pgrouter", "--container", "healthcheck") == ""
    docker("kill", "--signal", "STOP", container)
    try:
        said = docker("exec", container, "bash", "-c", "! pgrouter --container healthcheck")
    finally:
        docker("kill", "--signal", "CONT", container)
    assert len(said.splitlines()) == 1


# What variables do


@pytest.fixture
def router_with(stack):
    """Function that makes the router anew with these variables."""
    def make(**environment):
        stack.compose("up", "-d", "--no-deps", "router", **environment)
        stack.wait_until_healthy(["router"])
        return stack

    yield make
    stack.compose("up", "-d", "--no-deps", "router")


def test_pools_are_turned_on_by_a_variable(router_with):
    """Clients that come one after the other share a server."""
    stack = router_with(PGROUTER_POOL_MODE="transaction", PGROUTER_DEFAULT_POOL_SIZE="1")
    stack.answers()
    with stack.connect() as first, stack.connect() as second:
        pids = {connection.execute("SELECT pg_backend_pid()").fetchone() for connection in (first, second)}
    assert len(pids) == 1
    assert stack.query("SELECT pg_is_in_recovery()", "REPLICAS_PORT") == [(True,)]


def test_the_statistics_may_take_a_password(router_with):
    stack = router_with(HAPROXY_STATS_PASSWORD="it's $ecret")
    with pytest.raises(urllib.error.HTTPError) as refused:
        stack.status()
    assert refused.value.code == 401


@pytest.fixture
def lone(stack, images):
    """Function that starts a router beside the cluster: variables, and path -> text of files. Returns a
    function that asks in it, by psql."""
    name = f"pgrouter-test-lone-{os.getpid()}"

    def start(files=(), **environment):
        docker("create", "--name", name, "--network", f"{stack.project}_default",
               *(word for key, value in environment.items() for word in ("-e", f"{key}={value}")), images["router"])
        for path, text in dict(files).items():
            put(name, path, text)
        docker("start", name)
        assert process.wait_until(lambda: inspect(name)["State"].get("Health", {}).get("Status") == "healthy", 60, 0.3), \
            docker("logs", name)
        return ask

    def ask(statement, port=5432, user="railway", database="railway"):
        return docker("exec", "-e", "PGPASSWORD=railway", name, "psql", "-XAt", "-h", "localhost", "-p", str(port),
                      "-U", user, "-d", database, "-c", statement).strip()

    yield start
    docker("rm", "--force", name)


def put(container, path, text):
    """A file that everybody may read."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder in pathlib.PurePosixPath(path).parents:
            if str(folder) not in ("/", "/etc", "/run"):
                entry = tarfile.TarInfo(str(folder).lstrip("/"))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode = len(text.encode()), 0o644
        tar.addfile(entry, io.BytesIO(text.encode()))
    subprocess.run(["docker", "cp", "-", f"{container}:/"], input=archive.getvalue(), check=True)


def test_the_variables_of_pgbouncers_images(lone, stack):
    ask = lone(DB_HOST=stack.leader(), DB_PORT="5432", DB_USER="railway", DB_PASSWORD="railway", DB_NAME="railway",
               POOL_MODE="transaction", AUTH_TYPE="scram-sha-256", MAX_CLIENT_CONN="50", DEFAULT_POOL_SIZE="3",
               LISTEN_PORT="6432", ADMIN_USERS="railway")
    assert ask("SELECT pg_is_in_recovery()", 6432) == "f"
    assert ask("SELECT pg_backend_pid()", 6432) == ask("SELECT pg_backend_pid()", 6432)
    shown = dict(line.split("|")[:2] for line in ask("SHOW CONFIG", 6432, database="pgbouncer").splitlines())
    assert (shown["max_client_conn"], shown["default_pool_size"]) == ("50", "3")


def test_database_url(lone, stack):
    ask = lone(DATABASE_URL=f"postgresql://railway:railway@{stack.leader()}:5432/railway", POOL_MODE="session")
    assert ask("SELECT 40 + 2") == "42"


def test_a_secret_may_come_in_a_file(lone, stack):
    ask = lone({"/run/secrets/password": "railway\n"}, DB_HOST=stack.leader(), DB_USER="railway",
               DB_PASSWORD_FILE="/run/secrets/password", DB_NAME="railway")
    assert ask("SELECT 40 + 2") == "42"


def test_a_mounted_pgbouncer_ini_is_the_configuration(lone, stack):
    """As PgBouncer has it: it knows no port for statistics, and the router is healthy all the same."""
    ask = lone({"/etc/pgbouncer/pgbouncer.ini": f"""
[databases]
* = host={stack.leader()} port=5432
[pgbouncer]
listen_addr = *
listen_port = 6432
auth_type = plain
auth_file = /etc/pgbouncer/userlist.txt
pool_mode = session
unix_socket_dir =
""", "/etc/pgbouncer/userlist.txt": '"railway" "railway"\n'}, POSTGRES_NODES="nobody:5432:8008")
    assert ask("SELECT 40 + 2", 6432) == "42"


def test_a_mounted_pgrouter_ini_comes_first(lone, stack):
    nodes = ", ".join(f"{name}={name}:5432:8008" for name in POSTGRES)
    ask = lone({"/etc/pgrouter/pgrouter.ini": f"""
[cluster main]
nodes = {nodes}
[listener rw]
bind = *:5000
[stats]
bind = *:8404
""", "/etc/pgbouncer/pgbouncer.ini": "nonsense\n"})
    assert ask("SELECT host(inet_server_addr())", 5000) == _address(stack, stack.leader())


def _accepts(stack, number=0):
    try:
        stack.connect(number=number, connect_timeout=2).close()
        return True
    except psycopg.Error:
        return False


def _address(stack, service):
    networks = inspect(stack.container(service))["NetworkSettings"]["Networks"]
    return next(iter(networks.values()))["IPAddress"]


def _timeline(stack):
    return stack.query("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")
