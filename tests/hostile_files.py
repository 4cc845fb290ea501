"""Text that whoever writes a file may get wrong, or mean badly, and who reads such files.

A parser may refuse with one of our own errors, and with nothing else: what raises something else
ends a daemon, or shows a person a traceback in place of a file, a key and a reason.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hostile import ODD, change_somewhere
from one_site import ENTITY_SCHEMA, JOB, MOMENTS_JOB, NUMBER_JOB, POLICY, SCHEMA, make_job

from sordino_client.config import load_config
from sordino_client.data.declaration import read_dataset
from sordino_client.policy import load_policy
from sordino_protocols.errors import InputError, SordinoError
from sordino_protocols.files import read_toml
from sordino_protocols.job import JobFile, read_job
from sordino_protocols.privacy import (
    Composed,
    Gaussian,
    PoissonGaussian,
    event_from_json,
    event_to_json,
)

_TOKENS = (
    *("0", "-1", "1", "0.5", "1e400", "-0.0", "nan", "inf", "-inf", "9" * 30, "0x10", "1_000"),
    *('""', '"a"', "'heart'", '"\\u0000"', '"\\uD800"', '"' + "a" * 300 + '"', '"é"', '"../x"'),
    *("true", "false", "[]", "[[]]", "[1, 'a']", "{}", "{a = 1}", "2026-01-01", "07:30:00"),
    *("2026-01-01T00:00:00Z", "2026-02-30", '"""x"""', "=", "[", "]", "#", "\x00", "\ufeff"),
)


@dataclass(frozen=True, slots=True)
class Parser:
    """Somebody who reads a file.

    Attributes:
        read: reads the file at a path.
        file_name: what such a file is called.
        examples: files that it reads without complaint.
    """

    read: Callable[[Path], object]
    file_name: str
    examples: Callable[[], Sequence[bytes]]


def read_hostile(parser: Parser, content: bytes, directory: Path) -> tuple[str, list[str]]:
    """Give a parser a file; "read" or "refused", and what is wrong with how it took that."""
    path = directory / parser.file_name
    path.write_bytes(content)
    try:
        parser.read(path)
    except SordinoError:
        return "refused", []
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what is looked for)
        return "raised", [f"raised {type(error).__name__}: {error}"[:200]]
    return "read", []


def change_text(content: bytes, rng: Random) -> bytes:
    """Content with one thing changed: a value of its JSON, or a line of its text."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _change_lines(content, rng)
    changed = change_somewhere(value, rng)
    return json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()


def _change_lines(content: bytes, rng: Random) -> bytes:
    lines = content.decode("utf-8", "replace").split("\n")
    place = rng.randrange(len(lines))
    key, equals, _ = lines[place].partition("=")
    match rng.randrange(7):
        case 0:
            del lines[place]
        case 1:
            lines.insert(rng.randrange(len(lines) + 1), lines[place])
        case 2:
            other = rng.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        case 3:
            cut = rng.randrange(len(lines[place]) + 1)
            lines[place] = lines[place][:cut] + rng.choice(_TOKENS) + lines[place][cut + 1 :]
        case 4:
            lines.insert(
                place, f"{rng.choice(['extra', 'kind', 'epsilon', ''])} = {rng.choice(ODD)}"
            )
        case _ if equals:
            lines[place] = f"{key}= {rng.choice(_TOKENS)}"
    return "\n".join(lines).encode("utf-8", "replace")


def _read_event(path: Path) -> object:
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return event_from_json(raw) if isinstance(raw, dict) else None


def _texts(*texts: str) -> Callable[[], Sequence[bytes]]:
    return lambda: [text.encode() for text in texts]


def _bodies() -> Sequence[bytes]:
    return [make_job(text).canonical() for text in (JOB, MOMENTS_JOB, NUMBER_JOB)]


def _events() -> Sequence[bytes]:
    event = Composed((PoissonGaussian(0.1, 1.0, 10), Gaussian(2.0)))
    return [json.dumps(event_to_json(event)).encode()]


SITE = """
[site]
name = "cleveland"
state = "state"
socket = "v.sock"
policy = "policy.toml"
datasets = "datasets.d"
submitters = "submitters"
server_key = "keys/server.pub"
signing_key = "keys/cleveland.key"

[link]
server = "127.0.0.1:1"
ca_certificate = "ca.crt"
node_key = "keys/node.key"
"""

PARSERS = {
    "policy": Parser(load_policy, "policy.toml", _texts(POLICY)),
    "dataset": Parser(read_dataset, "heart.toml", _texts(SCHEMA, ENTITY_SCHEMA)),
    "job": Parser(
        lambda path: read_toml(path, JobFile), "job.toml", _texts(JOB, MOMENTS_JOB, NUMBER_JOB)
    ),
    "signed job": Parser(lambda path: read_job(path.read_bytes()), "job.json", _bodies),
    "event": Parser(_read_event, "event.json", _events),
    "site": Parser(load_config, "site.toml", _texts(SITE)),
}


def broken_parser() -> tuple[str, Parser]:
    """A parser that falls over a key that its author did not think of."""

    def read(path: Path) -> object:
        try:
            return read_toml(path, JobFile)
        except InputError as error:
            if "unknown key" in str(error):
                raise KeyError("planted") from error
            raise

    return "job", Parser(read, "job.toml", _texts(JOB))
