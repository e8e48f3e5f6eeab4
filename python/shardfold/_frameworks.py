"""Arrays of numpy and torch over bytes of a tensor."""

import importlib
from typing import Any, Tuple

#: Bits of an element, by the names of safetensors.
BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}

_NUMPY = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}

#: Types that numpy has only with the package ml_dtypes.
_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}

_TORCH = {
    **_NUMPY,
    **_ML_DTYPES,
    "F4": "float4_e2m1fn_x2",
}


def framework(name: str, device: Any) -> Any:
    """The arrays of the framework that safetensors calls so."""
    if name in ("np", "numpy"):
        if str(device) != "cpu":
            raise ValueError(f"numpy has no device {device!r}: `framework=\"pt\"` has")
        return Numpy()
    if name in ("pt", "torch", "pytorch"):
        return Torch(device)
    raise ValueError(f"framework {name!r}: `numpy` (`np`) and `torch` (`pt`) are accepted")


def _imported(name: str, other: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as cause:
        text = f"{name} is not installed, and tensors are asked for as its arrays: install it, or ask for `{other}`"
        raise ImportError(text, name=name) from cause


class Numpy:
    """Arrays of numpy, which is imported with the first of them."""

    def empty(self, count: int) -> Tuple[Any, int]:
        """Memory of so many bytes of which nothing is written yet, and its address."""
        array = _imported("numpy", "pt").empty(count, dtype="uint8")
        return array, array.ctypes.data

    def shaped(self, memory: Any, dtype: str, shape: Tuple[int, ...]) -> Any:
        """The memory as an array of that type."""
        return memory.view(self._dtype(dtype)).reshape(shape)

    def check(self, dtype: str) -> None:
        """Fails before anything is read if there is no such type."""
        self._dtype(dtype)

    def _dtype(self, dtype: str) -> Any:
        numpy = _imported("numpy", "pt")
        if dtype in _NUMPY:
            return numpy.dtype(_NUMPY[dtype])
        if dtype in _ML_DTYPES:
            try:
                return numpy.dtype(getattr(importlib.import_module("ml_dtypes"), _ML_DTYPES[dtype]))
            except (ImportError, AttributeError):
                text = f"numpy has no type for {dtype}: install ml_dtypes, which has it, or use `framework=\"pt\"`"
                raise TypeError(text) from None
        raise TypeError(f"numpy has no type for {dtype}")

    def finished(self, array: Any) -> Any:
        return array


class Torch:
    """Tensors of torch, which is imported with the first of them."""

    def __init__(self, device: Any) -> None:
        self._device = device

    def empty(self, count: int) -> Tuple[Any, int]:
        """Memory of so many bytes of which nothing is written yet, and its address."""
        torch = _imported("torch", "np")
        tensor = torch.empty(count, dtype=torch.uint8)
        return tensor, tensor.data_ptr()

    def shaped(self, memory: Any, dtype: str, shape: Tuple[int, ...]) -> Any:
        """The memory as a tensor of that type."""
        if dtype == "F4":
            # Two values are one element there, as safetensors has it.
            shape = (*shape[:-1], shape[-1] // 2)
        return memory.view(self._dtype(dtype)).reshape(shape)

    def check(self, dtype: str) -> None:
        """Fails before anything is read if there is no such type."""
        self._dtype(dtype)

    def _dtype(self, dtype: str) -> Any:
        found = getattr(_imported("torch", "np"), _TORCH.get(dtype, ""), None)
        if found is None:
            raise TypeError(f"this torch has no type for {dtype}")
        return found

    def finished(self, tensor: Any) -> Any:
        """The tensor where it is wanted."""
        return tensor if str(self._device) == "cpu" else tensor.to(self._device)
