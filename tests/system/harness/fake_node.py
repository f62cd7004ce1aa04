"""Whole nodes of fakes: a PostgreSQL and its Patroni.

    with fake_nodes("a", "b", "c") as (a, b, c):      # a is the primary
        ...nodes = setting(a, b, c)...
        assert ask_who(router.at("rw")) == "a"
        a.refuse(); b.patroni.primary(timeline=2)     # a failover
"""

import contextlib

from . import fake_postgres
from .fake_patroni import FakePatroni
from .wire import Client, startup


class FakeNode:
    """`.postgres` logs everybody in and answers each query with the node's name."""

    def __init__(self, name, address="127.0.0.1", script=fake_postgres.friendly):
        self.name = name
        self.postgres = fake_postgres.FakePostgres(script, address, name=name)
        self.patroni = FakePatroni(address)
        self.patroni.replica()

    def __str__(self):
        """As in the `nodes` setting."""
        return self.postgres.node(rest_port=self.patroni.port)

    def refuse(self):
        """Nobody listens there any more; connections live on."""
        self.patroni.refuse()
        self.postgres.refuse()

    def open(self):
        self.postgres.open()
        self.patroni.open()

    def close(self):
        self.patroni.close()
        self.postgres.close()


@contextlib.contextmanager
def fake_nodes(*names, **options):
    """The first one is the primary, the others replicas."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for name in names:
            nodes.append(FakeNode(name, **options))
            stack.callback(nodes[-1].close)
        nodes[0].patroni.primary()
        yield nodes


def setting(*nodes):
    """Fake nodes as the `nodes` setting."""
    return ", ".join(map(str, nodes))


def ask_who(at):
    """Name of the node that a new session reaches."""
    with Client(at) as client:
        client.log_in()
        return who(client)


def who(client):
    """Name of the node behind a session."""
    return value(client.ask("who"))


def value(messages):
    """The one value of an answer."""
    return next(body for kind, body in messages if kind == "D")[6:].decode()


def refusal(at, timeout=20):
    """Fields of the ErrorResponse that a new client gets."""
    with Client(at, timeout=timeout) as client:
        client.send(startup(user="app", database="app"))
        return client.error()
