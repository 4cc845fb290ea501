"""`sordino site run`: vault and link as two processes, restarted when they end.

For one machine and one user. In production they are two services with two users. SIGHUP goes on to
both: the vault reads its policy and keys again, and each how much it logs. Code that was not tested
at this site yet, as after an upgrade, is tested before a vault starts with it.
"""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import structlog

from sordino_client.config import load_config
from sordino_client.self_test_record import require_self_test
from sordino_deploy.keeper import Keeper
from sordino_deploy.processes import Child, Supervisor
from sordino_deploy.self_testing import start_self_test, wait_tested
from sordino_protocols.logs import configure_logging, log_strays

_MODULES = {"vault": "sordino_client.vault_process", "link": "sordino_client.link_process"}
_LOOK_SECONDS = 0.25


def run_site(config: Path) -> None:
    """Run both processes of a site until this one is told to stop.

    Raises:
        NotFoundError: no such configuration.
        InputError: the configuration is wrong; names file, key and what was expected.
        ViolationError: the code failed its self-test.
    """
    site = load_config(config)
    configure_logging(level=site.log.level)
    log_strays("site")
    log = structlog.get_logger(component="site", site=site.site.name)
    logs = site.site.state / "logs"
    hangups: list[int] = []
    with Supervisor() as supervisor:
        # Inside: a supervisor takes SIGHUP as a reason to end.
        signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
        keeper = Keeper(supervisor)
        for name in _MODULES:
            start = partial(_start, supervisor, name, config, logs)
            keeper.keep(start(), start)
        log.info("started", logs=str(logs))
        while True:
            time.sleep(_LOOK_SECONDS)
            keeper.look()
            if hangups:
                hangups.clear()
                _hang_up(supervisor, keeper)


def _hang_up(supervisor: Supervisor, keeper: Keeper) -> None:
    """Have both read their files again; one that is away does so when it starts."""
    for child in map(keeper.child, _MODULES):
        if supervisor.is_running(child):
            os.kill(child.pid, signal.SIGHUP)


def _start(supervisor: Supervisor, name: str, config: Path, logs: Path) -> Child:
    if name == "vault":
        _ensure_tested(supervisor, config, logs)
    argv = [sys.executable, "-m", _MODULES[name], str(config)]
    return supervisor.start(name, argv, env=dict(os.environ), log=logs / f"{name}.log")


def _ensure_tested(supervisor: Supervisor, config: Path, logs: Path) -> None:
    log = structlog.get_logger(component="site")
    child = start_self_test(supervisor, [config], logs=logs, env=dict(os.environ))
    if child is not None:
        log.info("self_test_started", log=str(child.log))
        wait_tested(supervisor, child)
        log.info("self_test_passed")
    # An earlier test may have failed: better an error now than a vault that ends again and again.
    require_self_test(load_config(config))
