"""Releases of DataSynthesizer's PrivBayes, one a call of the loop, with and without a canary.

Run by a Python that has DataSynthesizer, which the project has not: `benchmarks.synthesis_audit`
starts it. Records are made up; the canary is one record with a word that nobody else has. Of each
release it prints how many synthetic rows hold the word, and whether the published description does.
"""

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from DataSynthesizer.DataDescriber import DataDescriber  # type: ignore[import-not-found]
from DataSynthesizer.DataGenerator import DataGenerator  # type: ignore[import-not-found]

RARE = "canary"
_COLUMNS = {"work": ("private", "state", "self"), "sex": ("f", "m"), "rich": ("no", "yes")}
_HEADER = ",".join(_COLUMNS)


def main() -> int:
    """Print one JSON object: for each side a list of [rows with the word, is in description]."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--releases", type=int, required=True, help="on each side")
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--epsilon", type=float, default=1.0)
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore")
    rng = Random(1)
    others = [
        ",".join(rng.choice(words) for words in _COLUMNS.values()) for _ in range(chosen.records)
    ]
    canary = f"{RARE},f,yes"
    started = time.process_time()
    found = {
        name: [_release(records, chosen.epsilon, seed) for seed in range(chosen.releases)]
        for name, records in (("inserted", [*others, canary]), ("held_out", others))
    }
    print(json.dumps({**found, "seconds": time.process_time() - started}))
    return 0


def _release(records: list[str], epsilon: float, seed: int) -> tuple[int, bool]:
    with TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        table, description = Path(scratch) / "table.csv", Path(scratch) / "description.json"
        table.write_text("\n".join([_HEADER, *records]) + "\n")
        describer = DataDescriber(category_threshold=20)
        describer.describe_dataset_in_correlated_attribute_mode(
            dataset_file=str(table),
            epsilon=epsilon,
            k=2,
            attribute_to_is_categorical=dict.fromkeys(_COLUMNS, True),
            seed=seed,
        )
        describer.save_dataset_description_to_file(str(description))
        generator = DataGenerator()
        generator.generate_dataset_in_correlated_attribute_mode(
            len(records), str(description), seed=seed
        )
        rows = generator.synthetic_dataset
        is_described = RARE in description.read_text()
        return int((rows["work"] == RARE).sum()), is_described


if __name__ == "__main__":
    sys.exit(main())
