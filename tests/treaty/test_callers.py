"""Names of callers. What is expected of a name was printed by virt-pki-query-dn (9.0 and 11.3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID as Oid

from virt_preflight.treaty.callers import Caller, caller_of, dn_of

KEY = ec.generate_private_key(ec.SECP256R1())
Part = tuple[x509.ObjectIdentifier, str]


def name(*parts: Part | tuple[Part, ...]) -> x509.Name:
    rdns = [one if isinstance(one[0], tuple) else (one,) for one in parts]
    return x509.Name(
        [
            x509.RelativeDistinguishedName([x509.NameAttribute(oid, value) for oid, value in rdn])
            for rdn in rdns
        ]
    )


def pem(subject: x509.Name, *others: x509.GeneralName) -> bytes:
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(KEY.public_key())
        .serial_number(5)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=9))
    )
    if others:
        made = made.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return made.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        (
            name(
                (Oid.COUNTRY_NAME, "GB"),
                (Oid.STATE_OR_PROVINCE_NAME, "London"),
                (Oid.LOCALITY_NAME, "Lo"),
                (Oid.ORGANIZATION_NAME, "Red Hat"),
                (Oid.ORGANIZATIONAL_UNIT_NAME, "u"),
                (Oid.COMMON_NAME, "name"),
            ),
            "C=GB,ST=London,L=Lo,O=Red Hat,OU=u,CN=name",
        ),
        (
            name(
                (Oid.DOMAIN_COMPONENT, "org"),
                (Oid.USER_ID, "bob"),
                (Oid.EMAIL_ADDRESS, "a@b.c"),
                (Oid.SERIAL_NUMBER, "12"),
                (Oid.TITLE, "t"),
                (Oid.SURNAME, "s"),
                (Oid.GIVEN_NAME, "g"),
                (Oid.STREET_ADDRESS, "st"),
                (Oid.POSTAL_CODE, "123"),
                (Oid.DN_QUALIFIER, "q"),
                (Oid.PSEUDONYM, "ps"),
                (Oid.INITIALS, "in"),
                (Oid.GENERATION_QUALIFIER, "gq"),
                (Oid.COMMON_NAME, "x"),
            ),
            (
                "DC=org,UID=bob,EMAIL=a@b.c,serialNumber=12,title=t,surName=s,givenName=g,street=st"
                ",postalCode=123,dnQualifier=q,pseudonym=ps,initials=in,generationQualifier=gq,CN=x"
            ),
        ),
        (
            name(
                (Oid.ORGANIZATION_NAME, 'a,b+c"d\\e<f>g;h=i'),
                (Oid.COMMON_NAME, "#lead "),
                (Oid.COMMON_NAME, " sp"),
            ),
            'O=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h=i,CN=\\#lead\\ ,CN=\\ sp',
        ),
        (
            name(
                ((Oid.ORGANIZATION_NAME, "Ünï"), (Oid.COMMON_NAME, "multi")),
                (Oid.COMMON_NAME, "new\nline\x1b[2J\x00z"),
            ),
            "CN=multi+O=Ünï,CN=#0c0e6e65770a6c696e651b5b324a007a",
        ),
        (
            name((x509.ObjectIdentifier("1.2.3.4"), "odd"), (Oid.COMMON_NAME, "x")),
            "1.2.3.4=#0c036f6464,CN=x",
        ),
    ],
)
def test_a_name_is_written_as_libvirt_compares_it(given: x509.Name, printed: str) -> None:
    read = x509.load_pem_x509_certificate(pem(given))
    assert dn_of(read.subject) == printed


def test_a_caller_has_the_names_of_his_certificate() -> None:
    shown = pem(
        name((Oid.COMMON_NAME, "nova")),
        x509.DNSName("ctl.example.org"),
        x509.IPAddress(ip_address("10.0.0.1")),
        x509.UniformResourceIdentifier("spiffe://x/nova"),
        x509.RFC822Name("nova@example.org"),
    )
    assert caller_of("ipv4:10.0.0.9:5", {"x509_pem_cert": [shown]}, 0) == Caller(
        name="CN=nova",
        certified=True,
        dn="CN=nova",
        others=(
            "DNS:ctl.example.org",
            "IP:10.0.0.1",
            "URI:spiffe://x/nova",
            "EMAIL:nova@example.org",
        ),
    )


def test_a_certificate_without_a_subject_is_called_by_another_name() -> None:
    assert (
        caller_of("", {"x509_pem_cert": [pem(name(), x509.DNSName("h1"))]}, None).name == "DNS:h1"
    )
    assert (
        caller_of("", {"x509_pem_cert": [pem(name())]}, None).name == "a certificate without a name"
    )


def test_without_a_certificate_the_address_is_the_name() -> None:
    assert caller_of("ipv4:10.0.0.9:5", {}, None) == Caller(name="ipv4:10.0.0.9")
    assert caller_of("ipv6:[::1]:5", {}, None) == Caller(name="ipv6:[::1]")
    assert caller_of("", {}, 0) == Caller(name="")


def test_who_may_open_our_socket_is_trusted() -> None:
    assert caller_of("unix:", {}, None) == Caller(name="unix:", trusted=True)


def test_of_this_machine_s_users_root_and_we_ourselves_are_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4711)

    def by(user: int) -> Caller:
        return caller_of("ipv4:127.0.0.1:5", {}, user)

    assert by(0) == Caller(name="ipv4:127.0.0.1 uid=0", trusted=True, user=0)
    assert by(4711) == Caller(name="ipv4:127.0.0.1 uid=4711", trusted=True, user=4711)
    assert by(1000) == Caller(name="ipv4:127.0.0.1 uid=1000", user=1000)


def test_a_user_is_counted_once_from_whatever_address_of_loopback_he_comes() -> None:
    ways = ("ipv4:127.0.0.1:5", "ipv4:127.0.0.2:5", "ipv6:[::1]:5")
    assert {caller_of(way, {}, 1000).counted for way in ways} == {"uid=1000"}
    assert caller_of("ipv4:10.0.0.9:5", {}, None).counted == "ipv4:10.0.0.9"


def test_nobody_is_not_we_for_that_is_every_user_whom_a_namespace_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    assert not caller_of("ipv4:127.0.0.1:5", {}, 65534).trusted
