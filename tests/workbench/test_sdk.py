import subprocess
import sys

import pytest

import sordino


def test_the_sdks_names_are_there() -> None:
    for name in sordino.__all__:
        assert name in dir(sordino)
        assert getattr(sordino, name).__name__ == name


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'unpickle'"):
        sordino.unpickle  # noqa: B018


def test_importing_the_front_door_does_not_import_torch() -> None:
    code = "import sys, sordino; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
