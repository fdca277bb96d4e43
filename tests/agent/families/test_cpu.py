from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.fake import FakeSource
from virt_preflight.agent.check import CouldNotTell, Problem, Problems
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.families.cpu import (
    GuestCpu,
    GuestCpuModel,
    GuestHyperv,
    GuestTsc,
    HostCpu,
    KnownCpus,
    KnownModel,
    PhysicalCpu,
    features_absent,
    features_extra,
    features_unknown,
    forbidden_features,
    guest_cpu,
    guest_cpu_model,
    guest_hyperv,
    guest_tsc,
    host_cpu,
    host_vendor_differs,
    ht_added,
    hyperv_absent,
    known_cpus,
    mode_unsupported,
    model_unknown,
    passthrough_differs,
    physical_cpu,
    tsc_frequency,
    vendor_differs,
)
from virt_preflight.agent.families.cpu.rules import lacking
from virt_preflight.agent.families.machine import (
    CpuModel,
    HostModel,
    SeenCapabilities,
    read_capabilities,
)
from virt_preflight.agent.families.versions import HostVersions
from virt_preflight.agent.origin import GuestOrigin
from virt_preflight.agent.report import Severity
from virt_preflight.agent.sources import Absent, Unreadable

MAP = "/usr/share/libvirt/cpu_map"

# As libvirt 11.3 on Debian 13 has them, shortened.
MAP_TEXTS = {
    f"{MAP}/index.xml": """
<cpus>
  <arch name='x86'>
    <include filename='x86_vendors.xml'/>
    <include filename='x86_features.xml'/>
    <group name='AMD CPU models'>
      <include filename='x86_EPYC.xml'/>
      <include filename='x86_EPYC-v2.xml'/>
      <include filename='x86_Skylake-Client.xml'/>
    </group>
  </arch>
  <arch name='ppc64'><include filename='ppc64_POWER9.xml'/></arch>
</cpus>""",
    f"{MAP}/x86_features.xml": """
<cpus>
  <feature name='pni'>
    <alias name='sse3' source='qemu'/>
    <cpuid eax_in='0x00000001' ecx='0x00000001'/>
  </feature>
  <feature name='clwb'><cpuid eax_in='0x07' ecx_in='0x00' ebx='0x01000000'/></feature>
  <feature name='svm'><cpuid eax_in='0x80000001' ecx='0x00000004'/></feature>
  <feature name='topoext'><cpuid eax_in='0x80000001' ecx='0x00400000'/></feature>
  <feature name='hypervisor'><cpuid eax_in='0x01' ecx='0x80000000'/></feature>
  <feature name='ibpb'><cpuid eax_in='0x80000008' ebx='0x00001000'/></feature>
  <feature name='mpx'><cpuid eax_in='0x07' ecx_in='0x00' ebx='0x00004000'/></feature>
  <feature name='osxsave'><cpuid eax_in='0x01' ecx='0x08000000'/></feature>
  <feature name='vmx-hlt-exit'><msr index='0x48d' edx='0x00000080'/></feature>
</cpus>""",
    f"{MAP}/x86_EPYC.xml": """
<cpus>
  <model name='EPYC'>
    <check partial='compat'/>
    <decode host='on' guest='on'/>
    <signature family='23' model='1'/>
    <vendor name='AMD'/>
    <feature name='pni'/>
    <feature name='svm'/>
    <feature name='monitor' removed='yes'/>
  </model>
</cpus>""",
    f"{MAP}/x86_EPYC-v2.xml": """
<cpus>
  <model name='EPYC-v2'>
    <decode host='on' guest='off'/>
    <model name='EPYC'/>
    <feature name='ibpb'/>
  </model>
</cpus>""",
    f"{MAP}/x86_Skylake-Client.xml": """
<cpus>
  <model name='Skylake-Client'>
    <check partial='compat'/>
    <vendor name='Intel'/>
    <feature name='pni'/>
    <feature name='mpx' removed='yes'/>
    <feature name='vmx-hlt-exit' added='yes'/>
  </model>
</cpus>""",
}

NAMES = frozenset({
    "pni", "clwb", "svm", "topoext", "hypervisor", "ibpb", "mpx", "osxsave", "vmx-hlt-exit", "ht",
})  # fmt: skip
EPYC = KnownModel(features=frozenset({"pni", "svm"}))
SKYLAKE = KnownModel(
    features=frozenset({"pni"}),
    removed=frozenset({"mpx"}),
    added=frozenset({"vmx-hlt-exit"}),
)
KNOWN = KnownCpus(feature_names=NAMES, model_by_name={"EPYC": EPYC, "Skylake-Client": SKYLAKE})


def cpu(
    *,
    mode: str = "custom",
    check: str = "full",
    model: str = "EPYC",
    fallback: str = "forbid",
    vendor: str = "",
    virt_type: str = "kvm",
    **policies: str,
) -> GuestCpu:
    return GuestCpu(
        mode=mode,
        check=check,
        model=model if mode == "custom" else "",
        fallback=fallback,
        vendor=vendor,
        virt_type=virt_type,
        policy_by_feature={name.replace("_", "-"): policy for name, policy in policies.items()},
    )


def seen(*, modes: dict[str, bool] | None = None, **models: CpuModel) -> SeenCapabilities:
    return SeenCapabilities(
        emulator="/usr/bin/qemu-system-x86_64",
        architecture="x86_64",
        machine="pc-q35-7.2",
        virt_type="kvm",
        vcpus_maximum=288,
        supported={},
        values={},
        cpu_mode_supported={"custom": True, "host-passthrough": True} if modes is None else modes,
        host_model=HostModel(name="EPYC", vendor="AMD", required=frozenset(), disabled=frozenset()),
        cpu_model_by_name={name.replace("_", "-"): model for name, model in models.items()},
    )


UNUSABLE = CpuModel(usable="no", blockers=None)
USABLE = CpuModel(usable="yes", blockers=None)
SEEN = seen(EPYC=UNUSABLE, Skylake_Client=UNUSABLE)


def blocked_by(*features: str) -> CpuModel:
    return CpuModel(usable="no", blockers=frozenset(features))


def host(*offered: str, physical: tuple[str, ...] = (), vendor: str = "AMD") -> HostCpu:
    return HostCpu(
        model="EPYC",
        vendor=vendor,
        offered=frozenset(offered),
        physical=frozenset(physical) | frozenset(offered),
    )


UNKNOWN_HOST = HostCpu(
    model="", vendor="", offered=Unknown("no host model"), physical=Unknown("no host model")
)


def wanted(problems: Problems) -> list[str]:
    return [found.wanted for found in problems if isinstance(found, Problem)]


def left_open(problems: Problems) -> list[str]:
    return [found.why for found in problems if isinstance(found, CouldNotTell)]


def read(inside: str, *, virt_type: str = "kvm", os: str = "") -> GuestCpu | None:
    return guest_cpu(read_domain(f"<domain type='{virt_type}'><name>g</name>{os}{inside}</domain>"))


# ----------------------------------------------------------------------- reading the guest


def test_a_live_cpu_is_read_as_libvirt_writes_it() -> None:
    found = read(
        "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>EPYC</model>"
        "<vendor>AMD</vendor><topology sockets='1' dies='1' cores='2' threads='1'/>"
        "<feature policy='require' name='hypervisor'/><feature policy='disable' name='pni'/></cpu>"
    )
    assert found is not None
    assert (found.mode, found.check, found.model, found.fallback, found.vendor) == (
        "custom", "full", "EPYC", "forbid", "AMD",
    )  # fmt: skip
    assert found.features("require") == {"hypervisor"}
    assert found.features("disable", "forbid") == {"pni"}


@pytest.mark.parametrize(
    ("inside", "virt_type", "check"),
    [
        ("<cpu><model>EPYC</model></cpu>", "kvm", "partial"),
        ("<cpu><model>EPYC</model></cpu>", "qemu", "none"),
        ("<cpu mode='host-model'/>", "kvm", "partial"),
        ("<cpu mode='host-passthrough'/>", "kvm", "none"),
        ("<cpu mode='maximum'/>", "qemu", "none"),
    ],
)
def test_a_check_that_is_not_given_is_libvirts_default(
    inside: str, virt_type: str, check: str
) -> None:
    found = read(inside, virt_type=virt_type)
    assert found is not None
    assert found.check == check


def test_a_guest_without_a_cpu_or_with_a_topology_only_asks_for_none() -> None:
    assert read("") is None
    assert read("<cpu><topology sockets='1' cores='2' threads='1'/></cpu>") is None


def test_a_running_host_model_guest_of_an_old_libvirt_is_one_with_a_named_model() -> None:
    found = read("<cpu mode='host-model' check='full'><model fallback='forbid'>EPYC</model></cpu>")
    assert found is not None
    assert (found.mode, found.model) == ("custom", "EPYC")


def test_a_passed_through_arm_cpu_is_compared_by_nobody() -> None:
    arm = "<os><type arch='aarch64'>hvm</type></os>"
    assert read("<cpu mode='host-passthrough'/>", os=arm) is None


def test_the_model_alone_is_a_key() -> None:
    domain = read_domain("<domain><name>g</name><cpu><model>EPYC</model></cpu></domain>")
    assert guest_cpu_model(domain) == GuestCpuModel(name="EPYC")
    assert guest_cpu_model(read_domain("<domain><name>g</name></domain>")).name == ""


def test_only_enlightenments_that_libvirt_verifies_are_needed() -> None:
    domain = read_domain(
        "<domain><name>g</name><features><hyperv mode='custom'><relaxed state='on'/>"
        "<spinlocks state='on' retries='8191'/><vpindex state='on'/><stimer state='on'/>"
        "<evmcs state='off'/></hyperv></features></domain>"
    )
    assert guest_hyperv(domain) == GuestHyperv(features=frozenset({"vpindex", "stimer"}))


def test_a_guest_without_verified_enlightenments_needs_none() -> None:
    for hyperv in ("", "<hyperv><relaxed state='on'/></hyperv>", "<hyperv mode='passthrough'/>"):
        domain = read_domain(f"<domain><name>g</name><features>{hyperv}</features></domain>")
        assert guest_hyperv(domain) is None


def test_a_tsc_frequency_is_read_in_hz() -> None:
    domain = read_domain(
        "<domain type='kvm'><name>g</name><clock><timer name='tsc' frequency='2445422000'/>"
        "</clock></domain>"
    )
    assert guest_tsc(domain) == GuestTsc(frequency_hz=2445422000, virt_type="kvm")


def test_a_tsc_timer_without_a_frequency_needs_none() -> None:
    domain = read_domain("<domain><name>g</name><clock><timer name='tsc'/></clock></domain>")
    assert guest_tsc(domain) is None


# ------------------------------------------------------------------------ reading the host

CAPABILITIES = """
<capabilities><host><uuid>3cc0d625-dd48-55fd-ad54-61030cfd7aff</uuid>
  <cpu><arch>x86_64</arch><model>EPYC</model><vendor>AMD</vendor>
    <counter name='tsc' frequency='2445422000' scaling='no'/>
    <feature name='clwb'/></cpu></host></capabilities>"""
PHYSICAL = PhysicalCpu(
    model="EPYC", features=frozenset({"clwb"}), tsc_hz=2445422000, tsc_scaling="no"
)
CAPABLE = read_capabilities(
    "<domainCapabilities><arch>x86_64</arch><cpu><mode name='host-model' supported='yes'>"
    "<model fallback='forbid'>EPYC</model><vendor>AMD</vendor>"
    "<feature policy='require' name='hypervisor'/><feature policy='disable' name='svm'/>"
    "</mode></cpu></domainCapabilities>"
)


def test_the_physical_cpu_is_read_from_capabilities() -> None:
    assert physical_cpu(FakeSource(answers={("capabilities",): CAPABILITIES})) == PHYSICAL


def test_capabilities_without_a_host_cpu_tell_nothing() -> None:
    source = FakeSource(answers={("capabilities",): "<capabilities><host/></capabilities>"})
    with pytest.raises(Unreadable):
        physical_cpu(source)


def known(name: str, texts: dict[str, str] | None = None) -> KnownCpus:
    source = FakeSource(texts=MAP_TEXTS if texts is None else texts)
    return known_cpus(source, GuestCpuModel(name=name), CAPABLE, PHYSICAL)


def test_a_model_is_read_with_what_was_removed_and_added() -> None:
    assert known("Skylake-Client").model_by_name["Skylake-Client"] == SKYLAKE
    assert "clwb" in known("EPYC").feature_names


def test_a_model_has_what_its_ancestor_has() -> None:
    model = known("EPYC-v2").model_by_name["EPYC-v2"]
    assert isinstance(model, KnownModel)
    assert model.features == {"pni", "svm", "ibpb"}
    assert not model.compares_loosely


def test_a_model_that_the_index_does_not_list_is_not_known() -> None:
    assert "Bogus" not in known("Bogus").model_by_name
    assert "../../../etc/passwd" not in known("../../../etc/passwd").model_by_name


def test_one_model_that_cannot_be_read_does_not_cost_the_others() -> None:
    texts = {path: text for path, text in MAP_TEXTS.items() if "Skylake" not in path}
    models = known("Skylake-Client", texts).model_by_name
    assert isinstance(models["Skylake-Client"], Unknown)
    assert models["EPYC"] == replace(EPYC, removed=frozenset({"monitor"}))


def test_models_that_are_each_others_ancestors_have_no_end() -> None:
    loop = "<cpus><model name='EPYC'><model name='EPYC'/></model></cpus>"
    models = known("EPYC", {**MAP_TEXTS, f"{MAP}/x86_EPYC.xml": loop}).model_by_name
    assert models["EPYC"] == Unknown("CPU model EPYC: its ancestors have no end")


def test_without_a_cpu_map_nothing_is_known() -> None:
    with pytest.raises(Unreadable, match="CPU map cannot be read"):
        known("EPYC", {})


def test_cpus_of_another_architecture_are_not_compared() -> None:
    arm = replace(CAPABLE, architecture="aarch64")
    with pytest.raises(Unreadable, match="aarch64"):
        known_cpus(FakeSource(texts=MAP_TEXTS), GuestCpuModel(name=""), arm, PHYSICAL)


def test_the_host_model_is_written_out() -> None:
    found = host_cpu(CAPABLE, known("EPYC"), PHYSICAL, TRIXIE)
    assert found.offered == frozenset({"pni", "hypervisor"})
    assert found.physical == frozenset({"pni", "svm", "clwb"})
    assert (found.model, found.vendor) == ("EPYC", "AMD")


def test_without_a_host_model_it_is_not_known_what_is_offered() -> None:
    found = host_cpu(replace(CAPABLE, host_model=None), known("EPYC"), PHYSICAL, TRIXIE)
    assert isinstance(found.offered, Unknown)


def test_a_host_model_that_the_map_lacks_is_not_written_out() -> None:
    found = host_cpu(CAPABLE, KnownCpus(feature_names=NAMES, model_by_name={}), PHYSICAL, TRIXIE)
    assert found.offered == Unknown("libvirt's CPU map has no model EPYC")


# --------------------------------------------------------------------------------- the mode


def test_a_mode_that_is_not_supported_is_named() -> None:
    guest = cpu(mode="host-passthrough", virt_type="qemu")
    (problem,) = mode_unsupported(guest, seen(modes={"host-passthrough": False, "custom": True}))
    assert problem == Problem(
        subject="CPU host-passthrough",
        wanted="mode host-passthrough for qemu guests",
        found="custom",
    )


def test_a_mode_that_is_newer_than_that_libvirt_is_not_supported() -> None:
    assert wanted(mode_unsupported(cpu(mode="maximum"), SEEN))


def test_a_supported_mode_is_fine() -> None:
    assert not list(mode_unsupported(cpu(), SEEN))


def test_a_libvirt_that_names_no_modes_leaves_it_open() -> None:
    assert left_open(mode_unsupported(cpu(), seen(modes={})))


# -------------------------------------------------------------------------------- the model


def test_a_model_that_nobody_there_knows_is_unknown() -> None:
    (problem,) = model_unknown(cpu(model="EPYC-Genoa"), SEEN, KNOWN)
    assert isinstance(problem, Problem)
    assert (problem.subject, problem.found) == ("CPU EPYC-Genoa", "libvirt there does not know it")


def test_a_model_that_only_libvirt_knows_needs_a_fallback() -> None:
    (problem,) = model_unknown(cpu(), seen(), KNOWN)
    assert isinstance(problem, Problem)
    assert problem.found == "QEMU there does not have it"
    assert not list(model_unknown(cpu(fallback="allow"), seen(), KNOWN))


def test_a_model_that_both_know_is_fine() -> None:
    assert not list(model_unknown(cpu(), SEEN, KNOWN))
    assert not list(model_unknown(cpu(mode="host-passthrough"), SEEN, KNOWN))


# ------------------------------------------------------------------- features: their names


def test_a_name_that_libvirt_there_never_heard_of_is_refused_whatever_its_policy() -> None:
    guest = cpu(overflow_recov="require", fdp_excptn_only="disable")
    (problem,) = features_unknown(guest, KNOWN)
    assert problem == Problem(
        subject="CPU EPYC",
        wanted="names known: fdp-excptn-only, overflow-recov",
        found="unknown to libvirt",
    )


def test_known_names_are_fine() -> None:
    assert not list(features_unknown(cpu(clwb="require", pni="disable"), KNOWN))


def test_vmx_names_of_a_running_guest_may_be_left_out_by_the_source() -> None:
    found = list(features_unknown(cpu(vmx_new="require"), KNOWN))
    assert not wanted(iter(found))
    assert left_open(iter(found))


def test_vmx_names_that_somebody_wrote_down_are_refused() -> None:
    assert wanted(features_unknown(cpu(vmx_new="require", check="partial"), KNOWN))


# ----------------------------------------------------------- features: a guest that runs


def test_missing_features_of_a_running_guest_are_named() -> None:
    guest = cpu(clwb="require", pni="disable", hypervisor="require")
    (problem,) = features_absent(guest, SEEN, KNOWN, host("hypervisor"))
    assert problem == Problem(
        subject="CPU EPYC", wanted="clwb, svm", found="not given by this host"
    )


def test_what_the_guest_does_without_is_no_requirement() -> None:
    guest = cpu(model="Skylake-Client", pni="disable", svm="forbid", clwb="optional", mpx="disable")
    assert not list(features_absent(guest, SEEN, KNOWN, host()))


def test_forced_features_are_required_of_a_running_guest() -> None:
    assert wanted(features_absent(cpu(clwb="force"), SEEN, KNOWN, host("pni", "svm"))) == ["clwb"]


def test_features_of_a_usable_model_are_there() -> None:
    assert not list(features_absent(cpu(), seen(EPYC=USABLE), KNOWN, host()))


def test_a_usable_model_does_not_answer_for_what_is_asked_beyond_it() -> None:
    found = features_absent(cpu(clwb="require"), seen(EPYC=USABLE), KNOWN, host())
    assert wanted(found) == ["clwb"]


def test_qemus_own_blockers_say_which_of_a_models_features_are_missing() -> None:
    guest = cpu()
    assert wanted(features_absent(guest, seen(EPYC=blocked_by("svm")), KNOWN, host())) == ["svm"]


def test_blockers_tell_of_a_model_that_cannot_be_read() -> None:
    unread = KnownCpus(feature_names=NAMES, model_by_name={"EPYC": Unknown("unread")})
    guest = cpu(svm="disable")
    found = features_absent(guest, seen(EPYC=blocked_by("svm", "pni")), unread, host())
    assert wanted(found) == ["pni"]


def test_a_model_that_cannot_be_read_leaves_it_open() -> None:
    unread = KnownCpus(feature_names=NAMES, model_by_name={"EPYC": Unknown("unread")})
    assert left_open(features_absent(cpu(), SEEN, unread, host("pni", "svm"))) == ["unread"]


def test_a_host_that_tells_nothing_of_its_cpu_leaves_it_open() -> None:
    found = list(features_absent(cpu(clwb="require"), SEEN, KNOWN, UNKNOWN_HOST))
    assert not wanted(iter(found))
    assert left_open(iter(found)) == ["no host model"]


def test_names_that_libvirt_takes_out_itself_are_not_missed() -> None:
    guest = cpu(osxsave="require")
    assert not wanted(features_absent(guest, SEEN, KNOWN, host("pni", "svm")))


def test_kvm_gives_topoext_to_who_asks_though_no_host_model_has_it() -> None:
    guest = cpu(topoext="require")
    there = host("pni", "svm")
    assert not wanted(features_absent(guest, SEEN, KNOWN, there))
    emulated = cpu(topoext="require", virt_type="qemu")
    assert wanted(features_absent(emulated, SEEN, KNOWN, there)) == ["topoext"]


def test_ht_under_kvm_is_left_open() -> None:
    found = list(features_absent(cpu(ht="require"), SEEN, KNOWN, host("pni", "svm")))
    assert not wanted(iter(found))
    assert left_open(iter(found))


def test_features_that_a_newer_source_may_not_ask_for_are_left_open() -> None:
    guest = cpu(model="Skylake-Client", vmx_hlt_exit="require", mpx="disable")
    found = list(features_absent(guest, SEEN, KNOWN, host("pni")))
    assert not wanted(iter(found))
    assert "vmx-hlt-exit" in left_open(iter(found))[0]


def test_removed_features_that_a_guest_does_not_mention_are_left_open() -> None:
    found = list(features_absent(cpu(model="Skylake-Client"), SEEN, KNOWN, host("pni")))
    assert "mpx" in left_open(iter(found))[0]
    assert not list(features_absent(cpu(model="Skylake-Client"), SEEN, KNOWN, host("pni", "mpx")))


def test_noise_of_a_guest_that_got_less_than_it_asked_for_holds_nobody_back() -> None:
    """qemu64 with pni and svm asked for and check=none, on hosts that have neither: it moves."""
    live = read(
        "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>EPYC</model>"
        "<feature policy='disable' name='pni'/><feature policy='disable' name='svm'/>"
        "<feature policy='require' name='hypervisor'/>"
        "<feature policy='disable' name='monitor'/></cpu>"
    )
    assert live is not None
    assert not list(features_absent(live, SEEN, KNOWN, host("hypervisor")))


def test_a_passed_through_cpu_is_held_only_to_what_it_names_in_full() -> None:
    named = cpu(mode="host-passthrough", clwb="require")
    loose = cpu(mode="host-passthrough", check="none", clwb="require")
    assert wanted(features_absent(named, SEEN, KNOWN, host())) == ["clwb"]
    assert not list(features_absent(loose, SEEN, KNOWN, host()))


# ------------------------------------------------------ features: a guest that runs nowhere


def test_check_none_never_refuses_a_guest_that_runs_nowhere() -> None:
    assert not list(features_absent(cpu(check="none", clwb="require"), SEEN, KNOWN, host()))


def test_check_partial_is_content_with_what_the_hardware_has() -> None:
    guest = cpu(check="partial", clwb="require")
    there = host("pni", physical=("clwb",))
    assert wanted(features_absent(guest, SEEN, KNOWN, there)) == ["svm"]
    assert not list(features_absent(guest, SEEN, KNOWN, host("pni", "svm", physical=("clwb",))))


def test_check_partial_of_a_newer_model_goes_by_what_is_offered() -> None:
    newer = KnownCpus(feature_names=NAMES, model_by_name={"EPYC": replace(
        EPYC, compares_loosely=False)})  # fmt: skip
    named = seen(EPYC=blocked_by("svm"))
    there = host("pni", physical=("svm",))
    assert wanted(features_absent(cpu(check="partial"), named, newer, there)) == ["svm"]


def test_check_partial_takes_qemus_word_where_libvirt_does() -> None:
    plain = cpu(check="partial", pni="disable")
    newer = seen(EPYC=USABLE, Skylake_Client=blocked_by("pni"))
    assert not list(features_absent(plain, newer, KNOWN, host()))
    assert wanted(features_absent(plain, seen(EPYC=USABLE), KNOWN, host())) == ["svm"]


def test_forced_features_are_not_compared_partially() -> None:
    guest = cpu(check="partial", clwb="force")
    assert not list(features_absent(guest, SEEN, KNOWN, host("pni", "svm")))


def test_a_partial_comparison_with_unknown_hardware_is_left_open() -> None:
    there = replace(host("pni"), physical=Unknown("no model kvm64"))
    assert left_open(features_absent(cpu(check="partial"), SEEN, KNOWN, there)) == [
        "no model kvm64"
    ]


def test_a_full_check_without_hypervisor_named_cannot_hold() -> None:
    (problem,) = features_extra(cpu(), KNOWN)
    assert isinstance(problem, Problem)
    assert problem.wanted == "hypervisor named in the definition"


def test_a_running_guest_names_hypervisor() -> None:
    assert not list(features_extra(cpu(hypervisor="require"), KNOWN))
    assert not list(features_extra(cpu(check="partial"), KNOWN))


# ----------------------------------------------------------------------- laws of comparison

FEATURES = st.frozensets(st.sampled_from(sorted(NAMES)))
POLICIES = st.dictionaries(
    st.sampled_from(sorted(NAMES)),
    st.sampled_from(["require", "force", "disable", "forbid", "optional"]),
)
GUESTS = st.builds(
    lambda check, model, policies, virt_type: replace(
        cpu(check=check, model=model, virt_type=virt_type), policy_by_feature=policies
    ),
    st.sampled_from(["full", "partial", "none"]),
    st.sampled_from(["EPYC", "Skylake-Client"]),
    POLICIES,
    st.sampled_from(["kvm", "qemu"]),
)


@given(GUESTS, FEATURES, FEATURES, FEATURES)
def test_a_host_with_more_features_never_lacks_more(
    guest: GuestCpu, offered: frozenset[str], physical: frozenset[str], more: frozenset[str]
) -> None:
    less = lacking(guest, SEEN, KNOWN, host(*offered, physical=tuple(physical)))
    richer = host(*(offered | more), physical=tuple(physical))
    rich = lacking(guest, SEEN, KNOWN, richer)
    assert rich.sure <= less.sure
    assert rich.open <= less.open


@given(GUESTS, FEATURES, FEATURES, FEATURES)
def test_fewer_blockers_never_make_a_host_lack_more(
    guest: GuestCpu, offered: frozenset[str], blockers: frozenset[str], gone: frozenset[str]
) -> None:
    there = host(*offered)
    many = lacking(guest, seen(EPYC=blocked_by(*blockers)), KNOWN, there)
    few = lacking(guest, seen(EPYC=blocked_by(*(blockers - gone))), KNOWN, there)
    assert few.sure <= many.sure


@given(GUESTS, FEATURES)
def test_a_usable_model_never_lacks_more_than_one_that_is_not(
    guest: GuestCpu, offered: frozenset[str]
) -> None:
    there = host(*offered)
    usable = lacking(guest, seen(EPYC=USABLE, Skylake_Client=USABLE), KNOWN, there)
    assert usable.sure <= lacking(guest, SEEN, KNOWN, there).sure


@given(GUESTS, FEATURES)
def test_only_what_is_asked_for_is_ever_missed(guest: GuestCpu, offered: frozenset[str]) -> None:
    model = KNOWN.model_by_name[guest.model]
    assert isinstance(model, KnownModel)
    asked = model.features | guest.features("require", "force")
    lacks = lacking(guest, SEEN, KNOWN, host(*offered))
    assert lacks.sure <= asked - guest.features("disable", "forbid", "optional") - offered


# ----------------------------------------------------------------------------------- others


def test_a_feature_that_the_guest_forbids_and_the_host_has_is_in_the_way() -> None:
    guest = cpu(clwb="forbid")
    assert wanted(forbidden_features(guest, host("clwb"))) == ["no clwb"]


def test_a_forbidden_feature_that_the_host_lacks_is_fine() -> None:
    assert not list(forbidden_features(cpu(clwb="forbid"), host("pni")))


def test_disabled_features_are_not_forbidden_ones() -> None:
    assert not list(forbidden_features(cpu(clwb="disable"), host("clwb")))


def test_check_none_forbids_nothing() -> None:
    assert not list(forbidden_features(cpu(check="none", clwb="forbid"), host("clwb")))


def test_a_forbidden_feature_of_the_hardware_alone_is_left_open_or_refused_by_a_partial_check() -> (
    None
):
    there = host(physical=("clwb",))
    assert left_open(forbidden_features(cpu(clwb="forbid"), there))
    assert wanted(forbidden_features(cpu(check="partial", clwb="forbid"), there)) == ["no clwb"]


def test_a_forbidden_feature_on_an_unknown_cpu_is_left_open() -> None:
    assert left_open(forbidden_features(cpu(clwb="forbid"), UNKNOWN_HOST)) == ["no host model"]


def test_another_vendor_is_a_risk_for_a_guest_that_runs() -> None:
    (problem,) = vendor_differs(cpu(vendor="Intel"), SEEN, KNOWN, host())
    assert problem == Problem(subject="CPU EPYC", wanted="Intel", found="AMD")
    assert vendor_differs.severity is Severity.RISK


def test_another_vendor_is_refused_by_a_partial_check() -> None:
    (problem,) = vendor_differs(cpu(vendor="Intel", check="partial"), SEEN, KNOWN, host())
    assert isinstance(problem, Problem)
    assert problem.severity is Severity.BLOCKER


def test_the_same_vendor_is_fine_and_emulated_guests_have_their_own() -> None:
    assert not list(vendor_differs(cpu(vendor="AMD"), SEEN, KNOWN, host()))
    assert not list(vendor_differs(cpu(vendor="Intel", virt_type="qemu"), SEEN, KNOWN, host()))
    assert not list(vendor_differs(cpu(), SEEN, KNOWN, host()))


ORIGIN = GuestOrigin(
    host_name="h3",
    host_uuid="",
    host_model_name="EPYC",
    host_model_vendor="AMD",
    host_model_features=frozenset({"pni", "clwb", "newer-than-here"}),
)
PASSED = cpu(mode="host-passthrough", check="none")


def test_features_that_a_passed_through_guest_loses_are_named() -> None:
    (problem,) = passthrough_differs(PASSED, ORIGIN, KNOWN, host("pni"))
    assert problem == Problem(
        subject="CPU host-passthrough", wanted="as on h3: clwb", found="not there (EPYC)"
    )
    assert passthrough_differs.severity is Severity.RISK


def test_a_host_with_more_loses_a_passed_through_guest_nothing() -> None:
    assert not list(passthrough_differs(PASSED, ORIGIN, KNOWN, host("pni", "clwb", "svm")))


def test_what_a_passed_through_guest_has_off_it_cannot_lose() -> None:
    guest = cpu(mode="host-passthrough", check="none", clwb="disable")
    assert not list(passthrough_differs(guest, ORIGIN, KNOWN, host("pni")))


def test_another_vendor_of_a_passed_through_cpu_is_told() -> None:
    there = host("pni", "clwb", vendor="Intel")
    assert wanted(passthrough_differs(PASSED, ORIGIN, KNOWN, there)) == ["a CPU of AMD"]


def test_a_source_that_does_not_tell_its_cpu_leaves_it_open() -> None:
    silent = GuestOrigin(host_name="h3", host_uuid="", unlearned={"HostCpu": "timed out"})
    assert left_open(passthrough_differs(PASSED, silent, KNOWN, host())) == ["timed out"]
    assert left_open(passthrough_differs(PASSED, ORIGIN, KNOWN, UNKNOWN_HOST)) == ["no host model"]


def test_named_models_are_not_compared_host_with_host() -> None:
    assert not list(passthrough_differs(cpu(), ORIGIN, KNOWN, host()))


def test_a_host_of_another_vendor_is_a_risk_for_a_running_guest() -> None:
    plain = cpu(model="Skylake-Client")
    assert wanted(host_vendor_differs(plain, ORIGIN, host(vendor="Intel"))) == ["AMD"]
    assert host_vendor_differs.severity is Severity.RISK
    assert not list(host_vendor_differs(plain, ORIGIN, host()))


def test_the_vendor_of_an_emulated_or_passed_through_cpu_is_told_elsewhere() -> None:
    there = host(vendor="Intel")
    for guest in (cpu(virt_type="qemu"), cpu(vendor="AMD"), PASSED):
        assert not list(host_vendor_differs(guest, ORIGIN, there))


def test_an_untold_vendor_is_left_open() -> None:
    assert left_open(host_vendor_differs(cpu(), ORIGIN, host(vendor="")))


def with_hyperv(*features: str) -> SeenCapabilities:
    return replace(SEEN, values={"features/hyperv/features": frozenset(features)})


HYPERV = GuestHyperv(features=frozenset({"vpindex", "synic"}))


def test_enlightenments_that_the_host_lacks_are_named() -> None:
    assert wanted(hyperv_absent(HYPERV, with_hyperv("relaxed", "vpindex"))) == ["synic"]


def test_enlightenments_that_the_host_has_are_fine() -> None:
    assert not list(hyperv_absent(HYPERV, with_hyperv("relaxed", "vpindex", "synic")))


def test_a_list_of_settings_only_tells_nothing() -> None:
    assert left_open(hyperv_absent(HYPERV, with_hyperv("spinlocks", "vendor_id")))
    assert left_open(hyperv_absent(HYPERV, SEEN))


def tsc(hz: int) -> GuestTsc:
    return GuestTsc(frequency_hz=hz, virt_type="kvm")


def clocked(hz: int | None = 2_000_000_000, scaling: str = "no") -> PhysicalCpu:
    return PhysicalCpu(model="", features=frozenset(), tsc_hz=hz, tsc_scaling=scaling)


def test_another_tsc_frequency_without_scaling_is_refused() -> None:
    (problem,) = tsc_frequency(tsc(2_000_500_001), clocked())
    assert problem == Problem(
        subject="TSC",
        wanted="2000500001 Hz",
        found="2000000000 Hz, give or take 500000 Hz, without scaling",
    )


def test_250_parts_in_a_million_are_tolerated() -> None:
    assert not list(tsc_frequency(tsc(2_000_500_000), clocked()))
    assert not list(tsc_frequency(tsc(1_999_500_000), clocked()))


def test_scaling_takes_any_tsc_frequency() -> None:
    assert not list(tsc_frequency(tsc(3_000_000_000), clocked(scaling="yes")))


def test_unknown_scaling_or_frequency_is_left_open() -> None:
    assert left_open(tsc_frequency(tsc(3_000_000_000), clocked(scaling="")))
    assert left_open(tsc_frequency(tsc(3_000_000_000), clocked(None)))


def test_an_absent_map_is_told_with_its_path() -> None:
    with pytest.raises(Unreadable, match=r"index\.xml"):
        known_cpus(
            FakeSource(texts={f"{MAP}/index.xml": Absent(f"{MAP}/index.xml")}),
            GuestCpuModel(name="EPYC"),
            CAPABLE,
            PHYSICAL,
        )


BOOKWORM = HostVersions(libvirt=9_000_000, qemu=7_002_022)
TRIXIE = HostVersions(libvirt=11_003_000, qemu=10_000_013)
MENDED = HostVersions(libvirt=11_010_000, qemu=10_000_013)


def threaded(threads: int = 2, **policies: str) -> GuestCpu:
    return replace(cpu(**policies), threads=threads)


def test_a_newer_qemu_adds_ht_to_a_package_of_several_threads() -> None:
    for guest in (threaded(), threaded(4, ht="disable")):
        (problem,) = ht_added(guest, KNOWN, TRIXIE)
        assert isinstance(problem, Problem)
        assert problem.found == "QEMU 10.0.13, which turns it on"


def test_ht_is_added_neither_by_an_older_qemu_nor_to_single_threads_nor_where_it_is() -> None:
    assert not list(ht_added(threaded(), KNOWN, BOOKWORM))
    assert not list(ht_added(threaded(), KNOWN, MENDED))
    assert not list(ht_added(threaded(1), KNOWN, TRIXIE))
    assert not list(ht_added(threaded(ht="require"), KNOWN, TRIXIE))
    assert not list(ht_added(replace(cpu(mode="host-passthrough"), threads=2), KNOWN, TRIXIE))


def test_ht_of_a_running_guest_is_given_by_a_newer_qemu_and_never_by_an_older() -> None:
    guest = threaded(ht="require")
    newer = replace(host(), qemu=TRIXIE.qemu)
    older = replace(host(), qemu=BOOKWORM.qemu)
    model = seen(EPYC=USABLE)
    with_ht = replace(KNOWN, feature_names=KNOWN.feature_names | {"ht"})
    assert not list(features_absent(guest, model, with_ht, newer))
    assert wanted(features_absent(guest, model, with_ht, older)) == ["ht"]
    single = threaded(1, ht="require")
    assert not wanted(features_absent(single, model, with_ht, older))
    assert left_open(features_absent(single, model, with_ht, older))


def test_the_threads_of_a_package_are_counted_from_the_topology() -> None:
    def read(topology: str) -> int:
        guest = guest_cpu(
            read_domain(
                f"<domain type='kvm'><name>g</name><cpu mode='host-model'>{topology}</cpu></domain>"
            )
        )
        assert guest is not None
        return guest.threads

    assert read("") == 1
    assert read("<topology sockets='2' cores='1' threads='1'/>") == 1
    assert read("<topology sockets='1' dies='2' cores='2' threads='2'/>") == 8
