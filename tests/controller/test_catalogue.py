import re

import pytest

from tests.controller.samples import CHECKS
from virt_preflight.controller import wire
from virt_preflight.controller.catalogue import named, refuse_unknown
from virt_preflight.controller.question import Questions
from virt_preflight.controller.trouble import MisusedError

KNOWN = wire.list_checks().read(CHECKS.SerializeToString())


def test_ids_and_families_that_exist_are_accepted() -> None:
    refuse_unknown(Questions(only=("nics", "pages.too-few-free"), skip=("pages",)), KNOWN)
    refuse_unknown(Questions(waive=("nics.bridge-absent",)), KNOWN)


@pytest.mark.parametrize(
    ("questions", "complaint"),
    [
        (Questions(only=("nics.bridge-abscent",)), "--only nics.bridge-abscent: no such check; "),
        (Questions(skip=("page",)), "--skip page: no such check; close to it: pages"),
        (Questions(waive=("zzz",)), "--waive zzz: no such check (`virt-preflight checks`"),
        (Questions(waive=("nics",)), "--waive nics: is a family, and one check is needed: nics.b"),
    ],
)
def test_a_misspelt_check_is_never_ignored(questions: Questions, complaint: str) -> None:
    with pytest.raises(MisusedError, match=re.escape(complaint)):
        refuse_unknown(questions, KNOWN)


def test_a_question_that_asks_nothing_is_refused() -> None:
    with pytest.raises(MisusedError, match="leave no check to ask"):
        refuse_unknown(Questions(only=("nics",), skip=("nics",)), KNOWN)


def test_a_check_is_found_by_its_id() -> None:
    assert named("pages.too-few-free", KNOWN).title == "too few free huge pages"


def test_a_check_that_does_not_exist_is_a_misuse() -> None:
    with pytest.raises(MisusedError, match="nics: is a family"):
        named("nics", KNOWN)
