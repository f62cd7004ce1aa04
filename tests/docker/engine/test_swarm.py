"""docker/swarm on the Docker engine of this machine: from nothing by the lines of QUICKSTART.md, and what may happen
to such a stack. The tests share one stack, run in this order, and leave it whole.

Where the kernel has no IPVS, ports are bound by the machine, which is one here: so that it may have two routers, they
are any that are free."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import threading
import urllib.error
import urllib.request

import psycopg
import pytest

from cluster import engine, process
from cluster.engine import docker, inspect
from stack import IMAGES, STAND_INS, TAG, TOP

WHY_NOT = engine.why_none()
pytestmark = [pytest.mark.engine, pytest.mark.takes(600),
              pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

# Images of this tag are there already, and are not built.
GIVEN_TAG = os.environ.get("PGROUTER_IMAGES_TAG")
MEMBERS = ["etcd1", "etcd2", "etcd3", "patroni-node1", "patroni-node2", "patroni-node3"]
SECONDS = 900
NEVER_WELL = """FROM {image}
ENTRYPOINT ["/bin/bash", "-c", "sleep 1000 & wait"]
"""


def quickstart_blocks():
    """The blocks of commands, in the order in which somebody reads them."""
    with open(os.path.join(TOP, "docker", "swarm", "QUICKSTART.md"), encoding="utf-8") as file:
        return re.findall(r"^```sh\n(.*?)^```$", file.read(), re.M | re.S)


class Swarm:
    """A copy of the tree, whose docker/swarm/.env is the test's own."""

    def __init__(self, folder):
        self.tree, self.stack = os.path.join(folder, "tree"), f"pgrouter-swarm-{os.getpid()}"
        shutil.copytree(TOP, self.tree, symlinks=True, ignore=shutil.ignore_patterns(
            "build*", ".git", ".demo", ".cache", "__pycache__", ".env", "results"))
        self.swarm = os.path.join(self.tree, "docker", "swarm")
        tag = GIVEN_TAG or TAG
        self.images = {f"IMAGE_{name.upper()}": f"{image}:{tag}" for name, image in IMAGES.items()}
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ},
            **STAND_INS, **{name: os.environ[name] for name in STAND_INS if name in os.environ},
            **self.images, "DOCKER_BUILDKIT": "1", "PGROUTER_TAG": tag, "STACK_NAME": self.stack,
            "COMPOSE_PROJECT_NAME": self.stack, "APP_NETWORK": f"{self.stack}-database",
            "DATA_DIR": f"/var/tmp/{self.stack}", "ROUTER_PORTS": "host", "ROUTER_REPLICAS": "2",
            "POOL_PORT": "0", "PRIMARY_PORT": "0", "REPLICA_PORT": "0", "STATS_PORT": "0",
            "POSTGRES_SHARED_BUFFERS": "32MB"}

    # Commands

    def lines(self, lines):
        """As somebody types them, in the top folder."""
        done = subprocess.run(["bash", "-euc", lines], cwd=self.tree, env=self.environment, capture_output=True,
                              text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}\n{self.tasks()}"
        return done.stdout

    def script(self, name, *arguments, status=0):
        """What a script prints. Nothing of the settings is in the environment now."""
        environment = {key: self.environment[key] for key in ("PATH", "HOME", "DOCKER_HOST") if key in self.environment}
        done = subprocess.run([os.path.join(self.swarm, "scripts", f"{name}.sh"), *arguments], env=environment,
                              capture_output=True, text=True, timeout=SECONDS, check=False, cwd="/",
                              stdin=subprocess.DEVNULL)
        assert done.returncode == status, f"{name} {arguments}\n{done.stdout}\n{done.stderr}\n{self.tasks()}"
        return done.stdout + done.stderr

    def status(self, healthy=True):
        return json.loads(self.script("status", "--json", status=0 if healthy else 1).splitlines()[0])

    def becomes_healthy(self, seconds=180):
        last = [None]

        def look():
            done = subprocess.run([os.path.join(self.swarm, "scripts", "status.sh"), "--json"], capture_output=True,
                                  text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)
            last[0] = done.stdout + done.stderr
            return done.returncode == 0

        assert process.wait_until(look, seconds, 1), f"{last[0]}\n{self.tasks()}"
        return json.loads(last[0].splitlines()[0])

    def tasks(self):
        return docker("stack", "ps", "--no-trunc", self.stack, check=False)

    # Files

    def path(self, name):
        return os.path.join(self.swarm, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def setting(self, name):
        return re.search(rf"^{name}=(.*)$", self.read(".env"), re.M)[1]

    def set(self, **settings):
        text = self.read(".env")
        for name, value in settings.items():
            text, n = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.M)
            assert n == 1, name
        self.write(".env", text)

    # Containers

    def containers(self, service):
        """Running ones, by the number of their task."""
        lines = docker("ps", "--filter", f"label=com.docker.swarm.service.name={self.stack}_{service}", "--format",
                       "{{.Names}} {{.ID}}").splitlines()
        return {int(line.split(".")[1]): line.split()[1] for line in lines}

    def all_containers(self):
        return {name: self.containers(name) for name in [*MEMBERS, "pgrouter"]}

    def port(self, container, port):
        return int(inspect(container)["NetworkSettings"]["Ports"][f"{port}/tcp"][0]["HostPort"])

    # Clients

    def connect(self, listener=6432, router=1, **more):
        if "port" not in more:
            more["port"] = self.port(self.containers("pgrouter")[router], listener)
        return psycopg.connect(**{"host": "127.0.0.1", "user": self.setting("POSTGRES_USER"),
                                  "dbname": self.setting("POSTGRES_DB"), "password": self.setting("POSTGRES_PASSWORD"),
                                  "autocommit": True, "connect_timeout": 15, **more})

    def query(self, statement, listener=6432, router=1):
        with self.connect(listener, router) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def remove_all(self):
        docker("stack", "rm", self.stack, check=False)
        process.wait_until(lambda: not docker("ps", "-aq", "--filter",
                                              f"label=com.docker.stack.namespace={self.stack}"), 120, 1)
        for number in (1, 2, 3):
            docker("volume", "rm", f"{self.stack}_etcd{number}-data", check=False)
        docker("network", "rm", self.environment["APP_NETWORK"], check=False)
        shutil.rmtree(self.environment["DATA_DIR"], ignore_errors=True)


@pytest.fixture(scope="module")
def swarm(tmp_path_factory):
    was_swarm = docker("info", "-f", "{{.Swarm.LocalNodeState}}").strip() == "active"
    labels = docker("node", "inspect", "self", "-f", "{{json .Spec.Labels}}", check=False) if was_swarm else "{}"
    if "patroni" in json.loads(labels):
        pytest.skip("this machine has a label 'patroni': a stack of somebody else's may rest on it")
    swarm = Swarm(tmp_path_factory.mktemp("swarm"))
    *swarm.begin, swarm.end = quickstart_blocks()
    if GIVEN_TAG:
        swarm.begin = swarm.begin[1:]
    try:
        yield swarm
    finally:
        if os.environ.get("PGROUTER_KEEP_STACK") is None:
            swarm.remove_all()
            docker("node", "update", "--label-rm", "patroni", docker("info", "-f", "{{.Swarm.NodeID}}").strip(), check=False)
            if not was_swarm:
                docker("swarm", "leave", "--force", check=False)
            for name in [] if GIVEN_TAG else swarm.images.values():
                docker("rmi", name, check=False)


@pytest.fixture
def stack(swarm):
    if not hasattr(swarm, "printed"):
        pytest.skip("there is no stack: QUICKSTART.md has failed")
    return swarm


def labels_of_this_machine():
    return json.loads(docker("node", "inspect", "self", "-f", "{{json .Spec.Labels}}"))


@pytest.mark.takes(2400)
def test_quickstart_from_nothing_to_a_query(swarm):
    printed = [swarm.lines(lines) for lines in swarm.begin]
    setup, deploy, query, status = printed[-4:]
    assert "label patroni=node1" in setup and "Ready." in setup
    assert "All is well." in deploy
    assert re.search(r"postgresql://app@pgrouter:6432/app\n.*5000/app\n.*5001/app", deploy)
    assert re.search(r"INSERT 0 1", query) and re.search(r"pg_is_in_recovery\s+-+\s+t\s", query)
    assert status.endswith("Healthy.\n")
    assert stat.S_IMODE(os.stat(swarm.path(".env")).st_mode) == 0o600
    swarm.printed = printed


def test_no_container_has_a_password_in_its_environment(stack):
    names = ("POSTGRES_PASSWORD", "PATRONI_SUPERUSER_PASSWORD", "PATRONI_REPLICATION_PASSWORD", "HAPROXY_STATS_PASSWORD")
    secrets = {stack.setting(name) for name in names}
    assert len(secrets) == 4 and all(len(secret) == 48 for secret in secrets)
    for name, containers in stack.all_containers().items():
        said = docker("inspect", *containers.values()) + docker("service", "inspect", f"{stack.stack}_{name}")
        assert not [secret for secret in secrets if secret in said], name
    listed = docker("exec", stack.containers("pgrouter")[1], "ls", "-ln", "/run/secrets")
    assert re.search(r"-r-------- 1 10001 10001 .* userlist\.txt", listed)


def test_each_port_leads_where_it_should(stack):
    assert stack.query("SELECT pg_is_in_recovery()", 6432) == [(False,)]
    assert stack.query("SELECT pg_is_in_recovery()", 5000) == [(False,)]
    assert stack.query("SELECT pg_is_in_recovery()", 5001) == [(True,)]
    url = f"http://127.0.0.1:{stack.port(stack.containers('pgrouter')[1], 7000)}/stats;csv"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            pytest.fail(f"without a password: {answer.status}")
    except urllib.error.HTTPError as error:
        assert error.code == 401
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, "admin", stack.setting("HAPROXY_STATS_PASSWORD"))
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    with opener.open(url, timeout=5) as answer:
        assert "patroni-node1" in answer.read().decode()


def test_only_who_is_on_the_list_gets_into_the_pool(stack):
    for more in ({"password": "wrong"}, {"user": "nobody"}):
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            stack.connect(**more)


def test_the_router_is_not_root_and_cannot_write(stack):
    container = stack.containers("pgrouter")[1]
    assert docker("exec", container, "id", "-u").strip() == "10001"
    assert "Read-only file system" in docker("exec", container, "bash", "-c", "echo >/etc/x", check=False)
    host = inspect(container)["HostConfig"]
    assert host["CapDrop"] == ["ALL"] and host["Memory"] == 512 << 20


def test_setup_once_more_changes_nothing(stack):
    before = stack.read(".env")
    assert "stays as it is" in stack.script("setup")
    assert stack.read(".env") == before and labels_of_this_machine() == {"patroni": "node1"}


def test_status_follows_what_happens(stack):
    status = stack.becomes_healthy()
    assert status["healthy"] and not status["problems"] and status["stack"] == stack.stack
    assert sorted(entry["name"] for entry in status["services"]) == sorted([*MEMBERS, "pgrouter"])
    assert [entry["running"] for entry in status["services"]] == [1] * 6 + [2]
    assert sorted(entry["role"] for entry in status["patroni"]) == ["leader", "replica", "replica"]
    assert [entry["lag_bytes"] for entry in status["patroni"] if entry["role"] == "replica"] == [0, 0]
    assert sum(entry["leader"] for entry in status["etcd"]) == 1
    assert sorted(entry["port"] for entry in status["connections"]) == [5000, 5000, 5001, 5001, 6432, 6432]
    leader = next(entry["name"] for entry in status["patroni"] if entry["role"] == "leader")
    assert {entry["node"] for entry in status["connections"] if entry["port"] in (5000, 6432)} == {leader}
    assert {entry["name"]: entry["containers"] for entry in status["usage"]} == {**dict.fromkeys(MEMBERS, 1), "pgrouter": 2}
    assert any(entry["of"] == "etcd1.1" and entry["what"] == "running" for entry in status["events"])

    def active():
        return sum(pool["cl_active"] for router in stack.status()["pools"] for pool in router["pools"]
                   if pool["database"] == "app")

    with stack.connect() as first, stack.connect(router=2) as second:
        assert (first.execute("SELECT 1").fetchone(), second.execute("SELECT 1").fetchone()) == ((1,), (1,))
        with_ours = active()
    assert with_ours == 2 and active() == 0


def test_status_names_what_is_missing(stack):
    docker("service", "scale", "--detach", f"{stack.stack}_etcd3=0")
    process.wait_until(lambda: not stack.containers("etcd3"), 60)
    status = stack.status(healthy=False)
    assert not status["healthy"]
    assert any(problem.startswith("etcd: etcd3: ") for problem in status["problems"]), status["problems"]
    assert not any("quorum" in problem for problem in status["problems"])
    assert any(problem.startswith("service: etcd3: ") for problem in status["problems"])
    assert "Not healthy:" in stack.script("status", status=1)
    docker("service", "scale", "--detach", f"{stack.stack}_etcd3=1")
    stack.becomes_healthy()


class Forwarder:
    """Leads each connection to where `port` is just then."""

    def __init__(self, port):
        self.port = port
        self.door = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.door.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.port))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def test_a_request_to_cancel_finds_the_router_that_has_the_query(stack):
    first, second = (stack.port(stack.containers("pgrouter")[number], 6432) for number in (1, 2))
    forwarder = Forwarder(first)
    with stack.connect(port=forwarder.door.getsockname()[1]) as connection:
        connection.execute("SELECT 1")
        forwarder.port = second
        threading.Timer(1, connection.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        assert connection.execute("SELECT 2").fetchone() == (2,)
    forwarder.door.close()


def test_a_mistake_in_the_configuration_changes_nothing(stack):
    before, kept = stack.all_containers(), stack.read("pgrouter.ini")
    stack.write("pgrouter.ini", kept.replace("pool_mode = session", "pool_mode = sessions"))
    said = stack.script("deploy", status=1)
    assert "pool_mode" in said and "nothing was deployed" in said
    stack.write("pgrouter.ini", kept)
    assert stack.all_containers() == before


def configs(stack):
    return docker("config", "ls", "--filter", f"label=com.docker.stack.namespace={stack.stack}", "-q").split()


def test_an_update_replaces_what_has_changed_and_nothing_else(stack):
    before = stack.all_containers()
    kept = stack.read("pgrouter.ini")
    for number in (41, 42):
        stack.write("pgrouter.ini", kept.replace("default_pool_size = 40", f"default_pool_size = {number}"))
        stack.script("deploy")
    after = stack.all_containers()
    assert {name: after[name] for name in MEMBERS} == {name: before[name] for name in MEMBERS}
    assert not set(after["pgrouter"].values()) & set(before["pgrouter"].values()) and len(after["pgrouter"]) == 2
    assert re.search(r"default_pool_size[ |]+42", stack.script("psql", "console", "-c", "SHOW CONFIG"))
    assert len(configs(stack)) == 2  # this one, and the one that Swarm would go back to


def test_a_router_that_is_not_well_is_taken_back(stack):
    good, bad = stack.setting("IMAGE_ROUTER"), f"pgrouter/never-well:{TAG}"
    subprocess.run(["docker", "build", "-q", "-t", bad, "-"], input=NEVER_WELL.format(image=good), text=True,
                   check=True, capture_output=True, timeout=120)
    before = stack.all_containers()
    try:
        # It is asked whether it would take the configuration, so that is what it still can.
        stack.set(IMAGE_ROUTER=bad)
        assert "back to what it was before" in stack.script("deploy", status=1)
        assert stack.query("SELECT 1") == [(1,)]
        after = stack.all_containers()
        assert set(after["pgrouter"].values()) & set(before["pgrouter"].values()), "one was left alone all the time"
        images = {inspect(container)["Config"]["Image"] for container in after["pgrouter"].values()}
        assert images == {good}
    finally:
        stack.set(IMAGE_ROUTER=good)
        stack.script("deploy")
        docker("rmi", "--force", bad, check=False)


def test_routers_are_scaled(stack):
    stack.set(ROUTER_REPLICAS=3)
    stack.script("deploy")
    assert len({entry["router"] for entry in stack.becomes_healthy()["connections"]}) == 3
    assert stack.query("SELECT 1", router=3) == [(1,)]
    stack.set(ROUTER_REPLICAS=2)
    stack.script("deploy")
    assert process.wait_until(lambda: len(stack.containers("pgrouter")) == 2, 60)


def test_an_update_of_all_members_goes_one_by_one(stack):
    stack.query("CREATE TABLE kept (what text)")
    stack.query("INSERT INTO kept VALUES ('before the update')")
    before = stack.all_containers()
    stack.set(POSTGRES_MEMORY="1G", ETCD_MEMORY="256M")
    said = stack.script("deploy")
    order = re.findall(r"Updating service \S+_(etcd\d|patroni-node\d|pgrouter)", said)
    assert order[:3] == ["etcd1", "etcd2", "etcd3"] and order[6:] == ["pgrouter"]
    after = stack.all_containers()
    assert not [name for name in MEMBERS if after[name] == before[name]]
    assert after["pgrouter"] == before["pgrouter"]
    assert {inspect(after[name][1])["HostConfig"]["Memory"] for name in MEMBERS[3:]} == {1 << 30}
    assert stack.query("SELECT what FROM kept") == [("before the update",)]


def leader_of(status):
    return next(entry["name"] for entry in status["patroni"] if entry["role"] == "leader")


def test_a_leader_that_dies_has_a_successor(stack):
    leader = leader_of(stack.becomes_healthy())
    docker("kill", *stack.containers(leader).values())
    found = []

    def is_served():
        try:
            found[:] = stack.query("INSERT INTO kept VALUES ('after the leader') RETURNING what")
            return True
        except psycopg.Error:
            return False

    assert process.wait_until(is_served, 120, 0.5), stack.tasks()
    status = stack.becomes_healthy()
    assert max(entry["timeline"] for entry in status["patroni"]) > 1
    assert any(entry["of"].startswith(leader) and entry["what"] == "failed" for entry in status["events"])


def test_removing_asks_and_keeps_the_data(stack):
    before = stack.all_containers()
    assert "nothing was removed" in stack.script("remove", status=1)
    assert stack.all_containers() == before
    stack.script("remove", "--yes")
    for kind in ("service", "secret", "config"):
        assert not docker(kind, "ls", "-q", "--filter", f"label=com.docker.stack.namespace={stack.stack}"), kind
    assert docker("volume", "ls", "-q", "--filter", f"name={stack.stack}_").count("\n") == 3
    assert labels_of_this_machine() == {"patroni": "node1"}
    assert "there is no stack" in stack.script("status", status=2)
    stack.script("deploy")
    assert ("before the update",) in stack.query("SELECT what FROM kept")


def test_patroni_takes_its_data_up_without_the_volumes_of_etcd(stack):
    stack.script("remove", "--yes", "--volumes")
    assert not docker("volume", "ls", "-q", "--filter", f"name={stack.stack}_")
    stack.script("deploy")
    assert ("before the update",) in stack.query("SELECT what FROM kept")


def test_nothing_is_left_at_the_end(stack):
    stack.lines(stack.end)
    for kind in ("service", "secret", "config", "volume", "network"):
        arguments = ("--filter", f"name={stack.stack}")
        assert not docker(kind, "ls", "-q", *arguments), kind
    assert labels_of_this_machine() == {}
    assert not os.path.exists(stack.environment["DATA_DIR"]) and not os.path.exists(stack.path(".env"))
