"""docker/compose.yml on the Docker engine of this machine: a project of its own with its own ports."""

import csv
import io
import os
import re
import subprocess
import time
import urllib.request

import psycopg

from cluster import network, process
from cluster.engine import docker, inspect

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
COMPOSE = os.path.join("docker", "compose.yml")
README = os.path.join(TOP, "docker", "README.md")
ROUTERS = 3  # so many ports has each of PORTS
PORTS = {"PRIMARY_PORT": 5432, "REPLICAS_PORT": 5433, "STATS_PORT": 8404}
POSTGRES = ("postgres-1", "postgres-2", "postgres-3")
ETCD = ("etcd-1", "etcd-2", "etcd-3")
BUILD_S, UP_S = 1500, 600
TAG = f"test-{os.getpid()}"
IMAGES = {"router": "pgrouter/router", "etcd": "pgrouter/etcd", "postgres": "pgrouter/postgres-patroni"}

# What stands in for images of a hub: packages of the distribution. Who can reach a hub may say otherwise.
STAND_INS = {"BASE_IMAGE": "debian:bookworm-slim", "ETCD_IMAGE": "", "PG_MAJOR": "15"}


def image(name):
    return f"{IMAGES[name]}:{TAG}"


def readme_block(heading, number=0):
    """The lines of a block of commands below a heading of docker/README.md."""
    with open(README, encoding="utf-8") as file:
        section = re.split(rf"^## {re.escape(heading)}$", file.read(), flags=re.M)[1]
    section = re.split(r"^## ", section, flags=re.M)[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)[number]


class Stack:
    """`ports`: of the services of compose.yml, as many as there may be routers."""

    def __init__(self, project):
        self.project = project
        self.ports = {name: _free_ports() for name in PORTS}
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ},
            **STAND_INS, **{name: os.environ[name] for name in STAND_INS if name in os.environ},
            "DOCKER_BUILDKIT": "1", "COMPOSE_PROJECT_NAME": project, "PGROUTER_TAG": TAG,
            **{name: str(ports[0]) for name, ports in self.ports.items()}}

    # Commands

    def compose(self, *arguments, check=True, seconds=UP_S, **environment):
        return docker("compose", "-f", COMPOSE, *arguments, check=check, seconds=seconds, cwd=TOP,
                      env={**self.environment, **environment})

    def build(self):
        self.compose("--progress=plain", "build", seconds=BUILD_S)

    def run_lines(self, lines, seconds=UP_S):
        """Lines of a README, as somebody types them; but with our ports, and without a terminal."""
        lines = lines.replace(" exec ", " exec -T ")
        for name, port in PORTS.items():
            lines = lines.replace(f"localhost:{port}", f"localhost:{self.ports[name][0]}")
        done = subprocess.run(["bash", "-euc", lines], cwd=TOP, env=self.environment, capture_output=True,
                              text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{lines}\n{done.stdout}\n{done.stderr}\n{self.compose('ps', '-a')}"
        return done.stdout

    def remove(self):
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)

    # Containers

    def containers(self, service):
        return sorted(self.compose("ps", "-a", "-q", service).split())

    def container(self, service):
        return self.containers(service)[0]

    def health(self, service):
        state = inspect(self.container(service))["State"]
        return state.get("Health", {}).get("Status", "no health check") if state["Running"] else state["Status"]

    def wait_until_healthy(self, services=(*ETCD, *POSTGRES, "router"), seconds=240):
        ok = process.wait_until(lambda: all(self.health(name) == "healthy" for name in services), seconds, 0.5)
        assert ok, self.compose("ps", "-a") + self.logs()

    def logs(self, *services):
        return self.compose("logs", "--no-color", "--tail=40", *services, check=False)

    def lose_volume(self, service):
        """Container and volume are gone; the service begins with an empty one."""
        self.compose("rm", "--force", "--stop", service)
        docker("volume", "rm", f"{self.project}_{service}")
        self.compose("up", "-d", "--no-deps", service)

    # Clients

    def connect(self, name="PRIMARY_PORT", number=0, **more):
        return psycopg.connect(host="127.0.0.1", port=self.ports[name][number], user="railway",
                               password="railway", dbname="railway", autocommit=True,
                               **{"connect_timeout": 15, **more})

    def query(self, statement, name="PRIMARY_PORT", number=0):
        with self.connect(name, number) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def answers(self, statement="SELECT 1", name="PRIMARY_PORT", seconds=120, expected=None):
        """Rows, once there are some (and they are the expected ones)."""
        last = [None]

        def ask():
            try:
                last[0] = self.query(statement, name)
                return expected in (None, last[0])
            except psycopg.Error as error:
                last[0] = error
                return False

        assert process.wait_until(ask, seconds, 0.3), f"{last[0]}\n{self.compose('ps', '-a')}\n{self.logs()}"
        return last[0]

    def write(self, text):
        """Through the router to the primary, sooner or later."""
        self.answers("CREATE TABLE IF NOT EXISTS kept (what text)")
        return self.answers(f"INSERT INTO kept VALUES ('{text}') RETURNING what")

    def expect(self, text):
        """It is there, on the primary and on a replica."""
        statement = f"SELECT count(*) > 0 FROM kept WHERE what = '{text}'"
        for name in ("PRIMARY_PORT", "REPLICAS_PORT"):
            self.answers(statement, name, expected=[(True,)])

    def status(self, number=0):
        """Proxy -> names of its servers that are up."""
        url = f"http://127.0.0.1:{self.ports['STATS_PORT'][number]}/stats;csv"
        with urllib.request.urlopen(url, timeout=5) as answer:
            rows = list(csv.DictReader(io.StringIO(answer.read().decode().removeprefix("# "))))
        up = {row["pxname"]: set() for row in rows}
        for row in rows:
            if row["svname"] in POSTGRES and row["status"] == "UP":
                up[row["pxname"]].add(row["svname"])
        return up

    def leader(self, seconds=120):
        """The one node to which writes go, while the others serve reads."""
        found = []

        def look():
            try:
                status = self.status()
            except OSError:
                return False
            found[:] = sorted(status.get("postgresql_primary", ()))
            return len(found) == 1 and status["postgresql_replicas"] == set(POSTGRES) - set(found)

        assert process.wait_until(look, seconds, 0.3), f"{self.status()}\n{self.logs()}"
        return found[0]

    def settles(self):
        self.wait_until_healthy()
        return self.leader()

    def etcd_members(self, asked="etcd-1"):
        """Sorted lines of "status, name, learner?"."""
        lines = self.compose("exec", "-T", asked, "etcdctl", "member", "list", check=False).splitlines()
        fields = [line.split(", ") for line in lines if line.count(", ") == 5]
        return sorted((entry[1], entry[2], entry[5]) for entry in fields)

    def etcd_settles(self):
        expected = [("started", name, "false") for name in ETCD]
        ok = process.wait_until(lambda: all(self.etcd_members(name) == expected for name in ETCD), 120, 0.5)
        assert ok, "\n".join(f"{name}: {self.etcd_members(name)}" for name in ETCD) + self.logs(*ETCD)


def _free_ports():
    """A row of them that nobody listens on."""
    for _ in range(100):
        first = network.free_port("0.0.0.0")
        ports = range(first, first + ROUTERS)
        if all(network.listener_on(address, port) is None for address in ("0.0.0.0", "::") for port in ports):
            return ports
    raise RuntimeError("no ports are free")


def wait_for_exit(container, seconds):
    """Exit status of a container."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = inspect(container)["State"]
        if not state["Running"]:
            return state["ExitCode"]
        time.sleep(0.2)
    raise AssertionError(f"{container} still runs\n{docker('logs', container)[-2000:]}")
