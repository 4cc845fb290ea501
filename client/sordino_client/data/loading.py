"""All data sets of a site, loaded once, before anything is served.

What is logged here depends on records: it goes to the site's own log and nowhere else.
"""

import secrets
from pathlib import Path

import structlog

from sordino_client.data.connectors import load_table
from sordino_client.data.copies import require_lineages
from sordino_client.data.declaration import DatasetFile, read_dataset
from sordino_client.data.encode import Violations
from sordino_client.data.remote_tables import RemoteTables
from sordino_client.data.site_dataset import SiteDataset
from sordino_client.data.storage import Spill
from sordino_client.data.table import Table, split
from sordino_client.outbox import write_durably
from sordino_protocols.errors import InputError, IntegrityError

_SPLIT_KEY_BYTES = 32


def load_datasets(
    directory: Path, key_file: Path, *, spill: Spill, remote: RemoteTables | None = None
) -> dict[str, SiteDataset]:
    """Load every data set that a file of `directory` declares, by its name.

    Args:
        directory: has one TOML file a data set.
        key_file: the secret of the split; made if it is absent.
        spill: when features go to disk.
        remote: reads what this process cannot reach; it has ended when this returns. None: every
            source is read here.

    Raises:
        NotFoundError: a file is absent.
        InputError: a declaration or a source is wrong, or two data sets are of the same records and
            of two lineages; names files and the fix. Only the site's admin may see it.
        IntegrityError: the split's key is damaged.
    """
    declared = _declared(directory)
    require_lineages(declared)
    key = split_key(key_file)
    loaded = dict[str, SiteDataset]()
    for path, file in declared.items():
        table = _table(path, file, spill=spill, remote=remote)
        fraction = file.dataset.holdout_fraction
        training, heldout = split(table, fraction=fraction, key=key, spill=spill)
        loaded[file.dataset.name] = SiteDataset(file.public, training, heldout, spill)
    if remote is not None:
        remote.close()
    return loaded


def split_key(path: Path) -> bytes:
    """The secret that decides which records are held out; made once, kept for ever.

    Raises:
        IntegrityError: the file is not what was written.
    """
    if not path.exists():
        write_durably(path, secrets.token_bytes(_SPLIT_KEY_BYTES))
    key = path.read_bytes()
    if len(key) != _SPLIT_KEY_BYTES:
        raise IntegrityError(f"{path}: expected {_SPLIT_KEY_BYTES} bytes; restore it from a backup")
    return key


def _declared(directory: Path) -> dict[Path, DatasetFile]:
    declared, names = dict[Path, DatasetFile](), set[str]()
    for path in sorted(directory.glob("*.toml")):
        file = read_dataset(path)
        name = file.dataset.name
        if name in names:
            raise InputError(f"{path}: data set {name!r} is declared twice in {directory}")
        names.add(name)
        declared[path] = file
    return declared


def _table(path: Path, file: DatasetFile, *, spill: Spill, remote: RemoteTables | None) -> Table:
    violations = Violations()
    is_remote = remote is not None and remote.has(path)
    cells = remote.cells(path, file) if remote is not None and is_remote else None
    try:
        return load_table(file, spill=spill, cells=cells, violations=violations)
    finally:
        _log_violations(file.dataset.name, violations)


def _log_violations(dataset: str, violations: Violations) -> None:
    """Say which columns broke their declaration, and how often: to the site's own log alone."""
    log = structlog.get_logger(component="vault")
    for (column, became), count in sorted(violations.items()):
        log.warning("broke_declaration", dataset=dataset, column=column, became=became, count=count)
