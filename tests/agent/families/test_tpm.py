import json

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.machine import SeenCapabilities
from virt_preflight.agent.families.tpm import (
    GuestTpm,
    HostSwtpm,
    SeenTpm,
    another_chip,
    device_absent,
    guest_tpm,
    host_swtpm,
    no_secret,
    no_swtpm,
    not_offered,
    seen_tpm,
)
from virt_preflight.agent.sources import FileStat, Unreadable

SECRET = "6dd3e4a5-1d76-44ce-961f-f119f5aad935"
EMULATOR = GuestTpm(model="tpm-crb", backend="emulator", version="2.0", secret=SECRET, path="")
OWN = GuestTpm(model="tpm-tis", backend="passthrough", version="", secret="", path="/dev/tpm0")


def problems(yielded: Problems) -> list[Problem]:
    found = list(yielded)
    assert all(isinstance(one, Problem) for one in found), found
    return [one for one in found if isinstance(one, Problem)]


def unclear(yielded: Problems) -> list[CouldNotTell]:
    return [one for one in yielded if isinstance(one, CouldNotTell)]


def read(devices: str) -> GuestTpm | None:
    return guest_tpm(read_domain(f"<domain><name>g</name><devices>{devices}</devices></domain>"))


def capabilities(*versions: str, told: bool = True) -> SeenCapabilities:
    values = {
        "devices/tpm/model": frozenset({"tpm-tis", "tpm-crb"}),
        "devices/tpm/backendModel": frozenset({"passthrough", "emulator", "external"}),
    }
    if told:
        values["devices/tpm/backendVersion"] = frozenset(versions)
    return SeenCapabilities(
        emulator="",
        architecture="x86_64",
        machine="",
        virt_type="kvm",
        vcpus_maximum=None,
        supported={},
        values=values,
        cpu_mode_supported={},
        host_model=None,
        cpu_model_by_name={},
    )


def test_tpms_of_each_kind_are_read() -> None:
    emulated = f"""<tpm model='tpm-crb'><backend type='emulator' version='2.0'>
    <encryption secret='{SECRET.upper()}'/></backend></tpm>"""
    assert read(emulated) == EMULATOR
    own = """<tpm model='tpm-tis'><backend type='passthrough'>
    <device path='/dev/tpm0'/></backend></tpm>"""
    assert read(own) == OWN
    foreign = """<tpm model='tpm-crb'><backend type='external'>
    <source type='unix' mode='connect' path='/run/tpm.sock'/></backend></tpm>"""
    assert read(foreign) == GuestTpm(
        model="tpm-crb", backend="external", version="", secret="", path="/run/tpm.sock"
    )
    assert read("") is None


def test_the_programs_that_are_missing_are_named() -> None:
    source = FakeSource(programs={"swtpm": "/usr/bin/swtpm", "swtpm_ioctl": "/usr/bin/swtpm_ioctl"})
    assert host_swtpm(source) == HostSwtpm(missing=("swtpm_setup",))


def test_secrets_and_devices_are_looked_up() -> None:
    def secrets(has_value: bool | None) -> FakeSource:
        listed = [{"uuid": SECRET, "usage_type": "none", "usage_id": "", "has_value": has_value}]
        return FakeSource(answers={("secrets",): json.dumps(listed)})

    assert seen_tpm(secrets(True), EMULATOR).value_by_secret == {SECRET: True}
    assert isinstance(seen_tpm(secrets(None), EMULATOR).value_by_secret[SECRET], Unknown)
    none = FakeSource(answers={("secrets",): "[]"})
    assert seen_tpm(none, EMULATOR).value_by_secret == {SECRET: None}
    hidden = FakeSource(
        answers={("secrets",): "[]", ("secret-known", SECRET): Unreadable("no right")}
    )
    assert seen_tpm(hidden, EMULATOR).value_by_secret == {SECRET: Unknown("no right")}
    node = FileStat(kind="char", size_bytes=0, mode=0o600, uid=0, gid=0, device=5, inode=9)
    assert seen_tpm(FakeSource(stats={"/dev/tpm0": node}), OWN) == SeenTpm(
        kind_by_path={"/dev/tpm0": "char"}
    )


def test_a_version_that_no_swtpm_offers_is_refused() -> None:
    (problem,) = problems(not_offered(EMULATOR, capabilities()))
    assert (problem.subject, problem.found) == ("TPM 2.0", "none")


def test_a_version_that_is_offered_or_not_listed_at_all_is_fine() -> None:
    assert not list(not_offered(EMULATOR, capabilities("1.2", "2.0")))
    assert not list(not_offered(EMULATOR, capabilities(told=False)))


def test_without_swtpm_there_is_no_emulated_tpm() -> None:
    (problem,) = problems(no_swtpm(EMULATOR, HostSwtpm(missing=("swtpm",))))
    assert problem.wanted == "swtpm"


def test_a_hosts_own_tpm_needs_no_swtpm() -> None:
    assert not list(no_swtpm(OWN, HostSwtpm(missing=("swtpm",))))
    assert not list(no_swtpm(EMULATOR, HostSwtpm(missing=())))


def test_a_host_without_tpm_has_none_to_give() -> None:
    assert problems(device_absent(OWN, SeenTpm(kind_by_path={"/dev/tpm0": ""})))
    assert unclear(device_absent(OWN, SeenTpm(kind_by_path={"/dev/tpm0": Unknown("no")})))


def test_a_host_with_a_tpm_has_one_to_give() -> None:
    assert not list(device_absent(OWN, SeenTpm(kind_by_path={"/dev/tpm0": "char"})))
    assert not list(device_absent(EMULATOR, SeenTpm()))


def test_a_hosts_own_tpm_is_another_one_on_each_host() -> None:
    assert problems(another_chip(OWN))


def test_an_emulated_tpm_moves_with_its_guest() -> None:
    assert not list(another_chip(EMULATOR))


def test_a_secret_must_be_there_and_have_a_value() -> None:
    (absent,) = problems(no_secret(EMULATOR, SeenTpm(value_by_secret={SECRET: None})))
    assert absent.found == "no such secret"
    (empty,) = problems(no_secret(EMULATOR, SeenTpm(value_by_secret={SECRET: False})))
    assert empty.found == "no value"


def test_a_secret_with_a_value_is_fine_and_a_private_one_is_left_open() -> None:
    assert not list(no_secret(EMULATOR, SeenTpm(value_by_secret={SECRET: True})))
    assert unclear(no_secret(EMULATOR, SeenTpm(value_by_secret={SECRET: Unknown("private")})))
