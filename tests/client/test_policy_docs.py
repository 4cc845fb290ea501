"""What docs/policy.md shows of a policy is a policy."""

import re
from pathlib import Path

from sordino_client.policy import parse_policy

DOCS = Path(__file__).parents[2] / "docs" / "policy.md"


def test_the_example_is_a_policy() -> None:
    caps, rules = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    # In one file the rules stand behind the caps of their data set.
    policy = parse_policy(f"{caps}\n{rules}", DOCS)
    dataset = policy.file.datasets["heart"]
    assert [rule.action for rule in dataset.rules] == ["deny", "allow", "ask"]
    assert policy.budget("heart") is not None
