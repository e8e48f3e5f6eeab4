"""Slices of a tensor: which elements are read, and what is picked of them afterwards."""

import math
import operator
from typing import Any, List, NamedTuple, Tuple, Union

#: Rows of fewer bytes are not worth a read of their own: what lies between them is read with them.
SMALL_ROW = 4096


#: What is picked of an axis.
Axis = Union[int, slice]


class Picked(NamedTuple):
    """What an index picks."""

    #: Ranges of elements, in order and apart.
    ranges: List[Tuple[int, int]]
    #: The shape of what is read of them.
    shape: Tuple[int, ...]
    #: What is picked of that.
    rest: Tuple[Axis, ...]


def pick(shape: Tuple[int, ...], index: Any, element_bits: int) -> Picked:
    """What `index` picks of a tensor of that shape: whole rows of it are read, and no row that is not wanted.

    Integers, slices with positive steps, and one ellipsis are accepted, as `safetensors` does.
    """
    axes = [one_axis(axis, size, part) for axis, (size, part) in enumerate(zip(shape, full_index(shape, index)))]
    start = 0
    for first, axis in enumerate(axes):
        row, behind = math.prod(shape[first + 1 :]), shape[first + 1 :]
        if isinstance(axis, slice):
            return sliced(axis, start, row, behind, tuple(axes[first + 1 :]), element_bits)
        start += axis * row
    return Picked([(start, start + 1)], (), ())


def sliced(
    axis: slice, start: int, row: int, behind: Tuple[int, ...], rest: Tuple[Axis, ...], element_bits: int
) -> Picked:
    """What is picked by the first slice, whose axis begins at element `start` and has rows of so many elements, and by the `rest`
    behind it."""
    count = len(range(axis.start, axis.stop, axis.step))
    start += axis.start * row
    if count == 0 or row == 0:
        return Picked([], (count, *behind), (slice(None), *rest))
    if axis.step == 1 or count == 1:
        return Picked([(start, start + count * row)], (count, *behind), (slice(None), *rest))
    if row * element_bits >= 8 * SMALL_ROW:
        rows = [start + i * axis.step * row for i in range(count)]
        return Picked([(at, at + row) for at in rows], (count, *behind), (slice(None), *rest))
    span = (count - 1) * axis.step + 1
    return Picked([(start, start + span * row)], (span, *behind), (slice(None, None, axis.step), *rest))


def full_index(shape: Tuple[int, ...], index: Any) -> List[Any]:
    """A part of the index for each axis."""
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    given = len(parts) - len(dots)
    if given > len(shape):
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}: {given} are given")
    at = dots[0] if dots else len(parts)
    filled = [slice(None)] * (len(shape) - given)
    return parts[:at] + filled + parts[at + len(dots) :]


def one_axis(axis: int, size: int, part: Any) -> Axis:
    """An index of one axis, without negative numbers."""
    if isinstance(part, slice):
        if part.step is not None and operator.index(part.step) <= 0:
            raise ValueError("step must be greater than zero")
        start, stop, step = part.indices(size)
        return slice(start, max(start, stop), step)
    if isinstance(part, bool) or part is None:
        raise TypeError(f"{part!r} is no index of dimension {axis}: integers, slices and `...` are accepted")
    try:
        at = operator.index(part)
    except TypeError:
        kind = type(part).__name__
        raise TypeError(f"a {kind} is no index of dimension {axis}: integers, slices and `...` are accepted") from None
    if not -size <= at < size:
        raise IndexError(f"index {at} is out of bounds for dimension {axis} with size {size}")
    return at % size
