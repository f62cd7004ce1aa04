"""docker/etcd/entrypoint.sh with real etcd: members on loopback, each with a folder for its volume."""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
from conftest import TOP
from cluster import network, process

ENTRYPOINT = os.path.join(TOP, "docker", "etcd", "entrypoint.sh")


class Member:
    def __init__(self, cluster, name, number):
        self.cluster, self.name = cluster, name
        self.address = f"{cluster.prefix}.{number}"
        self.peer_port, self.client_port = (network.free_port(self.address) for _ in range(2))
        self.peer_url = f"http://{self.address}:{self.peer_port}"
        self.client_url = f"http://{self.address}:{self.client_port}"
        self.volume = os.path.join(cluster.folder, name)
        self.process, self.log = None, ""

    def start(self, **environment):
        environment = {
            "PATH": os.environ["PATH"], "ETCD_NAME": self.name, "ETCD_DATA_DIR": self.volume,
            "ETCD_INITIAL_CLUSTER": self.cluster.spelled(), "ETCD_LISTEN_PEER_URLS": self.peer_url,
            "ETCD_LISTEN_CLIENT_URLS": self.client_url, "ETCD_ADVERTISE_CLIENT_URLS": self.client_url,
            "ETCD_RETRY_DELAY": "0.5", "ETCD_PEER_CHECK_INTERVAL": "0.3", **environment}
        self.log = ""
        self.process = subprocess.Popen([ENTRYPOINT], env=environment, text=True, start_new_session=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, errors="replace")
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def _read(self, started):
        for line in started.stderr:
            if started is self.process:
                self.log += line

    def said(self, words, seconds=30):
        return process.wait_until(lambda: re.search(words, self.log), seconds)

    def wait_for(self, words, seconds=30):
        assert self.said(words, seconds), f"{self.name} has not said {words!r}:\n{self.log[-3000:]}"

    def status(self, seconds=20):
        """Exit status, when it has ended."""
        return self.process.wait(seconds)

    def stop(self):
        self.process.terminate()
        self.status()

    def kill(self):
        """All of it, at once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def lose_volume(self):
        shutil.rmtree(self.volume)

    def is_complete(self):
        return os.path.isdir(os.path.join(self.volume, "member")) and \
            not os.path.exists(os.path.join(self.volume, ".incomplete"))

    def ctl(self, *arguments, seconds=10):
        return subprocess.run(["etcdctl", f"--endpoints={self.client_url}", *arguments],
                              capture_output=True, text=True, timeout=seconds, check=False,
                              env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"})


class EtcdCluster:
    def __init__(self, folder, n=3):
        self.folder = folder
        self.prefix = f"127.{random.randrange(128, 250)}.{random.randrange(256)}"
        self.members = [Member(self, f"etcd-{number}", number) for number in range(1, n + 1)]

    def spelled(self):
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    def voters(self, asked):
        """Names of the members that vote, as one of them sees it."""
        lines = asked.ctl("member", "list").stdout.splitlines()
        fields = [line.split(", ") for line in lines]
        return sorted(entry[2] for entry in fields if entry[1] == "started" and entry[-1] == "false")

    def settles(self, seconds=60):
        """All vote, everybody sees it so, and there is nobody else."""
        names = [member.name for member in self.members]
        ok = process.wait_until(
            lambda: all(self.voters(member) == names and member.is_complete() for member in self.members)
            and len(self.members[0].ctl("member", "list").stdout.splitlines()) == len(names), seconds)
        assert ok, "\n".join(f"{m.name} {self.voters(m)} {m.is_complete()}\n{m.log[-1500:]}" for m in self.members)

    def put(self, value):
        """A leader may have to be elected first."""
        assert process.wait_until(lambda: self.members[-1].ctl("put", "kept", value).returncode == 0, 30)

    def expect(self, value):
        for member in self.members:
            assert member.ctl("get", "kept", "--print-value-only").stdout.strip() == value


@pytest.fixture
def etcd(tmp_path):
    made = []

    def make(n=3):
        made.append(EtcdCluster(str(tmp_path), n))
        return made[-1]

    yield make
    for cluster in made:
        for member in cluster.members:
            member.kill()


@pytest.fixture
def running(etcd):
    """Three members, and a key."""
    cluster = etcd()
    for member in cluster.members:
        member.start()
    cluster.settles()
    cluster.put("before")
    return cluster


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_members_start_in_any_order(etcd, order):
    cluster = etcd()
    for number in order:
        cluster.members[number].start()
        time.sleep(0.7)
    cluster.settles()
    cluster.put("x")
    cluster.expect("x")


def test_a_single_member(etcd):
    cluster = etcd(1)
    cluster.members[0].start()
    cluster.settles()


def test_the_data_are_kept_over_a_restart_of_all(running):
    for member in running.members:
        member.stop()
    for member in reversed(running.members):
        member.start()
    running.settles()
    running.expect("before")
    assert all("thrown away" not in member.log for member in running.members)


@pytest.mark.parametrize("number", [0, 1])
def test_a_member_that_lost_its_volume_joins_again(running, number):
    """Also the one that would begin a cluster: it finds the living one."""
    member = running.members[number]
    member.kill()
    member.lose_volume()
    running.put("while it was away")
    member.start()
    running.settles()
    running.expect("while it was away")
    assert "it is removed" in member.log


def test_who_lost_its_volume_while_all_were_down_gives_its_own_cluster_up(running):
    """It comes first, and begins one; then its peers are back with theirs."""
    leader, *others = running.members
    for member in running.members:
        member.stop()
    leader.lose_volume()
    leader.start()
    leader.wait_for("begins a cluster")
    assert process.wait_until(lambda: leader.ctl("endpoint", "health").returncode == 0, 20)
    for member in others:
        member.start()
    running.settles(90)
    running.expect("before")
    assert "the peers have a cluster already" in leader.log, "\n".join(re.findall(".*entrypoint:.*", leader.log))


@pytest.mark.parametrize("words", ["waiting for a peer", "is added as a learner", "raft.node: .* elected leader"])
def test_a_kill_while_joining_heals_at_the_next_start(etcd, words):
    cluster = etcd(2)
    leader, late = cluster.members
    if "waiting" not in words:
        leader.start()
        leader.wait_for("begins a cluster")
    late.start()
    late.wait_for(words)
    late.kill()
    if "waiting" in words:
        leader.start()
    late.start()
    cluster.settles()


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5, 1.0, 1.5, 2.5])
def test_a_kill_at_any_moment_heals_at_the_next_start(etcd, seconds):
    cluster = etcd(3)
    for member in cluster.members:
        member.start()
    time.sleep(seconds)
    for member in cluster.members:
        member.kill()
    for member in cluster.members:
        member.start()
    cluster.settles()


def test_a_beginner_that_is_killed_goes_on(etcd):
    cluster = etcd()
    first = cluster.members[0]
    first.start()
    first.wait_for("begins a cluster")
    first.kill()
    first.start()
    assert process.wait_until(lambda: first.ctl("endpoint", "health").returncode == 0, 20)
    for member in cluster.members[1:]:
        member.start()
    cluster.settles()


def test_incomplete_data_that_etcd_refuses_are_thrown_away(etcd):
    cluster = etcd(2)
    leader, late = cluster.members
    wal = os.path.join(late.volume, "member", "wal")
    os.makedirs(wal)
    with open(os.path.join(wal, "0000000000000000-0000000000000000.wal"), "wb") as file:
        file.write(b"half a file")
    with open(os.path.join(late.volume, ".incomplete"), "w", encoding="ascii") as file:
        file.write("joined\n")
    leader.start()
    late.start()
    cluster.settles()
    assert "thrown away" in late.log


def test_complete_data_are_never_thrown_away(running):
    """Not even when etcd cannot go on with them: that is for people to decide."""
    member = running.members[1]
    member.stop()
    wal = os.path.join(member.volume, "member", "wal")
    files = sorted(os.listdir(wal))
    for name in files:
        if name.endswith(".wal"):
            with open(os.path.join(wal, name), "r+b") as file:
                file.write(b"torn" * 100)
    member.start()
    assert member.status() != 0
    assert sorted(os.listdir(wal)) == files
    assert "thrown away" not in member.log


def test_a_signal_ends_etcd_with_the_entrypoint(running):
    member = running.members[1]
    member.stop()
    assert member.status() == 143
    assert process.wait_until(lambda: member.ctl("endpoint", "health").returncode != 0, 5)
    member.start()
    running.settles()


def test_a_signal_ends_the_wait_for_peers(etcd):
    member = etcd().members[1]
    member.start()
    member.wait_for("waiting for a peer")
    began = time.monotonic()
    member.stop()
    assert time.monotonic() - began < 5


def test_etcd_peer_wait_timeout(etcd):
    member = etcd().members[1]
    member.start(ETCD_PEER_WAIT_TIMEOUT="1")
    assert member.status() == 1
    assert member.said("no peer has answered within 1 s", 5)


def test_etcd_max_retries(running):
    """A cluster without a majority takes nobody in."""
    for member in running.members:
        member.kill()
    alone, lost = running.members[:2]
    lost.lose_volume()
    alone.start()
    lost.start(ETCD_MAX_RETRIES="2", ETCD_RETRY_DELAY="0.1")
    assert lost.status(60) == 1
    assert lost.said("in 2 attempts", 5)


@pytest.mark.parametrize("environment, words", [
    ({"ETCD_NAME": ""}, "ETCD_NAME"),
    ({"ETCD_INITIAL_CLUSTER": ""}, "ETCD_INITIAL_CLUSTER"),
    ({"ETCD_NAME": "other"}, "has no member 'other'"),
    ({"ETCD_INITIAL_CLUSTER": "etcd-1"}, "expected name=http://host:port"),
    ({"ETCD_RETRY_DELAY": "soon"}, "ETCD_RETRY_DELAY: 'soon' is not a number")])
def test_a_wrong_variable_is_named(etcd, environment, words):
    member = etcd().members[0]
    member.start(**environment)
    assert member.status() != 0
    assert member.said(re.escape(words), 5), member.log


def test_railway_volume_mount_path(etcd):
    cluster = etcd(1)
    member = cluster.members[0]
    member.volume = os.path.join(cluster.folder, "volume")
    member.start(ETCD_DATA_DIR="", RAILWAY_VOLUME_MOUNT_PATH=member.volume)
    cluster.settles()
