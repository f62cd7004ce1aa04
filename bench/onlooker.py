"""onlooker.py PORT: somebody who asks a pool's console for SHOW CLIENTS, at once again when
the last row has come, until SIGTERM. Prints how often it was answered, and the bytes of all answers."""

import signal
import socket
import struct
import sys


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


LOGIN = message(b"", struct.pack("!i", 3 << 16) + b"user\0postgres\0database\0pgbouncer\0\0")
QUESTION = message(b"Q", b"SHOW CLIENTS\0")
END = b"Z\0\0\0\x05I"


class Ended(Exception):
    pass


def on_signal(*_):
    raise Ended


def read_answer(session):
    """Up to ReadyForQuery; how many bytes there were."""
    tail, n = b"", 0
    while not tail.endswith(END):
        more = session.recv(1 << 20)
        if not more:
            raise ConnectionError(f"the console has ended: {tail!r}")
        n += len(more)
        tail = (tail + more)[-len(END):]
    return n


def main(port):
    signal.signal(signal.SIGTERM, on_signal)
    n_answers = n_bytes = 0
    session = socket.create_connection(("127.0.0.1", port), 10)
    session.settimeout(60)
    try:
        session.sendall(LOGIN)
        read_answer(session)
        while True:
            session.sendall(QUESTION)
            n_bytes += read_answer(session)
            n_answers += 1
    except Ended:
        print(n_answers, n_bytes, flush=True)


main(int(sys.argv[1]))
