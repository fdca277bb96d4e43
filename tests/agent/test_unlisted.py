import pytest

from tests.agent.fake import FakeSource
from virt_preflight.agent.fact import Unknown
from virt_preflight.agent.sources import Absent, Refused, SourceError, Unreadable
from virt_preflight.agent.unlisted import unlisted

RIGHT = "the agent needs the right org.libvirt.api.network.getattr: access denied"


def asked(answer: str | SourceError) -> Unknown | None:
    return unlisted(FakeSource(answers={("network-named", "lan"): answer}), "network-named", "lan")


@pytest.mark.parametrize(
    "answer", [Absent("no network with matching name 'lan'"), Refused("must be a valid UUID")]
)
def test_what_libvirt_has_not_is_not_there(answer: SourceError) -> None:
    assert asked(answer) is None


def test_what_we_may_not_see_may_be_there_and_the_right_is_named() -> None:
    assert asked(Unreadable(RIGHT)) == Unknown(RIGHT)


def test_what_came_after_the_list_is_not_called_absent() -> None:
    assert asked("") == Unknown("libvirt has lan and does not list it")
