from virt_preflight.agent.check import Problem
from virt_preflight.agent.domain import read_domain
from virt_preflight.agent.families.pages import (
    GuestPages,
    HostPages,
    PageNeed,
    guest_pages,
    no_mount,
    too_few_free,
)

HOST = HostPages(
    default_kib=2048,
    free_by_kib_by_cell={0: {2048: 4}, 1: {2048: 2}},
    total_by_kib={2048: 8},
    mounted_kib=frozenset({2048}),
)


def guest(pages: int, *, page_kib: int = 2048, cells: tuple[int, ...] = ()) -> GuestPages:
    need = PageNeed(page_kib=page_kib, memory_kib=pages * 2048, cells=frozenset(cells))
    return GuestPages(needs=(need,))


def read(backing: str, extra: str = "") -> GuestPages | None:
    return guest_pages(
        read_domain(
            f"<domain><name>g</name><memory unit='MiB'>8</memory>"
            f"<memoryBacking>{backing}</memoryBacking>{extra}</domain>"
        )
    )


def test_too_few_free_pages_are_counted() -> None:
    (problem,) = too_few_free(guest(7), HOST)
    assert problem == Problem(subject="2048 KiB pages", wanted="7 free", found="6 free of 8")


def test_exactly_enough_is_enough() -> None:
    assert not list(too_few_free(guest(6), HOST))


def test_pages_of_another_cell_do_not_help_a_bound_guest() -> None:
    (problem,) = too_few_free(guest(3, cells=(1,)), HOST)
    assert isinstance(problem, Problem)
    assert problem.subject == "2048 KiB pages on NUMA cell 1"


def test_default_size_is_the_hosts() -> None:
    assert not list(too_few_free(guest(6, page_kib=0), HOST))


def test_a_size_without_mount_is_refused() -> None:
    (problem,) = no_mount(guest(1, page_kib=1048576), HOST)
    assert isinstance(problem, Problem)
    assert problem.found == "mounted for 2048 KiB"


def test_a_mounted_size_is_fine() -> None:
    assert not list(no_mount(guest(1), HOST))


def test_a_guest_without_huge_pages_needs_none() -> None:
    assert read("") is None


def test_hugepages_without_page_mean_the_default_size() -> None:
    assert read("<hugepages/>") == GuestPages(needs=(PageNeed(page_kib=0, memory_kib=8192),))


def test_pages_for_some_guest_cells_leave_the_others_plain() -> None:
    cells = (
        "<cpu><numa><cell id='0' memory='4' unit='MiB'/><cell id='1' memory='4' unit='MiB'/>"
        "</numa></cpu><numatune><memnode cellid='1' mode='strict' nodeset='0'/></numatune>"
    )
    got = read("<hugepages><page size='2' unit='MiB' nodeset='1'/></hugepages>", cells)
    assert got == GuestPages(
        needs=(PageNeed(page_kib=2048, memory_kib=4096, cells=frozenset({0})),)
    )
