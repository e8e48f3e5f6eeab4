"""What the tests share: fixtures, small checkpoints made on the spot, and a reader of safetensors of its own."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "fixtures" / "demo"
GOLDEN = ROOT / "fixtures" / "golden"

#: A tensor: type, shape, bytes.
Stored = Tuple[str, List[int], bytes]


def read_shard(path: Path) -> Dict[str, Stored]:
    """The tensors of one file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        found[name] = (entry["dtype"], entry["shape"], data[start:end])
    return found


def read_directory(path: Path) -> Dict[str, Stored]:
    """The tensors of all shards of a checkpoint."""
    found: Dict[str, Stored] = {}
    for shard in sorted(path.glob("*.safetensors")):
        found.update(read_shard(shard))
    return found


def write_shard(path: Path, tensors: Dict[str, Stored]) -> None:
    """A file with these tensors."""
    header: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def f32(values: List[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def large(path: Path, rows: int, layers: int, cols: int = 1024) -> Tuple[Path, Path]:
    """A base of so many layers, its zeros holes of the file, and an adapter of rank 1 on all of them."""
    names = [f"model.layers.{i}.mlp.up_proj" for i in range(layers)]
    count = 4 * rows * cols
    header: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for i, name in enumerate(names):
        header[name + ".weight"] = {"dtype": "F32", "shape": [rows, cols], "data_offsets": [i * count, (i + 1) * count]}
    text = json.dumps(header).encode()
    base, adapter = path / "base", path / "adapter"
    base.mkdir(parents=True)
    with (base / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + count * layers)
    (base / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    tensors = {}
    for name in names:
        key = f"base_model.model.{name}"
        tensors[key + ".lora_A.weight"] = ("F32", [1, cols], f32([1.0] * cols))
        tensors[key + ".lora_B.weight"] = ("F32", [rows, 1], f32([0.5] * rows))
    write_shard(adapter / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["up_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return base, adapter


def command(*args: Any) -> "subprocess.CompletedProcess[str]":
    """The command of the wheel that is installed."""
    script = Path(sys.executable).with_name("shardfold")
    return subprocess.run([os.fspath(script), *map(os.fspath, args)], capture_output=True, text=True, timeout=120)


def golden_cases() -> Iterator[Tuple[str, Path, List[Any], Dict[str, Any]]]:
    """Name, base, adapters and keywords of every golden case."""
    for folder in sorted(GOLDEN.iterdir()):
        case = json.loads((folder / "case.json").read_text())
        adapters = [(folder / adapter["dir"], adapter["weight"]) for adapter in case["adapters"]]
        flags: Dict[str, Any] = {}
        given = list(case.get("flags", []))
        while given:
            flag = given.pop(0)[2:].replace("-", "_")
            flags[flag] = given.pop(0) if given and not given[0].startswith("--") else True
        yield folder.name, folder / "base", adapters, flags
