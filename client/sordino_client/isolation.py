"""Cut a process off from every network, for good.

The vault holds records, so it must be unable to send them anywhere, whatever a library in it does.
A new network namespace has a loopback device that is down and nothing else; abstract Unix sockets
end there too. Sockets on the file system still work, and carry the vault's one conversation.

This stops whatever speaks the network. It does not stop code that already has root on the host, and
can therefore walk back into another process's namespace.
"""

import contextlib
import ctypes
import os
import socket
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_LOOPBACK = (
    (socket.AF_INET, ("127.0.0.1", 9)),
    (socket.AF_INET6, ("::1", 9)),
)


def cut_network() -> bool:
    """Leave the host's network; call it first thing, before a library starts a thread.

    With the right to (root), only the network is left. Without it, a user namespace is entered as
    well; the process keeps its own user and group there, and the kernel still judges its files by
    them, while other owners show as `nobody`.

    Returns:
        whether the network is gone, as tried by `is_cut_off`; False where the kernel refuses.

    Raises:
        RuntimeError: the process has several threads: the others would keep the network.
    """
    if is_cut_off():
        return True
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 (a count, before pathlib's cost)
        raise RuntimeError("cut_network must run before the process starts a thread")
    user, group = os.geteuid(), os.getegid()
    if not _unshare(_CLONE_NEWNET) and _unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        _keep_identity(user, group)
    return is_cut_off()


def is_cut_off() -> bool:
    """Whether this thread sees no network device but loopback, and not even that is up."""
    devices = Path("/proc/thread-self/net/dev").read_text(encoding="ascii").splitlines()[2:]
    if any(line.split(":")[0].strip() != "lo" for line in devices):
        return False
    return not any(_has_route(family, address) for family, address in _LOOPBACK)


def _has_route(family: socket.AddressFamily, address: tuple[str, int]) -> bool:
    # Connecting a datagram socket sends nothing: it only looks for a route.
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
    except OSError:
        return False
    return True


def _unshare(flags: int) -> bool:
    # os.unshare exists from Python 3.12.
    return bool(ctypes.CDLL(None, use_errno=True).unshare(flags) == 0)


def _keep_identity(user: int, group: int) -> None:
    # Where the kernel refuses a map, ids show as `nobody`; the rights on files are the same.
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
