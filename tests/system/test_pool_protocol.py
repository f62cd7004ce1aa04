"""What a pool does not let pass."""

from harness import wire
from harness.pools import SYNC, errors_of, run_unnamed, status_of, value_of
from harness.wire import Client


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
