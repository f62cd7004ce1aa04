"""Drivers of other languages with their default settings, more clients than servers: programs
of drivers/, which check what they are answered. Drivers of Python: test_pool_drivers.py."""

import glob
import os
import shutil
import subprocess

import pytest

from harness.drivers import HERE, run
from test_pool_drivers import things, way  # noqa: F401

MODULES_OF_NODE = "/usr/share/nodejs:/usr/local/lib/node_modules:/usr/lib/node_modules"
SHARES = ["transaction", "tls", "session"]


def compiled(command, **environment):
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


def share(way, command, how):  # noqa: F811
    said = run(command, way(how), "share")
    assert said.strip() == ("stayed" if how == "session" else "moved")


# node-postgres


@pytest.fixture
def node(monkeypatch):
    """The command."""
    command = ["node", os.path.join(HERE, "node_postgres.js")]
    if shutil.which("node") is None:
        pytest.skip("node (nodejs) is not installed")
    monkeypatch.setenv("NODE_PATH", MODULES_OF_NODE)
    if subprocess.run(["node", "-e", "require('pg')"], capture_output=True, check=False).returncode != 0:
        pytest.skip("node-postgres (node-pg) is not installed")
    return command


@pytest.mark.parametrize("how", SHARES)
def test_node_postgres(way, node, how):  # noqa: F811
    share(way, node, how)


@pytest.mark.parametrize("task", ["cancel", "large", "forget", "notices", "lost"])
def test_node_postgres_too(way, node, task):  # noqa: F811
    run(node, way(), task)


# JDBC


@pytest.fixture(scope="module")
def jdbc(tmp_path_factory):
    """The command; compiled once."""
    driver = "/usr/share/java/postgresql.jar"
    compiler = shutil.which("javac") or shutil.which("ecj")
    if shutil.which("java") is None or compiler is None:
        pytest.skip("java, and javac or ecj, are not installed")
    if not os.path.exists(driver):
        pytest.skip("the JDBC driver (libpostgresql-jdbc-java) is not installed")
    folder = str(tmp_path_factory.mktemp("jdbc"))
    path = ":".join([driver, folder, *glob.glob("/usr/share/java/*scram*.jar")])
    release = [] if compiler.endswith("javac") else ["-11"]
    compiled([compiler, *release, "-cp", path, "-d", folder, os.path.join(HERE, "Jdbc.java")])
    return ["java", "-XX:+UseSerialGC", "-cp", path, "Jdbc"]


@pytest.mark.parametrize("how", SHARES)
def test_jdbc(way, jdbc, how):  # noqa: F811
    share(way, jdbc, how)


@pytest.mark.parametrize("task", ["settings", "cancel", "copy", "large", "forget", "notices", "lost"])
def test_jdbc_too(way, jdbc, task):  # noqa: F811
    run(jdbc, way(), task)


# lib/pq and pgx


@pytest.fixture(scope="module", params=["postgres", "pgx"])
def go(request, tmp_path_factory):
    """The command; compiled once."""
    sources = "/usr/share/gocode"
    if shutil.which("go") is None:
        pytest.skip("go (golang-go) is not installed")
    for package in ("lib/pq", "jackc/pgx/v4"):
        if not os.path.exists(f"{sources}/src/github.com/{package}"):
            pytest.skip(f"Go's github.com/{package} is not installed")
    folder = str(tmp_path_factory.getbasetemp() / "go")
    program = os.path.join(folder, "program")
    if not os.path.exists(program):
        compiled(["go", "build", "-o", program, os.path.join(HERE, "go", "main.go")],
                 GO111MODULE="off", GOPATH=sources, GOCACHE=os.path.join(folder, "cache"), GOFLAGS="-p=2")
    return [program, request.param]


@pytest.mark.takes(300)
@pytest.mark.parametrize("how", SHARES)
def test_go(way, go, how):  # noqa: F811
    share(way, go, how)


@pytest.mark.parametrize("task", ["cancel", "large", "forget", "copy", "lost"])
def test_go_too(way, go, task):  # noqa: F811
    if task == "copy" and go[1] == "pgx":
        pytest.skip("pgx has no COPY by database/sql")
    run(go, way(), task)
