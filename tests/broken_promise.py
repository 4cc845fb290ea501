"""A run whose sites broke their promise, and the real audit that finds it.

One site of a federation in memory adds half the noise that the job asks for. What the run left is
handed to a server, as its own; then `sordino audit run` looks at it there.
"""

import shutil
from pathlib import Path

from audited_federation import audit, finished, with_half_the_noise
from federation import Federation

from sordino_protocols.errors import ExitCode
from sordino_server.runs import RunDirectory, run_directory

SITES = ("basel", "lyon", "porto")
"""No site of another federation's, so that its server counts nothing of them."""


def hand_over_broken_run(runs: Path, *, scratch: Path) -> RunDirectory:
    """Put a run in which a site broke its promise among a server's runs, whole or not at all.

    Args:
        runs: the server's directory of runs.
        scratch: a new directory to work in, on the same disk.
    """
    (state := scratch / "federation").mkdir(parents=True)
    federation = Federation(state, SITES)
    try:
        with_half_the_noise(federation, SITES[0])
        run = finished(federation)
    finally:
        federation.close()
    copy = shutil.copytree(run.path, scratch / run.run_id)
    return run_directory(copy.rename(runs / run.run_id))


def refute(run: RunDirectory, *reports: str | Path) -> None:
    """Audit it; what is left beside it is a violation."""
    assert audit("run", run.path, *reports) == ExitCode.AUDIT_VIOLATION
