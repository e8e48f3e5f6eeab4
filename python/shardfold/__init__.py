"""shardfold merges fine-tuning adapters into checkpoints of any size, under a memory limit.

`merge`, `convert`, `diff`, `extract`, `finish`, `plan`, `inspect`, `verify` and `report` are the commands; `open_merged` reads the tensors of a merge without writing it.
"""

from shardfold._call import Progress, convert, diff, extract, finish, inspect, merge, plan, report, verify
from shardfold._errors import (
    BudgetError,
    BugError,
    DataError,
    Error,
    InputOutputError,
    NotFoundError,
    Notice,
    OutputError,
    StoppedError,
    UsageError,
)
from shardfold._merged import Merged, MergedSlice, MissingTensorError, open_merged
from shardfold._shardfold import __version__

__all__ = [
    "BudgetError",
    "BugError",
    "DataError",
    "Error",
    "InputOutputError",
    "Merged",
    "MergedSlice",
    "MissingTensorError",
    "NotFoundError",
    "Notice",
    "OutputError",
    "Progress",
    "StoppedError",
    "UsageError",
    "__version__",
    "convert",
    "diff",
    "extract",
    "finish",
    "inspect",
    "merge",
    "open_merged",
    "plan",
    "report",
    "verify",
]
