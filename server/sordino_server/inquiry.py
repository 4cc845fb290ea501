"""What a job would cost at each site: a question that changes nothing anywhere."""

from collections.abc import Sequence

from sordino_protocols.messages import Inquire, Quote
from sordino_server.questions import Questions, silences
from sordino_server.statement import Quotes, quote_facts
from sordino_server.strategy import Patience, Strategy

# A person waits: a site that says nothing is named as silent, and soon.
_PATIENCE = Patience(quorum=1, deadline_seconds=30.0, grace_seconds=15.0)


def inquire(
    questions: Questions, strategy: Strategy, cohort: Sequence[str], request: Inquire
) -> Quotes:
    """Ask every site of a cohort; those who do not quote are listed with the reason.

    First each shows that its ledger goes on from what the server remembers of it: a quote of a site
    that has lost entries is worth nothing.
    """
    recalled = questions.recall_with(cohort, _PATIENCE)
    left_out = silences(recalled)
    asked = [site for site in cohort if site not in left_out]
    outcome = strategy.ask(asked, request, Quote, _PATIENCE)
    refusals = {**recalled.refusals, **outcome.refusals}
    rejections = {**recalled.rejections, **outcome.rejections}
    return Quotes(
        quotes={site: quote_facts(quote) for site, quote in outcome.answers.items()},
        refused={site: each.value for site, each in refusals.items()},
        silent={site: each.value for site, each in rejections.items()},
    )
