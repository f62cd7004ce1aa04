"""A router in front of fake nodes.

    with Node("a") as a, Node("b", role="replica") as b:
        r = front(start_router, a, b, listener={"role": "any", "balance": "first"})
        with Client(r.at()) as client:
            client.log_in()
            assert who(client) == "a"

With check = patroni nobody but clients connects to the fake PostgreSQL, so connections
can be counted: a.postgres.connections.
"""

import os
import secrets

from . import wire
from .fake_node import FakeNode, setting


class Node(FakeNode):
    """`role`: primary, replica or down. Cancel keys are of `key_bytes`, and never those of
    another node."""

    def __init__(self, name="a", role="primary", key_bytes=4, **options):
        super().__init__(name, **options)
        self.key_bytes = key_bytes
        self.postgres.login_answer = self._login_answer
        getattr(self.patroni, role)()

    def _login_answer(self):
        return wire.login_answer(secrets.randbelow(1 << 31), os.urandom(self.key_bytes))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def front(start_router, *nodes, listener=None, **options):
    """A router with these nodes in one cluster, and a listener "rw" unless `listeners`
    says otherwise; all else as harness.router.start()."""
    options.setdefault("listeners", {"rw": listener or {}})
    return start_router(nodes=setting(*nodes), **options)
