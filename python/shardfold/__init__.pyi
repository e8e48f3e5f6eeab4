import os
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, List, Literal, NamedTuple, Optional, Sequence, Tuple, Type, Union

_Path = Union[str, "os.PathLike[str]"]
_Weight = Union[float, str, Dict[str, float]]
_Adapter = Union[_Path, Tuple[_Path, _Weight]]
_Adapters = Union[_Adapter, Sequence[_Adapter]]
_Several = Union[str, Sequence[str]]

__version__: str
__all__: List[str]

class Error(Exception):
    exit_code: int
    text: str
    hint: Optional[str]

class UsageError(Error, ValueError): ...
class DataError(Error, ValueError): ...
class NotFoundError(Error, FileNotFoundError): ...
class BugError(Error, RuntimeError): ...
class BudgetError(Error, MemoryError): ...
class OutputError(Error, FileExistsError): ...
class InputOutputError(Error, OSError): ...
class StoppedError(Error): ...
class MissingTensorError(UsageError, KeyError): ...
class Notice(UserWarning): ...

class Progress(NamedTuple):
    written_bytes: int
    total_bytes: int
    read_bytes: int
    shard: int
    shards: int

class MergedSlice:
    def get_shape(self) -> List[int]: ...
    def get_dtype(self) -> str: ...
    def __getitem__(self, index: Any) -> Any: ...

class Merged:
    def __enter__(self) -> Merged: ...
    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, name: object) -> bool: ...
    def close(self) -> None: ...
    def keys(self) -> List[str]: ...
    def offset_keys(self) -> List[str]: ...
    def metadata(self) -> Optional[Dict[str, str]]: ...
    def get_tensor(self, name: str) -> Any: ...
    def get_tensors(self) -> Dict[str, Any]: ...
    def get_slice(self, name: str) -> MergedSlice: ...
    def tensors(self) -> Iterator[Tuple[str, Any]]: ...

def merge(
    base: Optional[_Path],
    adapters: _Adapters,
    output: _Path,
    *,
    progress: Optional[Callable[[Progress], object]] = ...,
    cache: bool = ...,
    variant: Optional[str] = ...,
    combine: Literal["linear", "cat", "svd", "ties", "magnitude_prune", "dare_linear", "dare_ties", None] = ...,
    density: Optional[float] = ...,
    combine_seed: Optional[int] = ...,
    rank: Optional[int] = ...,
    tied: Literal["untie", "fold"] = ...,
    max_ram: Union[int, str, None] = ...,
    threads: Optional[int] = ...,
    io: Literal["auto", "buffered", "direct", "dontcache", "parallel"] = ...,
    dtype: Literal["bf16", "f16", "f32", None] = ...,
    max_shard_size: Union[int, str, None] = ...,
    changed_only: bool = ...,
    keep_quantized: bool = ...,
    accept_loss: bool = ...,
    base16: Optional[_Path] = ...,
    scales: Literal["keep", "fresh"] = ...,
    to: Literal["gguf", None] = ...,
    gguf_template: Optional[_Path] = ...,
    gguf_type: Optional[str] = ...,
    base_as: Optional[str] = ...,
    expert_packing: Literal["rank-major", "expert-major", None] = ...,
    expert_lora_a_axis: Literal["d1", "d2", None] = ...,
    ignore_field: _Several = ...,
    allow_unmatched: _Several = ...,
    allow_missing: _Several = ...,
    allow_unmerged_file: _Several = ...,
    allow_other_base: bool = ...,
    follow_links: bool = ...,
    allow_noop: bool = ...,
    tokenizer: Literal["auto", "base", "adapter"] = ...,
    checksums: Optional[Literal["sha256"]] = ...,
    expect: Optional[str] = ...,
    trust_journal: bool = ...,
    unchanged: Literal["auto", "copy", "hardlink"] = ...,
    keep_undo: bool = ...,
    dry_run: bool = ...,
    profile: Optional[_Path] = ...,
    part: Optional[str] = ...,
    report: Optional[_Path] = ...,
    log_file: Optional[_Path] = ...,
) -> Dict[str, Any]: ...
def plan(
    base: Optional[_Path],
    adapters: _Adapters,
    *,
    progress: Optional[Callable[[Progress], object]] = ...,
    cache: bool = ...,
    variant: Optional[str] = ...,
    combine: Literal["linear", "cat", "svd", "ties", "magnitude_prune", "dare_linear", "dare_ties", None] = ...,
    density: Optional[float] = ...,
    combine_seed: Optional[int] = ...,
    rank: Optional[int] = ...,
    tied: Literal["untie", "fold"] = ...,
    max_ram: Union[int, str, None] = ...,
    threads: Optional[int] = ...,
    io: Literal["auto", "buffered", "direct", "dontcache", "parallel"] = ...,
    dtype: Literal["bf16", "f16", "f32", None] = ...,
    max_shard_size: Union[int, str, None] = ...,
    changed_only: bool = ...,
    keep_quantized: bool = ...,
    accept_loss: bool = ...,
    base16: Optional[_Path] = ...,
    scales: Literal["keep", "fresh"] = ...,
    to: Literal["gguf", None] = ...,
    gguf_template: Optional[_Path] = ...,
    gguf_type: Optional[str] = ...,
    base_as: Optional[str] = ...,
    expert_packing: Literal["rank-major", "expert-major", None] = ...,
    expert_lora_a_axis: Literal["d1", "d2", None] = ...,
    ignore_field: _Several = ...,
    allow_unmatched: _Several = ...,
    allow_missing: _Several = ...,
    allow_unmerged_file: _Several = ...,
    allow_other_base: bool = ...,
    follow_links: bool = ...,
    allow_noop: bool = ...,
    tokenizer: Literal["auto", "base", "adapter"] = ...,
    checksums: Optional[Literal["sha256"]] = ...,
    expect: Optional[str] = ...,
    trust_journal: bool = ...,
    unchanged: Literal["auto", "copy", "hardlink"] = ...,
    output: Optional[_Path] = ...,
    probe: bool = ...,
    log_file: Optional[_Path] = ...,
) -> Dict[str, Any]: ...
def convert(
    source: _Path,
    output: _Path,
    *,
    base: Optional[_Path] = ...,
    rank: Optional[int] = ...,
    skip: _Several = ...,
    progress: Optional[Callable[[Progress], object]] = ...,
    cache: bool = ...,
    variant: Optional[str] = ...,
    dtype: Literal["bf16", "f16", "f32", None] = ...,
    max_shard_size: Union[int, str, None] = ...,
    max_ram: Union[int, str, None] = ...,
    threads: Optional[int] = ...,
    io: Literal["auto", "buffered", "direct", "dontcache", "parallel"] = ...,
    checksums: Optional[Literal["sha256"]] = ...,
    expect: Optional[str] = ...,
    trust_journal: bool = ...,
    unchanged: Literal["auto", "copy", "hardlink"] = ...,
    dry_run: bool = ...,
    part: Optional[str] = ...,
    follow_links: bool = ...,
    log_file: Optional[_Path] = ...,
) -> Dict[str, Any]: ...
def finish(
    output: _Path,
    *,
    progress: Optional[Callable[[Progress], object]] = ...,
    base: Optional[_Path] = ...,
    adapter: Union[_Path, Sequence[_Path], None] = ...,
    log_file: Optional[_Path] = ...,
) -> Dict[str, Any]: ...
def inspect(path: _Path, *, variant: Optional[str] = ..., log_file: Optional[_Path] = ...) -> Dict[str, Any]: ...
def report(
    path: _Path,
    base: Optional[_Path] = ...,
    adapters: _Adapters = ...,
    *,
    progress: Optional[Callable[[Progress], object]] = ...,
    cache: bool = ...,
    variant: Optional[str] = ...,
    combine: Literal["linear", "cat", "svd", "ties", "magnitude_prune", "dare_linear", "dare_ties", None] = ...,
    density: Optional[float] = ...,
    combine_seed: Optional[int] = ...,
    rank: Optional[int] = ...,
    tied: Literal["untie", "fold"] = ...,
    max_ram: Union[int, str, None] = ...,
    threads: Optional[int] = ...,
    io: Literal["auto", "buffered", "direct", "dontcache", "parallel"] = ...,
    dtype: Literal["bf16", "f16", "f32", None] = ...,
    max_shard_size: Union[int, str, None] = ...,
    changed_only: bool = ...,
    keep_quantized: bool = ...,
    accept_loss: bool = ...,
    base16: Optional[_Path] = ...,
    scales: Literal["keep", "fresh"] = ...,
    to: Literal["gguf", None] = ...,
    gguf_template: Optional[_Path] = ...,
    gguf_type: Optional[str] = ...,
    base_as: Optional[str] = ...,
    expert_packing: Literal["rank-major", "expert-major", None] = ...,
    expert_lora_a_axis: Literal["d1", "d2", None] = ...,
    ignore_field: _Several = ...,
    allow_unmatched: _Several = ...,
    allow_missing: _Several = ...,
    allow_unmerged_file: _Several = ...,
    allow_other_base: bool = ...,
    follow_links: bool = ...,
    allow_noop: bool = ...,
    tokenizer: Literal["auto", "base", "adapter"] = ...,
    output: Optional[_Path] = ...,
    log_file: Optional[_Path] = ...,
) -> Optional[str]: ...
def verify(
    path: _Path,
    base: Optional[_Path] = ...,
    adapters: _Adapters = ...,
    *,
    progress: Optional[Callable[[Progress], object]] = ...,
    cache: bool = ...,
    variant: Optional[str] = ...,
    combine: Literal["linear", "cat", "svd", "ties", "magnitude_prune", "dare_linear", "dare_ties", None] = ...,
    density: Optional[float] = ...,
    combine_seed: Optional[int] = ...,
    rank: Optional[int] = ...,
    tied: Literal["untie", "fold"] = ...,
    max_ram: Union[int, str, None] = ...,
    threads: Optional[int] = ...,
    io: Literal["auto", "buffered", "direct", "dontcache", "parallel"] = ...,
    dtype: Literal["bf16", "f16", "f32", None] = ...,
    max_shard_size: Union[int, str, None] = ...,
    changed_only: bool = ...,
    keep_quantized: bool = ...,
    accept_loss: bool = ...,
    base16: Optional[_Path] = ...,
    scales: Literal["keep", "fresh"] = ...,
    to: Literal["gguf", None] = ...,
    gguf_template: Optional[_Path] = ...,
    gguf_type: Optional[str] = ...,
    base_as: Optional[str] = ...,
    expert_packing: Literal["rank-major", "expert-major", None] = ...,
    expert_lora_a_axis: Literal["d1", "d2", None] = ...,
    ignore_field: _Several = ...,
    allow_unmatched: _Several = ...,
    allow_missing: _Several = ...,
    allow_unmerged_file: _Several = ...,
    allow_other_base: bool = ...,
    follow_links: bool = ...,
    allow_noop: bool = ...,
    tokenizer: Literal["auto", "base", "adapter"] = ...,
    hashes_only: bool = ...,
    sample: Optional[int] = ...,
    seed: Optional[int] = ...,
    log_file: Optional[_Path] = ...,
) -> Dict[str, Any]: ...
def open_merged(
    base: Optional[_Path],
    adapters: _Adapters,
    framework: Literal["pt", "torch", "pytorch", "np", "numpy"] = ...,
    device: Any = ...,
    *,
    cache: bool = ...,
    variant: Optional[str] = ...,
    combine: Literal["linear", "cat", "svd", "ties", "magnitude_prune", "dare_linear", "dare_ties", None] = ...,
    density: Optional[float] = ...,
    combine_seed: Optional[int] = ...,
    rank: Optional[int] = ...,
    tied: Literal["untie", "fold"] = ...,
    max_ram: Union[int, str, None] = ...,
    threads: Optional[int] = ...,
    io: Literal["auto", "buffered", "direct", "dontcache", "parallel"] = ...,
    dtype: Literal["bf16", "f16", "f32", None] = ...,
    max_shard_size: Union[int, str, None] = ...,
    changed_only: bool = ...,
    keep_quantized: bool = ...,
    accept_loss: bool = ...,
    base16: Optional[_Path] = ...,
    scales: Literal["keep", "fresh"] = ...,
    to: Literal["gguf", None] = ...,
    gguf_template: Optional[_Path] = ...,
    gguf_type: Optional[str] = ...,
    base_as: Optional[str] = ...,
    expert_packing: Literal["rank-major", "expert-major", None] = ...,
    expert_lora_a_axis: Literal["d1", "d2", None] = ...,
    ignore_field: _Several = ...,
    allow_unmatched: _Several = ...,
    allow_missing: _Several = ...,
    allow_unmerged_file: _Several = ...,
    allow_other_base: bool = ...,
    follow_links: bool = ...,
    allow_noop: bool = ...,
    tokenizer: Literal["auto", "base", "adapter"] = ...,
) -> Merged: ...
