"""A name server of our own, and a view of the file system in which it is the machine's.

    with NameServer() as names:
        names.records["db.test"] = ["127.0.0.7"]
        router = start_router(..., prefix=names.prefix(folder))

/etc/resolv.conf and /etc/hosts are covered by files of the test, in a mount namespace that
only the router sees: both need root.
"""

import collections
import errno
import os
import random
import socket
import struct
import threading
import time

A, AAAA = 1, 28
NO_ERROR, NO_SUCH_NAME = 0, 3


def view(folder, **files):
    """Prefix of a command that sees these texts as /etc/<name> (with _ for .); a test may
    change them later, in `folder`."""
    covers = []
    for name, text in files.items():
        name = name.replace("_", ".")
        path = os.path.join(folder, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        covers.append(f"mount --bind '{path}' '/etc/{name}'")
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
            " && ".join(covers) + ' && exec "$@"', "sh"]


class NameServer:
    """On port 53 of an address of its own.

    records  name -> addresses, of both families; a name that is not there does not exist
    ttl      seconds, of every answer
    silent   hears questions, answers none
    asked    name -> questions; asked_at: (time.monotonic(), name) of each
    """

    def __init__(self, ttl=3600):
        self.records, self.ttl, self.silent = {}, ttl, False
        self.asked, self.asked_at = collections.Counter(), []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            self.address = f"127.{random.randrange(130, 250)}.{random.randrange(256)}.53"
            try:
                self._socket.bind((self.address, 53))
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        self._over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def resolv_conf(self):
        return f"nameserver {self.address}\n"

    def prefix(self, folder, hosts=""):
        """For a command that asks this server and no hosts file but this one."""
        return view(folder, resolv_conf=self.resolv_conf(), hosts=hosts)

    def _serve(self):
        while True:
            try:
                packet, peer = self._socket.recvfrom(4096)
            except OSError:
                return
            if self._over:
                return
            answer = self._answer(packet)
            if answer is not None and not self.silent:
                self._socket.sendto(answer, peer)

    def _answer(self, packet):
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1:at + 1 + packet[at]].decode("latin-1"))
            at += 1 + packet[at]
        name = ".".join(labels).lower()
        kind, = struct.unpack("!H", packet[at + 1:at + 3])
        question = packet[12:at + 5]
        if kind == A:
            self.asked[name] += 1
            self.asked_at.append((time.monotonic(), name))
        addresses = self.records.get(name)
        family = {A: socket.AF_INET, AAAA: socket.AF_INET6}.get(kind)
        found = [a for a in addresses or [] if (":" in a) == (family == socket.AF_INET6)]
        code = NO_ERROR if addresses is not None else NO_SUCH_NAME
        head = packet[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(found), 0, 0)
        return head + question + b"".join(
            struct.pack("!HHHIH", 0xC00C, kind, 1, self.ttl, len(data)) + data
            for data in (socket.inet_pton(family, address) for address in found))

    def close(self):
        self._over = True
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"over", (self.address, 53))
        self._thread.join(5)
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
