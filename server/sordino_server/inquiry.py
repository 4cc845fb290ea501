"""What a job would cost at each site: a question that changes nothing anywhere."""

from collections.abc import Sequence

from sordino_protocols.messages import Inquire, Quote
from sordino_server.statement import Quotes, quote_facts
from sordino_server.strategy import Patience, Strategy

# A person waits: a site that says nothing is named as silent, and soon.
_PATIENCE = Patience(quorum=1, deadline_seconds=30.0, grace_seconds=15.0)


def inquire(strategy: Strategy, cohort: Sequence[str], request: Inquire) -> Quotes:
    """Ask every site of a cohort; those who do not quote are listed with the reason."""
    outcome = strategy.ask(cohort, request, Quote, _PATIENCE)
    return Quotes(
        quotes={site: quote_facts(quote) for site, quote in outcome.answers.items()},
        refused={site: each.value for site, each in outcome.refusals.items()},
        silent={site: each.value for site, each in outcome.rejections.items()},
    )
