"""What the kernel knows of a router's sockets.

    option(router.process.pid, client.socket, socket.SOL_TCP, socket.TCP_NODELAY)

asks the very socket of the router whose other end is ours: pidfd_getfd(2) brings a
duplicate of it, which a parent may ask of its child.
"""

import contextlib
import ctypes
import os
import socket

SYS_PIDFD_GETFD = 438  # the same number on every architecture


def _duplicate(pidfd, number):
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
    if found < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return found


def connections(pid):
    """A duplicate of each connected TCP socket of the process; close them."""
    found = []
    pidfd = os.pidfd_open(pid)
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if not os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
                    continue
                one = socket.socket(fileno=_duplicate(pidfd, int(number)))
                try:
                    one.getpeername()
                    found.append(one)
                except OSError:
                    one.close()
    finally:
        os.close(pidfd)
    return found


@contextlib.contextmanager
def other_end(pid, ours):
    """The process's socket whose peer is `ours`."""
    wanted = ours.getsockname()[:2]
    found = connections(pid)
    try:
        yield next(one for one in found if one.family in (socket.AF_INET, socket.AF_INET6)
                   and one.getpeername()[:2] == wanted)
    finally:
        for one in found:
            one.close()


def option(pid, ours, level, name):
    """An option of the socket whose peer is `ours`."""
    with other_end(pid, ours) as theirs:
        return theirs.getsockopt(level, name)


def count(pid):
    """Open descriptors of the process."""
    return len(os.listdir(f"/proc/{pid}/fd"))
