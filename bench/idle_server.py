"""idle_server.py PORT: a server that anybody may log in to and that answers every query
alike. It stands in for PostgreSQL where thousands of sessions are opened only to be idle."""

import asyncio
import struct
import sys


def message(kind, body):
    return kind + struct.pack("!i", len(body) + 4) + body


READY = message(b"Z", b"I")
PARAMETERS = {"server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8",
              "DateStyle": "ISO, MDY", "IntervalStyle": "postgres", "TimeZone": "Etc/UTC",
              "application_name": "", "standard_conforming_strings": "on",
              "default_transaction_read_only": "off", "in_hot_standby": "off"}
WELCOME = (message(b"R", struct.pack("!i", 0)) +
           b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in PARAMETERS.items()) +
           message(b"K", struct.pack("!ii", 4711, 815)) + READY)
COLUMNS = message(b"T", struct.pack("!h", 1) + b"one\0" + struct.pack("!ihihih", 0, 0, 23, 4, -1, 0))
ROW = message(b"D", struct.pack("!hi", 1, 1) + b"1") + message(b"C", b"SELECT 1\0")
ANSWERS = {b"Q": COLUMNS + ROW + READY, b"P": message(b"1", b""), b"B": message(b"2", b""),
           b"D": COLUMNS, b"E": ROW, b"C": message(b"3", b""), b"S": READY}


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
            self.transport.write(ANSWERS.get(self.inbox[:1], b"") if self.is_logged_in else WELCOME)
            self.inbox = self.inbox[length:]
            self.is_logged_in = True


async def main(port):
    server = await asyncio.get_running_loop().create_server(Session, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
