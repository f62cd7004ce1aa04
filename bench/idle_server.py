"""idle_server.py PORT: a server that anybody may log in to and that answers every query
alike. It stands in for PostgreSQL where thousands of sessions are opened only to be idle."""

import asyncio
import struct
import sys


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


READY = message(b"Z", b"I")
WELCOME = (message(b"R", struct.pack("!i", 0)) +
           message(b"S", b"server_version\x0015.0\0") +
           message(b"S", b"client_encoding\0UTF8\0") +
           message(b"K", struct.pack("!ii", 4711, 815)) + READY)
ANSWER = (message(b"T", struct.pack("!h", 1) + b"one\0" + struct.pack("!ihihih", 0, 0, 23, 4, -1, 0)) +
          message(b"D", struct.pack("!hi", 1, 1) + b"1") + message(b"C", b"SELECT 1\0") + READY)


class Session(asyncio.Protocol):
    def __init__(self):
        self.inbox = b""
        self.is_logged_in = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.inbox += data
        while True:
            head = 1 if self.is_logged_in else 0
            if len(self.inbox) < head + 4:
                return
            length = head + struct.unpack_from("!i", self.inbox, head)[0]
            if len(self.inbox) < length:
                return
            self.transport.write(ANSWER if self.is_logged_in else WELCOME)
            self.inbox = self.inbox[length:]
            self.is_logged_in = True


async def main(port):
    server = await asyncio.get_running_loop().create_server(Session, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
