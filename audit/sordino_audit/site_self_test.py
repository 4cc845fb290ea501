"""The self-test of the code that a site runs, with the site's own settings, kept at the site.

A vault starts only where this passed; see `sordino_client.self_test_record`.
"""

import datetime as dt

from sordino_audit.probes.self_test import SelfTest, self_test
from sordino_audit.probes.trainer import Trainer, engine
from sordino_client.config import SiteConfig
from sordino_client.self_test_record import SelfTestRecord, record_path, write_record
from sordino_client.training.arithmetic import Performance


def self_test_site(config: SiteConfig, *, trainer: Trainer = engine) -> SelfTest:
    """Test the code that runs here, and keep the outcome, whatever it is, where the vault looks.

    Args:
        config: of the site; no record of it is read, and nothing is sent.
        trainer: what is tested; anything but the engine is for tests of the test.

    Raises:
        InputError: the site's device is not there.
    """
    training = config.training
    performance = Performance(device=training.device, compile=training.compile)
    found = self_test(performance, trainer=trainer)
    write_record(record_path(config), site_record(found))
    return found


def site_record(found: SelfTest) -> SelfTestRecord:
    """What a site keeps of a self-test."""
    return SelfTestRecord(
        fingerprint=found.fingerprint,
        failed=tuple(each.name for each in found.outcomes if not each.is_passed),
        at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        seconds=round(found.seconds, 3),
    )
