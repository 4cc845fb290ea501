"""How long a stranger waits: `sordino demo --json`, from the command to the first DP model.

`python -m benchmarks.demo [--json] [--runs N]`. Each run is a new process in a new directory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reporting import Figure, report
from sordino.result import DemoResult
from sordino_audit.audit_document import AuditDocument

FIRST_MODEL_BAR = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.demo")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args(arguments)
    results, whole = [], []
    for _ in range(chosen.runs):
        started = time.monotonic()
        results.append(_demo())
        whole.append(time.monotonic() - started)
    sites = [site for result in results for site in result["sites"]]
    excess = max(site["epsilon_spent_pld"] - site["epsilon_planned"] for site in sites)
    claims = [_share_shown(result["audit"]) for result in results]
    first = statistics.median(result["seconds"]["first_model"] for result in results)
    figures = [
        Figure("seconds to the first DP model", first, FIRST_MODEL_BAR, is_upper_bar=True),
        Figure("largest epsilon spent beyond plan", excess, 0.0, is_upper_bar=True),
        Figure("largest lower bound over claim", max(claims), 1.0, is_upper_bar=True),
    ]
    context = {
        "runs": chosen.runs,
        "seconds": [result["seconds"] for result in results],
        "seconds of the whole command": [round(each, 1) for each in whole],
        "AUC": [round(result["exact"]["auc"], 4) for result in results],
        "verdicts": [result["audit"].verdict.value for result in results],
    }
    return report(figures, context, as_json=chosen.json)


def _share_shown(audit: AuditDocument) -> float:
    """The bound that assumes the least, over the claim."""
    if audit.lower_bound is None or audit.claimed is None:
        raise ValueError("the audit of a training run has a claim and a bound")
    return audit.lower_bound / audit.claimed


def _demo() -> DemoResult:
    sordino = Path(sys.executable).with_name("sordino")
    with tempfile.TemporaryDirectory() as scratch:
        argv = [str(sordino), "demo", "--json", "--out", f"{scratch}/demo"]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        result: DemoResult = json.loads(done.stdout)
        result["audit"] = AuditDocument.model_validate_json(json.dumps(result["audit"]))
        return result


if __name__ == "__main__":
    sys.exit(main())
