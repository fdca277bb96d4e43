from dataclasses import replace

from tests.controller.samples import BRIDGE, LACK, LEASE, PAGES, PASSTHROUGH, REMARK, heard, report
from virt_preflight.controller.answers import Unanswered
from virt_preflight.controller.ranking import rank
from virt_preflight.controller.render.grouping import Block, Fold, blocks, folded, source_block


def test_fifty_hosts_with_the_same_fault_are_one_block() -> None:
    ranked = rank(None, [heard(f"h{number}", BRIDGE) for number in range(50)])
    (block,) = blocks(ranked, None)
    assert (len(block.hosts), block.items) == (50, (BRIDGE,))


def test_what_a_host_has_alone_is_in_a_block_of_its_own() -> None:
    ranked = rank(None, [heard("h2", BRIDGE), heard("h3", BRIDGE, PAGES)])
    assert blocks(ranked, None) == [
        Block(hosts=("h2", "h3"), items=(BRIDGE,)),
        Block(hosts=("h3",), items=(PAGES,)),
    ]


def test_a_fault_that_differs_in_its_words_is_not_the_same() -> None:
    other = replace(PAGES, found="100 free")
    ranked = rank(None, [heard("h2", PAGES), heard("h3", other)])
    assert [block.hosts for block in blocks(ranked, None)] == [("h2",), ("h3",)]


def test_the_source_s_findings_are_not_repeated_for_every_host() -> None:
    said = report(LEASE)
    ranked = rank(said, [heard("h2"), heard("h3", BRIDGE)])
    assert blocks(ranked, said) == [Block(hosts=("h3",), items=(BRIDGE,))]
    assert source_block("h1", said) == Block(hosts=("h1",), items=(LEASE,))


def test_heavy_findings_come_first_then_the_unknown_then_the_waived() -> None:
    waived = replace(PAGES, waived=True)
    ranked = rank(None, [heard("h2", REMARK, waived, PASSTHROUGH, BRIDGE, unanswered=[LACK])])
    (block,) = blocks(ranked, None)
    assert block.items == (BRIDGE, PASSTHROUGH, REMARK, LACK, waived)


def test_an_agent_that_says_a_thing_twice_is_heard_once() -> None:
    (block,) = blocks(rank(None, [heard("h2", BRIDGE, BRIDGE)]), None)
    assert block == Block(hosts=("h2",), items=(BRIDGE,))


HUNG = "no answer from libvirtd within 2.5 s"


def lacks(*whys: str) -> list[Unanswered]:
    return [replace(LACK, check=f"a.b{number}", why=why) for number, why in enumerate(whys)]


def test_open_questions_of_one_cause_are_one() -> None:
    open_questions = lacks(
        "cpu: libvirtd has not answered for 2 s",
        "disks: libvirtd has not answered for 3 s; nics: libvirtd has not answered for 3 s",
        "the check itself broke",
        "libvirtd has not answered for 0.5 s",
    )
    fold, alone = folded(open_questions)
    assert isinstance(fold, Fold)
    assert [item.check for item in fold.items] == ["a.b0", "a.b1", "a.b3"]
    assert fold.cause == "libvirtd has not answered for 2 s"
    assert alone == open_questions[2]


def test_what_is_told_of_nodes_or_files_is_not_the_same_cause() -> None:
    open_questions = lacks("cannot read node0", "cannot read node1", "cannot read node2")
    assert folded(open_questions) == open_questions


def test_two_of_one_cause_are_told_one_by_one() -> None:
    open_questions = lacks(HUNG, HUNG)
    assert folded(open_questions) == open_questions


def test_what_is_waived_is_not_folded_with_what_counts() -> None:
    open_questions = lacks(HUNG, HUNG, HUNG)
    open_questions[1] = replace(open_questions[1], waived=True)
    assert folded(open_questions) == open_questions


def test_findings_stay_as_they_are_between_folded_questions() -> None:
    told = folded([BRIDGE, *lacks(HUNG, HUNG, HUNG), PAGES])
    assert (told[0], told[2], len(told)) == (BRIDGE, PAGES, 3)


def test_libvirt_s_words_about_a_host_do_not_make_a_finding_another_one() -> None:
    ranked = rank(
        None,
        [
            heard("h2", replace(BRIDGE, libvirt_error="pid 7: no bridge")),
            heard("h3", replace(BRIDGE, libvirt_error="pid 9: no bridge")),
        ],
    )
    (block,) = blocks(ranked, None)
    assert block.hosts == ("h2", "h3")
    assert block.items == (replace(BRIDGE, libvirt_error="pid 7: no bridge"),)
