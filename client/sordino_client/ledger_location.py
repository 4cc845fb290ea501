"""Where a site's ledger is, and of which version its tables are.

Not in `config`: the link reads that too, and knows no database.
"""

from sordino_client.chain_store import Location, is_at_head
from sordino_client.config import SiteConfig
from sordino_protocols.databases import read_database_url


def ledger_location(config: SiteConfig) -> Location:
    """The file in the state directory, or the database that `site.ledger_url_file` names.

    Raises:
        NotFoundError: that file is not there.
        InputError: others may read it, or it holds no URL of PostgreSQL.
    """
    url_file = config.site.ledger_url_file
    return config.ledger_path if url_file is None else read_database_url(url_file)


def is_ledger_at_head(config: SiteConfig) -> bool:
    """Whether the ledger's tables are those of this version.

    Raises:
        NotFoundError: there is no ledger yet, or no file with its database's URL.
        InputError: others may read that file, or it holds no URL of PostgreSQL.
        NotALedgerError: what lies there is none.
        UnreachableError: the database does not answer.
    """
    return is_at_head(ledger_location(config))
