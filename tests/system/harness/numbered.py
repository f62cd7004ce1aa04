"""Writers of numbered rows, by the protocol itself: what they were told of each row, and what is true.

    writers = Writers(router.at("pool"), n=64)
    with writers:
        writers.wait_for_more()
        node.restart("fast")
    writers.compare(rows of the table)

Each row is inserted once, by (writer, number); nobody tries again. It was acknowledged, or refused with an ERROR
(and must not be there), or nobody knows.
"""

import asyncio
import collections
import random
import struct
import threading

from cluster import process

from .pools import SYNC, run_unnamed
from .wire import error_fields, query

TABLE = "create table if not exists numbered (writer int not null, number int not null)"
PIPELINE = 16
# FATAL errors that say that nothing was done: what was asked was aborted, or has not begun.
UNDONE = {"57P01", "57P03"}


class Ended(Exception):
    """The connection; with an error's SQLSTATE if there was one."""


class Writer:
    def __init__(self, at, identity, kind, book):
        self._at, self._identity, self._kind, self._book = at, identity, kind, book
        self._next = self.n_done = 0
        self._pending = []  # numbers that nothing has been heard of

    def _insert(self):
        """The next row. Half of them take a while, so that they are under way when the server ends; the
        others are mostly being committed then."""
        number = self._next = self._next + 1
        self._pending.append(number)
        longest = 0.02 if self._kind == "pipelined" else 0.3
        source = f" from pg_sleep({random.uniform(0, longest):.4f})" if random.random() < 0.5 else ""
        return f"insert into numbered select {self._identity}, {number}{source}"

    def _note(self, outcome, n=1):
        """Of the oldest pending ones."""
        self.n_done += n * (outcome == "done")
        for _ in range(n):
            self._book.note(outcome, (self._identity, self._pending.pop(0)))

    async def run(self):
        work = {"simple": self._simple, "extended": self._extended, "pipelined": self._pipelined,
                "transaction": self._transaction}[self._kind]
        while not self._book.is_over:
            writer = None
            try:
                self._reader, writer = await asyncio.open_connection(*self._at)
                await self._log_in(writer)
                while not self._book.is_over:
                    await work(writer)
            except (Ended, OSError, asyncio.IncompleteReadError) as end:
                # A pipeline's requests behind the one that was answered may have been done.
                outcome = "undone" if str(end) in UNDONE and self._kind != "pipelined" else "unknown"
                self._book.ends[str(end) if isinstance(end, Ended) else "no words"] += 1
                self._note(outcome, len(self._pending))
                await asyncio.sleep(0.01)
            finally:
                if writer is not None:
                    writer.close()

    async def _log_in(self, writer):
        body = struct.pack("!I", 196608) + b"user\0app\0database\0app\0\0"
        writer.write(struct.pack("!I", len(body) + 4) + body)
        await self._answer()

    async def _answer(self):
        """Up to ReadyForQuery: (tag or None, SQLSTATE of an ERROR or None, what ReadyForQuery says)."""
        tag = error = None
        while True:
            kind, length = struct.unpack("!cI", await self._reader.readexactly(5))
            body = await self._reader.readexactly(length - 4)
            if kind == b"Z":
                return tag, error, body.decode()
            if kind == b"C":
                tag = body[:-1].decode()
            elif kind == b"E":
                fields = error_fields(body)
                if fields["V"] == "FATAL":
                    raise Ended(fields["C"])
                error = fields["C"]
                self._book.errors[error] += 1

    async def _one(self, writer, request):
        writer.write(request)
        tag, error, _ = await self._answer()
        self._note("undone" if error else "done")
        assert error or tag == "INSERT 0 1"

    async def _simple(self, writer):
        await self._one(writer, query(self._insert()))

    async def _extended(self, writer):
        await self._one(writer, run_unnamed(self._insert()) + SYNC)

    async def _pipelined(self, writer):
        writer.write(b"".join(run_unnamed(self._insert()) + SYNC for _ in range(PIPELINE)))
        for _ in range(PIPELINE):
            _, error, _ = await self._answer()
            self._note("undone" if error else "done")

    async def _transaction(self, writer):
        """Lost wherever it is, a transaction is lost as a whole."""
        for request in (query("begin"), query(self._insert()), run_unnamed(self._insert()) + SYNC):
            writer.write(request)
            _, error, status = await self._answer()
            if error:
                self._note("undone", len(self._pending))
                if status != "I":
                    writer.write(query("rollback"))
                    await self._answer()
                return
        writer.write(query("commit"))
        tag, error, _ = await self._answer()
        self._note("done" if tag == "COMMIT" and not error else "undone", len(self._pending))


class Book:
    def __init__(self):
        self.told = collections.defaultdict(list)  # outcome -> rows
        self.errors, self.ends = collections.Counter(), collections.Counter()
        self.is_over = False

    def note(self, outcome, row):
        self.told[outcome].append(row)


class Writers:
    """`n` of them, in turn of each kind, in a thread of their own."""

    KINDS = ["simple", "extended", "pipelined", "transaction"]

    def __init__(self, at, n):
        self.book, self._failure = Book(), None
        self._writers = [Writer(at, i, self.KINDS[i % len(self.KINDS)], self.book) for i in range(n)]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        async def all_of_them():
            await asyncio.gather(*(writer.run() for writer in self._writers))

        try:
            asyncio.run(all_of_them())
        except BaseException as failure:  # the test's business
            self._failure = failure

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.book.is_over = True
        self._thread.join(60)
        assert not self._thread.is_alive(), "a writer hangs"
        if self._failure is not None:
            raise self._failure

    def wait_for_more(self, seconds=60):
        """Until each has written one more."""
        before = [writer.n_done for writer in self._writers]

        def have_all():
            return all(writer.n_done > n for writer, n in zip(self._writers, before)) or self._failure

        assert process.wait_until(have_all, seconds), "not all of them write"
        assert self._failure is None, self._failure

    def compare(self, rows):
        """With the rows that are there. Returns how many were (done, undone, unknown and there, unknown and not)."""
        counts, told = collections.Counter(rows), self.book.told
        assert max(counts.values()) == 1, f"doubled: {[row for row, n in counts.items() if n > 1][:5]}"
        missing = [row for row in told["done"] if row not in counts]
        assert not missing, f"acknowledged and not there: {missing[:5]} of {len(missing)}"
        there = [row for row in told["undone"] if row in counts]
        assert not there, f"refused and there: {there[:5]} of {len(there)}"
        n_unknown_there = sum(row in counts for row in told["unknown"])
        assert len(counts) == len(told["done"]) + n_unknown_there, "rows that nobody has written"
        return len(told["done"]), len(told["undone"]), n_unknown_there, len(told["unknown"]) - n_unknown_there
