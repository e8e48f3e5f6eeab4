"""The commands as functions. What they return is what the command prints with `--json`."""

import json
import os
import warnings
from typing import Any, Callable, NamedTuple, Optional

from shardfold import _shardfold
from shardfold._errors import Notice
from shardfold._flags import flag_arguments, merge_arguments


class Progress(NamedTuple):
    """How far a merge is."""

    #: Bytes of the output that are written, and all that will be.
    written_bytes: int
    total_bytes: int
    #: Bytes that were read.
    read_bytes: int
    #: The shard that is being written, from 1, and how many there are.
    shard: int
    shards: int


def note(text: str) -> None:
    """Tells of a note as Python tells of warnings."""
    # Of this function's callers the first that is no part of the package is meant: it stands behind the native call.
    warnings.warn(text, Notice, stacklevel=4)


def call(args: "list[str]", progress: Optional[Callable[[Progress], Any]]) -> Any:
    tell = None if progress is None else lambda *now: progress(Progress(*now))
    return json.loads(_shardfold.call(args, note, tell))


def merge(base: Any, adapters: Any, output: Any, *, progress: Any = None, **flags: Any) -> Any:
    """Merges `adapters` into `base` and writes the result to `output`; the summary of the merge."""
    args = ["merge", *merge_arguments(base, adapters, flags), "--output=" + os.fspath(output)]
    return call(args, progress)


def plan(base: Any, adapters: Any, *, progress: Any = None, **flags: Any) -> Any:
    """What `merge` would do, without writing anything."""
    return call(["plan", *merge_arguments(base, adapters, flags)], progress)


def convert(source: Any, output: Any, *, progress: Any = None, **flags: Any) -> Any:
    """Writes a checkpoint in another type (`dtype`), in other shards (`max_shard_size`), or as safetensors."""
    args = ["convert", *flag_arguments(flags), "--output=" + os.fspath(output), "--", os.fspath(source)]
    return call(args, progress)


def finish(output: Any, *, progress: Any = None, **flags: Any) -> Any:
    """Joins the parts that `merge(..., part="I/N")` made."""
    return call(["finish", *flag_arguments(flags), "--", os.fspath(output)], progress)


def report(path: Any, base: Any = None, adapters: Any = (), *, progress: Any = None, **flags: Any) -> Any:
    """A page about a merged directory for a browser, as text; `None` if it is written to `output`."""
    return call(["report", *merge_arguments(base, adapters, flags), "--", os.fspath(path)], progress)


def inspect(path: Any, **flags: Any) -> Any:
    """What a checkpoint or an adapter holds."""
    return call(["inspect", *flag_arguments(flags), "--", os.fspath(path)], None)


def diff(a: Any, b: Any, *, progress: Any = None, **flags: Any) -> Any:
    """In what two checkpoints differ, tensor by tensor."""
    return call(["diff", *flag_arguments(flags), "--", os.fspath(a), os.fspath(b)], progress)


def extract(base: Any, tuned: Any, output: Any, *, progress: Any = None, **flags: Any) -> Any:
    """Writes the difference of two checkpoints as a LoRA adapter of `rank`; what it keeps."""
    args = ["extract", *flag_arguments(flags), "--output=" + os.fspath(output), "--", os.fspath(base), os.fspath(tuned)]
    return call(args, progress)


def verify(path: Any, base: Any = None, adapters: Any = (), *, progress: Any = None, **flags: Any) -> Any:
    """Whether a directory is what merging its inputs gives, or what its hashes say (`hashes_only=True`)."""
    args = ["verify", *merge_arguments(base, adapters, flags), "--", os.fspath(path)]
    return call(args, progress)
