import json
import subprocess
import sys
from pathlib import Path

import pytest

from sordino_protocols.errors import ExitCode, InputError, NotFoundError
from sordino_server.config import load_config

TEXT = """
[server]
name = "server"
state = "state"
public = "0.0.0.0:8443"
certificate = "tls/server.crt"
private_key = "tls/server.key"
signing_key = "/etc/sordino/server.key"
sites = "sites"
nodes = "nodes"
submitters = "submitters"
[gateway]
address = "0.0.0.0:8444"
client_ca = "ca.crt"
[metrics]
address = "127.0.0.1:9100"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, TEXT)
    monkeypatch.chdir(tmp_path.parent)
    config = load_config(path.relative_to(tmp_path.parent))
    assert config.path == path
    assert config.server.certificate == tmp_path / "tls" / "server.crt"
    assert config.gateway.client_ca == tmp_path / "ca.crt"
    assert config.runs_directory == tmp_path / "state" / "runs"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, TEXT))
    assert config.server.signing_key == Path("/etc/sordino/server.key")


def test_metrics_are_served_only_where_they_are_asked_for(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, TEXT.partition("[metrics]")[0])).metrics is None
    config = load_config(write(tmp_path, TEXT))
    assert config.metrics is not None
    assert config.metrics.address == "127.0.0.1:9100"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"server\.toml"):
        load_config(tmp_path / "server.toml")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('state = "state"', 'stat = "state"', "stat"),
        ('name = "server"', 'name = "../server"', "name"),
        ('"0.0.0.0:8443"', '"0.0.0.0"', "public"),
        ('"0.0.0.0:8444"', '"localhost:123456"', "address"),
        ("[gateway]", "[gatway]", "gatway"),
        ('client_ca = "ca.crt"', "client_ca = 1", "client_ca"),
        ('nodes = "nodes"', 'nodes = "nodes"\nadmin_port = 70000', "admin_port"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    assert old in TEXT
    with pytest.raises(InputError, match=r"server\.toml") as raised:
        load_config(write(tmp_path, TEXT.replace(old, new)))
    assert named in str(raised.value)


def run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sordino_server.server_process", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_broken_file_ends_the_process_with_a_usage_error(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT.replace('state = "state"', ""))
    ended = run_process(str(path))
    assert ended.returncode == ExitCode.USAGE
    line = json.loads(ended.stderr)
    assert (line["event"], line["component"]) == ("ended", "server")
    assert line["reference"] == "E0200"
    assert line["reason"].startswith(f"{path}:2: server.state: missing")


def test_without_a_file_the_process_says_how_it_is_called() -> None:
    ended = run_process()
    assert ended.returncode == ExitCode.USAGE
    assert ended.stderr.startswith("usage: ")
