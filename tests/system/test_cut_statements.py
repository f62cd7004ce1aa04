"""Statements that are cut in the thousands: never a doubled row, never a success told of one that is not there.

Some 20 seconds in all; PGROUTER_CUT_ROUNDS=12 makes that twelve times as much.
"""

import itertools
import os
import random
import time

import pytest

from cluster import process
from harness.lone import Lone
from harness.numbered import TABLE, Writers
from test_replay import QUICK, events

ROUNDS = int(os.environ.get("PGROUTER_CUT_ROUNDS", "1"))
STOPS = 8
WRITERS = 64


@pytest.fixture(scope="module")
def lone():
    with Lone() as node:
        yield node


def kill(lone):
    process.kill_postgres(lone.data)


def start(lone):
    """What was killed may hold its shared memory for a moment."""
    for _ in range(20):
        try:
            lone.start()
            return
        except AssertionError as error:
            failure = error
            time.sleep(0.2)
    raise failure


WAYS = [lambda lone: lone.stop("fast"), lambda lone: lone.stop("immediate"), kill, lambda lone: lone.stop("fast")]


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize("replay", ["unsent", "aborted"])
def test_cut_statements(pool, lone, replay, number):
    r = pool(main={**QUICK, "replay": replay, "default_pool_size": WRITERS}, databases={"app": lone.line()})
    with lone.connect() as connection:
        connection.execute(f"drop table if exists numbered; {TABLE}")
    with Writers(r.at("pool"), WRITERS) as writers:
        for stop in itertools.islice(itertools.cycle(WAYS), STOPS):
            writers.wait_for_more()
            time.sleep(random.uniform(0, 0.05))
            stop(lone)
            start(lone)
        writers.wait_for_more()
    with lone.connect() as connection:
        rows = connection.execute("select writer, number from numbered").fetchall()
    done, undone, there, missing = writers.compare(rows)
    replayed, lost, unknown = events(r)
    print(f"round {number}, replay = {replay}, {STOPS} stops: {done} rows acknowledged, {undone} refused, "
          f"{there + missing} unknown ({there} of them there); pgrouter has sent {replayed} again, called {lost} lost "
          f"and {unknown} unknown; errors {dict(writers.book.errors)}, ends {dict(writers.book.ends)}")
    assert undone > 0 and missing + there > 0
    assert replayed + lost + unknown >= STOPS
    if replay == "aborted":
        assert replayed > 0
    assert set(writers.book.errors) <= {"40001"}
    assert set(writers.book.ends) <= {"08007"}
