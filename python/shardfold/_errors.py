"""Exceptions: one class for each exit code of the command, with the text that the command prints."""

from typing import Optional


class Error(Exception):
    """What went wrong; `str()` of it is what the command prints, without the first `error: `."""

    #: The code that the command ends with.
    exit_code = 70
    #: All that the command prints.
    text: str
    #: How to cure it, if that is known and there is one error.
    hint: Optional[str]

    def __init__(self, text: str, hint: Optional[str] = None) -> None:
        super().__init__(text.removeprefix("error: ").rstrip("\n"))
        self.text = text
        self.hint = hint

    def __str__(self) -> str:
        return str(self.args[0])


class UsageError(Error, ValueError):
    """An argument that cannot be meant so (2)."""

    exit_code = 2


class DataError(Error, ValueError):
    """A base or an adapter that is wrong, or that do not belong together (65)."""

    exit_code = 65


class NotFoundError(Error, FileNotFoundError):
    """An input that is not there (66)."""

    exit_code = 66


class BugError(Error, RuntimeError):
    """A bug in shardfold (70)."""

    exit_code = 70


class BudgetError(Error, MemoryError):
    """A `max_ram` that does not suffice (71)."""

    exit_code = 71


class OutputError(Error, FileExistsError):
    """An output that cannot be created, or is there already and is something else (73)."""

    exit_code = 73


class InputOutputError(Error, OSError):
    """A file that cannot be read or written, or a disk that is full (74)."""

    exit_code = 74


class StoppedError(Error):
    """Work that was stopped (75); the same call goes on where it stopped."""

    exit_code = 75


_CLASSES = (UsageError, DataError, NotFoundError, BugError, BudgetError, OutputError, InputOutputError, StoppedError)


class Notice(UserWarning):
    """Something worth knowing that is no error: what the command prints after `note:` or `warning:`."""


def exception(exit_code: int, text: str, hint: Optional[str]) -> Error:
    """The exception for an exit code."""
    of_code = {one.exit_code: one for one in _CLASSES}
    return of_code.get(exit_code, BugError)(text, hint)
