"""What a pool does not let pass."""

from harness import wire
from harness.pools import SYNC, errors_of, run_unnamed, status_of
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
