from dataclasses import replace

from virt_preflight.agent.scrub import scrubbed
from virt_preflight.agent.sources import Absent
from virt_preflight.agent.sources.recording import Recording

UUID = "aaaaaaaa-bbbb-cccc-dddd-000000000001"
RECORDING = Recording(
    host="db-host-7",
    recorded_at="2026-11-23T10:00:00Z",
    agent_version="0.1.0",
    answers={
        ("libvirt", "hostname"): "db-host-7",
        ("libvirt", "domain-xml", UUID): (
            f"<domain><name>payroll</name><uuid>{UUID}</uuid><serial>WD-123</serial>"
            "<mac address='52:54:00:AA:BB:CC'/><listen address='10.1.2.3'/>"
            "<listen address='0.0.0.0'/></domain>"
        ),
        ("names", "/var/lib/libvirt/qemu"): ("payroll", "payroll-old"),
        ("stat", "/srv/payroll.qcow2"): Absent("/srv/payroll.qcow2: No such file or directory"),
        ("memory",): (1024, 512),
    },
)


def test_nothing_that_tells_whose_it_is_stays() -> None:
    clean = scrubbed(RECORDING, ("db-host-7", "payroll"))
    told = repr(clean)
    for word in ("db-host-7", UUID, "WD-123", "AA:BB:CC", "10.1.2.3", "payroll.qcow2"):
        assert word not in told
    assert "0.0.0.0" in told
    assert clean.answers["memory",] == (1024, 512)


def test_the_same_thing_has_the_same_word_everywhere() -> None:
    clean = scrubbed(RECORDING, ("db-host-7", "payroll"))
    assert clean.answers["libvirt", "hostname"] == clean.host
    ((_, _, uuid),) = (asked for asked in clean.answers if asked[1:2] == ("domain-xml",))
    xml = clean.answers["libvirt", "domain-xml", uuid]
    assert f"<uuid>{uuid}</uuid>" in str(xml)


def test_a_longer_name_is_not_taken_for_a_shorter_one() -> None:
    clean = scrubbed(RECORDING, ("db-host-7", "payroll"))
    names = clean.answers["names", "/var/lib/libvirt/qemu"]
    assert isinstance(names, tuple)
    assert names[1] == "payroll-old"


def test_errors_are_scrubbed_and_stay_errors() -> None:
    clean = scrubbed(RECORDING, ("payroll",))
    ((asked, answer),) = ((key, kept) for key, kept in clean.answers.items() if key[0] == "stat")
    assert isinstance(answer, Absent)
    assert asked[1] in str(answer)


def test_different_things_get_different_words() -> None:
    other = replace(RECORDING, answers={("text", "/x"): "10.0.0.1 10.0.0.2 10.0.0.1"})
    one, two, again = str(scrubbed(other, ()).answers["text", "/x"]).split()
    assert one == again != two
