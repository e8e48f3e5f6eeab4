"""The tensors of a merge, made as they are read: the interface of `safetensors.safe_open`."""

from typing import Any, Dict, Iterator, List, Optional, Tuple

from shardfold import _shardfold
from shardfold._call import note
from shardfold._errors import UsageError
from shardfold._flags import merge_arguments
from shardfold._frameworks import BITS, framework
from shardfold._index import pick


class _Tensor:
    """What is known of a tensor before it is read."""

    __slots__ = ("dtype", "shape", "bytes")

    def __init__(self, dtype: str, shape: List[int], count: int) -> None:
        self.dtype, self.shape, self.bytes = dtype, tuple(shape), count


class Merged:
    """An open merge; `open_merged` makes one."""

    def __init__(self, args: "list[str]", name: str, device: Any) -> None:
        self._arrays = framework(name, device)
        self._reader: Optional[Any] = _shardfold.Reader(args, note)
        rows = self._reader.tensors()
        self._tensors = {name: _Tensor(dtype, shape, count) for name, dtype, shape, count in rows}

    def __enter__(self) -> "Merged":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the inputs and of the memory of the merge."""
        self._reader = None

    def __len__(self) -> int:
        return len(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def keys(self) -> List[str]:
        """The names of all tensors, sorted."""
        return sorted(self._tensors)

    def offset_keys(self) -> List[str]:
        """The names of all tensors in the order in which they are read fastest: shard by shard, as their bytes lie."""
        return list(self._tensors)

    def metadata(self) -> Optional[Dict[str, str]]:
        """What the header of the first shard says beside its tensors; None if that is nothing."""
        return dict(self._open().metadata()) or None

    def get_tensor(self, name: str) -> Any:
        """The tensor `name`."""
        tensor = self._tensor(name)
        ranges = [(0, tensor.bytes)] if tensor.bytes else []
        return self._arrays.finished(self._read(name, tensor, ranges, tensor.shape))

    def get_tensors(self) -> Dict[str, Any]:
        """All tensors by name."""
        return dict(self.tensors())

    def get_slice(self, name: str) -> "MergedSlice":
        """The tensor `name`, of which only what is indexed is made."""
        return MergedSlice(self, name, self._tensor(name))

    def tensors(self) -> Iterator[Tuple[str, Any]]:
        """Names and tensors, one after the other, in the order of `offset_keys`: what an engine's loader takes."""
        for name in self._tensors:
            yield name, self.get_tensor(name)

    def _open(self) -> Any:
        if self._reader is None:
            raise ValueError("the merge is closed")
        return self._reader

    def _tensor(self, name: str) -> _Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise MissingTensorError(f"error: the merged checkpoint has no tensor `{name}`\n") from None

    def _read(self, name: str, tensor: _Tensor, ranges: List[Tuple[int, int]], shape: Tuple[int, ...]) -> Any:
        reader = self._open()
        self._arrays.check(tensor.dtype)
        count = sum(end - start for start, end in ranges)
        memory, address = self._arrays.empty(count)
        reader.read(name, ranges, address, count)
        return self._arrays.shaped(memory, tensor.dtype, shape)


class MissingTensorError(UsageError, KeyError):
    """A tensor that the merge has not."""


class MergedSlice:
    """A tensor of a merge, of which only what is indexed is made."""

    def __init__(self, merged: Merged, name: str, tensor: _Tensor) -> None:
        self._merged, self._name, self._tensor = merged, name, tensor

    def get_shape(self) -> List[int]:
        """Its shape."""
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """Its type, by the name that safetensors has for it."""
        return self._tensor.dtype

    def __getitem__(self, index: Any) -> Any:
        """What `index` picks; only the rows of the first axis that is sliced are made of which something is picked."""
        tensor = self._tensor
        bits = BITS[tensor.dtype]
        if bits < 8:
            raise TypeError(f"elements of {tensor.dtype} are less than a byte: `get_tensor` has them all")
        picked = pick(tensor.shape, index, bits)
        ranges = [(start * bits // 8, end * bits // 8) for start, end in picked.ranges]
        array = self._merged._read(self._name, tensor, ranges, picked.shape)
        return self._merged._arrays.finished(array[picked.rest])


def open_merged(base: Any, adapters: Any, framework: str = "pt", device: Any = "cpu", **flags: Any) -> Merged:
    """Opens the merge of `adapters` into `base` for reading. Nothing is written, and a tensor is made when it is read."""
    return Merged(["merge", *merge_arguments(base, adapters, flags)], framework, device)
