"""Become a host: a root directory of its own with this machine's programs, and systemd in it.

Run as `python host_root.py host.json` by `hosts.Host`, in mount, process, host name, IPC and cgroup
namespaces of its own. Whatever a host does stays in the host: its root is memory, it sees of this
machine what is named in `readable`, all of it read-only, and that is checked before systemd starts.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

SYSTEMD = Path("/usr/lib/systemd/systemd")
_OWN_FILE_SYSTEMS = frozenset({"tmpfs", "proc", "sysfs", "cgroup2", "devpts"})
_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_DIRECTORIES = (
    "usr",
    "etc",
    "var",
    "run",
    "tmp",
    "proc",
    "sys",
    "dev",
    "opt",
    "root",
    "home",
    "old",
)
_TARGETS = ("sysinit", "basic", "sockets", "timers", "paths", "slices", "shutdown", "umount")
_MOST_MEGABYTES = 512


def main(specification: Path) -> None:
    """Build the root that the file describes, enter it, and become its systemd."""
    wanted = json.loads(specification.read_text(encoding="utf-8"))
    root = Path(wanted["root"])
    _mount("--make-rprivate", "/")
    _mount("-t", "tmpfs", "-o", f"mode=755,size={_MOST_MEGABYTES}m", "tmpfs", str(root))
    _build(root, wanted["readable"])
    shutil.copytree(wanted["files"], root, symlinks=True, dirs_exist_ok=True)
    _enter(root)
    _check_that_nothing_is_shared()
    for command in wanted["prepare"]:
        _do(*command)
    _become_systemd()


def _build(root: Path, readable: dict[str, str]) -> None:
    for name in _DIRECTORIES:
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(Path("/", name).readlink())
    for source, place in {"/usr": "/usr", **readable}.items():
        _show(Path(source), root / place.lstrip("/"))
    _mount("-t", "proc", "proc", str(root / "proc"))
    _mount("-t", "sysfs", "-o", "ro", "sysfs", str(root / "sys"))
    _mount("-t", "cgroup2", "cgroup2", str(root / "sys" / "fs" / "cgroup"))
    for name in ("run", "dev", "var"):
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root / name))
    _make_devices(root / "dev")
    _make_units(root / "etc" / "systemd")


def _show(source: Path, target: Path) -> None:
    """Let the host read a directory of this machine."""
    target.mkdir(parents=True, exist_ok=True)
    _mount("--bind", str(source), str(target))
    _mount("-o", "remount,bind,ro", str(target))


def _make_devices(directory: Path) -> None:
    for name, (major, minor) in _DEVICES.items():
        path = directory / name
        os.mknod(path, 0o020666, os.makedev(major, minor))
        path.chmod(0o666)
    (directory / "console").touch()  # where systemd says what it does
    (directory / "pts").mkdir()
    _mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", str(directory / "pts"))
    (directory / "ptmx").symlink_to("pts/ptmx")
    (directory / "shm").mkdir()
    (directory / "shm").chmod(0o1777)
    (directory / "fd").symlink_to("/proc/self/fd")


def _make_units(directory: Path) -> None:
    """The few targets that every unit refers to: no unit of this machine's is there."""
    system = directory / "system"
    system.mkdir(parents=True)
    # A host without a number is new, and a new one starts whatever it finds.
    directory.with_name("machine-id").write_text(f"{uuid.uuid4().hex}\n")
    for name in _TARGETS:
        (system / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    for name in ("network-online", "multi-user"):
        (system / f"{name}.target").write_text("[Unit]\n")


def _enter(root: Path) -> None:
    os.chdir(root)
    _do("pivot_root", ".", "old")
    os.chroot(".")
    os.chdir("/")
    _do("umount", "--lazy", "/old")
    Path("/old").rmdir()


def _check_that_nothing_is_shared() -> None:
    """Nothing of the machine's may be written to from here, whatever is started."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, described = line.partition(" - ")
        place, options = fields.split()[4:6]
        if described.split()[0] not in _OWN_FILE_SYSTEMS and "ro" not in options.split(","):
            sys.exit(f"{place}: is this machine's and could be written to")


def _become_systemd() -> None:
    nowhere = Path("/run/nowhere")
    nowhere.mkdir()
    environment = {
        "PATH": "/usr/sbin:/usr/bin",
        "container": "sordino-test",
        "SYSTEMD_UNIT_PATH": "/etc/systemd/system",
        "SYSTEMD_GENERATOR_PATH": str(nowhere),
        "SYSTEMD_ENVIRONMENT_GENERATOR_PATH": str(nowhere),
    }
    arguments = [str(SYSTEMD), "--system", "--unit=multi-user.target", "--log-target=console"]
    os.execve(SYSTEMD, [*arguments, "--log-level=warning", "--show-status=no"], environment)  # noqa: S606


def _mount(*arguments: str) -> None:
    _do("mount", *arguments)


def _do(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
