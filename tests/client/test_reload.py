import pytest
from full_disk import no_file_longer_than
from logged import logged
from one_site import POLICY, OneSite, refusal

from sordino_client.reload import read_rules
from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.errors import NotFoundError
from sordino_protocols.messages import Admission, Refusal

STRICTER = POLICY.replace("max_rounds = 50", "max_rounds = 1")


def change_policy(site: OneSite, text: str | None) -> None:
    site.policy = text
    site.write_policy()


def reloads(site: OneSite) -> list[str | None]:
    entries = read_audit_log(site.config.audit_log_path)
    return [each.policy_sha256 for each in entries if each.action == "policy_reloaded"]


def test_a_changed_policy_counts_when_it_is_read_again_and_not_before(site: OneSite) -> None:
    change_policy(site, STRICTER)
    assert isinstance(site.ask(site.admit()), Admission)
    old = site.site.status()["policy_sha256"]
    site.reloader.reload()
    assert refusal(site.ask(site.admit("run-2"))) is Refusal.FORBIDDEN_BY_POLICY
    new = site.site.status()["policy_sha256"]
    assert new != old
    assert reloads(site) == [new]
    text = site.metrics.text(tuple(site.metrics.registries))
    assert f'sordino_policy_info{{policy_sha256="{new}"}} 1.0' in text
    assert str(old) not in text


def test_a_broken_file_keeps_all_that_counted_and_says_so(site: OneSite) -> None:
    change_policy(site, STRICTER.replace("max_rounds", "max_ruonds"))
    (site.directory / "submitters" / "scientist.pub").unlink()
    site.reloader.reload()
    assert "did you mean 'max_rounds'" in str(site.reloader.problem)
    assert isinstance(site.ask(site.admit()), Admission)
    assert reloads(site) == []
    # Mended: policy and keys together.
    change_policy(site, POLICY)
    site.reloader.reload()
    assert site.reloader.problem is None
    assert refusal(site.ask(site.admit("run-2"))) is Refusal.UNAUTHENTICATED


def test_a_change_that_cannot_be_put_on_record_does_not_count(site: OneSite) -> None:
    change_policy(site, STRICTER)
    with logged(), no_file_longer_than(0):
        site.reloader.reload()
    assert "audit.log: cannot be written" in str(site.reloader.problem)
    assert reloads(site) == []
    assert isinstance(site.ask(site.admit()), Admission)
    site.reloader.reload()
    assert site.reloader.problem is None
    assert refusal(site.ask(site.admit("run-2"))) is Refusal.FORBIDDEN_BY_POLICY


def test_a_policy_that_is_gone_refuses_everything(site: OneSite) -> None:
    change_policy(site, None)
    site.reloader.reload()
    assert refusal(site.ask(site.admit())) is Refusal.NO_POLICY
    assert reloads(site) == [None]


def test_a_submitter_who_is_no_longer_trusted_starts_nothing_new(site: OneSite) -> None:
    site.ask(site.admit())
    (site.directory / "submitters" / "scientist.pub").unlink()
    site.reloader.reload()
    assert refusal(site.ask(site.admit("run-2"))) is Refusal.UNAUTHENTICATED
    # What was admitted goes on, and says the same again.
    assert isinstance(site.ask(site.admit()), Admission)


def test_approvers_need_no_directory_unless_one_is_named(site: OneSite) -> None:
    assert dict(read_rules(site.config).approvers.keys) == {}
    site.approver("alice")
    assert set(read_rules(site.config).approvers.keys) == {"alice"}
    file = site.directory / "site.toml"
    file.write_text(file.read_text().replace("[link]", 'approvers = "people"\n[link]'))
    with pytest.raises(NotFoundError, match="people"):
        read_rules(site.config)
