"""Cancel keys of ours, and requests that are passed on to the process that has made the key."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading

import pytest

from cluster import process
from harness import pools, wire
from harness.fake_postgres import FakePostgres
from harness.pools import Onlooker, logged_in
from harness.ports import free_port
from harness.wire import Client, Connection

TRUST = {"auth_type": "trust", "pool_mode": "transaction"}
PGBOUNCER = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")


def peer_of(process_id):
    """PgBouncer's layout: the second and third byte of the key, the low one first."""
    key = process_id.to_bytes(4, "big")
    return key[1] | key[2] << 8


def cancel(place, process_id, key):
    with Client(place) as request:
        request.send(wire.cancel_request(process_id, key))
        assert request.at_end()


@pytest.fixture
def peers(pool):
    """Two processes that know each other, and a third that they believe to be there."""
    def start(**more):
        ports = [free_port(), free_port()]
        known = {"1": f"host=127.0.0.1 port={ports[0]}", "2": f"host=localhost port={ports[1]}", **more}
        return [pool(main={**TRUST, "peer_id": str(number + 1)}, more={"peers": known},
                     listener={"bind": f"127.0.0.1:{ports[number]}"}) for number in range(2)]

    return start


class Peer:
    """A process that takes cancel requests and keeps them."""

    def __init__(self, path=None):
        self.server = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.server.bind(path or ("127.0.0.1", 0))
        self.server.listen(64)
        self.port = None if path else self.server.getsockname()[1]
        self.taken = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                connection = Connection(self.server.accept()[0])
                with contextlib.suppress(EOFError), connection:
                    self.taken.append(connection.packet())

    def close(self):
        self.server.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_peer_id_stands_in_the_keys(pool):
    r = pool(main={**TRUST, "peer_id": "4660"})  # 0x1234
    for protocol, length in ((wire.PROTOCOL_3_0, 4), (wire.PROTOCOL_3_2, 32)):
        for _ in range(20):
            with Client(r.at("pool")) as client:
                client.send(wire.startup(protocol, user="app", database="app"))
                body = next(body for kind, body in client.messages_until("Z") if kind == "K")
                assert len(body) == 4 + length and peer_of(int.from_bytes(body[:4], "big")) == 4660
                assert body[0] < 0x80 and body[7] & 3 == 3


def test_keys_are_random(pool):
    r = pool(main=TRUST)
    keys = set()
    for _ in range(50):
        with logged_in(r) as first, logged_in(r) as second:
            del first, second
        with Client(r.at("pool")) as client:
            keys.add(client.log_in())
    assert len(keys) == 50 and len({key for _, key in keys}) > 40
    assert all(process_id < 1 << 31 for process_id, _ in keys)


# Protocol 3.2


@pytest.mark.parametrize("minor, length", [(0, 4), (1, 4), (2, 32), (3, 32), (9999, 32)])
def test_the_protocol_decides_how_long_a_key_is(pool, minor, length):
    """We speak 3.2 though the node speaks 3.0; who asks for more is told."""
    r = pool(main=TRUST)
    with Client(r.at("pool")) as client:
        client.send(wire.startup(3 << 16 | minor, user="app", database="app"))
        messages = client.messages_until("Z")
        told = [body for kind, body in messages if kind == "v"]
        assert told == ([] if minor <= 2 else [(3 << 16 | 2).to_bytes(4, "big") + bytes(4)])
        assert messages[0][0] == ("R" if minor <= 2 else "v")
        assert len(next(body for kind, body in messages if kind == "K")) == 4 + length


def test_options_of_the_protocol_that_we_do_not_know_are_named(pool):
    r = pool(main=TRUST)
    with Client(r.at("pool")) as client:
        client.send(wire.startup(user="app", database="app", **{"_pq_.one": "1", "_pq_.two": "x"}))
        kind, body = client.message()
        assert kind == "v" and body == (3 << 16).to_bytes(4, "big") + (2).to_bytes(4, "big") + \
            b"_pq_.one\0_pq_.two\0"
        assert pools.status_of(client.messages_until("Z")) == "I"


@pytest.mark.parametrize("protocol", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2])
def test_a_key_of_each_length_cancels(cluster, pool, protocol):
    r = pool(main=TRUST)
    with Client(r.at("pool")) as client, Onlooker(cluster.leader()) as node:
        client.send(wire.startup(protocol, user="app", database="app"))
        body = next(body for kind, body in client.messages_until("Z") if kind == "K")
        client.send(wire.query("select pg_sleep(60)"))
        assert node.sees(1, "state = 'active' and query like '%pg_sleep(60)%'")
        number = int.from_bytes(body[:4], "big")
        cancel(r.at("pool"), number, body[4:-1])  # a part of it will not do
        cancel(r.at("pool"), number, body[4:-1] + bytes([body[-1] ^ 0x80]))
        assert node.count("state = 'active' and query like '%pg_sleep(60)%'") == 1
        cancel(r.at("pool"), number, body[4:])
        assert pools.errors_of(client.messages_until("Z")) == ["57014"]


def test_a_node_may_have_keys_of_256_bytes(pool):
    key = bytes(range(256))
    taken = []

    def script(connection):
        code, body = connection.packet()
        while code in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
            connection.send(b"N")
            code, body = connection.packet()
        if code == wire.CANCEL_REQUEST:
            taken.append(body)
            return
        connection.send(wire.login_answer(4711, key))
        connection.message()
        while not taken:
            process.wait_until(lambda: taken, 10)
        connection.send(wire.error("57014", "canceled", "ERROR") + wire.message("Z", b"I"))
        connection.receive(1)

    with FakePostgres(script) as fake:
        r = pool(main=TRUST, databases={"app": f"host={fake.address} port={fake.port}"})
        with Client(r.at("pool")) as client:
            number, own = client.log_in()
            client.send(wire.query("select 1"))
            assert process.wait_until(lambda: _cancelled(r, number, own, taken), 10)
            assert taken[0] == (4711).to_bytes(4, "big") + key
            assert pools.errors_of(client.messages_until("Z")) == ["57014"]


def _cancelled(r, number, own, taken):
    cancel(r.at("pool"), number, own)
    return bool(taken)


# Peers


def sleeping(node, client):
    client.send(wire.query("select pg_sleep(60)"))
    assert node.sees(1, "state = 'active' and query like '%pg_sleep(60)%'")


@pytest.mark.parametrize("protocol", [wire.PROTOCOL_3_0, wire.PROTOCOL_3_2])
def test_a_request_for_a_peer_is_passed_on(cluster, peers, protocol):
    """As behind one address for both: the request comes to the one that has not made the key."""
    first, second = peers()
    with Onlooker(cluster.leader()) as node:
        for mine, others in ((first, second), (second, first)):
            with Client(mine.at("pool")) as client:
                client.send(wire.startup(protocol, user="app", database="app"))
                body = next(body for kind, body in client.messages_until("Z") if kind == "K")
                sleeping(node, client)
                cancel(others.at("pool"), int.from_bytes(body[:4], "big"), body[4:])
                assert pools.errors_of(client.messages_until("Z")) == ["57014"]
                assert pools.value_of(client.ask("select 'goes on'")) == "goes on"


def test_it_is_passed_on_three_times_at_most(peers):
    """Each time the number in the last two bits of the key is one less; all else is as it was."""
    with Peer() as third:
        first, _ = peers(**{"515": f"host=127.0.0.1 port={third.port}"})  # 0x0203
        number = 0x11030222
        for more, wanted in ((b"\1\2\3\xff", b"\1\2\3\xfe"), (b"\1\2\3\xfe", b"\1\2\3\xfd"),
                             (b"\1\2\3\xfd", b"\1\2\3\xfc"), (b"\1\2\3\xff" + b"x" * 28, b"\1\2\3\xfe" + b"x" * 28)):
            third.taken.clear()
            cancel(first.at("pool"), number, more)
            assert process.wait_until(lambda: third.taken, 5)
            assert third.taken == [(wire.CANCEL_REQUEST, number.to_bytes(4, "big") + wanted)]
        third.taken.clear()
        cancel(first.at("pool"), number, b"\1\2\3\xfc")
        cancel(first.at("pool"), 0x11040222, b"\1\2\3\xff")  # of a peer that is not known
        cancel(first.at("pool"), 0x11030222, b"\1\2\3\xff")
        assert process.wait_until(lambda: third.taken, 5) and len(third.taken) == 1


def test_a_key_whose_number_was_used_up_is_still_ours(cluster, peers):
    first, _ = peers()
    with Client(first.at("pool")) as client, Onlooker(cluster.leader()) as node:
        number, key = client.log_in()
        sleeping(node, client)
        cancel(first.at("pool"), number, key[:3] + bytes([key[3] & 0xfc]))
        assert pools.errors_of(client.messages_until("Z")) == ["57014"]


def test_two_that_take_each_other_for_the_third_do_not_go_round(pool):
    """Each believes that peer 3 is the other: the request ends after three times."""
    ports = [free_port(), free_port()]
    routers = [pool(main={**TRUST, "verbose": 1, "peer_id": str(number + 1)},
                    listener={"bind": f"127.0.0.1:{ports[number]}"},
                    more={"peers": {"3": f"host=127.0.0.1 port={ports[1 - number]}"}}) for number in range(2)]
    cancel(routers[0].at("pool"), 0x00030000, b"\0\0\0\3")
    for router, n in ((routers[0], 2), (routers[1], 2)):
        assert process.wait_until(lambda router=router, n=n: len(_cancels(router)) == n, 5)


def _cancels(router):
    return [event for event in router.log.find("connection closed")
            if event["reason"] in ("CANCEL_DONE", "CANCEL_UNKNOWN")]


def test_a_peer_on_a_unix_socket(cluster, peers, tmp_path):
    with Peer(str(tmp_path / ".s.PGSQL.7000")) as third:
        first, _ = peers(**{"3": f"host={tmp_path} port=7000", "4": f"host={tmp_path} port=7001"})
        cancel(first.at("pool"), 0x00030000, b"\0\0\0\3")
        assert process.wait_until(lambda: third.taken, 5)
        cancel(first.at("pool"), 0x00040000, b"\0\0\0\3")  # nobody is there


def test_peers_change_by_a_reload(peers):
    with Peer() as third, Peer() as other:
        first, _ = peers(**{"3": f"host=127.0.0.1 port={third.port}"})
        cancel(first.at("pool"), 0x00030000, b"\0\0\0\3")
        assert process.wait_until(lambda: third.taken, 5)
        first.sections["peers"]["3"] = f"host=127.0.0.1 port={other.port}"
        first.reload()
        assert process.wait_until(lambda: _reaches(first, other), 5, step=0.1)
        n = len(other.taken)
        first.sections["peers"].pop("3")
        first.reload()
        cancel(first.at("pool"), 0x00030000, b"\0\0\0\3")
        assert len(other.taken) == n and len(third.taken) == 1


def _reaches(router, peer):
    cancel(router.at("pool"), 0x00030000, b"\0\0\0\3")
    return bool(peer.taken)


def test_without_a_peer_id_nothing_is_passed_on(pool):
    with Peer() as third:
        r = pool(main=TRUST, more={"peers": {"3": f"host=127.0.0.1 port={third.port}"}})
        for _ in range(3):
            cancel(r.at("pool"), 0x00030000, b"\0\0\0\3")
        assert not third.taken


def test_a_peer_that_does_not_answer_keeps_nobody(pool):
    """cancel_wait_timeout holds for who has asked, connect_timeout for the request."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        r = pool(main={**TRUST, "peer_id": 1, "cancel_wait_timeout": "1s"},
                 more={"peers": {"3": f"host=127.0.0.1 port={silent.getsockname()[1]}"}})
        cancel(r.at("pool"), 0x00030000, b"\0\0\0\3")  # ends
        with logged_in(r) as client:
            assert pools.value_of(client.ask("select 1")) == "1"


# PgBouncer beside us


def _speaks_to_peers(program):
    """PgBouncer has [peers] since 1.19."""
    with contextlib.suppress(OSError, ValueError, IndexError, subprocess.SubprocessError):
        words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
        return tuple(int(part) for part in words[1].split(".")[:2]) >= (1, 19)
    return False


def _listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.skipif(not PGBOUNCER or not _speaks_to_peers(PGBOUNCER), reason="no PgBouncer from 1.19 on is here")
def test_a_pgbouncer_for_a_peer(cluster, pool, tmp_path):
    """Requests find the process that has made the key, in both directions."""
    node, ours, theirs = cluster.leader(), free_port(), free_port()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pgrouter-run-"))  # it does not run as root
    users, ini = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"app" "{cluster.passwords["app"]}"\n')
    ini.write_text(
        f"[databases]\napp = host={node.address} port={node.port} password={cluster.passwords['app']}\n"
        f"[peers]\n1 = host=127.0.0.1 port={ours}\n[pgbouncer]\npeer_id = 2\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {theirs}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n")
    for path, mode in ((folder, 0o755), (ini, 0o644), (users, 0o644)):
        path.chmod(mode)
    log = (tmp_path / "log").open("w")
    running = subprocess.Popen([*(["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []),
                                PGBOUNCER, str(ini)], stdout=log, stderr=log)
    try:
        assert process.wait_until(lambda: _listens(theirs), 10), (tmp_path / "log").read_text()
        r = pool(main={**TRUST, "peer_id": 1}, listener={"bind": f"127.0.0.1:{ours}"},
                 more={"peers": {"2": f"host=127.0.0.1 port={theirs}"}})
        with Onlooker(node) as onlooker:
            for mine, others in ((r.at("pool"), ("127.0.0.1", theirs)), (("127.0.0.1", theirs), r.at("pool"))):
                with Client(mine) as client:
                    number, key = client.log_in()
                    sleeping(onlooker, client)
                    cancel(others, number, key)
                    assert pools.errors_of(client.messages_until("Z")) == ["57014"]
    finally:
        running.terminate()
        running.wait(10)
        log.close()
        process.remove_tree(folder)
