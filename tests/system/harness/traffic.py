"""Random traffic: what its threads share.

    traffic, chance = Traffic(r), random.Random(SEED)
    with traffic.of(N_THREADS, live):           # live(traffic, chance): a session, again and again
        while traffic.goes_on():
            ...

Each thread draws what it does next from a generator with a seed, which a failure names;
PGROUTER_TRAFFIC_SECONDS says how long, PGROUTER_TRAFFIC_SEED which.
"""

import collections
import contextlib
import itertools
import os
import random
import threading
import time

SECONDS = float(os.environ.get("PGROUTER_TRAFFIC_SECONDS", "5"))
SEED = int(os.environ.get("PGROUTER_TRAFFIC_SEED", time.time()))


class Traffic:
    """n_done    how often each thing was done
    failures  in words
    changing  is set: sessions may break"""

    def __init__(self, router):
        self.router = router
        self.n_done = collections.Counter()
        self.failures = []
        self.changing = threading.Event()
        self.n_changes = 0
        self._over = threading.Event()
        self._tags, self._began = itertools.count(), time.monotonic()

    def tag(self):
        """A text that nobody else has."""
        return f"tag {next(self._tags)}"

    def has_run(self, share):
        """That part of its time."""
        return time.monotonic() - self._began > SECONDS * share

    def goes_on(self):
        return not self.has_run(1)

    @contextlib.contextmanager
    def change(self):
        """Sessions that live now may break."""
        self.changing.set()
        self.n_changes += 1
        yield
        self.changing.clear()

    @contextlib.contextmanager
    def of(self, n_threads, live):
        """So many that live, until the block is left."""
        threads = [threading.Thread(target=self._live_on, args=(live, number, n_threads), daemon=True)
                   for number in range(n_threads)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), f"a thread hangs (seed {SEED})"
        print(f"seed {SEED}: {dict(self.n_done)}")
        assert not self.failures, f"seed {SEED}: {self.failures[:10]}"

    def _live_on(self, live, number, n_threads):
        chance = random.Random(SEED * n_threads + number)
        while not self._over.is_set() and len(self.failures) < 10:
            n_changes = self.n_changes - self.changing.is_set()
            try:
                live(self, chance)
            except Exception as error:  # which the test shows
                if self.n_changes == n_changes or not self.is_an_end(error):
                    self.failures.append(f"thread {number}: {error!r}")

    def is_an_end(self, error):
        """Of a session: what a change may bring about."""
        return isinstance(error, (OSError, EOFError))
