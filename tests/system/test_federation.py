"""One federation of real processes: what it does for a job, and what nobody can do to it."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from metric_families import families, families_of
from real_federation import (
    Running,
    ask_public,
    descendants,
    get,
    make_job,
    run_federation,
    until,
)
from safetensors.numpy import load

from sordino.connection import Connection
from sordino.profile import load_profile
from sordino_deploy import pki
from sordino_deploy.local import LocalFederation
from sordino_protocols.errors import AuthenticationError
from sordino_protocols.job import Job
from sordino_protocols.metrics import Place, ReleaseClass
from sordino_protocols.signing import save_keypair
from sordino_server.runs import MODEL
from sordino_server.statement import Statement

pytestmark = pytest.mark.system

SITES = ("cleveland", "hungarian", "va")
LARGEST_LINK_BYTES = 120 * 1024 * 1024
Finished = tuple[str, Statement]


@pytest.fixture(scope="module")
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, processes: ExitStack) -> Running:
    directory = tmp_path_factory.mktemp("federation")
    return processes.enter_context(run_federation(directory, SITES, prepared=let_a_rival_in))


@pytest.fixture(scope="module")
def job() -> Job:
    return make_job(rounds=3, quorum=3)


@pytest.fixture(scope="module")
def finished(running: Running, job: Job) -> Finished:
    """A run that went to its end, and its statement."""
    run_id = running.connection.submit(job)
    states = [each["state"] for each in running.connection.watch(run_id) if "state" in each]
    assert states[-1] == "done", running.connection.show(run_id)
    content = running.connection.fetch(run_id, "statement.json")
    return run_id, Statement.model_validate_json(content)


def let_a_rival_in(federation: LocalFederation) -> None:
    """The server trusts a second submitter; no site was asked."""
    rival = federation.layout.root / "rival"
    save_keypair(rival, "rival")
    authority = pki.load_authority(federation.layout.root / "authority")
    pki.issue_client(authority, rival / "tls", name="rival")
    pki.trust(rival / "rival.pub", federation.layout.server / "submitters")


def test_a_job_becomes_a_model(running: Running, finished: Finished) -> None:
    run_id, statement = finished
    model = load(running.connection.fetch(run_id, MODEL))["weights"]
    assert np.isfinite(model).all()
    assert set(statement.receipts) == set(SITES)
    assert statement.require_evaluation().metrics["accuracy"].upper > 0.5


def test_no_site_spent_more_than_was_planned(finished: Finished) -> None:
    for receipt in finished[1].receipts.values():
        assert 0 < receipt.epsilon_spent_pld <= receipt.epsilon_planned <= 4 * (1 + 1e-9)
        assert len(json.loads(receipt.events_json)) == 4


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/list-runs",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/get-fab",
        "/v1/fleet/../control/start-run",
        "/%761/control/start-run",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_the_public_listener_has_nothing_but_what_a_site_needs(running: Running, path: str) -> None:
    assert ask_public(running, "GET", "/health") == 200
    assert {ask_public(running, method, path) for method in ("GET", "POST")} == {404}


def test_the_server_tells_prometheus_all_its_metrics(running: Running, finished: Finished) -> None:
    metrics = running.server_config.metrics
    assert metrics is not None
    text = get(metrics.address, "/metrics")
    assert families(text) == families_of(Place.SERVER)
    assert 'sordino_site_connected{site="va"} 1.0' in text
    assert 'sordino_updates_total{result="accepted",site="va"} 3.0' in text
    assert f'run_id="{finished[0]}"' in text


def test_a_link_tells_prometheus_what_may_leave_the_vault(
    running: Running, finished: Finished
) -> None:
    assert finished
    for name in SITES:
        address = running.federation.layout.site_config(name).link.metrics
        assert address is not None
        text = get(address, "/metrics")
        # None that depends on records: they stay where those are.
        outside = (ReleaseClass.PUBLIC, ReleaseClass.DP)
        assert families(text) == families_of(Place.LINK, Place.VAULT, classes=outside)
        assert json.loads(get(address, "/readyz"))["ready"]


def test_a_job_that_no_site_trusts_is_refused(running: Running, job: Job) -> None:
    rival_home = running.federation.layout.root / "rival"
    profile = load_profile(running.federation.submitter_profile).model_copy(
        update={
            "name": "rival",
            "signing_key": rival_home / "rival.key",
            "certificate": rival_home / "tls" / "rival.crt",
            "private_key": rival_home / "tls" / "rival.key",
        }
    )
    with Connection(profile) as rival:
        run_id = rival.submit(job)
        assert [each.get("state") for each in rival.watch(run_id)][-1] == "failed"
        reason = str(rival.show(run_id)["reason"])
    # The first refusal makes the quorum impossible: who had not answered by then is late.
    assert any(f"{name}: unauthenticated" in reason for name in SITES), reason
    assert all(f"{name}: " in reason for name in SITES), reason


def test_a_job_that_the_server_does_not_trust_is_not_even_queued(
    running: Running, job: Job, tmp_path: Path
) -> None:
    save_keypair(tmp_path, "scientist")
    profile = load_profile(running.federation.submitter_profile).model_copy(
        update={"signing_key": tmp_path / "scientist.key"}
    )
    with Connection(profile) as stranger, pytest.raises(AuthenticationError):
        stranger.submit(job)


def test_a_link_never_loaded_what_handles_records(running: Running, finished: Finished) -> None:
    assert finished
    for name in SITES:
        maps = {
            role: Path(f"/proc/{running.children[f'{name}-{role}'].pid}/maps").read_text()
            for role in ("link", "vault")
        }
        for library in ("libtorch", "pandas"):
            assert library not in maps["link"]
        # The check would find them: the vault has both.
        assert "libtorch" in maps["vault"]


def test_a_link_is_small(running: Running, finished: Finished) -> None:
    assert finished
    for name in SITES:
        status = Path(f"/proc/{running.children[f'{name}-link'].pid}/status").read_text()
        resident = next(line.split()[1] for line in status.splitlines() if "VmRSS" in line)
        assert int(resident) * 1024 <= LARGEST_LINK_BYTES


def test_a_vault_that_says_it_is_cut_off_has_no_way_out(
    running: Running, finished: Finished
) -> None:
    ours = os.readlink("/proc/self/ns/net")  # noqa: PTH115 - no file, a name
    for name in SITES:
        vault, link = (running.children[f"{name}-{role}"].pid for role in ("vault", "link"))
        assert os.readlink(f"/proc/{link}/ns/net") == ours  # noqa: PTH115
        is_apart = os.readlink(f"/proc/{vault}/ns/net") != ours  # noqa: PTH115
        assert finished[1].receipts[name].network_cut_off is is_apart
        if is_apart:
            routes = Path(f"/proc/{vault}/net/route").read_text().splitlines()[1:]
            devices = Path(f"/proc/{vault}/net/dev").read_text().splitlines()[2:]
            assert routes == []
            assert [line.split(":")[0].strip() for line in devices] == ["lo"]


def test_a_price_is_quoted_by_every_site(running: Running, job: Job) -> None:
    quotes = running.connection.price(job)["quotes"]
    assert isinstance(quotes, dict)
    assert set(quotes) == set(SITES)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_after_the_block_every_process_is_gone(running: Running, processes: ExitStack) -> None:
    pids = set().union(*(descendants(child.pid) for child in running.children.values()))
    assert len(pids) > len(running.children)  # the server has children of its own
    processes.close()
    # A grandchild notices its parent's end a moment later, and init takes its own time to bury it.
    until(lambda: not [pid for pid in pids if is_alive(pid)])
