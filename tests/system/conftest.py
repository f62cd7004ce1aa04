"""Fixtures of the system tests; README.md shows how they are used."""

import gc
import glob
import os
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.dirname(HERE), HERE]

from cluster import network, process  # noqa: E402
from cluster.cluster import Cluster, read_identity  # noqa: E402
from cluster.hooks import *  # noqa: E402,F401,F403
from harness import router as routers  # noqa: E402
from harness.pools import ONE_SERVER  # noqa: E402

PROGRAM = os.path.abspath(os.environ.get("PGROUTER", os.path.join(TOP, "build", "pgrouter")))
CLUSTERS = "pgrouter-cluster-"


# One cluster for the whole run


def _end_abandoned_clusters():
    """Of runs that were killed."""
    for folder in [path for where in process.SCRATCH for path in glob.glob(f"{where}/{CLUSTERS}*")]:
        owner = read_identity(os.path.join(folder, "owner"))
        if os.stat(folder).st_uid == os.geteuid() and owner is not None and not owner.is_alive():
            Cluster.close_folder(folder)


def _start_cluster(**options):
    for program in ("/usr/bin/patroni", "/usr/bin/etcd"):
        if not os.path.exists(program):
            pytest.skip(f"{program} is not installed")
    folder = tempfile.mkdtemp(prefix=CLUSTERS, dir=process.scratch())
    with open(os.path.join(folder, "owner"), "w", encoding="ascii") as file:
        file.write(str(process.Identity.of(os.getpid())))
    cluster = Cluster(folder, **options)
    cluster.start()
    return cluster


@pytest.fixture(scope="session")
def running_cluster():
    _end_abandoned_clusters()
    why_not = network.namespaces_work()
    nodes_live_in = network.Loopback() if why_not else network.Namespaces(3)
    if why_not:
        nodes_live_in.why_not = why_not
    cluster = _start_cluster(network=nodes_live_in)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def own_cluster():
    """Function that starts a cluster for the tests of one file, which may make of it what
    the others could not use."""
    started = []

    def start(**options):
        started.append(_start_cluster(**options))
        return started[-1]

    yield start
    for cluster in started:
        cluster.close()


@pytest.fixture
def cluster(running_cluster, request):
    """Three real nodes: one leader, two streaming replicas. Tests may break it as they
    like; it is mended before the next one."""
    if running_cluster.heal():
        request.config.n_rebuilt = getattr(request.config, "n_rebuilt", 0) + 1
    return running_cluster


@pytest.fixture
def cluster_with_cables(cluster):
    """The same, where each node's cable can be pulled: node.cut(), node.uncut()."""
    if not cluster.network.can_cut:
        pytest.skip(cluster.network.why_not)
    return cluster


# pgrouter


@pytest.fixture
def program():
    """Path of the pgrouter under test."""
    if not os.path.exists(PROGRAM):
        pytest.fail(f"{PROGRAM} is not there: ./dev build makes it")
    return PROGRAM


@pytest.fixture
def start_router(program, request):
    """Function that starts a pgrouter, as harness.router.start(); all that a test has
    started are stopped and judged at its end."""
    started = []
    request.node.routers = started

    def start(**options):
        folder = tempfile.mkdtemp(prefix="pgrouter-run-")
        os.chmod(folder, 0o755)
        router = routers.start(program, folder, **options)
        started.append(router)
        return router

    yield start
    failures = []
    for router in started:
        try:
            if _failed(request.node):
                router.kill()
            else:
                router.stop()
        except AssertionError as error:
            failures.append(str(error))
        process.remove_tree(router.folder)
    assert not failures, "\n".join(failures)


@pytest.fixture
def router(cluster, start_router):
    """The same, in front of the cluster: role primary as "rw", replicas by turns as "ro"
    unless `listeners` says otherwise."""
    def start(**options):
        options.setdefault("listeners", {
            "rw": {"role": "primary"}, "ro": {"role": "replica", "balance": "roundrobin"}})
        if "sections" not in options:
            options.setdefault("nodes", cluster.nodes_setting())
        return start_router(passwords=cluster.passwords, **options)

    return start


@pytest.fixture
def pool(cluster, start_router, tmp_path):
    """Starts a pgrouter whose listener "pool" has mode = pool, and a database app that is
    the cluster's primary. `main`, `databases`, `users`, `listener` and `more` (other sections)
    are added; `secrets` is what auth_file holds, a name and a secret each."""
    def start(main=None, databases=None, users=None, secrets=None, listener=None, more=None,
              check=None, wait=True):
        auth_file = tmp_path / "users.txt"
        if secrets is None:
            secrets = {user: cluster.passwords[user] for user in ("app", "postgres")}
        auth_file.write_text("".join(f'"{name}" "{secret}"\n' for name, secret in secrets.items()))
        sections = {
            "pgrouter": {"auth_type": "scram-sha-256", "auth_file": auth_file, **(main or {})},
            "cluster main": {"nodes": cluster.nodes_setting(), **(check or {})},
            "databases": databases or {"app": "cluster=main"},
            "users": users or {},
            "listener pool": {"mode": "pool", "bind": f"127.0.0.1:{routers.free_port()}", **(listener or {})},
            "stats": {"bind": f"127.0.0.1:{routers.free_port()}"},
            **(more or {})}
        r = start_router(sections=sections, passwords=cluster.passwords, wait=wait)
        r.auth_file = auth_file
        return r

    return start


@pytest.fixture
def raw(pool):
    """Starts a pool of one server, whose clients need no password; keywords are settings."""
    def start(**main):
        return pool(main={**ONE_SERVER, "auth_type": "trust", **main})

    return start


@pytest.fixture
def sanitizer():
    """"address", "thread" or None."""
    return routers.sanitizer_of(PROGRAM)


@pytest.fixture
def workers():
    """How many workers the routers of this run have."""
    return int(os.environ.get("TEST_WORKERS", "4"))


@pytest.fixture
def main_thread_collects():
    """Drivers written in C have crashed when the collector freed their objects in the midst of
    another thread's work: here it does between tests only."""
    gc.disable()
    yield
    gc.collect()
    gc.enable()


# How a run goes


def _failed(node):
    return getattr(node, "call_failed", False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        item.call_failed = True
        for router in getattr(item, "routers", []):
            report.sections.append(("pgrouter's log", router.log.text()))
