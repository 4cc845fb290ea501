"""Hosts of their own on this machine: network namespaces on one cable, each with a real systemd.

A `Network` is a switch in a namespace of its own. A `Host` has an address, a root directory, users
and processes that nobody else sees, and is run by systemd, with whatever units a test gives it.
Nothing on a host can write to this machine (see `host_root`), and all of it ends with the block.
"""

import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from host_root import SYSTEMD

PROGRAM = Path("/opt/sordino")
"""Where the units expect the program."""

_INTERPRETER = str(PROGRAM / "bin" / "python")
_PYTHON = "/opt/python"
_PACKAGES = "/opt/packages"
_LONG = 180.0
_NETWORK_BITS = 24


@dataclass(frozen=True, slots=True)
class Result:
    """What a command on a host said."""

    status: int
    output: str
    errors: str


def require_hosts() -> None:
    """Skip the test where no host can be made."""
    if not SYSTEMD.exists():
        pytest.skip("needs the system package systemd")
    for program, package in (("nft", "nftables"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            pytest.skip(f"needs the system package {package}")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make namespaces")
    tried = _run(["unshare", *_NAMESPACES, "true"], _LONG)
    if tried.status != 0 or _control_groups() is None:
        pytest.skip("namespaces or control groups are not permitted here")


@dataclass(frozen=True, slots=True)
class Host:
    """A running host.

    Attributes:
        name: of its network namespace.
        address: on the network.
        root: its root directory, seen from this machine.
        pid: of its systemd, seen from this machine.
    """

    name: str
    address: str
    root: Path
    pid: int

    def run(self, *command: str, user: str | None = None, seconds: float = _LONG) -> Result:
        """Run a command on the host, as root or as a user of it, and wait for its end."""
        become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}"]
        become += [] if user is None else ["--init-groups"]
        return _run(["nsenter", f"--target={self.pid}", "--all", *become, *command], seconds)

    def sordino(self, *arguments: str, user: str | None = None) -> Result:
        """Run the `sordino` command on the host."""
        return self.run(str(PROGRAM / "bin" / "sordino"), *arguments, user=user)

    def python(self, script: str, *arguments: str, user: str | None = None) -> Result:
        """Run a Python script on the host."""
        return self.run(_INTERPRETER, "-c", script, *arguments, user=user)

    @contextlib.contextmanager
    def reading(self, script: str, *arguments: str) -> Iterator[Path]:
        """Run a Python script as long as the block lasts; what it prints comes into the file."""
        with tempfile.NamedTemporaryFile() as output:
            enter = ["nsenter", f"--target={self.pid}", "--all"]
            process = subprocess.Popen(
                [*enter, _INTERPRETER, "-c", script, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
            )
            try:
                yield Path(output.name)
            finally:
                _end(process)

    def systemctl(self, *arguments: str) -> str:
        """What systemd says; the test fails if it does not do as it is told."""
        result = self.run("systemctl", "--no-pager", *arguments)
        assert result.status == 0, result.errors + self.log()
        return result.output

    def main_pid(self, unit: str) -> int:
        """The process of a service, by its number on the host; 0 while there is none."""
        return int(self.systemctl("show", "--property=MainPID", "--value", unit))

    def inside(self, unit: str, script: str, *arguments: str) -> Result:
        """Run a Python script where a service is: its namespaces and user, without its filters."""
        user, group, others = (
            self.systemctl("show", f"--property={each}", "--value", unit).strip()
            for each in ("User", "Group", "SupplementaryGroups")
        )
        # The other groups first: in its user namespace the service may not choose them any more.
        groups = ",".join(others.split()) or group
        enter = ["nsenter", f"--target={self.main_pid(unit)}", "--preserve-credentials"]
        enter += ["--user", "--mount", "--net", "--ipc", "--wd=/"]
        become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--keep-groups"]
        as_service = ["setpriv", f"--groups={groups}", *enter, *become]
        return self.run(*as_service, _INTERPRETER, "-c", script, *arguments)

    def log(self) -> str:
        """The end of what every service wrote, and the apps that a server runs."""
        logs = sorted((self.root / "var").glob("log/units/*"))
        logs += sorted((self.root / "var").glob("lib/sordino/*/superlink/*.log"))
        return "".join(f"\n{each.name}:\n{each.read_text()[-4000:]}" for each in logs)


class Network:
    """A switch and the hosts on it. Use `open_network`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._prefix = f"sordino-{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._hosts: list[str] = []
        self._ended = contextlib.ExitStack()
        _check("ip", "netns", "add", self._switch)
        self._ended.callback(_check, "ip", "netns", "del", self._switch)
        self._on_switch("link", "add", "cables", "type", "bridge")
        self._on_switch("link", "set", "cables", "up")

    def boot(self, name: str, files: Path, *, prepare: Sequence[Sequence[str]] = ()) -> Host:
        """Start a host whose root directory has a copy of `files`; returns when systemd is up.

        Args:
            name: short.
            files: copied over the root, with their modes; units go to `etc/systemd/system`.
            prepare: commands that are run on the host before systemd starts.
        """
        namespace, address = self._plug(name)
        here = self._directory / name
        (here / "root").mkdir(parents=True)
        readable = _install_program(files)
        specification = here / "host.json"
        specification.write_text(
            json.dumps(
                {
                    "root": str(here / "root"),
                    "readable": readable,
                    "files": str(files),
                    "prepare": [["ldconfig"], *prepare],
                }
            )
        )
        process = self._start(namespace, specification, here / "console.log")
        host = Host(namespace, address, Path(f"/proc/{_child(process)}/root"), _child(process))
        _until(lambda: _is_up(host, process), (here / "console.log").read_text)
        return host

    def cut(self, name: str) -> None:
        """Pull a host's cable."""
        self._on_switch("link", "set", f"to-{name}", "down")

    def mend(self, name: str) -> None:
        """Put it back."""
        self._on_switch("link", "set", f"to-{name}", "up")

    def close(self) -> None:
        """End every host."""
        self._ended.close()

    def _plug(self, name: str) -> tuple[str, str]:
        namespace = f"{self._prefix}-{name}"
        _check("ip", "netns", "add", namespace)
        self._ended.callback(_check, "ip", "netns", "del", namespace)
        self._hosts.append(name)
        address = f"10.77.0.{len(self._hosts)}"
        port = f"to-{name}"
        self._on_switch("link", "add", port, "type", "veth", "peer", "eth0", "netns", namespace)
        self._on_switch("link", "set", port, "master", "cables", "up")
        inside = ("ip", "-n", namespace)
        _check(*inside, "address", "add", f"{address}/{_NETWORK_BITS}", "dev", "eth0")
        for device in ("lo", "eth0"):
            _check(*inside, "link", "set", device, "up")
        return namespace, address

    def _start(self, namespace: str, specification: Path, log: Path) -> subprocess.Popen[bytes]:
        groups = _control_groups()
        assert groups is not None
        group = groups / namespace
        group.mkdir()
        self._ended.callback(_remove_group, group)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *("nsenter", f"--net=/run/netns/{namespace}"),
                    *("sh", "-c", f'echo $$ >"{group}/cgroup.procs" && exec "$@"', "sh"),
                    *("unshare", *_NAMESPACES, "--fork", "--kill-child"),
                    *(sys.executable, "-I", str(Path(__file__).with_name("host_root.py"))),
                    str(specification),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._ended.callback(_end, process)
        return process

    def _on_switch(self, *arguments: str) -> None:
        _check("ip", "-n", self._switch, *arguments)


_NAMESPACES = ("--mount", "--pid", "--uts", "--ipc", "--cgroup")


@contextlib.contextmanager
def open_network(directory: Path) -> Iterator[Network]:
    """A network whose hosts end with the block."""
    network = Network(directory)
    try:
        yield network
    finally:
        network.close()


def _install_program(files: Path) -> Mapping[str, str]:
    """Put the program where the units look for it; returns what the host must read for that."""
    packages = {each: f"{_PACKAGES}/{index}" for index, each in enumerate(_package_paths())}
    readable = {**packages, sys.base_prefix: _PYTHON}
    program = files / PROGRAM.relative_to("/")
    (program / "bin").mkdir(parents=True)
    (program / "bin" / "python").symlink_to(f"{_PYTHON}/bin/python3")
    (program / "pyvenv.cfg").write_text(f"home = {_PYTHON}/bin\n")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    here = program / "lib" / version / "site-packages"
    here.mkdir(parents=True)
    (here / "paths.pth").write_text("\n".join(packages.values()))
    for name in ("sordino", "flwr"):
        for script in distribution(name).entry_points.select(group="console_scripts"):
            _write_script(program / "bin" / script.name, script.value)
    loader = files / "etc" / "ld.so.conf"
    loader.parent.mkdir(exist_ok=True)
    loader.write_text(f"{_PYTHON}/lib\n")
    return readable


def _package_paths() -> list[str]:
    """What the program imports from, without the tests' own directories."""
    command = [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    paths = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    inside_python = (sys.base_prefix, *([] if sys.prefix != sys.base_prefix else [sys.prefix]))
    is_own = [each for each in paths if Path(each).is_dir()]
    if sys.prefix == sys.base_prefix:
        return [each for each in is_own if each not in site.getsitepackages()]
    return [each for each in is_own if not each.startswith(inside_python)]


def _write_script(path: Path, target: str) -> None:
    module, _, function = target.partition(":")
    path.write_text(
        f"#!{PROGRAM}/bin/python\nimport sys\nfrom {module} import {function}\n"
        f"sys.exit({function}())\n"
    )
    path.chmod(0o755)


def _is_up(host: Host, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the host did not come up"
    result = host.run("systemctl", "is-active", "multi-user.target", seconds=30)
    return result.output.strip() == "active"


def _child(process: subprocess.Popen[bytes]) -> int:
    """The first process of the namespaces that `unshare` made."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found: list[str] = []

    def look() -> bool:
        assert process.poll() is None, "the host did not come up"
        found[:] = children.read_text().split()
        return bool(found)

    _until(look, lambda: "")
    return int(found[0])


def _control_groups() -> Path | None:
    """Where the one hierarchy of control groups is, which systemd shall see."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    return None


def _remove_group(group: Path) -> None:
    def is_gone() -> bool:
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):  # its last process is just ending
                Path(directory).rmdir()
        return not group.exists()

    _until(is_gone, lambda: "a process of a host does not end")


def _end(process: subprocess.Popen[bytes]) -> None:
    # With it goes the host's first process, and with that every other one of its namespace.
    process.send_signal(signal.SIGKILL)
    process.wait()


def _until(condition: Callable[[], bool], explain: Callable[[], str]) -> None:
    give_up_at = time.monotonic() + _LONG
    while not condition():
        assert time.monotonic() < give_up_at, explain()
        time.sleep(0.05)


def _check(*command: str) -> None:
    result = _run(command, _LONG)
    assert result.status == 0, f"{' '.join(command)}: {result.errors}"


def _run(command: Sequence[str], seconds: float) -> Result:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=seconds,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)
