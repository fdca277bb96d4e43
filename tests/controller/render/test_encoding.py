import json

import yaml

from virt_preflight.controller.render import encoding

DOCUMENT: dict[str, object] = {"b": 1, "a": ["\x9b2J", "br\u202eidge", "no", "1e3", None], "c": {}}


def test_json_comes_back_as_it_went() -> None:
    assert json.loads(encoding.as_json(DOCUMENT)) == DOCUMENT


def test_yaml_says_the_same_as_json_in_the_same_order() -> None:
    text = encoding.as_yaml(DOCUMENT)
    assert yaml.safe_load(text) == DOCUMENT
    assert text.startswith("b: 1\na:")


def test_each_line_of_jsonl_is_a_document() -> None:
    lines = encoding.as_json_lines([DOCUMENT, {"x": 1}]).splitlines()
    assert [json.loads(line) for line in lines] == [DOCUMENT, {"x": 1}]


def test_nothing_that_steers_a_terminal_is_written_raw() -> None:
    for text in (
        encoding.as_json(DOCUMENT),
        encoding.as_json_lines([DOCUMENT]),
        encoding.as_yaml(DOCUMENT),
    ):
        assert text.isascii()
        assert "\x1b" not in text


def test_names_come_one_a_line() -> None:
    assert encoding.as_names(["h2", "h5"]) == "h2\nh5\n"
    assert encoding.as_names([]) == ""
