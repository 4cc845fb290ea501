"""Have the code tested in a process of its own, before a vault of a site starts.

The test attacks the engine and needs torch; whoever starts a site's processes needs neither.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sordino_client.config import load_config
from sordino_client.self_test_record import needs_self_test
from sordino_deploy.processes import Child, Supervisor
from sordino_protocols.errors import ExitCode, SordinoError, ViolationError

NAME = "self-test"
_MODULE = "sordino_audit.self_test_process"
_LONGEST_SECONDS = 600.0  # where the passes are compiled, by a slow compiler


def start_self_test(
    supervisor: Supervisor, configs: Sequence[Path], *, logs: Path, env: Mapping[str, str]
) -> Child | None:
    """Start to test the code for the sites that have no outcome of it; one test for all of them.

    Args:
        supervisor: of the process.
        configs: the sites' configurations.
        logs: directory for the process's output.
        env: of the process: that of the vaults, whose choice of instructions is in it.

    Returns:
        the process; None where every site has an outcome of this very code.

    Raises:
        NotFoundError: no such configuration.
        InputError: a configuration is wrong; names file, key and what was expected.
    """
    untested = [str(each) for each in configs if needs_self_test(load_config(each))]
    if not untested:
        return None
    argv = [sys.executable, "-m", _MODULE, *untested]
    return supervisor.start(NAME, argv, env=env, log=logs / f"{NAME}.log")


def wait_tested(supervisor: Supervisor, child: Child) -> None:
    """Return once the code passed.

    Raises:
        ViolationError: it failed.
        SordinoError: it could not be tested; both name the log.
    """
    match supervisor.wait_ended(child, timeout_seconds=_LONGEST_SECONDS):
        case ExitCode.OK:
            return
        case ExitCode.AUDIT_VIOLATION:
            raise ViolationError(
                f"the code failed its self-test, so no vault is started; see {child.log}"
            )
        case status:
            raise SordinoError(f"the code could not be tested (status {status}); see {child.log}")
