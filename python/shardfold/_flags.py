"""Keywords as flags of the command: `max_ram="16G"` is `--max-ram=16G`, `keep_quantized=True` is `--keep-quantized`.

No flag is named here, so that a flag of the command is a keyword as soon as there is one, and is refused with the same words.
"""

import os
from typing import Any, Iterable, List, Sequence, Tuple, Union

PathOrName = Union[str, "os.PathLike[str]"]
Weight = Union[float, str, "dict[str, float]"]
Adapter = Union[PathOrName, Tuple[PathOrName, Weight]]


def merge_arguments(base: Any, adapters: Any, flags: "dict[str, Any]") -> List[str]:
    """The inputs and the flags of a merge."""
    args = [] if base is None else ["--base=" + os.fspath(base)]
    for adapter in each_adapter(adapters):
        if isinstance(adapter, tuple):
            path, weight = adapter
            args += ["--scaled-adapter", os.fspath(path), weight_text(weight)]
        else:
            args.append("--adapter=" + os.fspath(adapter))
    return args + flag_arguments(flags)


def weight_text(weight: Any) -> str:
    """A number, or those of some modules: a dictionary by pattern, in which `*` may stand anywhere, or its text."""
    if isinstance(weight, dict):
        others = [pattern for pattern in weight if pattern == "*"]
        patterns = [pattern for pattern in weight if pattern != "*"] + others
        return ",".join(f"{pattern}={weight_text(weight[pattern])}" for pattern in patterns)
    return repr(weight) if isinstance(weight, float) else str(weight)


def each_adapter(adapters: Any) -> Sequence[Any]:
    """One adapter, one with its weight, or several of either."""
    if isinstance(adapters, (str, os.PathLike)):
        return [adapters]
    if isinstance(adapters, tuple) and len(adapters) == 2 and not isinstance(adapters[1], (str, os.PathLike, tuple)):
        return [adapters]
    return list(adapters)


def flag_arguments(flags: "dict[str, Any]") -> List[str]:
    """Flags: true ones alone, others with their value, lists as often as they have values."""
    args: List[str] = []
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            args.append(flag)
            continue
        values: Iterable[Any] = value if isinstance(value, (list, tuple)) else [value]
        args += [f"{flag}={os.fspath(one) if isinstance(one, os.PathLike) else one}" for one in values]
    return args
