"""`sordino site run`: vault and link as two processes, restarted when they end.

For one machine and one user. In production they are two services with two users. SIGHUP goes on to
the vault, which reads its policy and keys again. Code that was not tested at this site yet, as
after an upgrade, is tested before a vault starts with it.
"""

import os
import signal
import sys
import time
from pathlib import Path

import structlog

from sordino_client.config import load_config
from sordino_client.self_test_record import require_self_test
from sordino_deploy.processes import Child, Supervisor
from sordino_deploy.self_testing import start_self_test, wait_tested

_MODULES = {"vault": "sordino_client.vault_process", "link": "sordino_client.link_process"}
_LOOK_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


def run_site(config: Path) -> None:
    """Run both processes of a site until this one is told to stop.

    Raises:
        NotFoundError: no such configuration.
        InputError: the configuration is wrong; names file, key and what was expected.
        ViolationError: the code failed its self-test.
    """
    site = load_config(config)
    log = structlog.get_logger(component="site", site=site.site.name)
    logs = site.site.state / "logs"
    pauses = dict.fromkeys(_MODULES, _LOOK_SECONDS)
    hangups: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    with Supervisor() as supervisor:
        children = {name: _start(supervisor, name, config, logs) for name in _MODULES}
        log.info("started", logs=str(logs))
        while True:
            time.sleep(_LOOK_SECONDS)
            if hangups and supervisor.is_running(children["vault"]):
                hangups.clear()
                os.kill(children["vault"].pid, signal.SIGHUP)
            for name, child in children.items():
                if not supervisor.is_running(child):
                    log.warning("restarting", process=name, log=str(child.log))
                    supervisor.stop(child)
                    time.sleep(pauses[name])
                    pauses[name] = min(2 * pauses[name], _LONGEST_PAUSE_SECONDS)
                    children[name] = _start(supervisor, name, config, logs)


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
