from virt_preflight.controller.answers import Silent
from virt_preflight.controller.naming import listed, told


def test_a_short_list_is_given_whole() -> None:
    assert listed(["h1", "h2"]) == "h1, h2"


def test_a_long_list_is_cut_and_says_so() -> None:
    names = [f"h{number}" for number in range(1, 51)]
    assert listed(names) == "h1, h2, h3, h4, h5, h6, h7, h8 and 42 more"


def test_silent_hosts_are_told_by_their_reason() -> None:
    silent = [
        Silent(host="h3", why="no answer within 5 s"),
        Silent(host="h4", why="connection refused"),
        Silent(host="h5", why="no answer within 5 s"),
    ]
    assert told(silent) == "h3, h5: no answer within 5 s; h4: connection refused"
