"""What ends a command before it has an answer: the user's words, or the world around them."""

# Fields of a question whose option is not called like them.
OPTION_BY_FIELD = {"from_host": "--from", "to_hosts": "--to", "labels": "--label"}


class MisusedError(Exception):
    """The command line asks for something that makes no sense. Says what and where."""


class BadFieldError(MisusedError):
    """The same of one field of the question: `why` goes on where the field's name ended."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{option_of(field)} {why}")
        self.field = field
        self.why = why


class CannotRunError(Exception):
    """The command is right and still cannot be carried out. Says what is wrong and where."""


class NoSuchGuestError(CannotRunError):
    """No host has the guest."""


class NothingToAskError(CannotRunError):
    """The guest or the fleet as they are leave nothing that could be asked."""


class NobodyAnsweredError(CannotRunError):
    """Nobody gave what was needed from one."""


class RefusedByHostsError(CannotRunError):
    """Every agent that answers says that the question itself is wrong, at these fields."""

    def __init__(self, text: str, objections: tuple[tuple[str, str], ...]) -> None:
        super().__init__(text)
        self.objections = objections


def option_of(field: str) -> str:
    """The option of the command line by which a field of the question is given."""
    name = field.rpartition(".")[2]
    return OPTION_BY_FIELD.get(name, f"--{name.replace('_', '-')}")
