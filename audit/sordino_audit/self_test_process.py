"""Test the code before a site runs it: `python -m sordino_audit.self_test_process site.toml …`.

For whoever starts a site's processes: nothing is done where the newest outcome is of this very
code, and sites with the same settings share one test. Whether a vault may start is not decided
here: it looks at the record itself.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from sordino_client.config import SiteConfig, load_config
from sordino_client.self_test_record import (
    fingerprint,
    needs_self_test,
    read_record,
    record_path,
    write_record,
)
from sordino_protocols.daemons import say_why
from sordino_protocols.errors import ExitCode, SordinoError
from sordino_protocols.logs import configure_logging, log_strays, seconds_since

_COMPONENT = "self-test"
_USAGE = "usage: python -m sordino_audit.self_test_process site.toml ...\n"


def main(arguments: Sequence[str]) -> int:
    """Test what is not tested yet, for the sites whose configurations these are.

    Returns:
        0 when every site has a passing record, 9 when code failed, 2 or 5 for a wrong file.
    """
    if not arguments:
        sys.stderr.write(_USAGE)
        return int(ExitCode.USAGE)
    configure_logging()
    log_strays(_COMPONENT)
    try:
        is_passed = ensure_tested([load_config(Path(each)) for each in arguments])
    except SordinoError as error:
        say_why(error, _COMPONENT)
        return int(error.exit_code)
    return int(ExitCode.OK if is_passed else ExitCode.AUDIT_VIOLATION)


def ensure_tested(configs: Sequence[SiteConfig]) -> bool:
    """Test what has no outcome yet.

    Returns:
        whether the newest outcome of every site is a pass.

    Raises:
        InputError: a site's device is not there.
    """
    log = structlog.get_logger(component=_COMPONENT)
    started = time.monotonic()
    # One test for all sites that compute alike: it is the code that is tested, not the site.
    tested: dict[str, SiteConfig] = {}
    for config in configs:
        if not needs_self_test(config):
            continue
        alike = tested.get(key := fingerprint(config.training))
        if alike is None:
            _test(config)
            tested[key] = config
        else:
            _copy(alike, config)
    records = {config.site.name: read_record(record_path(config)) for config in configs}
    for site, record in records.items():
        if record is not None:
            log.info("self_test", site=site, failed=record.failed, dur_s=seconds_since(started))
    return all(record is not None and record.is_passed for record in records.values())


def _test(config: SiteConfig) -> None:
    # Torch and the engine: not where nothing is to be tested.
    from sordino_audit.site_self_test import self_test_site  # noqa: PLC0415

    self_test_site(config)


def _copy(tested: SiteConfig, config: SiteConfig) -> None:
    record = read_record(record_path(tested))
    if record is not None:
        write_record(record_path(config), record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
