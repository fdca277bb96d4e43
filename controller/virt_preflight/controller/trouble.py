"""What ends a command before it has an answer: the user's words, or the world around them."""


class MisusedError(Exception):
    """The command line asks for something that makes no sense. Says what and where."""


class CannotRunError(Exception):
    """The command is right and still cannot be carried out. Says what is wrong and where."""
