"""The certificate's page: complete, self-contained, escaped, and honest about what fails."""

import re
from html.parser import HTMLParser

import pytest
from certified import TRUSTED, certificate, made, understated

from sordino.certificate_page import render
from sordino.number_words import percent_at_most
from sordino_protocols.certificate import Certificate
from sordino_protocols.certificate_check import TrustedKeys, verify_certificate

VOID = {"meta", "br", "circle", "path"}


class _Checker(HTMLParser):
    """Collects tags and text, and insists on balanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def page(issued: Certificate, trusted: TrustedKeys = TRUSTED) -> str:
    return render(issued, verify_certificate(issued, trusted))


def read(html: str) -> _Checker:
    checker = _Checker()
    checker.feed(html)
    checker.text = " ".join(checker.text.split())
    return checker


def test_is_balanced_loads_nothing_and_runs_nothing() -> None:
    html = page(certificate())
    checker = read(html)
    assert checker.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(checker.tags)
    assert all(reference.startswith("#") for reference in checker.references)
    assert "http" not in html
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_says_everything_that_the_certificate_says() -> None:
    issued = certificate()
    text = read(page(issued)).text
    for name, site in issued.sites.items():
        assert name in text
        assert site.public_key in text
        assert f"{site.claims.epsilon_spent_pld:.3f}" in text
        assert percent_at_most(site.claims.bound.true_positive_rate) in text
    for entry in issued.composition.table:
        assert f"{entry.epsilon:.3f}" in text
    for limit in issued.limits:
        assert limit in text
    for standard in issued.standards:
        assert standard.title in text
        for row in standard.entries:
            assert row.asks in text
            assert row.stays in text
    assert "alice: approve" in text
    assert issued.server.public_key in text
    assert "Audit by auditor: loose" in text
    assert "The certificate holds." in text


def test_says_that_keys_came_with_the_certificate() -> None:
    text = read(page(certificate(), TrustedKeys())).text
    assert "Some keys came with the certificate itself" in text
    assert "the key of site va came with the certificate" in text


def test_a_certificate_that_does_not_hold_says_so_first() -> None:
    text = read(page(made().changed("va", understated).certificate())).text
    assert "The certificate does not hold. 1 problem found" in text
    assert "The certificate holds." not in text
    assert "is understated" in text
    assert text.index("does not hold") < text.index("What each site charged")


def test_a_site_without_a_receipt_is_marked() -> None:
    text = read(page(made().without("va").certificate())).text
    assert "sent no receipt" in text
    assert "va *" in text
    assert "sent no receipt" not in read(page(certificate())).text


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x>'])
def test_whatever_a_certificate_says_is_escaped(hostile: str) -> None:
    issued = certificate()
    facts = issued.job.model_copy(
        update={"name": hostile, "submitter": hostile, "body": hostile, "digest": hostile}
    )
    sites = {f"{name}{hostile}": site for name, site in issued.sites.items()}
    html = page(
        issued.model_copy(
            update={"job": facts, "sites": sites, "run_id": hostile, "issued_at": hostile}
        )
    )
    checker = read(html)
    assert "script" not in checker.tags
    assert "img" not in checker.tags
    assert checker.open == []


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.068, "6.8%"), (0.0681, "6.9%"), (1.0, "100.0%"), (0.01, "1.0%"), (0.0, "0.0%")],
)
def test_a_bound_never_reads_smaller_than_it_is(share: float, words: str) -> None:
    assert percent_at_most(share) == words
