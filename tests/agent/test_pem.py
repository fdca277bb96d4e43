import datetime as dt

import pytest
import trustme

from virt_preflight.agent.pem import BadPem, certificates, names_host, out_of_date, vouched_for

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
OURS, THEIRS = trustme.CA(), trustme.CA()


def pem(ca: trustme.CA) -> str:
    return ca.cert_pem.bytes().decode()


def issued(
    *names: str,
    by: trustme.CA = OURS,
    not_before: dt.datetime | None = None,
    not_after: dt.datetime | None = None,
) -> str:
    one = by.issue_cert(*names, not_before=not_before, not_after=not_after)
    return "".join(part.bytes().decode() for part in one.cert_chain_pems)


def test_a_certificate_is_valid_between_two_days() -> None:
    one = certificates(issued("h2", not_before=NOW, not_after=NOW + 2 * DAY))
    assert out_of_date(one, (NOW + DAY).timestamp()) == ""
    assert out_of_date(one, (NOW + 3 * DAY).timestamp()) == "expired on 2026-06-03"
    assert out_of_date(one, (NOW - DAY).timestamp()) == "not valid before 2026-06-01"


def test_an_authority_knows_what_it_has_signed_and_itself() -> None:
    one, ours, theirs = (certificates(text) for text in (issued("h2"), pem(OURS), pem(THEIRS)))
    assert vouched_for(one, ours)
    assert vouched_for(ours, ours)
    assert not vouched_for(one, theirs)
    assert vouched_for(one, [*theirs, *ours])


def test_an_authority_in_between_has_to_be_shown() -> None:
    between = OURS.create_child_ca()
    shown = certificates(issued("h2", by=between))
    assert len(shown) > 1
    assert vouched_for(shown, certificates(pem(OURS)))
    assert not vouched_for(shown[:1], certificates(pem(OURS)))


def test_a_name_of_the_same_ending_is_another_name() -> None:
    (one, *_) = certificates(issued("h2", "*.lab.example", "10.78.0.2"))
    for name in ("h2", "H2", "a.lab.example", "10.78.0.2"):
        assert names_host(one, name), name
    for name in ("h22", "lab.example", "a.b.lab.example", "10.78.0.22", "h2.", ""):
        assert not names_host(one, name), name


def test_the_common_name_counts_where_there_is_no_other() -> None:
    (one, *_) = certificates(issued("h2", by=OURS))
    assert names_host(one, "h2")
    (authority,) = certificates(pem(OURS))
    assert not names_host(authority, "h2")


def test_what_is_no_certificate_is_told() -> None:
    for text in ("", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(BadPem, match="no certificate that can be read"):
            certificates(text)
    with pytest.raises(BadPem, match="more than 1000"):
        certificates(issued("h2") * 1001)
