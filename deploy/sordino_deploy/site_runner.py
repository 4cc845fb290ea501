"""`sordino site run`: vault and link as two processes, restarted when they end.

For one machine and one user. In production they are two services with two users. SIGHUP goes on to
the vault, which reads its policy and keys again.
"""

import os
import signal
import sys
import time
from pathlib import Path

import structlog

from sordino_client.config import load_config
from sordino_deploy.processes import Child, Supervisor

_MODULES = {"vault": "sordino_client.vault_process", "link": "sordino_client.link_process"}
_LOOK_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


def run_site(config: Path) -> None:
    """Run both processes of a site until this one is told to stop.

    Raises:
        NotFoundError: no such configuration.
        InputError: the configuration is wrong; names file, key and what was expected.
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
    argv = [sys.executable, "-m", _MODULES[name], str(config)]
    return supervisor.start(name, argv, env=dict(os.environ), log=logs / f"{name}.log")
