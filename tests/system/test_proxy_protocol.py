"""PROXY headers: a proxy in front says whose connection it is."""

import contextlib
import shutil
import socket
import struct
import subprocess
import time

import psycopg
import pytest

from cluster import process
from harness import wire
from harness.fake_postgres import FakePostgres
from harness.ports import free_port
from harness.wire import Client

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
PROXIES = {"proxy_protocol": "on", "proxy_protocol_from": "127.0.0.0/8"}
SOURCE = "192.0.2.7"


def v1(source=SOURCE, port=4711):
    return f"PROXY TCP4 {source} 198.51.100.2 {port} 5432\r\n".encode()


def v2(source=SOURCE, port=4711, more=b"", command=0x21):
    family = 0x21 if ":" in source else 0x11
    host = socket.inet_pton(socket.AF_INET6 if family == 0x21 else socket.AF_INET, source)
    ends = host + host + struct.pack("!HH", port, 5432)
    return SIGNATURE + struct.pack("!BBH", command, family, len(ends) + len(more)) + ends + more


HEADERS = {"v1": v1(), "v2": v2(), "v2 with TLVs": v2(more=b"\x03\0\4\1\2\3\4\x04\0\x05hallo" + b"\xea\0\0" * 300),
           "v2 in six": v2("2001:db8::7"), "v1 in six": b"PROXY TCP6 2001:db8::7 ::1 4711 5432\r\n"}


def printed(name):
    return "[2001:db8::7]:4711" if "six" in name else f"{SOURCE}:4711"


@pytest.fixture
def proxied(cluster, start_router, tmp_path):
    """A listener of each kind, that wants a header: "rw" is tcp, "pool" shares servers."""
    def start(main=None, **listener):
        auth_file = tmp_path / "users.txt"
        auth_file.write_text("".join(f'"{user}" "{cluster.passwords[user]}"\n' for user in ("app", "postgres")))
        return start_router(passwords=cluster.passwords, sections={
            "pgrouter": {"auth_type": "trust", "auth_file": auth_file, "pool_mode": "transaction",
                         "stats_users": "app", **(main or {})},
            "cluster main": {"nodes": cluster.nodes_setting()},
            "databases": {"app": "cluster=main"},
            "listener rw": {"bind": f"127.0.0.1:{free_port()}", **PROXIES, **listener},
            "listener pool": {"mode": "pool", "bind": f"127.0.0.1:{free_port()}", **PROXIES, **listener},
            "stats": {"bind": f"127.0.0.1:{free_port()}"}})

    return start


def ask_in(router, listener, header, pieces=None, **more):
    """A client that is logged in behind a header; tcp: as far as the node's request for a password."""
    client = Client(router.at(listener))
    begin = header + wire.startup(user="app", database="app", **more)
    for at in range(0, len(begin), pieces or len(begin)):
        client.send(begin[at:at + (pieces or len(begin))])
        if pieces is not None:
            time.sleep(0.001)
    return client


@pytest.mark.parametrize("name", HEADERS)
def test_the_address_in_the_header_is_the_clients(proxied, name):
    """In the log with that of the proxy, in SHOW CLIENTS, and in application_name."""
    r = proxied(main={"application_name_add_host": 1})
    wanted = printed(name)
    with ask_in(r, "pool", HEADERS[name], application_name="me") as client:
        client.messages_until("Z")
        shown = client.ask("show application_name")
        assert next(body for kind, body in shown if kind == "D")[6:].decode() == f"me - {wanted}"
        proxy = "{}:{}".format(*client.socket.getsockname())
        with ask_in(r, "pool", HEADERS[name]) as console:
            console.messages_until("Z")
        # the console, over a header of its own
        console = Client(r.at("pool"))
        console.send(v1("203.0.113.9", 1) + wire.startup(user="app", database="pgbouncer"))
        console.messages_until("Z")
        rows = [body for kind, body in console.ask("show clients") if kind == "D"]
        host = wanted.rpartition(":")[0].strip("[]").encode()
        assert sum(host in row and b"4711" in row for row in rows) >= 1
        assert any(b"203.0.113.9" in row for row in rows)
        console.close()
    ended = r.log.wait("session ended", client=wanted, proxy=proxy)
    assert ended["listener"] == "pool"


@pytest.mark.parametrize("name", HEADERS)
def test_bytes_behind_the_header_pass_untouched(proxied, cluster, name):
    """In tcp mode; the header itself does not reach the node."""
    r = proxied()
    with ask_in(r, "rw", HEADERS[name]) as client:
        kind, body = client.message()
        assert kind == "R" and struct.unpack("!I", body[:4])[0] == 10  # SASL
        assert b"SCRAM-SHA-256" in body


def test_a_session_over_tcp_mode_names_both(proxied, start_router):
    with FakePostgres() as fake:
        r = start_router(sections={
            "cluster main": {"nodes": f"a={fake.address}:{fake.port}", "check": "tcp"},
            "listener rw": {"bind": f"127.0.0.1:{free_port()}", "role": "any", **PROXIES},
            "stats": {"bind": f"127.0.0.1:{free_port()}"}})
        with ask_in(r, "rw", v2()) as client:
            client.messages_until("Z")
            proxy = "{}:{}".format(*client.socket.getsockname())
            r.log.wait("session began", client=f"{SOURCE}:4711", proxy=proxy)


@pytest.mark.parametrize("listener", ["rw", "pool"])
@pytest.mark.parametrize("name", ["v1", "v2 with TLVs"])
def test_a_header_that_comes_in_pieces(proxied, listener, name):
    r = proxied()
    for pieces in (1, 7, 13):
        with ask_in(r, listener, HEADERS[name] if pieces != 1 or name == "v1" else v2(), pieces) as client:
            assert client.message()[0] == "R"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(command=0x20), SIGNATURE + b"\x21\0\0\0",
                                    SIGNATURE + b"\x21\x31\0\xd8" + b"/a".ljust(216, b"\0")])
def test_who_is_not_named_has_the_sockets_address(proxied, header):
    r = proxied()
    with ask_in(r, "pool", header) as client:
        client.messages_until("Z")
        own = "{}:{}".format(*client.socket.getsockname())
    ended = r.log.wait("session ended", client=own)
    assert "proxy" not in ended


@pytest.mark.parametrize("listener", ["rw", "pool"])
@pytest.mark.parametrize("begin", [
    wire.startup(user="app", database="app"), wire.ssl_request(), b"\x16\x03\x01\0\1\0", b"GET / HTTP/1.0\r\n\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.2 4711\r\n", b"PROXY TCP4 " + b"1" * 200, SIGNATURE + b"\x31\x11\0\x0c",
    SIGNATURE + b"\x21\x12\0\x0c" + b"\0" * 12, SIGNATURE + b"\x21\x11\0\x04" + b"\0" * 12,
    SIGNATURE + b"\x21\x11\xff\xff" + b"\0" * 12])
def test_without_a_header_nobody_is_served(proxied, listener, begin):
    """Never guessed: also what would be a fine first packet without one."""
    r = proxied()
    with Client(r.at(listener)) as client:
        client.send(begin)
        with contextlib.suppress(ConnectionResetError):
            assert client.at_end()
        own = "{}:{}".format(*client.socket.getsockname())
    r.log.wait("client refused", reason="PROXY_MISSING", client=own)


def test_a_second_header_is_no_first_packet(proxied):
    r = proxied()
    with ask_in(r, "pool", v1() + v1()) as client:
        with contextlib.suppress(ConnectionResetError):
            assert client.at_end()


def test_only_proxies_may_connect(proxied):
    r = proxied(proxy_protocol_from="192.0.2.0/24, 127.0.0.64/26, ::1")
    for listener in ("rw", "pool"):
        with Client(r.at(listener), source="127.0.0.99") as client:
            client.send(v1() + wire.startup(user="app", database="app"))
            assert client.message()[0] == "R"
        with Client(r.at(listener), source="127.0.0.128") as client:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.send(v1() + wire.startup(user="app", database="app"))
                assert client.at_end()
            own = "{}:{}".format(*client.socket.getsockname())
        r.log.wait("client refused", reason="PROXY_STRANGER", client=own, listener=listener)


def test_a_reload_changes_who_may_connect(proxied):
    r = proxied()
    for networks, is_served in (("10.0.0.0/8", False), ("127.0.0.1", True)):
        r.sections["listener pool"]["proxy_protocol_from"] = networks
        r.reload()
        with Client(r.at("pool")) as client:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.send(v1() + wire.startup(user="app", database="app"))
                assert client.at_end() is not is_served
    r.sections["listener pool"].update(proxy_protocol="off", proxy_protocol_from="")
    r.reload()
    with Client(r.at("pool")) as client:
        client.log_in()


def test_a_unix_socket_may_be_the_proxys(proxied, tmp_path):
    r = proxied(proxy_protocol_from="unix")
    path = str(tmp_path / "socket")
    r.sections["listener pool"]["bind"] += f", {path}"
    r.reload()
    with Client(path) as client:
        client.send(v2() + wire.startup(user="app", database="app"))
        client.messages_until("Z")
    r.log.wait("session ended", client=f"{SOURCE}:4711", proxy="unix")


def test_the_header_must_be_there_in_time(proxied):
    """client_login_timeout counts from the accept, and is not begun anew by the header."""
    r = proxied(main={"client_login_timeout": "4s"})
    begins = (b"", v1()[:20], v2()[:14], v1()[:-1])
    clients = [Client(r.at("pool")) for _ in begins]
    began = time.monotonic()
    for client, begin in zip(clients, begins):
        client.send(begin)
    time.sleep(2)
    clients[-1].send(v1()[-1:])
    for client in clients:
        assert client.at_end()
        assert 3 < time.monotonic() - began < 5.9
        client.close()


def test_who_leaves_without_a_word_is_no_error(proxied):
    """A TCP health check, and one with a header of its own (LOCAL)."""
    r = proxied(main={"verbose": 1})
    for begin in (b"", v2(command=0x20)):
        mark = r.log.mark()
        with Client(r.at("rw")) as client:
            client.send(begin)
        r.log.wait("connection closed", reason="SAID_NOTHING", since=mark)
    assert not r.log.find("client refused")


def test_cancel_requests_come_with_headers_too(proxied):
    r = proxied()
    with ask_in(r, "pool", v1()) as client:
        key = next(body for kind, body in client.messages_until("Z") if kind == "K")
        client.send(wire.query("select pg_sleep(60)"))
        assert process.wait_until(lambda: _cancel(r, key, client), 15, step=0.2)


def _cancel(router, key, client):
    with Client(router.at("pool")) as request:
        request.send(v2("203.0.113.5", 99) + wire.cancel_request(struct.unpack("!I", key[:4])[0], key[4:]))
        assert request.at_end()
    client.socket.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        kind, body = client.message()
        return kind == "E" and wire.error_fields(body)["C"] == "57014"
    return False


def test_limits_of_an_address_go_by_the_header(proxied):
    """Cancel requests are counted for each client, not for the proxy that they share."""
    r = proxied()

    def ask(source, n):
        for _ in range(n):
            with Client(r.at("pool")) as request:
                request.send(v1(source) + wire.cancel_request(1, b"\0\0\0\1"))
                assert request.at_end()

    for host in range(1, 9):
        ask(f"198.51.100.{host}", 10)
    assert not r.log.find("client refused", reason="CANCEL_LIMIT")
    ask("203.0.113.1", 60)
    refused = r.log.wait("client refused", reason="CANCEL_LIMIT")
    assert refused["client"].startswith("203.0.113.1:") and refused["proxy"].startswith("127.0.0.1:")


# A real proxy


@pytest.fixture
def haproxy(tmp_path):
    """Starts HAProxy in front of a place; returns the port that it listens on."""
    if HAPROXY is None:
        pytest.skip("haproxy is not installed")
    running = []

    def start(place, how):
        port = free_port()
        file = tmp_path / f"haproxy-{port}.cfg"
        file.write_text(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
            f"  timeout server 60s\nlisten l\n  bind 127.0.0.1:{port}\n"
            f"  server s {place[0]}:{place[1]} {how} check inter 200ms\n")
        running.append(subprocess.Popen([HAPROXY, "-db", "-f", str(file)], stderr=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL))

        def listens():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        assert process.wait_until(listens, 10)
        return port

    yield start
    for one in running:
        one.terminate()
        one.wait(10)


@pytest.mark.parametrize("listener", ["rw", "pool"])
@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options ssl,unique-id"])
def test_behind_haproxy(proxied, haproxy, cluster, listener, how):
    r = proxied()
    port = haproxy(r.at(listener), how)
    with psycopg.connect(cluster.dsn("127.0.0.1", port), autocommit=True) as connection:
        assert connection.execute("select 1").fetchone()[0] == 1
        own = socket.socket(fileno=connection.fileno())
        address = "{}:{}".format(*own.getsockname())
        own.detach()
    ended = r.log.wait("session ended", client=address, listener=listener)
    assert ended["proxy"].startswith("127.0.0.1:") and ended["proxy"] != address
    assert not r.log.find("client refused")  # its checks come with headers, too
