"""PostgreSQL's protocol by hand, for what no driver would send.

    client = Client(("127.0.0.1", port))
    client.send(ssl_request())
    assert client.receive(1) == b"N"
    client.send(startup(user="app", database="app"))
    kind, body = client.message()
    assert error_fields(body)["C"] == "57P03"
"""

import socket
import struct

SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
PROTOCOL_3_0, PROTOCOL_3_2 = 196608, 196610


def packet(code, body=b""):
    """A packet without a type byte, as connections begin."""
    return struct.pack("!II", 8 + len(body), code) + body


def ssl_request():
    return packet(SSL_REQUEST)


def gssenc_request():
    return packet(GSSENC_REQUEST)


def cancel_request(process_id, key):
    """`key`: bytes; 4 of them in protocol 3.0, up to 256 in 3.2."""
    return packet(CANCEL_REQUEST, struct.pack("!I", process_id) + key)


def startup(protocol=PROTOCOL_3_0, **parameters):
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items())
    return packet(protocol, body + b"\0")


def message(kind, body=b""):
    """`kind`: one letter, such as "Q"."""
    return kind.encode() + struct.pack("!I", 4 + len(body)) + body


def query(text):
    return message("Q", text.encode() + b"\0")


def error(code, text, severity="FATAL"):
    """An ErrorResponse."""
    fields = {"S": severity, "V": severity, "C": code, "M": text}
    return message("E", b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0")


def error_fields(body):
    """Fields of an ErrorResponse or NoticeResponse: {"S": "FATAL", "C": "57P03", ...}"""
    parts = body.rstrip(b"\0").split(b"\0")
    return {part[:1].decode(): part[1:].decode() for part in parts if part}


def login_answer(process_id=4711, key=b"\1\2\3\4", status="I", **parameters):
    """What a server without passwords says after a StartupMessage. A parameter that is None is
    left out."""
    parameters = {"server_version": "15.0", "in_hot_standby": "off", **parameters}
    return (message("R", struct.pack("!I", 0)) +
            b"".join(message("S", f"{k}\0{v}\0".encode()) for k, v in parameters.items() if v is not None) +
            message("K", struct.pack("!I", process_id) + key) +
            message("Z", status.encode()))


class Connection:
    """A socket, and helpers to read from it what is expected. EOF raises EOFError, a
    reset ConnectionResetError, silence TimeoutError."""

    def __init__(self, sock, timeout=10):
        self.socket = sock
        self.socket.settimeout(timeout)
        self.unread = b""

    def send(self, data):
        self.socket.sendall(data)

    def receive(self, n):
        """Exactly n bytes."""
        while len(self.unread) < n:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"the peer closed; it left {self.unread!r}")
            self.unread += data
        data, self.unread = self.unread[:n], self.unread[n:]
        return data

    def message(self):
        """Type (one letter) and body of the next message."""
        kind = self.receive(1).decode("latin-1")
        return kind, self.receive(struct.unpack("!I", self.receive(4))[0] - 4)

    def packet(self):
        """Code and body of a packet as connections begin; a ClientHello is ("TLS", b"")."""
        if self.receive(1) == b"\x16":
            self.unread = b"\x16" + self.unread
            return "TLS", b""
        length = struct.unpack("!I", b"\0" + self.receive(3))[0]
        body = self.receive(length - 4)
        return struct.unpack("!I", body[:4])[0], body[4:]

    def messages_until(self, kind="Z"):
        """All messages up to and with the next of this kind."""
        found = []
        while not found or found[-1][0] != kind:
            found.append(self.message())
        return found

    def error(self):
        """Fields of the ErrorResponse that must come next."""
        kind, body = self.message()
        assert kind == "E", f"{kind!r} {body!r} in place of an ErrorResponse"
        return error_fields(body)

    def at_end(self):
        """True when the peer has closed and nothing is left to read."""
        if self.unread:
            return False
        return self.socket.recv(1) == b""

    def finish(self):
        """Closes our half: the peer reads EOF, and may go on sending."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Ends with RST in place of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Client(Connection):
    """`to`: (host, port), or the path of a unix socket."""

    def __init__(self, to, timeout=10, receive_buffer=None, source=None):
        if isinstance(to, str):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            sock = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET,
                                 socket.SOCK_STREAM)
        sock.settimeout(timeout)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        sock.connect(to)
        super().__init__(sock, timeout)

    def log_in(self, user="app", database="app", **parameters):
        """At a server that asks for no password; process id and key for cancel requests."""
        self.send(startup(user=user, database=database, **parameters))
        process_id, key = None, None
        for kind, body in self.messages_until("Z"):
            assert kind != "E", error_fields(body)
            if kind == "K":
                process_id, key = struct.unpack("!I", body[:4])[0], body[4:]
        return process_id, key

    def ask(self, text):
        """A simple query; its messages up to ReadyForQuery."""
        self.send(query(text))
        return self.messages_until("Z")
