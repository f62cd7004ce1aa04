"""Session parameters belong to clients, whichever servers these get."""

import os
import socket

import psycopg
import pytest

from harness import pools, wire
from harness.pools import Onlooker, join, logged_in, one
from harness.wire import Client

ONE_SERVER = {"pool_mode": "transaction", "default_pool_size": 1, "workers": 1}

REPORTED = [
    ("application_name", "one", "two"), ("client_encoding", "LATIN1", "UTF8"),
    ("datestyle", "German, DMY", "SQL, MDY"), ("timezone", "Asia/Tokyo", "America/Lima"),
    ("standard_conforming_strings", "off", "on"), ("intervalstyle", "iso_8601", "postgres")]


@pytest.mark.parametrize("name, mine, others", REPORTED)
def test_a_parameter_stays_with_its_client(pool, name, mine, others):
    r = pool(main=ONE_SERVER)
    with join(r) as first, join(r) as second, join(r) as untouched:
        original = one(untouched, f"show {name}")
        first.execute(f"set {name} = {quoted(mine)}")
        second.execute(f"set {name} = {quoted(others)}")
        for _ in range(3):
            assert one(first, f"show {name}") == mine
            assert one(second, f"show {name}") == others
            assert one(untouched, f"show {name}") == original
        first.execute(f"reset {name}")
        assert one(second, f"show {name}") == others
        assert one(first, f"show {name}") == original


def quoted(values):
    return ", ".join(f"'{value}'" for value in values.split(", "))


def test_parameters_go_from_server_to_server(pool):
    r = pool(main={"pool_mode": "transaction", "default_pool_size": 4})
    clients = [join(r) for _ in range(8)]
    for number, client in enumerate(clients):
        client.execute(f"set application_name = 'client {number}'")
    for _ in range(5):
        shown = [one(client, "show application_name") for client in clients]
        assert shown == [f"client {number}" for number in range(8)]
    for client in clients:
        client.close()


def test_a_set_that_is_rolled_back_does_not_stay(pool):
    r = pool(main=ONE_SERVER)
    with join(r, application_name="before") as first, join(r) as second:
        first.execute("begin")
        first.execute("set application_name = 'inside'")
        first.execute("rollback")
        second.execute("set application_name = 'second'")
        assert one(first, "show application_name") == "before"
        first.execute("begin")
        first.execute("set local application_name = 'local'")
        assert one(first, "show application_name") == "local"
        first.execute("commit")
        assert one(second, "show application_name") == "second"
        assert one(first, "show application_name") == "before"


def test_values_with_quotes_are_passed_on(pool):
    r = pool(main=ONE_SERVER)
    values = ["it's", "a\\b", 'd"q', "$$", "'; select 1/0; --", "ends with \\", "", " x "]
    with join(r) as first, join(r) as second:
        for value in values:
            first.execute("select set_config('application_name', %s, false)", (value,))
            second.execute("set application_name = 'second'")
            assert one(first, "show application_name") == value
        first.execute("set standard_conforming_strings = off")
        for value in values:
            first.execute("select set_config('application_name', %s, false)", (value,))
            second.execute("set application_name = 'second'")
            assert one(first, "show application_name") == value


def test_the_client_is_told_of_its_own_parameters(pool):
    """As at login, so later: no ParameterStatus of another client's."""
    r = pool(main={**ONE_SERVER, "auth_type": "trust"})
    with Client(r.at("pool")) as first, Client(r.at("pool")) as second:
        told = {}
        for client, name, zone in ((first, "one", "Asia/Tokyo"), (second, "two", "America/Lima")):
            client.send(wire.startup(user="app", database="app", application_name=name, TimeZone=zone))
            told[client] = statuses(client.messages_until("Z"))
            assert (told[client]["application_name"], told[client]["TimeZone"]) == (name, zone)
            assert told[client]["server_version"]
            assert told[client]["session_authorization"] == "app"
        for _ in range(3):
            for client in (first, second):
                for name, value in statuses(client.ask("select 1")).items():
                    assert told[client][name] == value
        assert statuses(first.ask("set timezone = 'UTC'")) == {"TimeZone": "UTC"}
        assert statuses(second.ask("select 1")).get("TimeZone", "America/Lima") == "America/Lima"


def statuses(messages):
    return dict(body.decode().split("\0")[:2] for kind, body in messages if kind == "S")


def test_parameters_of_the_startup_message(pool):
    r = pool(main=ONE_SERVER)
    first = join(r, application_name="mine", client_encoding="LATIN1",
                 options="-c TimeZone=Asia/Tokyo -c work_mem=7MB --statement_timeout=12345")
    with first, join(r) as second:
        for _ in range(3):
            assert one(second, "show application_name") == ""
            assert one(second, "show work_mem") == "4MB"
            assert one(second, "show statement_timeout") == "0"
            assert one(first, "show application_name") == "mine"
            assert one(first, "show client_encoding") == "LATIN1"
            assert one(first, "show timezone") == "Asia/Tokyo"
            assert one(first, "show work_mem") == "7MB"
            assert one(first, "show statement_timeout") == "12345ms"


def test_options_with_escaped_spaces(pool):
    r = pool(main=ONE_SERVER)
    with join(r, options=r"-c application_name=two\\ words -c work_mem=6MB") as client:
        assert one(client, "show application_name") == "two words"
        assert one(client, "show work_mem") == "6MB"


@pytest.mark.parametrize("parameters", [
    {"no_such_parameter": "1"}, {"work_mem": "a lot"}, {"options": "-c work_mem=-5"},
    {"TimeZone": "No/Where"}, {"client_encoding": "KLINGON"}])
def test_a_bad_parameter_is_told(pool, parameters):
    r = pool(main={**ONE_SERVER, "auth_type": "trust"})
    name = next(iter(parameters)) if "options" not in parameters else "work_mem"
    with Client(r.at("pool")) as client:
        client.send(wire.startup(user="app", database="app", **parameters))
        answer = read_to_the_end(client)
        if pools.errors_of(answer) == []:
            client.send(wire.query("select 1"))
            answer = read_to_the_end(client)
        assert pools.errors_of(answer)[0][:2] in ("22", "42", "08")
        assert any(name.lower() in body.decode().lower() for kind, body in answer if kind == "E")
    with join(r) as later:
        assert one(later, "select 1") == 1
        assert one(later, "show work_mem") == "4MB"


def read_to_the_end(client):
    """Messages up to ReadyForQuery or the end of the connection."""
    found = []
    try:
        while not found or found[-1][0] != "Z":
            found.append(client.message())
    except (EOFError, ConnectionError):
        pass
    return found


def test_ignore_startup_parameters(pool):
    r = pool(main={**ONE_SERVER, "auth_type": "trust",
                   "ignore_startup_parameters": "extra_float_digits, no_such_parameter, work_mem"})
    with Client(r.at("pool")) as client:
        client.log_in(extra_float_digits="0", no_such_parameter="x", search_path="pg_catalog",
                      options="-c work_mem=7MB")
        assert pools.value_of(client.ask("show extra_float_digits")) == "1"
        assert pools.value_of(client.ask("show work_mem")) == "4MB"
        assert pools.value_of(client.ask("show search_path")) == "pg_catalog"


def test_client_encodings_are_kept_apart(pool):
    """The bytes of each client's text are in its own encoding."""
    r = pool(main=ONE_SERVER)
    with join(r, client_encoding="LATIN1") as latin, join(r, client_encoding="UTF8") as utf8:
        for _ in range(3):
            for client in (latin, utf8):
                assert one(client, "select 'äöü€'" if client is utf8 else "select 'äöü'")[:3] == "äöü"
                assert one(client, "select chr(228)") == "ä"
                assert one(client, "select length('ä')") == 1
    r.stop()


def test_a_session_begins_with_the_defaults(pool):
    """What one client has set is not there for the next, in session pooling either."""
    r = pool(main={"pool_mode": "session", "default_pool_size": 1, "workers": 1})
    with join(r, application_name="first") as first:
        first.execute("set timezone = 'Asia/Tokyo'")
        first.execute("set work_mem = '9MB'")
        pid = pools.pid_of(first)
    with join(r) as second:
        assert pools.pid_of(second) == pid
        assert one(second, "show timezone") == "UTC"
        assert one(second, "show work_mem") == "4MB"
        assert one(second, "show application_name") == ""


def test_the_node_sees_the_application_name(cluster, pool):
    r = pool(main={"pool_mode": "session"})
    with join(r, application_name="reports") as client, Onlooker(cluster.leader()) as node:
        client.execute("select 1")
        assert node.count("application_name = 'reports'") == 1


def test_a_failed_transaction_does_not_disturb_parameters(pool):
    r = pool(main=ONE_SERVER)
    with join(r, application_name="first") as first, join(r, application_name="second") as second:
        for _ in range(3):
            first.execute("begin")
            with pytest.raises(psycopg.errors.DivisionByZero):
                first.execute("select 1/0")
            first.execute("rollback")
            assert one(second, "show application_name") == "second"
            assert one(first, "show application_name") == "first"


def test_parameters_of_a_database(pool):
    """They hold for clients that do not say otherwise."""
    r = pool(main={**ONE_SERVER, "auth_type": "trust"}, databases={
        "app": "cluster=main client_encoding=LATIN1 datestyle='German, DMY' timezone=Asia/Tokyo "
               "application_name=given",
        "plain": "cluster=main dbname=app"})
    shown = ("client_encoding", "datestyle", "timezone", "application_name")
    given = ["LATIN1", "German, DMY", "Asia/Tokyo", "given"]
    with Client(r.at("pool")) as raw:
        raw.log_in()
        assert [pools.value_of(raw.ask(f"show {name}")) for name in shown] == given
    with join(r, application_name="own", options="-c timezone=UTC") as client:
        assert [one(client, f"show {name}") for name in shown[2:]] == ["UTC", "own"]
    with join(r, database="plain") as client:
        assert one(client, "show timezone") != "Asia/Tokyo"


def test_application_name_add_host(cluster, pool):
    for add in (0, 1):
        r = pool(main={**ONE_SERVER, "application_name_add_host": add})
        with join(r, application_name="mine") as client:
            expected = f"mine - 127.0.0.1:{local_port(client)}" if add else "mine"
            assert one(client, "show application_name") == expected
            with Onlooker(cluster.leader()) as node:
                assert node.sees(1, f"application_name = '{expected}'")
        r.stop()


def local_port(client):
    with socket.socket(fileno=os.dup(client.pgconn.socket)) as duplicate:
        return duplicate.getsockname()[1]


# RESET


OWN = {"application_name": "mine", "options": "-c work_mem=7MB -c TimeZone=Asia/Tokyo"}


def shown(client, *names):
    return [one(client, f"show {name}") for name in names]


@pytest.mark.parametrize("text", ["reset all", "discard all", "begin; reset all; commit"])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_reset_leads_back_to_what_the_client_began_with(pool, text, mode):
    if mode == "statement" and "begin" in text:
        text = "select 1; reset all"
    r = pool(main={**ONE_SERVER, "pool_mode": mode})
    names = ["application_name", "work_mem", "timezone"]
    with join(r, **OWN) as client, join(r) as other, join(r, **OWN) as equal:
        usual = shown(other, *names)
        for _ in range(3):
            client.execute("set application_name = 'another'")
            client.execute("set timezone = 'UTC'")
            assert shown(client, *names) == ["another", "7MB", "UTC"]
            client.execute(text)
            assert client.info.parameter_status("TimeZone") == "Asia/Tokyo"
            assert client.info.parameter_status("application_name") == "mine"
            assert shown(equal, *names) == ["mine", "7MB", "Asia/Tokyo"]
            assert shown(client, *names) == ["mine", "7MB", "Asia/Tokyo"]
            assert shown(other, *names) == usual
            other.execute(text)
            assert shown(other, *names) == usual
            assert shown(client, *names) == ["mine", "7MB", "Asia/Tokyo"]


def test_a_reset_of_one_leaves_the_others(pool):
    r = pool(main=ONE_SERVER)
    names = ["application_name", "work_mem", "timezone"]
    with join(r, **OWN) as client, join(r) as other:
        usual = shown(other, *names)
        client.execute("set application_name = 'another'")
        client.execute("set timezone = 'America/Lima'")
        client.execute("reset application_name")
        assert shown(client, *names) == ["mine", "7MB", "America/Lima"]
        assert shown(other, *names) == usual
        client.execute("reset all; set application_name = 'and another'")
        assert shown(client, *names) == ["and another", "7MB", "Asia/Tokyo"]


def test_a_reset_that_is_rolled_back(pool):
    r = pool(main=ONE_SERVER)
    names = ["application_name", "work_mem", "timezone"]
    with join(r, **OWN) as client, join(r) as other:
        usual = shown(other, *names)
        client.execute("set application_name = 'another'")
        client.execute("begin; reset all")
        client.execute("rollback")
        assert client.info.parameter_status("application_name") == "another"
        assert shown(client, *names) == ["another", "7MB", "Asia/Tokyo"]
        assert shown(other, *names) == usual


def test_who_leaves_behind_a_reset_leaves_a_server_that_is_known(pool):
    r = pool(main={**ONE_SERVER, "auth_type": "trust"})
    with join(r, **OWN) as client:
        assert shown(client, "work_mem") == ["7MB"]
        for text in ("reset all", "discard all", "begin; reset all", "reset all; select pg_sleep(0.2)"):
            with Client(r.at("pool")) as leaving:
                leaving.log_in(**OWN)
                leaving.ask("select 1")
                leaving.send(wire.query(text))
                leaving.reset()
            assert shown(client, "work_mem", "application_name") == ["7MB", "mine"]


def test_in_session_pooling_a_reset_is_the_servers(pool):
    """Its server is the client's own, and was told its parameters by SET; the next one gets its
    own."""
    r = pool(main={**ONE_SERVER, "pool_mode": "session"})
    with join(r, **OWN) as client:
        client.execute("reset all")
        assert shown(client, "work_mem", "application_name") == ["4MB", ""]
    with join(r, **OWN) as client:
        assert shown(client, "work_mem", "application_name") == ["7MB", "mine"]


def test_a_long_value_is_as_good_as_any(raw):
    """Also where a server is idle when the client comes."""
    r = raw(workers=1)
    with logged_in(r) as first:
        assert pools.value_of(first.ask("select 1")) == "1"
        for length in (1000, 1100, 9000):
            with logged_in(r, options="-c my.text=" + "x" * 500, application_name="y" * length) as client:
                assert pools.value_of(client.ask("show application_name")) == "y" * 63
        assert pools.value_of(first.ask("select 2")) == "2"
