import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from sordino_client.isolation import is_cut_off

ORDINARY = 12345  # a user without any right
IMPORTS = (
    "import json, os, socket, sys\nfrom sordino_client.isolation import cut_network, is_cut_off\n"
)

PROBE = """
def reaches(family, address):
    with socket.socket(family) as probe:
        probe.settimeout(5)
        return probe.connect_ex(address) == 0

port = int(sys.argv[1])
before = reaches(socket.AF_INET, ("127.0.0.1", port))
cut = cut_network()
print(json.dumps({
    "before": before,
    "cut": cut,
    "after": reaches(socket.AF_INET, ("127.0.0.1", port)),
    "abstract": reaches(socket.AF_UNIX, sys.argv[2].encode().replace(b"@", bytes(1))),
    "devices": [line.split(":")[0].strip() for line in open("/proc/net/dev")][2:],
    "again": cut_network(),
    "ids": [os.getuid(), os.geteuid(), os.getgid()],
    "readable": open(sys.argv[3]).read(),
}))
"""

# The interpreter may lie where only root reads it, so what is used later is loaded first. A process
# that changed its user is not "dumpable", one that a user started is.
BECOME_ORDINARY = f"""
import ctypes, encodings.ascii, encodings.utf_8
os.setgroups([]); os.setgid({ORDINARY}); os.setuid({ORDINARY})
assert ctypes.CDLL(None).prctl(4, 1, 0, 0, 0) == 0
"""


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def abstract() -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(b"\0sordino-test-%d" % os.getpid())
        server.listen()
        yield f"@sordino-test-{os.getpid()}"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter; those of pytest are the owner's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORTS + code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def can_isolate(prelude: str) -> bool:
    return run(prelude + "sys.exit(not cut_network())").returncode == 0


@pytest.mark.parametrize("user", ["ourselves", "ordinary"])
def test_a_cut_off_process_reaches_nothing_and_keeps_its_identity(
    open_folder: Path, listener: int, abstract: str, user: str
) -> None:
    if user == "ordinary" and os.getuid() != 0:
        pytest.skip("only root can become another user")
    prelude = BECOME_ORDINARY if user == "ordinary" else ""
    if not can_isolate(prelude):
        pytest.skip("this kernel refuses network namespaces")
    # A file that only its owner may read: still readable by the owner inside.
    owned = open_folder / "owned"
    owned.write_text("mine")
    owned.chmod(0o600)
    expected = [os.getuid(), os.geteuid(), os.getgid()]
    if user == "ordinary":
        os.chown(owned, ORDINARY, ORDINARY)
        expected = [ORDINARY] * 3
    done = run(prelude + PROBE, str(listener), abstract, str(owned))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "before": True,
        "cut": True,
        "after": False,
        "abstract": False,
        "devices": ["lo"],
        "again": True,
        "ids": expected,
        "readable": "mine",
    }


def test_an_ordinary_process_is_not_cut_off() -> None:
    # The check can fail: a process with a network is not taken for one without.
    with socket.create_server(("127.0.0.1", 0)):
        assert not is_cut_off()


def test_a_refusing_kernel_is_no_error() -> None:
    # A user without rights, where no user namespace may be made any more: a real refusal.
    if os.getuid() != 0 or not can_isolate(""):
        pytest.skip("only root can set the limit")
    code = """
import ctypes
from pathlib import Path
assert ctypes.CDLL(None).unshare(0x10000000) == 0
Path("/proc/self/uid_map").write_text("0 0 1")
Path("/proc/sys/user/max_user_namespaces").write_text("0")
Path("/proc/sys/user/max_net_namespaces").write_text("0")
print(cut_network())
"""
    done = run(code)
    assert done.stdout.strip() == "False", done.stderr


def test_threads_that_would_keep_the_network_are_refused() -> None:
    code = """
import threading
stop = threading.Event()
threading.Thread(target=stop.wait).start()
try:
    cut_network()
except RuntimeError as error:
    print(error)
print(is_cut_off())
stop.set()
"""
    first, second = run(code).stdout.splitlines()
    assert "before the process starts a thread" in first
    assert second == "False"


CUT_OFF_CLIENT = """
assert cut_network()
import grpc
with grpc.insecure_channel(f"unix:{sys.argv[1]}") as channel:
    print(channel.unary_unary("/test.Echo/Echo")(b"hello", timeout=30).decode())
"""


def test_what_a_vault_imports_before_it_leaves_the_network_starts_no_thread() -> None:
    code = """
import sordino_client.vault_process, sys, os
threads = len(os.listdir("/proc/self/task"))
print(threads, [name for name in ("numpy", "torch", "pyarrow") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "1 []"


def test_grpc_crosses_by_a_socket_on_the_file_system(tmp_path: Path) -> None:
    if not can_isolate(""):
        pytest.skip("this kernel refuses network namespaces")
    server = grpc.server(futures.ThreadPoolExecutor(1))
    echo = grpc.unary_unary_rpc_method_handler(lambda request, _: request + b" from outside")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Echo", {"Echo": echo}),)
    )
    server.add_insecure_port(f"unix:{tmp_path}/vault.sock")
    server.start()
    try:
        done = run(CUT_OFF_CLIENT, f"{tmp_path}/vault.sock")
    finally:
        server.stop(None).wait()
    assert done.stdout.strip() == "hello from outside", done.stderr
