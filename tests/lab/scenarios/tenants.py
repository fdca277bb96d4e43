"""Who is already there under our name, and who the hosts are."""

from __future__ import annotations

from tests.lab import faults
from tests.lab.scenarios.scenario import Scenario, fails, migrates

OTHER_UUID = "aaaaaaaa-bbbb-cccc-dddd-000000000001"

SCENARIOS: tuple[Scenario, ...] = (
    fails(
        "name-taken-running",
        "tenants.name-taken",
        on_destination=(faults.tenant("@name", OTHER_UUID, state="running"),),
        says="domain '@name' already exists with uuid",
    ),
    fails(
        "name-taken-defined",
        "tenants.name-taken",
        on_destination=(faults.tenant("@name", OTHER_UUID),),
        says="domain '@name' already exists with uuid",
    ),
    fails(
        "uuid-taken",
        "tenants.uuid-taken",
        on_destination=(faults.tenant("somebody", "@uuid"),),
        says="domain 'somebody' is already defined with uuid",
    ),
    fails(
        "uuid-taken-running",
        "tenants.uuid-taken",
        on_destination=(faults.tenant("somebody", "@uuid", state="running"),),
        says="domain 'somebody' is already defined with uuid",
    ),
    # Its own definition, left from an earlier visit.
    migrates("same-guest-defined", on_destination=(faults.tenant("@name", "@uuid"),)),
    fails(
        "same-guest-running",
        "tenants.uuid-taken",
        "tenants.already-there",
        on_destination=(faults.tenant("@name", "@uuid", state="running"),),
        says="domain '@name' is already active",
    ),
    migrates(
        "renamed", options=("--unsafe", "--dname", "renamed-there"), arrives_as="renamed-there"
    ),
    # The name that is taken is not the one it will have.
    migrates(
        "renamed-out-of-the-way",
        options=("--unsafe", "--dname", "renamed-there"),
        arrives_as="renamed-there",
        on_destination=(faults.tenant("@name", OTHER_UUID),),
    ),
    fails(
        "renamed-onto-taken",
        "tenants.name-taken",
        options=("--unsafe", "--dname", "renamed-there"),
        on_destination=(faults.tenant("renamed-there", OTHER_UUID),),
        says="domain 'renamed-there' already exists with uuid",
    ),
    migrates(
        "others-there", on_destination=(faults.tenant("somebody", OTHER_UUID, state="running"),)
    ),
    fails(
        "same-host-uuid",
        "tenants.same-host",
        on_destination=(faults.host_uuid("@source-uuid", own="@destination-uuid"),),
        says="Attempt to migrate guest to the same host",
    ),
    fails(
        "hostname-localhost",
        "tenants.host-nameless",
        on_destination=(faults.hostname("localhost", own="h2"),),
        says="hostname on destination resolved to localhost, but migration requires an FQDN",
    ),
    fails(
        "hostname-unknown-to-source",
        "transport.own-name-unknown",
        on_destination=(faults.hostname("nowhere", own="h2"),),
        says="Unable to resolve address 'nowhere'",
    ),
    fails(
        "hostname-is-the-source-s",
        "transport.own-name-unknown",
        on_destination=(faults.hostname("h1", own="h2"),),
        says="unable to connect to server at 'h1:",
    ),
    migrates(
        "hostname-of-no-use-but-one-in-qemu-conf",
        on_destination=(
            faults.hostname("nowhere", own="h2"),
            faults.qemu_conf('migration_host = "10.78.0.2"'),
        ),
    ),
    migrates(
        "hostname-unknown-but-uri-given",
        on_destination=(faults.hostname("nowhere", own="h2"),),
        options=("--unsafe", "--migrateuri", "tcp://10.78.0.2"),
    ),
)
