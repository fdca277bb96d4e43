"""The rules of the house, as far as a machine can hold us to them."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from virt_preflight.agent import families
from virt_preflight.agent.catalogue import catalogue
from virt_preflight.agent.checks_page import page
from virt_preflight.agent.fact import Kind

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        [
            "mypy",
            "agent",
            "controller",
            "tests",
            "proto/generate.py",
            "proto/virt_preflight/treaty",
        ],
        ["lint-imports"],
        ["codespell"],
        ["buf", "lint", "proto"],
        # What others may hold on to already: fields and methods are added, none goes or changes.
        ["buf", "breaking", "proto", "--against", "proto/published.binpb"],
        ["python", "proto/generate.py", "--check"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_tool_of_the_house_is_content(command: list[str]) -> None:
    ended = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_family_in_the_folder_is_listed_once() -> None:
    there = {module.name for module in pkgutil.iter_modules(families.__path__)}
    assert sorted(families.FAMILIES) == sorted(there)


def test_the_page_of_checks_is_what_the_code_says() -> None:
    assert (ROOT / "agent/CHECKS.md").read_text() == page(catalogue().checks), "make generate"


def test_the_import_root_is_shared_ground() -> None:
    """A stray __init__.py there would hide the other distributions (PEP 420)."""
    assert not list(ROOT.glob("*/virt_preflight/__init__.py"))


def test_every_check_explains_itself() -> None:
    for check in catalogue().checks:
        assert len(check.explanation) > 40, check.id
        assert check.remedy.endswith("."), check.id
        assert re.fullmatch(r"[a-z0-9]+\.[a-z0-9]+(-[a-z0-9]+)*", check.id)
        assert check.title == check.title.strip(" ."), check.id


def test_every_check_asks_for_a_fact_of_the_guest_or_the_host() -> None:
    for check in catalogue().checks:
        assert check.asks, check.id


def test_kept_looks_are_asked_by_facts_that_can_be_a_key() -> None:
    provider_by_type = catalogue().provider_by_type
    for provider in provider_by_type.values():
        if provider.kind is Kind.LOOK and provider.pace.value == "fixed":
            for asked in provider.asks:
                assert asked.__hash__ is not None, f"{provider.gives}: {asked}"


def test_every_check_has_two_tests() -> None:
    used = [name for test in _tests() for name in {*_names(test)}]
    for check in catalogue().checks:
        count = used.count(check.function.__name__)
        assert count >= 2, f"{check.id} is called by {count} tests, wanted one each way"


def _tests() -> Iterator[ast.FunctionDef]:
    for path in (ROOT / "tests/agent/families").glob("**/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node


def _names(node: ast.AST) -> Iterator[str]:
    for inside in ast.walk(node):
        match inside:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield name


def test_no_folder_is_a_drawer_for_everything() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    words = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [path for path in listed if words & set(re.split(r"[/._]", path))]
