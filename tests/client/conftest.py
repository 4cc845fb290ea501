from collections.abc import Iterator
from pathlib import Path

import pytest
from one_site import OneSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OneSite]:
    made = OneSite(tmp_path)
    made.prepare()
    made.open()
    yield made
    made.close()
