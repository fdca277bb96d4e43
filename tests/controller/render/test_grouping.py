from dataclasses import replace

from tests.controller.samples import BRIDGE, LACK, LEASE, PAGES, PASSTHROUGH, REMARK, heard, report
from virt_preflight.controller.ranking import rank
from virt_preflight.controller.render.grouping import Block, blocks, source_block


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
