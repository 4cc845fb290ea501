"""A federation whose runs carry enough lanes to be audited, and its sites' own configurations."""

import math
from pathlib import Path

from federation import JOB, Federation, SmallSite, make_job
from small_replay import ScaledNoise
from statistical import FALSE_FAILURE

from sordino_audit.audit_document import AuditDocument
from sordino_audit.cli import audit_app
from sordino_protocols.terminal import run_command
from sordino_server.runs import RunDirectory

LANES = 120
CHEAP_JOB = JOB.replace("epsilon = 4", "epsilon = 1")
"""So cheap that the sites' budgets allow several."""
LANES_JOB = CHEAP_JOB.replace("lanes = 8", f"lanes = {LANES}")


def finished(federation: Federation, job: str = LANES_JOB) -> RunDirectory:
    run = federation.submit(make_job(job))
    federation.coordinator(run).execute()
    return run


def with_half_the_noise(federation: Federation, name: str) -> None:
    """Break a site."""
    site = federation.sites[name]
    site.noise = ScaledNoise(0.5)
    site.open()


def site_file(site: SmallSite) -> Path:
    """A `site.toml` for a site of a federation, whose state is its whole directory."""
    path = site.directory / "site.toml"
    here = {
        "socket": "vault.sock",
        "policy": "policy.toml",
        "datasets": "datasets.d",
        "submitters": "submitters",
        "server_key": "server.pub",
        "signing_key": "site.key",
    }
    lines = [f'name = "{site.signer.name}"', 'state = "."']
    lines += [f'{key} = "{value}"' for key, value in here.items()]
    link = ['server = "localhost:1"', 'ca_certificate = "ca.crt"', 'node_key = "node.key"']
    path.write_text("\n".join(["[site]", *lines, "[link]", *link]) + "\n")
    return path


def assert_no_evidence(document: AuditDocument) -> None:
    """Assert that nothing speaks against the claim: fails on correct code once in 1e9 times.

    Verdicts are wrong more often, as they say; p-values and e-values bound their own errors.
    """
    for test in document.tests:
        assert test.p_value * len(document.tests) >= FALSE_FAILURE, test
    for each in document.e_values:
        assert each.log10_value < math.log10(len(document.e_values) / FALSE_FAILURE), each


def audit(*arguments: str | Path) -> int:
    """`sordino audit …`: its exit code."""

    def command() -> int:
        result = audit_app([str(each) for each in arguments], standalone_mode=False)
        return result if isinstance(result, int) else 0

    return run_command(command)
