"""Watches every node of a cluster directly: when the old primary took its last write, and when
another one took its first.

Called by switchover.py, with {name: connection string} as JSON on standard input. Each node has a
thread and one connection. A standby is asked whether it is one, every STEP_S; a primary writes a
row and commits it as often. Each first write of a node after something else is a line of JSON on
standard output: {"node", "at", "last": {name: its last write before that}, "state": ...}.
"""

import contextlib
import json
import sys
import threading
import time

try:
    import psycopg2 as driver
    STEP_S = 0.005
except ImportError:
    import psycopg as driver  # takes more of a CPU
    STEP_S = 0.015

RETRY_S = 0.02  # for who has no connection: each takes the node a process
SHIFT_S = time.time() - time.monotonic()


def now():
    return time.monotonic() + SHIFT_S


class Watch:
    """What all threads know together."""

    def __init__(self):
        self._lock = threading.Lock()
        self._last = {}

    def wrote(self, node, at, is_first):
        with self._lock:
            if is_first:
                print(json.dumps({"node": node, "at": at, "last": dict(self._last)}), flush=True)
            self._last[node] = at


def follow(node, dsn, watch):
    connection, is_primary = None, False
    while True:
        try:
            if connection is None:
                connection = driver.connect(dsn)
                connection.autocommit = True
                cursor = connection.cursor()
            if not is_primary:
                cursor.execute("select pg_is_in_recovery()")
                is_standby = cursor.fetchone()[0]
            if is_primary or not is_standby:
                cursor.execute("insert into bench_observed values (%s)", (node,))
                watch.wrote(node, now(), is_first=not is_primary)
                is_primary = True
            time.sleep(STEP_S)
        except driver.Error:
            is_primary = False
            if connection is not None and connection.closed:
                with contextlib.suppress(driver.Error):
                    connection.close()
                connection = None
            time.sleep(RETRY_S)


def main():
    watch = Watch()
    for node, dsn in json.loads(sys.stdin.readline()).items():
        threading.Thread(target=follow, args=(node, dsn, watch), daemon=True).start()
    sys.stdin.read()  # until the other side goes


if __name__ == "__main__":
    main()
