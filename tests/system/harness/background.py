"""What goes on while a test does something else.

    with Background(lambda: ask_who(router.at())) as asking:
        router.reload()
    assert not asking.errors and set(asking.results) == {"a"}
"""

import threading
import time

from cluster import process


class Background:
    """Calls a function again and again in threads of its own.

    results  what it returned          done   (time.monotonic(), result) of each call
    errors   what it raised            failed (time.monotonic(), exception)
    """

    def __init__(self, function, n_threads=1):
        self.done, self.failed = [], []
        self._function, self._over = function, threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(n_threads)]

    @property
    def results(self):
        return [result for _, result in list(self.done)]

    @property
    def errors(self):
        return [error for _, error in list(self.failed)]

    def _run(self):
        while not self._over.is_set():
            try:
                result = self._function()
                self.done.append((time.monotonic(), result))
            except Exception as error:  # the test's business
                self.failed.append((time.monotonic(), error))
                self._over.wait(0.01)  # a dead port is not to be asked at full speed

    def wait_for(self, n=1, seconds=20):
        """Until it has succeeded n more times from now on."""
        wanted = len(self.done) + n
        assert process.wait_until(lambda: len(self.done) >= wanted, seconds), \
            f"{len(self.done)} of {wanted} calls; the last error: {self.errors[-1:]}"

    def stop(self, seconds=60):
        self._over.set()
        for thread in self._threads:
            thread.join(seconds)
            assert not thread.is_alive(), "a call in the background does not end"

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self._over.set()
