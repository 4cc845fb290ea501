"""What a site remembers of the self-test of its own code, and why a vault starts only with it.

The self-test attacks the engine of this very installation with made-up records: seconds, before the
first real one is touched. It is the auditor's code, which no site process may import; what passes
between the two is this record. What must stay true: **a vault whose code, libraries, processor or
settings are not those that passed does not start.** There is no switch.

The record guards against mistakes and bad installations, not against an insider at the site: who
may write the vault's state can write a record too.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from sordino_client.config import SiteConfig
from sordino_client.outbox import write_durably
from sordino_protocols.errors import InputError, ViolationError

RECORD = "self-test.json"

_PACKAGES = ("sordino_client", "sordino_protocols")
_LIBRARIES = ("sordino", "torch", "numpy", "scipy", "cryptography", "opacus", "dp-accounting")
# With these a person chooses other instructions than the processor's best.
_CHOICES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
)
_PROCESSOR = Path("/proc/cpuinfo")
_GRAPHICS = Path("/proc/driver/nvidia/version")


class Settings(Protocol):
    """How a site computes: `[training]` in `site.toml`, or the engine's `Performance`."""

    @property
    def device(self) -> str:
        """Where it computes."""

    @property
    def compile(self) -> bool:
        """Whether what is run often is compiled."""


@dataclass(frozen=True, slots=True)
class SelfTestRecord:
    """The outcome of one self-test.

    Attributes:
        fingerprint: of what was tested, by `fingerprint`.
        failed: names of the probes that failed; none: it passed.
        at: when it ended, RFC 3339 in UTC.
        seconds: of CPU that it took.
    """

    fingerprint: str
    failed: tuple[str, ...]
    at: str
    seconds: float

    @property
    def is_passed(self) -> bool:
        """Whether every probe passed."""
        return not self.failed


def fingerprint(performance: Settings) -> str:
    """What a self-test is good for: the same code on the same libraries, processor and settings.

    Reads files and imports none of what it names, so that a vault can ask before it has a thread.

    Returns:
        SHA-256, 64 hex digits: over the source of the site and of what it agrees on with others,
        the libraries' versions, Python's, the processor's model and instructions, and how it
        computes.
    """
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for name, source in _sources(package):
            digest.update(_framed(f"{package}/{name}".encode()))
            digest.update(_framed(source))
    for fact in (*_installed(), *_machine(performance)):
        digest.update(_framed(fact.encode()))
    return digest.hexdigest()


def record_path(config: SiteConfig) -> Path:
    """Where a site keeps the outcome of its newest self-test."""
    return config.site.state / RECORD


def write_record(path: Path, record: SelfTestRecord) -> None:
    """Keep an outcome in place of the one before; on disk when this returns."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, json.dumps(asdict(record), indent=2).encode())


def read_record(path: Path) -> SelfTestRecord | None:
    """The newest outcome; None if there is none that can be read, which a new test mends."""
    try:
        raw = json.loads(path.read_bytes())
        return SelfTestRecord(
            fingerprint=str(raw["fingerprint"]),
            failed=tuple(str(each) for each in raw["failed"]),
            at=str(raw["at"]),
            seconds=float(raw["seconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def needs_self_test(config: SiteConfig) -> bool:
    """Whether a site has no outcome of the code that it would run now."""
    record = read_record(record_path(config))
    return record is None or record.fingerprint != fingerprint(config.training)


def is_tested(config: SiteConfig) -> bool:
    """Whether a vault would start now: what lies on the disk passed its self-test."""
    record = read_record(record_path(config))
    if record is None or not record.is_passed:
        return False
    return record.fingerprint == fingerprint(config.training)


def require_self_test(config: SiteConfig) -> None:
    """Return if the code that runs here passed its self-test at this site.

    Raises:
        InputError: it was never tested, or what was tested is not what runs here; says how to.
        ViolationError: it failed; names the probes.
    """
    command = f"sordino audit self-test --site {config.directory / 'site.toml'}"
    record = read_record(record_path(config))
    if record is None:
        raise InputError(f"the code was never tested at this site; run: {command}")
    if record.fingerprint != fingerprint(config.training):
        raise InputError(
            f"the code, its libraries, the processor or [training] changed since the self-test of"
            f" {record.at}; run: {command}"
        )
    if not record.is_passed:
        raise ViolationError(
            f"the self-test of {record.at} failed ({', '.join(record.failed)}): this code would"
            f" break its promise; install another version, or see what is wrong by: {command}"
        )


def _sources(package: str) -> Iterator[tuple[str, bytes]]:
    """The Python files of a package, tests of their own excluded, in a fixed order."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"the package {package} is not installed as files")
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        yield path.relative_to(root).as_posix(), path.read_bytes()


def _installed() -> Iterator[str]:
    yield f"python {platform.python_version()}"
    for library in _LIBRARIES:
        yield f"{library} {version(library)}"


def _machine(performance: Settings) -> Iterator[str]:
    yield platform.machine()
    yield from _processor()
    for name in _CHOICES:
        yield f"{name}={os.environ.get(name, '')}"
    yield f"compile={performance.compile}"
    yield f"device={performance.device}"
    if performance.device != "cpu" and _GRAPHICS.exists():
        yield _GRAPHICS.read_text(encoding="utf-8")


def _processor() -> Iterator[str]:
    """Model and instructions of the first processor, as the kernel tells them."""
    if not _PROCESSOR.exists():
        return
    first = _PROCESSOR.read_text(encoding="utf-8").partition("\n\n")[0]
    for line in first.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "flags", "Features"}:
            yield " ".join(sorted(value.split()))


def _framed(content: bytes) -> bytes:
    # With its length, so that no two lists of parts make the same bytes.
    return len(content).to_bytes(8, "big") + content
