"""Where a site's ledger is. Not in `config`: the link reads that too, and knows no database."""

from sordino_client.chain_store import Location, read_ledger_url
from sordino_client.config import SiteConfig


def ledger_location(config: SiteConfig) -> Location:
    """The file in the state directory, or the database that `site.ledger_url_file` names.

    Raises:
        NotFoundError: that file is not there.
        InputError: others may read it, or it holds no URL of PostgreSQL.
    """
    url_file = config.site.ledger_url_file
    return config.ledger_path if url_file is None else read_ledger_url(url_file)
