"""Puts `tests/` on the path, so that `from statistical import assert_rate` works everywhere."""

import sys
from pathlib import Path

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS / "audit"), str(TESTS / "workbench")]
