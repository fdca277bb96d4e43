"""Certificates: of QEMU for the guest's own way (--tls), of libvirtd for the way to it."""

from __future__ import annotations

from typing import Any

from tests.lab import faults
from tests.lab.certificates import AUTHORITIES, issued, of_libvirt_client, of_libvirtd, of_qemu
from tests.lab.scenarios.scenario import Scenario, fails, guest, migrates

TLS = ("--unsafe", "--tls")
OTHER = AUTHORITIES[1]
OVER_TLS = ("--unsafe", "--desturi", "qemu+tls://h2/system")
BY_ADDRESS = (*TLS, "--migrateuri", "tcp://10.78.0.2")
SHOWN = {
    "told_from": "rehearsal",
    "beyond": "the source does not see what the destination's libvirtd shows, and accepts",
}


def between(source: dict[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    """QEMU's certificates on both hosts, with what is wrong with them."""
    return {
        "on_source": (of_qemu("h1", **source),),
        "on_destination": (of_qemu("h2", **destination),),
    }


def over_tls(source: dict[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    """libvirt's own, of the two ends of their connection."""
    return {
        "options": OVER_TLS,
        "on_source": (of_libvirt_client("h1", **source),),
        "on_destination": (of_libvirtd("h2", **destination),),
    }


SCENARIOS: tuple[Scenario, ...] = (
    migrates("tls", options=TLS, **between({}, {})),
    migrates("tls-parallel", options=(*TLS, "--parallel"), **between({}, {})),
    fails(
        "tls-ca-absent",
        "certificates.server-absent",
        options=TLS,
        says="Unable to access credentials",
        **between({}, {"without": ("ca-cert.pem",)}),
    ),
    fails(
        "tls-client-absent",
        "certificates.not-trusted",
        options=TLS,
        says="",
        **between({"without": ("client-cert.pem", "client-key.pem")}, {}),
    ),
    fails(
        "tls-server-expired",
        "certificates.server-refused",
        options=TLS,
        says="The server certificate /etc/pki/qemu/server-cert.pem has expired",
        **between({}, {"server": issued(("h2",), age="expired")}),
    ),
    # Only when the destination is prepared does the source's QEMU look at its own.
    fails(
        "tls-client-expired",
        "certificates.client-refused",
        options=TLS,
        says="The client certificate /etc/pki/qemu/client-cert.pem has expired",
        **between({"client": issued(("h1",), age="expired")}, {}),
    ),
    fails(
        "tls-ca-expired",
        "certificates.server-refused",
        options=TLS,
        says="The CA certificate /etc/pki/qemu/ca-cert.pem has expired",
        **between({}, {"authority_age": "expired"}),
    ),
    fails(
        "tls-other-name",
        "certificates.other-name",
        options=TLS,
        says="",
        **between({}, {"server": issued(("elsewhere",))}),
    ),
    fails(
        "tls-address-unnamed",
        "certificates.other-name",
        options=BY_ADDRESS,
        says="",
        **between({}, {}),
    ),
    migrates(
        "tls-address-named",
        options=BY_ADDRESS,
        **between({}, {"server": issued(("h2", "10.78.0.2"))}),
    ),
    fails(
        "tls-server-of-another-ca",
        "certificates.server-refused",
        options=TLS,
        says="failed validation against",
        **between({}, {"server": issued(("h2",), by=OTHER)}),
    ),
    fails(
        "tls-host-of-another-ca",
        "certificates.not-trusted",
        options=TLS,
        says="",
        **between(
            {},
            {
                "authority": OTHER,
                "server": issued(("h2",), by=OTHER),
                "client": issued(("h2",), by=OTHER),
            },
        ),
    ),
    migrates(
        "tls-newest",
        guest=guest(machine="pc-q35-10.0"),
        source="h3",
        destination="h6",
        options=(*TLS, "--parallel"),
        on_source=(of_qemu("h3"),),
        on_destination=(of_qemu("h6"),),
    ),
    # Each channel is peeked at before libvirt is heard again: QEMU 10.0.
    migrates(
        "parallel-newest",
        guest=guest(machine="pc-q35-10.0"),
        source="h3",
        destination="h6",
        options=("--unsafe", "--parallel"),
    ),
    fails(
        "tls-forced",
        "daemon.tls-forced",
        on_destination=(faults.qemu_conf("migrate_tls_force = 1"),),
        says="allows migration only with VIR_MIGRATE_TLS flag",
    ),
    fails(
        "tls-forced-at-source",
        "daemon.tls-forced-at-source",
        on_source=(faults.qemu_conf("migrate_tls_force = 1"),),
        says="allows migration only with VIR_MIGRATE_TLS flag",
    ),
    migrates("libvirtd-tls", **over_tls({}, {})),
    fails(
        "libvirtd-tls-off",
        "transport.no-connection",
        options=OVER_TLS,
        says="unable to connect to server at 'h2:16514': Connection refused",
        on_source=(of_libvirt_client("h1"),),
    ),
    fails(
        "libvirtd-tls-no-ca",
        "transport.no-connection",
        says="Cannot read CA certificate '/etc/pki/CA/cacert.pem'",
        **over_tls({"without": "ca"}, {}),
    ),
    fails(
        "libvirtd-tls-expired",
        "transport.no-connection",
        says="The client certificate /etc/pki/libvirt/clientcert.pem has expired",
        **over_tls({"pair": issued(("h1",), age="expired")}, {}),
    ),
    fails(
        "libvirtd-tls-no-client",
        "transport.no-connection",
        says="Unable to read TLS confirmation",
        unsure_ok="a libvirtd may let in whom it does not know",
        **SHOWN,
        **over_tls({"without": "certificate"}, {}),
    ),
    fails(
        "libvirtd-tls-other-name",
        "transport.no-connection",
        says="Failed to verify peer's certificate",
        **SHOWN,
        **over_tls({}, {"pair": issued(("elsewhere",))}),
    ),
    fails(
        "libvirtd-tls-other-ca",
        "transport.no-connection",
        says="Failed to verify peer's certificate",
        **SHOWN,
        **over_tls({"authority": OTHER, "pair": issued(("h1",), by=OTHER)}, {}),
    ),
)
