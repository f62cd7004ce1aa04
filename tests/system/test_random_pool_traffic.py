"""Everything at once, by chance, where clients share servers: every answer must belong to its
question, nobody's query ends by another's cancel request, and nothing is left at the end."""

import contextlib
import random
import struct
import time

import psycopg
import pytest

from cluster import process
from cluster.certificates import Authority
from harness import pools, wire
from harness.pools import FLUSH, SYNC, execute, parse
from harness.tls import context_of
from harness.traffic import SECONDS, SEED, Traffic
from harness.wire import Client, error_fields

N_THREADS = 20
TEXTCAT = 1258  # the function of that name

# Few servers, so that everybody waits for everybody.
POOLS = {
    "moves": "cluster=main dbname=app pool_mode=transaction pool_size=2",
    "stays": "cluster=main dbname=app pool_mode=session pool_size=3",
    "asks": "cluster=main dbname=app pool_mode=statement pool_size=2",
    "reads": "cluster=main role=replica dbname=app pool_mode=transaction pool_size=2"}
USERS = ["app", "postgres"]
TEXTS = [f"select $1::text || ' of text {number}'" for number in range(40)]
FOLLOWED = {"DateStyle": ["German, DMY", "ISO, DMY", "SQL, MDY"],
            "TimeZone": ["Asia/Tokyo", "America/Lima", "UTC"]}


class Refused(Exception):
    """The session was ended by these fields of an ErrorResponse."""


class PoolTraffic(Traffic):
    def __init__(self, router, cluster):
        super().__init__(router)
        self.cluster = cluster

    def is_an_end(self, error):
        return isinstance(error, Refused) or super().is_an_end(error)


def anywhere(chance):
    """An address of this machine: so many cancel requests from one would be too many."""
    return f"127.{chance.randrange(1, 255)}.{chance.randrange(255)}.{chance.randrange(1, 255)}"


def reach(traffic, chance, receive_buffer=None):
    """A connection in clear, or inside of TLS."""
    client = Client(traffic.router.at("pool"), timeout=60, source=anywhere(chance),
                    receive_buffer=receive_buffer)
    how = chance.choice(["clear", "clear", "tls", "direct"])
    if how == "tls":
        client.send(wire.ssl_request())
        assert client.receive(1) == b"S"
    if how != "clear":
        context = traffic.contexts["postgresql" if how == "direct" else None]
        client.socket = context.wrap_socket(client.socket, server_hostname="127.0.0.1")
    return client


class Session:
    """A client of one thread, and what may be done on it."""

    def __init__(self, traffic, chance):
        self.traffic, self.chance = traffic, chance
        self.database = chance.choice(list(POOLS))
        self.may_write = self.database != "reads"
        self.is_cancelled = False  # a cancel request of our own may hit what is asked now
        self.statements = {}       # that it has prepared: name -> text
        self.channels = set()
        self.client = reach(traffic, chance, chance.choice([None, None, 4096]))
        name = self.tag()
        self.parameters = {"application_name": {name}}
        parameters = {"application_name": name}
        for parameter, values in FOLLOWED.items():
            if chance.random() < 0.3:
                parameters[parameter] = chance.choice(values)
            self.parameters[parameter] = {parameters[parameter]} if parameter in parameters else None
        self.key = self.client.log_in(chance.choice(USERS), self.database, **parameters)
        if self.database == "stays":
            self.find_no_traces()

    def tag(self):
        return self.traffic.tag()

    def close(self):
        self.client.close()

    # What is heard

    def hear(self):
        """The next message, if it may be said to this client now."""
        kind, body = self.client.message()
        if kind == "E":
            fields = error_fields(body)
            if fields["C"] == "57014" and "COPY" not in fields["M"]:
                assert self.is_cancelled, "somebody else's cancel request has hit us"
            if fields["S"] == "FATAL" or fields["C"] == "40001":  # it was lost with its server
                raise Refused(fields)
        elif kind == "S":
            name, value = body.decode().split("\0")[:2]
            if self.parameters.get(name):
                assert value in self.parameters[name], f"{name} is {value} all at once"
        elif kind == "A" and self.database == "stays":
            assert body[4:].split(b"\0")[0].decode() in self.channels, "an echo of another session"
        return kind, body

    def answer(self):
        """Messages up to ReadyForQuery, but for what comes of the server's own accord."""
        found = []
        while not found or found[-1][0] != "Z":
            found.append(self.hear())
        return [(kind, body) for kind, body in found if kind not in "SNA"]

    def expect(self, values, status="I", errors=()):
        """The answer has these rows, of one column each, and one of these errors if any."""
        found = self.answer()
        rows = [body[6:].decode() for kind, body in found if kind == "D"]
        errors_found = [error_fields(body) for kind, body in found if kind == "E"]
        if self.is_cancelled and [fields["C"] for fields in errors_found] == ["57014"]:
            return False
        assert rows == values, f"{rows} is the answer to another question than {values}"
        assert [fields["M"] for fields in errors_found] == list(errors)
        assert found[-1][1].decode() == status
        return True

    def ask(self, text, values, **more):
        self.client.send(wire.query(text))
        return self.expect(values, **more)

    # What is done

    def simple(self):
        tags = [self.tag() for _ in range(self.chance.randrange(1, 5))]
        self.client.send(b"".join(wire.query(f"select '{tag}'") for tag in tags))
        for tag in tags:
            self.expect([tag])

    def extended(self):
        tag, length = self.tag(), self.chance.choice([0, 10, 5000, 300000])
        value = tag + "x" * length
        self.client.send(parse("select $1::text") + pools.bind(values=[value]) + execute() + SYNC)
        self.expect([value])

    def call_a_function(self):
        tag = self.tag().encode()
        self.client.send(wire.message("F", struct.pack("!IHH", TEXTCAT, 0, 2) + struct.pack("!I", len(tag)) +
                                      tag + struct.pack("!I", 2) + b"!!" + b"\0\0"))
        (kind, body), (_, status) = self.answer()
        assert (kind, body[4:], status) == ("V", tag + b"!!", b"I")

    def err(self):
        tag = self.tag()
        self.ask(f"select '{tag}'::int", [], errors=[wrong(tag)])

    def pipeline(self):
        """Named statements come, are used and go; what stands behind an error is skipped."""
        said, rounds, known = b"", [], dict(self.statements)
        values, errors = [], []
        for _ in range(self.chance.randrange(1, 60)):
            act = self.chance.choice([self.say_prepared] * 8 + [self.say_wrong, self.say_sync, self.say_close])
            said += act(known, values, errors)
            if act == self.say_sync:
                rounds.append((values, errors))
                values, errors = [], []
        self.client.send(said + SYNC)
        for values, errors in [*rounds, (values, errors)]:
            self.expect(values, errors=errors)
        self.statements = known

    def say_prepared(self, known, values, errors):
        name, said = self.chance.choice("abcdefgh"), b""
        text = known.get(name)
        if text is None:
            text = self.chance.choice(TEXTS)
            said = parse(text, name)
            if not errors:
                known[name] = text
        tag = self.tag()
        if not errors:
            values.append(tag + text[20:-1])
        return said + pools.bind(name, values=[tag]) + execute() + self.chance.choice([b"", FLUSH])

    def say_wrong(self, _known, _values, errors):
        tag = self.tag()
        if not errors:
            errors.append(wrong(tag))
        return pools.run_unnamed(f"select '{tag}'::int")

    def say_sync(self, *_):
        return SYNC

    def say_close(self, known, _values, errors):
        name = self.chance.choice("abcdefgh")
        if not errors:
            known.pop(name, None)
        return wire.message("C", f"S{name}\0".encode())

    def transaction(self):
        if self.database == "asks":
            return
        self.ask("begin", [], status="T")
        self.client.send(wire.query("select pg_backend_pid()"))
        pid = pools.value_of(self.answer())
        for _ in range(self.chance.randrange(4)):
            tag = self.tag()
            self.ask(f"select '{tag}'", [tag], status="T")
            self.pause()
        self.ask("select pg_backend_pid()", [pid], status="T")
        end = self.chance.choice(["commit", "rollback", "wrong"])
        if end == "wrong":
            tag = self.tag()
            self.ask(f"select '{tag}'::int", [], status="E", errors=[wrong(tag)])
            end = "commit"
        self.ask(end, [])

    def copy_out(self):
        tag, n = self.tag(), self.chance.randrange(1, 2000)
        self.client.send(wire.query(f"copy (select '{tag}', n from generate_series(1, {n}) n) to stdout"))
        rows = [body.decode() for kind, body in self.answer() if kind == "d"]
        assert rows == [f"{tag}\t{i}\n" for i in range(1, n + 1)]

    def copy_in(self):
        if not self.may_write:
            return
        tag, n = self.tag(), self.chance.randrange(1, 2000)
        self.client.send(wire.query("copy traffic from stdin"))
        assert self.hear_until("GE") == "G"
        self.client.send(b"".join(wire.message("d", f"{tag}\n".encode()) for _ in range(n)))
        if self.chance.random() < 0.3:
            self.client.send(wire.message("f", tag.encode() + b"\0") + wire.message("d", b"late\n"))
            self.expect([], errors=[f"COPY from stdin failed: {tag}"])
            n = 0
        else:
            self.client.send(wire.message("c"))
            self.expect([])
        self.ask(f"with gone as (delete from traffic where tag = '{tag}' returning 1) "
                 "select count(*) from gone", [str(n)])

    def hear_until(self, kinds):
        while True:
            kind, _ = self.hear()
            if kind in kinds:
                return kind

    def read_slowly(self):
        tag, n = self.tag(), self.chance.randrange(1, 3000)
        self.client.send(wire.query(f"select '{tag}' || repeat('x', 1000) from generate_series(1, {n})"))
        heard = 0
        while (message := self.hear())[0] != "Z":
            if message[0] == "D":
                assert message[1][6:] == tag.encode() + b"x" * 1000
                heard += 1
                if heard % 500 == 0:
                    self.pause()
        assert heard == n

    def pause(self):
        time.sleep(self.chance.random() * 0.01)

    def set_parameter(self):
        name = self.chance.choice(list(self.parameters))
        value = self.tag() if name == "application_name" else self.chance.choice(FOLLOWED[name])
        before = self.parameters[name]
        self.parameters[name] = {value, *(before or {value})}
        if self.database != "asks" and before is not None and self.chance.random() < 0.3:
            self.ask("begin", [], status="T")
            self.ask(f"set {name} = {quoted(value)}", [], status="T")
            self.ask(f"show {name}", [value], status="T")
            self.ask("rollback", [])
            self.parameters[name] = before
        else:
            self.ask(f"set {name} = {quoted(value)}", [])
            self.parameters[name] = {value}

    def show_parameters(self):
        for name, values in self.parameters.items():
            if values is not None:
                self.ask(f"show {name}", list(values))

    def notify(self):
        """It hears of it before the answer ends; in a shared server nothing stays."""
        tag = self.tag()
        channel = tag.replace(" ", "_")
        if not self.may_write or self.database == "asks":
            return
        if self.database == "stays":
            self.channels.add(channel)
            self.ask(f"listen {channel}", [])
            self.client.send(wire.query(f"notify {channel}, '{tag}'"))
        else:
            self.client.send(wire.query(f"begin; listen {channel}; notify {channel}, '{tag}'; commit"))
        echoes = []
        while (message := self.hear())[0] != "Z":
            if message[0] == "A":
                echoes.append(message[1][4:].split(b"\0")[:2])
        assert [channel.encode(), tag.encode()] in echoes
        if self.database != "stays":
            self.ask("unlisten *", [])

    # A session of its own

    def leave_traces(self):
        if self.database == "stays":
            self.ask("set work_mem = '9MB'", [])
            self.ask("create temp table if not exists mine (x int)", [])
            self.ask("select pg_try_advisory_lock(pg_backend_pid())", ["t"])
            self.ask(f"prepare traces{self.tag()[4:]} as select 1", [])

    def find_no_traces(self):
        self.ask("show work_mem", ["4MB"])
        self.ask("select count(*) from pg_prepared_statements", ["0"])
        self.ask("select to_regclass('pg_temp.mine') is null", ["t"])
        self.ask("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", ["0"])
        self.ask("select count(*) from pg_listening_channels()", ["0"])

    # Cancel requests

    def ask_to_cancel(self, key=None):
        """The connection on which that is done."""
        canceller = reach(self.traffic, self.chance)
        canceller.send(wire.cancel_request(*(key or self.key)))
        return canceller

    def cancel(self):
        """In time, more or less."""
        tag, seconds = self.tag(), self.chance.random() * 0.1
        self.is_cancelled = True
        self.client.send(wire.query(f"select '{tag}' from pg_sleep({seconds})"))
        time.sleep(self.chance.random() * 0.1)
        with self.ask_to_cancel() as canceller:
            if not self.expect([tag]):
                self.traffic.n_done["cancelled"] += 1
            assert canceller.at_end()
        self.is_cancelled = False

    def cancel_late(self):
        """What is asked next may be hit, and what is asked when the request is done with may not."""
        tags = [self.tag() for _ in range(4)]
        self.ask(f"select '{tags[0]}'", [tags[0]])
        with self.ask_to_cancel() as canceller:
            self.is_cancelled = True
            for tag in tags[1:3]:
                self.ask(f"select '{tag}'", [tag])
            assert canceller.at_end()
        self.is_cancelled = False
        self.ask(f"select '{tags[3]}' from pg_sleep(0.01)", [tags[3]])

    def cancel_nobody(self):
        number, key = self.key
        wrong_key = (number, self.chance.randbytes(4))
        with self.ask_to_cancel(wrong_key) as canceller:
            tag = self.tag()
            self.ask(f"select '{tag}' from pg_sleep(0.01)", [tag])
            assert canceller.at_end()

    # How it ends

    def say_goodbye(self):
        self.client.send(pools.TERMINATE)
        assert self.client.at_end()

    def leave_in_the_middle(self):
        """Of what it says, or of what it is told; what it had begun is undone."""
        tag = self.tag()
        said = self.chance.choice([
            wire.query("select repeat('x', 1000) from generate_series(1, 20000)"),
            wire.query("select pg_sleep(0.05)"),
            wire.query("select 1") * 20,
            wire.query("copy (select repeat('x', 1000) from generate_series(1, 20000)) to stdout"),
            parse("select 1", "p") + (pools.bind("p") + execute() + SYNC) * 20,
            pools.run_unnamed(f"select '{tag}'::int") + pools.run_unnamed("select 1") + SYNC,
            pools.run_unnamed("select 1"),
            self.copy_that_is_lost(), self.transaction_that_is_lost()])
        if self.chance.random() < 0.5:
            said = said[:self.chance.randrange(len(said))]
        self.client.send(said)
        for _ in range(self.chance.choice([0, 0, 1, 50])):
            with contextlib.suppress(TimeoutError):
                self.client.socket.settimeout(0.02)
                if not self.client.socket.recv(1000):
                    break
        if self.chance.random() < 0.4:
            self.client.reset()
        self.client.close()

    def copy_that_is_lost(self):
        if not self.may_write:
            return wire.query("copy traffic from stdin")
        return wire.query("copy traffic from stdin") + wire.message("d", b"lost\n") * 300

    def transaction_that_is_lost(self):
        if self.database == "asks" or not self.may_write:
            return wire.query("select 1")
        return wire.query("begin") + wire.query("insert into traffic values ('lost')")

    def talk_nonsense(self):
        """It is told so, and nobody else notices."""
        self.client.send(self.chance.choice([
            b"\0" * 10, wire.message("y", b"?"), b"Q" + struct.pack("!I", 3), b"Q" + struct.pack("!I", 0),
            b"Q\xff\xff\xff\xff", wire.message("p", b"secret\0"), b"B\x7f\xff\xff\xff"]))
        try:
            self.hear_until("Z")
        except (Refused, EOFError, ConnectionError):
            return
        raise AssertionError("nonsense was answered")

    def kill_its_server(self):
        """By its own hand: nobody else must lose anything. Where the server had completed the
        statement before it ended, that is the answer; where many have ended at once, it counts
        as lost."""
        self.client.send(wire.query("select pg_terminate_backend(pg_backend_pid())"))
        try:
            found = self.answer()
        except (Refused, EOFError, ConnectionError):
            return
        assert [body[6:].decode() for kind, body in found if kind == "D"] == ["t"]
        self.close()


def wrong(tag):
    return f'invalid input syntax for type integer: "{tag}"'


def quoted(value):
    return ", ".join(f"'{word}'" for word in value.split(", "))


def garbage(traffic, chance):
    """From somebody who never becomes a client."""
    with Client(traffic.router.at("pool"), source=anywhere(chance)) as client:
        client.send(chance.choice([
            b"GET / HTTP/1.1\r\n\r\n", b"\0" * 8, wire.startup(user="app")[:9], b"\x16", b"",
            wire.ssl_request() + b"\x16\x03", chance.randbytes(chance.randrange(1, 300)),
            wire.gssenc_request() * 2, wire.startup(user="app", database="asks")]))
        if chance.random() < 0.5:
            client.reset()


def look_at_the_console(traffic, chance):
    what = chance.choice(["POOLS", "CLIENTS", "SERVERS", "STATS", "DATABASES", "LISTS", "USERS"])
    assert show(traffic.router, what)


WITH_SESSION = [
    Session.simple, Session.extended, Session.call_a_function, Session.err, Session.pipeline,
    Session.transaction, Session.copy_out, Session.copy_in, Session.read_slowly, Session.set_parameter,
    Session.show_parameters, Session.notify, Session.leave_traces, Session.cancel, Session.cancel_late,
    Session.cancel_nobody]
LAST_OF_SESSION = [Session.say_goodbye, Session.close, Session.talk_nonsense, Session.kill_its_server,
                   *[Session.leave_in_the_middle] * 4]
WITHOUT = [garbage, garbage, garbage, look_at_the_console]


def live(traffic, chance):
    """One session from its login to its end, and something beside it now and then."""
    if chance.random() < 0.2:
        beside = chance.choice(WITHOUT)
        beside(traffic, chance)
        traffic.n_done[beside.__name__] += 1
    session = Session(traffic, chance)
    with contextlib.closing(session):
        acts = [chance.choice(WITH_SESSION) for _ in range(chance.randrange(10))]
        for act in [*acts, chance.choice(LAST_OF_SESSION)]:
            act(session)
            traffic.n_done[act.__name__] += 1
    traffic.n_done["sessions"] += 1


# What befalls all of them


def reload(traffic, chance):
    """What does not end sessions."""
    r = traffic.router
    main, databases = r.sections["pgrouter"], r.sections["databases"]
    for name, settings in POOLS.items():
        databases[name] = settings.rpartition("=")[0] + f"={chance.randrange(2, 5)}"
    main["handover_after"] = chance.choice(["10ms", "0", "1s"])
    main["max_prepared_statements"] = chance.choice(["3", "10", "200"])
    main["server_tls_sslmode"] = chance.choice(["require", "disable", "prefer"])
    main["server_round_robin"] = chance.choice(["0", "1"])
    main["server_lifetime"] = chance.choice(["3600", "1"])
    main["server_idle_timeout"] = chance.choice(["600", "1"])
    r.reload()


def pids_of_servers(router):
    """Of those that have logged in."""
    return {row["remote_pid"] for row in show(router, "SERVERS")} - {0, None}


def kill_all_servers(traffic):
    killed = pids_of_servers(traffic.router)
    for node in traffic.cluster.nodes:
        pids = ", ".join(str(pid) for pid in killed)
        node.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where pid in ({pids or 0}) "
                 "and backend_type = 'client backend'")
    assert process.wait_until(lambda: not killed & pids_of_servers(traffic.router), 20), [
        row for row in show(traffic.router, "SERVERS") if row["remote_pid"] in killed]


def show(router, what):
    """Rows of the console, as dicts."""
    with psycopg.connect(router.dsn("pool", user="postgres", dbname="pgbouncer"), autocommit=True) as c:
        cursor = c.execute("SHOW " + what)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


# The end


def is_at_rest(router):
    """Nobody has a server, waits for one, or is about to; what is counted is what there is."""
    servers = show(router, "SERVERS")
    busy = ["cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req", "sv_active",
            "sv_active_cancel", "sv_being_canceled", "sv_tested", "sv_login"]
    rows = [row for row in show(router, "POOLS") if row["database"] != "pgbouncer"]
    return (all(row[column] == 0 for row in rows for column in busy) and
            {row["state"] for row in servers} <= {"idle"} and
            [row["database"] for row in show(router, "CLIENTS")] == ["pgbouncer"] and
            all(row["current_connections"] == sum(server["database"] == row["name"] for server in servers) and
                (row["current_client_connections"] == 0 or row["name"] == "pgbouncer")
                for row in show(router, "DATABASES")) and
            sum(row["current_connections"] for row in show(router, "USERS")) == len(servers))


def assert_nothing_is_left(traffic):
    r = traffic.router
    assert process.wait_until(lambda: is_at_rest(r), 20), [
        show(r, what) for what in ("POOLS", "CLIENTS", "SERVERS", "DATABASES", "USERS")]
    # Copies of a server that was killed behind them may be there, but not what was never committed.
    assert traffic.cluster.leader().sql("select count(*) from traffic where tag in ('lost', 'late')",
                                        database="app") == "0"
    r.sections["pgrouter"]["server_idle_timeout"] = "1"
    r.reload()
    assert process.wait_until(lambda: show(r, "SERVERS") == [], 20), show(r, "SERVERS")
    assert {row["current_connections"] for row in show(r, "DATABASES")} == {0}


def assert_pools_are_whole(traffic):
    """As many servers can be had as are configured, and no more."""
    r = traffic.router
    for name in POOLS:
        r.sections["databases"][name] = POOLS[name].rpartition("=")[0] + "=3"
    r.sections["pgrouter"]["query_wait_timeout"] = "1s"
    r.reload()
    for name in ("moves", "stays", "reads"):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(r.at("pool"))) for _ in range(4)]
            for client in clients[:3]:
                client.log_in("app", name)
                assert pools.status_of(client.ask("begin")) == "T"
            with pytest.raises((AssertionError, EOFError)):
                clients[3].log_in("app", name)
                clients[3].ask("select 1")


@pytest.fixture
def table(cluster):
    leader = cluster.leader()
    leader.sql("drop table if exists traffic; create table traffic (tag text); "
               "grant all on traffic to app", database="app")
    yield
    cluster.leader().sql("drop table if exists traffic", database="app")


@pytest.mark.traffic
@pytest.mark.takes(int(SECONDS) + 180)
def test_random_traffic_over_pools(cluster, pool, table, tmp_path):
    key, certificate = Authority(tmp_path).issue("router", ["127.0.0.1"])
    r = pool(main={"auth_type": "trust", "admin_users": "postgres", "server_login_retry": "100ms",
                   "client_tls_sslmode": "prefer", "client_tls_key_file": key,
                   "client_tls_cert_file": certificate, "max_prepared_statements": 10},
             check={"check_timeout": "20s"},  # nodes are slow meanwhile, and none is down
             databases=dict(POOLS))
    traffic, chance = PoolTraffic(r, cluster), random.Random(SEED)
    traffic.contexts = {alpn: context_of(alpn=alpn) for alpn in (None, "postgresql")}
    with traffic.of(N_THREADS, live):
        while traffic.goes_on():
            time.sleep(min(1.0, SECONDS / 5))
            reload(traffic, chance)
            if chance.random() < 0.15:
                with traffic.change():
                    kill_all_servers(traffic)
                traffic.n_done["kill_all_servers"] += 1
    acts = {act.__name__ for act in WITH_SESSION + LAST_OF_SESSION + WITHOUT}
    assert acts | {"cancelled"} <= set(traffic.n_done)
    assert_nothing_is_left(traffic)
    assert_pools_are_whole(traffic)
    assert not [event for event in r.log.all if event.level in ("ERROR", "FATAL")]
