"""What a pool does not let pass: each ends one connection, and nobody else notices."""

import contextlib
import re
import struct
import time

import pytest

from cluster import process
from cluster.certificates import Authority
from harness import pools, wire
from harness.fake_postgres import FakePostgres, answer
from harness.pools import (FLUSH, ONE_SERVER, SYNC, Later, bind, errors_of, execute, logged_in, parse,
                           run_unnamed, status_of, value_of)
from harness.tls import encrypt
from harness.wire import Client, error_fields, message


def test_disable_pqexec(pool):
    r = pool(main={"pool_mode": "transaction", "auth_type": "trust", "disable_pqexec": 1})
    with Client(r.at("pool")) as client:
        client.log_in()
        client.send(run_unnamed("select 1") + SYNC)
        assert status_of(client.messages_until("Z")) == "I"
        client.send(wire.query("select 1; select 2"))
        answer = client.messages_until("E")
        assert errors_of(answer) == ["0A000"]
        assert client.at_end()


def test_max_packet_size(pool):
    """Of clients and of servers; it follows a reload."""
    r = pool(main={"pool_mode": "transaction", "auth_type": "trust", "max_packet_size": "100kB"})
    with Client(r.at("pool")) as client, Client(r.at("pool")) as other, Client(r.at("pool")) as third:
        for one in (client, other, third):
            one.log_in()
        fits = "select length('" + "x" * (100 * 1024 - 30) + "')"
        assert value_of(client.ask(fits)) == str(100 * 1024 - 30)
        client.send(wire.query("select length('" + "x" * 100 * 1024 + "')"))
        answer = client.messages_until("E")
        assert errors_of(answer) == ["08P01"]
        assert "max_packet_size" in wire.error_fields(answer[-1][1])["M"]
        assert client.at_end()

        assert len(value_of(other.ask("select repeat('x', 100 * 1024 - 20)"))) == 100 * 1024 - 20
        other.send(wire.query("select repeat('x', 100 * 1024)"))
        assert other.messages_until("E")[-1][0] == "E"
        assert other.at_end()

        r.sections["pgrouter"]["max_packet_size"] = "1MB"
        r.reload()
        assert value_of(third.ask("select length('" + "x" * 100 * 1024 + "')")) == str(100 * 1024)
        assert len(value_of(third.ask("select repeat('x', 100 * 1024)"))) == 100 * 1024


# Clients that lie


@pytest.fixture(params=["clear", "tls"])
def doors(request, pool, tmp_path):
    """A router with one server, and a function that connects to it: in clear, or inside of TLS."""
    def start(**main):
        key, certificate = Authority(tmp_path).issue("router", ["127.0.0.1"])
        r = pool(main={**ONE_SERVER, "auth_type": "trust", "client_tls_sslmode": "allow",
                       "client_tls_key_file": key, "client_tls_cert_file": certificate, **main})

        def connect(**more):
            client = Client(r.at("pool"), **more)
            return encrypt(client) if request.param == "tls" else client

        return r, connect

    return start


def heard_until_the_end(client):
    """All messages; the connection must have been closed behind the last."""
    found = []
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            found.append(client.message())
    return found


def assert_serves(bystander, why=""):
    assert value_of(bystander.ask("select 'untouched'")) == "untouched", why


NO_FIRST_PACKETS = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": b"\0" * 64,
    **{f"length {n}": struct.pack("!II", n, wire.PROTOCOL_3_0) for n in range(8)},
    "length 10001": struct.pack("!II", 10001, wire.PROTOCOL_3_0) + b"x" * 9993,
    "length 2^31": struct.pack("!II", 1 << 31, wire.PROTOCOL_3_0),
    "length 2^32 - 1": struct.pack("!II", (1 << 32) - 1, wire.PROTOCOL_3_0),
    "long sslrequest": wire.packet(wire.SSL_REQUEST, b"more"),
    "long gssencrequest": wire.packet(wire.GSSENC_REQUEST, b"more"),
    "sslrequest and more": wire.ssl_request() + wire.startup(user="app", database="app"),
    "gssencrequest and more": wire.gssenc_request() + wire.startup(user="app", database="app"),
    "cancel without a key": wire.packet(wire.CANCEL_REQUEST, b"\0\0\0\1"),
    "cancel with too long a key": wire.cancel_request(1, b"k" * 257),
    "cancel of nobody": wire.cancel_request(1, b"k" * 256),
}


def test_what_is_no_first_packet_is_closed_without_a_word(doors):
    """CVE-2026-6664: lengths are checked before anybody has logged in."""
    r, connect = doors()
    with logged_in(r) as bystander:
        for what, said in NO_FIRST_PACKETS.items():
            with connect() as client:
                client.send(said)
                assert heard_until_the_end(client) == [], what
        assert_serves(bystander)


BAD_LOGINS = {
    "nothing at all": (b"", "08P01"),
    "no end": (b"user\0app\0database\0app\0", "08P01"),
    "a name without its zero": (b"user", "08P01"),
    "a value without its zero": (b"user\0app", "08P01"),
    "a name without a value": (b"user\0app\0database\0", "08P01"),
    "more behind the end": (b"user\0app\0database\0app\0\0more\0", "08P01"),
    "no user": (b"database\0app\0\0", "3D000"),
    "an empty user": (b"user\0\0database\0app\0\0", "3D000"),
    "a long user": (b"user\0" + b"x" * 9000 + b"\0database\0app\0\0", "28P01"),
    "a long database": (b"user\0app\0database\0" + b"x" * 9000 + b"\0\0", "3D000"),
}


def test_malformed_startup_packets_are_told_so(doors):
    r, connect = doors()
    with logged_in(r) as bystander:
        for what, (body, code) in BAD_LOGINS.items():
            with connect() as client:
                client.send(wire.packet(wire.PROTOCOL_3_0, body))
                assert errors_of(heard_until_the_end(client)) == [code], what
        for protocol in (0x00010000, 0x00020000, 0x00040000, 0x04d2164f):
            with connect() as client:
                client.send(wire.packet(protocol, b"user\0app\0\0"))
                assert errors_of(heard_until_the_end(client)) == ["0A000"]
        assert_serves(bystander)


def test_a_startup_packet_of_ten_thousand_bytes_is_the_longest(doors):
    r, connect = doors(ignore_startup_parameters="x")
    length = len(wire.startup(user="app", database="app", x=""))
    with connect() as client:
        client.log_in(x="y" * (10000 - length))
        assert value_of(client.ask("select 1")) == "1"
    with connect() as client:
        client.send(wire.startup(user="app", database="app", x="y" * (10001 - length)))
        assert heard_until_the_end(client) == []


NO_MESSAGES = {
    **{f"length {n}": b"Q" + struct.pack("!I", n) + b"select 1\0" for n in (0, 1, 3)},
    "length 2^31": b"Q\x80\0\0\0", "length 2^32 - 1": b"Q\xff\xff\xff\xff",
    "length 2^31 - 1": b"Q\x7f\xff\xff\xff",
    "a long sync": message("S", b"\0"), "a long flush": message("H", b"x"),
    "a long describe": message("D", b"S" + b"x" * 20000 + b"\0"),
    "a long execute": b"E\x7f\xff\xff\xf0",
    **{f"type {kind!r}": message(kind, b"x\0") for kind in "\0\x7fyTRZ1GWn"},
    "type 255": b"\xff\0\0\0\4",
    "a password": message("p", b"secret\0"),
    "a startup packet": wire.startup(user="app", database="app"),
    "sslrequest": wire.ssl_request(), "gssencrequest": wire.gssenc_request(),
    "a cancel request": wire.cancel_request(1, b"key!"),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def begin_nothing(_client):
    pass


def begin_transaction(client):
    assert status_of(client.ask("begin")) == "T"


def begin_failed_transaction(client):
    begin_transaction(client)
    assert status_of(client.ask("select 1/0")) == "E"


def begin_pipeline(client):
    client.send(run_unnamed("select 'begun'") + FLUSH)
    assert value_of(client.messages_until("C")) == "begun"


def begin_skipping(client):
    """An error is known, its Sync has not been sent."""
    client.send(run_unnamed("select 1/0") + FLUSH)
    assert client.messages_until("E")


def begin_copy_in(client):
    client.send(wire.query("begin; create temp table t (x int); copy t from stdin"))
    client.messages_until("G")
    client.send(message("d", b"1\n"))


def begin_query(client):
    client.send(wire.query("select pg_sleep(30)"))


@pytest.mark.parametrize("begin", [begin_nothing, begin_transaction, begin_failed_transaction, begin_pipeline,
                                   begin_skipping, begin_copy_in, begin_query])
def test_what_is_no_message_ends_its_session(doors, begin):
    """The server is brought to rest behind it, or another is opened."""
    r, connect = doors()
    with logged_in(r) as bystander:
        for what, said in NO_MESSAGES.items():
            with connect() as client:
                client.log_in()
                begin(client)
                client.send(said)
                heard = [error_fields(body) for kind, body in heard_until_the_end(client) if kind == "E"]
                assert [(fields["S"], fields["C"]) for fields in heard] == [("FATAL", "08P01")], what
            assert_serves(bystander, what)


def test_messages_out_of_turn(raw):
    """What PostgreSQL answers by an error is its own to answer; the session goes on."""
    r = raw()
    with logged_in(r) as client:
        for said, errors in {
                execute("nobody"): ["34000"], bind("nobody"): ["26000"], bind("", "p") + bind("", "p"): ["26000"],
                message("D", b"Snobody\0"): ["26000"], message("D", b"X\0"): ["08P01"],
                message("C", b"Snobody\0"): [], message("C", b"X\0"): ["08P01"],
                message("P", b"half"): ["08P01"], message("B", b"\0"): ["08P01"], message("E", b"\0"): ["08P01"],
                message("c") + message("f", b"why\0") + message("d", b"data") + FLUSH: []}.items():
            client.send(said + SYNC)
            assert errors_of(client.messages_until("Z")) == errors, said
        client.send(message("Q", b"select 'no zero'"))
        assert errors_of(client.messages_until("Z")) == ["08P01"]
        assert_serves(client)


def test_a_query_in_the_midst_of_a_copy_ends_its_session(raw):
    r = raw()
    with logged_in(r) as bystander:
        for said in (wire.query("select 1"), parse("select 1"), bind(), execute()):
            with logged_in(r) as client:
                begin_copy_in(client)
                client.send(said)
                assert errors_of(heard_until_the_end(client)) == ["08P01"]
            assert_serves(bystander)


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8190])
def test_data_that_belong_to_no_copy_are_passed_over(raw, width):
    """A copy has failed, and its client does not know it yet. Headers are cut by reads anywhere."""
    r = raw()
    with logged_in(r) as client, logged_in(r) as other:
        assert status_of(other.ask("begin")) == "T"  # the only server is somebody else's
        data = message("d", b"x" * width) * (2_000_000 // (width + 5))
        Later(lambda: client.send(data)).result()
        sending = Later(lambda: client.send(message("c") + wire.query("select 'after'")))
        assert status_of(other.ask("commit")) == "I"
        assert value_of(client.messages_until("Z")) == "after"
        sending.result()


# Clients that say nothing more


HALVES = {
    "of a header": wire.query("select 1")[:3], "a header": wire.query("select 1")[:5],
    "of a query": wire.query("select 1")[:-1], "of a parse": parse("select 1", "name")[:-1],
    "of a bind": bind("name")[:9], "of a long query": wire.query("x" * 16000)[:-1],
    "behind what needs no server": FLUSH * 3000 + message("d", b"data") * 1000 + wire.query("select 1")[:-2],
}


def test_half_a_message_and_then_silence_takes_no_server(doors):
    r, connect = doors()
    with contextlib.ExitStack() as stack:
        bystander = stack.enter_context(logged_in(r))
        halves = {}
        for what, half in HALVES.items():
            client = halves[what] = stack.enter_context(connect())
            client.log_in()
            client.send(half)
        assert_serves(bystander)
        with pytest.raises(TimeoutError):
            for client in halves.values():
                client.socket.settimeout(0.1)
                client.socket.recv(1)
        halves["of a query"].socket.settimeout(10)
        halves["of a query"].send(b"\0")
        assert value_of(halves["of a query"].messages_until("Z")) == "1"


def test_half_a_message_and_then_silence_ends_in_time(doors):
    """As a client that is idle; where a server has heard the begin, as a query that takes long."""
    r, connect = doors(client_idle_timeout="1s", query_timeout="1s")
    for half, code in {wire.query("select 1")[:-1]: "57P05",
                       wire.query("x" * 100_000)[:50_000]: "57014",
                       run_unnamed("select 1")[:-3]: "57014"}.items():
        with connect() as client:
            client.log_in()
            client.send(half)
            assert errors_of(heard_until_the_end(client))[-1:] == [code]
        with logged_in(r) as bystander:
            assert_serves(bystander)


def test_a_client_that_never_reads_stops_nobody(doors, sanitizer):
    r, connect = doors(default_pool_size=2)
    with connect(receive_buffer=4096, timeout=1) as deaf, logged_in(r) as bystander:
        deaf.log_in()
        before = r.memory_kb()
        with contextlib.suppress(TimeoutError):
            for _ in range(2000):
                deaf.send(wire.query("select repeat('x', 1000) from generate_series(1, 1000)") * 100)
        for _ in range(50):
            assert_serves(bystander)
        if sanitizer is None:
            assert r.memory_kb() - before < 4096
        deaf.reset()
        with logged_in(r) as first, logged_in(r) as second:  # both servers are there again
            assert status_of(first.ask("begin")) == status_of(second.ask("begin")) == "T"


# A login by SCRAM that is none


def sasl_initial(data, mechanism=b"SCRAM-SHA-256", length=None):
    return message("p", mechanism + b"\0" + struct.pack("!I", len(data) if length is None else length) + data)


BAD_SCRAM = {
    **{f"a nonce of {n} bytes": sasl_initial(b"n,,n=,r=" + b"x" * n) for n in (0, 129, 600, 1100, 60_000)},
    "length 2^31": sasl_initial(b"n,,n=,r=abcdefghijklmnopqr", length=1 << 31),
    "length 2^32 - 2": sasl_initial(b"n,,n=,r=abcdefghijklmnopqr", length=(1 << 32) - 2),
    "too short a length": sasl_initial(b"n,,n=,r=abcdefghijklmnopqr", length=3),
    "no data": message("p", b"SCRAM-SHA-256\0"), "nothing": message("p"),
    "no zero": message("p", b"SCRAM-SHA-256"),
    "another header": sasl_initial(b"z,,n=,r=abcdefghijklmnopqr"),
    "binding without tls": sasl_initial(b"p=tls-server-end-point,,n=,r=abcdefghijklmnopqr"),
    "a mechanism that we do not have": sasl_initial(b"n,,n=,r=abcdefghijklmnopqr", b"SCRAM-MD5"),
    "zeros": sasl_initial(b"\0" * 100), "an authorization": sasl_initial(b"n,a=app,n=,r=abcdefghijklmnopqr"),
    "a mandatory extension": sasl_initial(b"n,,m=x,n=,r=abcdefghijklmnopqr"),
}
BAD_PROOFS = {
    "no proof": b"c=biws,r=%s", "an empty proof": b"c=biws,r=%s,p=", "a long proof": b"c=biws,r=%s,p=" + b"A" * 5000,
    "a longer nonce": b"c=biws,r=%sx,p=" + b"A" * 44, "a nonce of its own": b"c=biws,r=abc,p=" + b"A" * 44,
    "another header": b"c=eSws,r=%s,p=" + b"A" * 44, "no base64": b"c=biws,r=%s,p=" + b"!" * 44, "nothing": b"",
    "zeros": b"\0" * 50}


def test_malformed_scram_ends_that_login(doors):
    """CVE-2026-6664: a login by SCRAM whose lengths are lies has crashed PgBouncer."""
    r, connect = doors(auth_type="scram-sha-256")
    for what, said in BAD_SCRAM.items():
        with connect() as client:
            client.send(wire.startup(user="app", database="app"))
            assert client.message()[0] == "R"
            client.send(said)
            assert errors_of(heard_until_the_end(client))[0][:2] in ("28", "08"), what
    for what, said in BAD_PROOFS.items():
        with connect() as client:
            client.send(wire.startup(user="app", database="app"))
            assert client.message()[0] == "R"
            client.send(sasl_initial(b"n,,n=,r=abcdefghijklmnopqr"))
            kind, challenge = client.message()
            nonce = re.search(rb"r=([^,]*)", challenge).group(1)
            client.send(message("p", said.replace(b"%s", nonce)))
            assert kind == "R" and errors_of(heard_until_the_end(client))[0][:2] in ("28", "08"), what
    with pools.join(r) as client:
        assert pools.one(client, "select 'untouched'") == "untouched"


# Servers that lie


class Liar:
    """A PostgreSQL whose next login, or next answer, is as a test says; all others are right."""

    def __init__(self):
        self.lie, self.login_lie = None, None
        self.server = None  # who has logged in last
        self.ends = 0

    def run(self, connection):
        code, _ = connection.packet()
        if code == wire.CANCEL_REQUEST:
            return
        with contextlib.suppress(EOFError, OSError):
            lie, self.login_lie = self.login_lie, None
            if lie is not None:
                lie(connection)
                connection.receive(1 << 30)  # until it is closed
            self.server = connection
            connection.send(connection.server.login_answer())
            while True:
                kind, body = connection.message()
                if kind == "X":
                    break
                if kind == "Q":
                    self.reply(connection, body)
        self.ends += 1

    def reply(self, connection, body):
        lie, self.lie = self.lie, None
        text = body[:-1].decode()
        connection.send(answer(text) if lie is None else lie.replace(b"<answer>", answer(text)))
        if lie is not None and lie.endswith(b"<end>"):
            connection.close()


@pytest.fixture
def liar(pool):
    """Starts a router in front of one."""
    said = Liar()
    with FakePostgres(said.run) as fake:
        def start(**main):
            said.router = pool(
                main={**ONE_SERVER, "auth_type": "trust", "server_login_retry": "100ms",
                      "server_tls_sslmode": "disable", **main},
                databases={"app": f"host={fake.address} port={fake.port} password=secret",
                           "real": "cluster=main dbname=app"})
            return said

        yield start
        assert fake.errors == []


BAD_ANSWERS = {
    "length 0": b"D\0\0\0\0", "length 3": b"T\0\0\0\3", "length 2^31": b"D\x80\0\0\0",
    "length 2^32 - 1": b"D\xff\xff\xff\xff", "an unknown type": message("y"), "a query": wire.query("select 1"),
    "a password request": message("R", struct.pack("!I", 3)), "a login": message("R", struct.pack("!I", 0)),
    "a key": message("K", b"\0" * 8), "another protocol": message("v", b"\0" * 8),
    "ready in an unknown state": message("Z", b"X"), "ready in no state": message("Z"),
    "ready in two states": message("Z", b"II"), "a long ready": b"Z\0\1\0\0",
    "a parameter without a value": message("S", b"TimeZone\0"), "a parameter without zeros": message("S", b"x"),
    "copy data before a copy": message("G", b"\0\0\0") + message("C", b"COPY 0\0"),
    "http": b"HTTP/1.1 200 OK\r\n\r\n",
}


def test_answers_that_make_no_sense_end_server_and_client(liar):
    said = liar()
    with logged_in(said.router, database="real") as bystander:
        for what, lie in BAD_ANSWERS.items():
            with logged_in(said.router) as client:
                n_ends = said.ends
                said.lie = lie
                client.send(wire.query("select 1"))
                heard = [error_fields(body) for kind, body in heard_until_the_end(client) if kind == "E"]
                assert [(fields["S"], fields["C"]) for fields in heard] == [("FATAL", "08006")], what
                assert process.wait_until(lambda n=n_ends: said.ends > n, 10), what
            with logged_in(said.router) as client:
                assert value_of(client.ask("well")) == "well"
        assert_serves(bystander)


NO_ANSWERS = {
    "ready": message("Z", b"I"), "a row": message("D", b"\0\0"), "complete": message("C", b"SELECT 1\0"),
    "an error": wire.error("57P01", "the end"), "an error without fields": message("E", b"\0"),
    "parse complete": message("1"), "copy": message("G", b"\0\0\0"), "length 0": b"Z\0\0\0\0",
    "an unknown type": message("y"), "half a message": b"Q\0\0\1",
}


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_what_answers_nothing_ends_the_server(liar, mode):
    """ReadyForQuery twice, and the like, behind an answer that is whole: where servers are shared, who
    had it does not notice; a session ends with its server. In the same packet or in the next."""
    said = liar(pool_mode=mode)
    for what, lie in NO_ANSWERS.items():
        for apart in (False, True):
            with logged_in(said.router) as client:
                n_ends = said.ends
                said.lie = b"<answer>" if apart else b"<answer>" + lie
                assert value_of(client.ask("first")) == "first"
                if apart:
                    said.server.send(lie)
                if what == "half a message":
                    with contextlib.suppress(OSError):  # its first byte has given it away
                        said.server.send(b"\0")
                assert process.wait_until(lambda n=n_ends: said.ends > n, 10), what
                if mode == "transaction":
                    assert value_of(client.ask("second")) == "second", what
                else:  # what the server says at its end it says to the session
                    expected = "57P01" if what == "an error" else "08006"
                    assert errors_of(heard_until_the_end(client)) == [expected], what


def test_what_a_server_may_say_at_any_time_does_no_harm(liar):
    said = liar()
    with logged_in(said.router) as client:
        assert value_of(client.ask("first")) == "first"
        connection = said.server
        for byte in (message("N", b"SNOTICE\0C00000\0Mhello\0\0") + message("S", b"TimeZone\0UTC\0") +
                     message("A", b"\0\0\0\1channel\0payload\0") + message("N", b"\0")) * 3:
            connection.send(bytes([byte]))
        assert value_of(client.ask("second")) == "second"
        assert said.ends == 0


def test_what_a_server_began_to_say_before_is_not_for_who_comes_then(liar):
    """A notice whose begin was read while the server had no client, cut anywhere."""
    said = liar()
    notice = message("N", b"SNOTICE\0C00000\0M" + b"hello " * 20 + b"\0\0")
    with logged_in(said.router) as client:
        assert value_of(client.ask("first")) == "first"
        for cut in (1, 4, 5, 6, 7, 20, len(notice) - 1):
            said.server.send(notice[:cut])
            time.sleep(0.05)  # mostly read by then; it must hold either way
            said.lie = notice[cut:] + notice + b"<answer>"
            messages = client.ask("second")
            assert value_of(messages) == "second", cut
            assert [kind for kind, _ in messages if kind == "N"] in (["N"], ["N", "N"]), cut
        assert said.ends == 0


ERRORS = {
    "no fields": b"\0", "nothing": b"", "no severity": b"C22012\0Mwhy\0\0", "no code": b"SERROR\0Mwhy\0\0",
    "no text": b"SERROR\0C22012\0\0", "no zero": b"SERROR", "a long code": b"SERROR\0C" + b"2" * 300 + b"\0\0",
    "a long text": b"SERROR\0C22012\0M" + b"x" * 100_000 + b"\0\0", "zeros": b"\0" * 100,
    "binary": bytes(range(1, 256)) + b"\0\0"}


def test_errors_without_fields_pass(liar):
    """CVE-2026-6666: an ErrorResponse without SQLSTATE has crashed PgBouncer."""
    said = liar()
    with logged_in(said.router) as client:
        for what, fields in ERRORS.items():
            said.lie = message("E", fields) + message("Z", b"I")
            client.send(wire.query("select 1"))
            assert client.messages_until("Z") == [("E", fields), ("Z", b"I")], what
        assert value_of(client.ask("well")) == "well"


@pytest.mark.parametrize("main", [
    {"server_check_query": "check", "server_check_delay": "0"}, {"server_reset_query_always": 1}, {}],
    ids=["check", "reset", "parameters"])
def test_errors_without_fields_in_answer_to_ourselves(liar, main):
    """CVE-2026-6666, where we are the client."""
    said = liar(**main)
    for what, fields in ERRORS.items():
        with logged_in(said.router) as client:
            assert value_of(client.ask("first")) == "first"
        said.lie = message("E", fields) + message("Z", b"I")
        with Client(said.router.at("pool")) as client:
            with contextlib.suppress(EOFError, ConnectionError):
                client.send(wire.startup(user="app", database="app", application_name=what))
                client.messages_until("Z")
                client.send(wire.query("select 1"))
                client.messages_until("Z")
        said.lie = None
    with logged_in(said.router) as client:
        assert value_of(client.ask("well")) == "well"


def test_a_word_of_ours_never_stands_inside_of_a_message(liar):
    """When a server leaves, or a limit is reached, amid a message, a client would take it for data."""
    said = liar(query_timeout="1s")
    row = message("D", struct.pack("!HI", 1, 1000) + b"x" * 1000)
    for lie in (row[:500] + b"<end>", row[:500], row * 30 + row[:7] + b"<end>"):
        with logged_in(said.router) as client:
            said.lie = lie
            client.send(wire.query("select 1"))
            heard = b""
            with contextlib.suppress(ConnectionError):
                while data := client.socket.recv(65536):
                    heard += data
            assert heard == lie.removesuffix(b"<end>") or heard == lie
        with logged_in(said.router) as client:
            assert value_of(client.ask("well")) == "well"


# Servers that lie at login


def sasl(kind, data):
    return message("R", struct.pack("!I", kind) + data)


def says(data):
    return lambda connection: connection.send(data)


def scram_with(challenge):
    """A script that answers the first message of SCRAM; <nonce> is the client's."""
    def script(connection):
        connection.send(sasl(10, b"SCRAM-SHA-256\0\0"))
        _, body = connection.message()
        nonce = re.search(rb"r=([^,]*)", body).group(1)
        connection.send(sasl(11, challenge.replace(b"<nonce>", nonce)))
    return script


OK = message("R", struct.pack("!I", 0))
BAD_SERVER_LOGINS = {
    **{f"an error: {what}": says(message("E", fields)) for what, fields in ERRORS.items() if what != "a long text"},
    "length 0": says(b"R\0\0\0\0"), "length 2^32 - 1": says(b"R\xff\xff\xff\xff"),
    "an unknown type": says(message("y")), "a request without a kind": says(message("R")),
    "kerberos": says(message("R", struct.pack("!I", 7))), "an unknown kind": says(message("R", b"\xff" * 4)),
    "md5 without salt": says(message("R", struct.pack("!I", 5))),
    "no mechanism": says(sasl(10, b"\0")), "mechanisms without end": says(sasl(10, b"SCRAM-SHA-256")),
    "a mechanism that we do not have": says(sasl(10, b"SCRAM-MD5\0\0")),
    "ready before the login": says(message("Z", b"I")), "a key before the login": says(message("K", b"\0" * 8)),
    "a row": says(OK + message("D", b"\0\0")), "a short key": says(OK + message("K", b"\0" * 4)),
    "a long key": says(OK + message("K", b"\0" * 4 + b"k" * 257)),
    "a parameter without zeros": says(OK + message("S", b"TimeZone")),
    "parameters without end": says(OK + message("S", b"n\0" + b"x" * 1000 + b"\0") * 1000),
    "a message that is too long": says(OK + message("S", b"n\0" + b"x" * 50_000 + b"\0")),
    "a challenge before the question": says(sasl(11, b"r=x,s=c2FsdA==,i=4096")),
    "an end before the question": says(sasl(12, b"v=x")),
    **{f"a nonce of {n} bytes": scram_with(b"r=<nonce>" + b"x" * n + b",s=c2FsdA==,i=4096")
       for n in (0, 200, 1000, 2000, 10_000)},
    "another nonce": scram_with(b"r=another,s=c2FsdA==,i=4096"),
    "a long salt": scram_with(b"r=<nonce>x,s=" + b"A" * 800 + b",i=4096"),
    "no salt": scram_with(b"r=<nonce>x,s=,i=4096"), "no iterations": scram_with(b"r=<nonce>x,s=c2FsdA==,i=0"),
    "too many iterations": scram_with(b"r=<nonce>x,s=c2FsdA==,i=4294967297"),
    "negative iterations": scram_with(b"r=<nonce>x,s=c2FsdA==,i=-1"), "no challenge": scram_with(b""),
    "zeros": scram_with(b"\0" * 100), "a login in the midst": scram_with(b"r=<nonce>x,s=c2FsdA==,i=1"),
}


def test_logins_that_make_no_sense_are_given_up(liar):
    """CVE-2026-6665: a server's long nonce has overrun PgBouncer's stack. CVE-2026-6666."""
    said = liar(query_wait_timeout="3s")
    with logged_in(said.router, database="real") as bystander:
        for what, lie in BAD_SERVER_LOGINS.items():
            since = said.router.log.mark()
            n_ends = said.ends
            if what == "a login in the midst":
                def lie(connection, begin=lie):
                    begin(connection)
                    connection.message()
                    connection.send(connection.server.login_answer())
            said.login_lie = lie
            with Client(said.router.at("pool"), timeout=30) as client, contextlib.suppress(EOFError):
                client.send(wire.startup(user="app", database="app"))
                if "E" not in [kind for kind, _ in client.messages_until("Z")]:
                    client.ask("now a server is needed")
            assert said.router.log.wait("server lost", seconds=10, since=since, state="LOGIN")["text"], what
            assert process.wait_until(lambda n=n_ends: said.ends > n, 10), what
            with logged_in(said.router) as client:  # the next login is right
                assert value_of(client.ask("well")) == "well", what
            said.server.send(wire.error("57P01", "so that the next one has to log in"))
            assert process.wait_until(lambda n=n_ends: said.ends > n + 1, 10), what
        assert_serves(bystander)
