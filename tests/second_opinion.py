"""Checks a merged directory by the formula of LoRA, with numpy and nothing of shardfold.

Every tensor of the base is computed again in float64 as W + scale · B·A, rounded once to its dtype, and compared with the
result; what no adapter touches must have the base's bytes. Plain LoRA on linear layers only, with rsLoRA, patterns and weights;
whatever else an adapter holds is refused, so that nothing passes unseen.

    python tests/second_opinion.py BASE MERGED ADAPTER[=WEIGHT]... [--max-ulp N]

Needs numpy. Exits 1 and says which tensors are wrong, and 2 for what it does not know.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

# Bits of the significand, and the exponent of the smallest step.
FLOATS = {"BF16": (8, -133), "F16": (11, -24), "F32": (24, -149)}
SHOWN = 10


def read_folder(folder):
    """All tensors of the safetensors files of a folder: (dtype, shape, raw bytes) by name."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = np.memmap(path, dtype=np.uint8, mode="r")
        length = int.from_bytes(data[:8].tobytes(), "little")
        header = json.loads(data[8 : 8 + length].tobytes())
        header.pop("__metadata__", None)
        for name, entry in header.items():
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            if name in tensors:
                sys.exit(f"{name} is in two files of {folder}")
            tensors[name] = (entry["dtype"], entry["shape"], data[start:end])
    return tensors


def values(tensor):
    """The values of a float tensor, as float64."""
    dtype, shape, raw = tensor
    if dtype == "BF16":
        bits = np.frombuffer(raw.tobytes(), "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).astype(np.float64).reshape(shape)
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]
    return np.frombuffer(raw.tobytes(), kind).astype(np.float64).reshape(shape)


def step(x, dtype):
    """The distance between neighbors of a dtype around x."""
    bits, smallest = FLOATS[dtype]
    _, exponent = np.frexp(x)
    return np.ldexp(1.0, np.maximum(exponent - bits, smallest))


def rounded(x, dtype):
    """Rounded once, to nearest even."""
    unit = step(x, dtype)
    return np.rint(x / unit) * unit


class Adapter:
    def __init__(self, text):
        path, _, weight = text.partition("=")
        self.path, self.weight = Path(path), float(weight or 1)
        self.config = json.loads((self.path / "adapter_config.json").read_text())
        self.tensors = read_folder(self.path)
        self.used = set()
        wrong = [field for field in ("use_dora", "lora_bias", "fan_in_fan_out", "modules_to_save", "use_bdlora",
                                     "trainable_token_indices", "target_parameters") if self.config.get(field)]
        if self.config.get("peft_type") != "LORA" or self.config.get("bias", "none") != "none" or wrong:
            refuse(f"{self.path} is no plain LoRA: {', '.join(wrong) or self.config.get('peft_type')}")

    def field(self, name, pattern, module):
        """A number of the config, or what a pattern says of a module."""
        for key, value in (self.config.get(pattern) or {}).items():
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        return self.config[name]

    def delta(self, name):
        """What is added to a weight, or None."""
        if not name.endswith(".weight"):
            return None
        module = name.removesuffix(".weight")
        keys = [f"base_model.model.{module}.lora_{side}.weight" for side in "AB"]
        found = [key for key in keys if key in self.tensors]
        if not found:
            return None
        if len(found) != 2:
            refuse(f"{found[0]} has no partner")
        self.used.update(keys)
        a, b = (values(self.tensors[key]) for key in keys)
        rank = self.field("r", "rank_pattern", module)
        if a.ndim != 2 or a.shape[0] != rank:
            refuse(f"{keys[0]} has shape {a.shape} and rank {rank}")
        alpha = self.field("lora_alpha", "alpha_pattern", module)
        scale = np.float32(alpha / (rank**0.5 if self.config.get("use_rslora") else rank))
        scale = np.float32(np.float64(scale) * self.weight)
        return np.float64(scale) * (b @ a)


def refuse(why):
    print(f"not checked: {why}", file=sys.stderr)
    sys.exit(2)


def check(name, base, merged, adapters, max_ulp):
    """What is wrong with a tensor, or None; and in how many elements it differs by rounding."""
    if merged is None:
        return "is missing", 0
    if base[:2] != merged[:2]:
        return f"is {merged[:2]}, the base's is {base[:2]}", 0
    deltas = [delta for adapter in adapters if (delta := adapter.delta(name)) is not None]
    if not deltas:
        return (None if np.array_equal(base[2], merged[2]) else "has other bytes than the base's"), 0
    start, found = values(base), values(merged)
    exact = start + sum(deltas)
    apart = np.abs(found - rounded(exact, base[0]))
    # Float64 cannot tell which neighbor is nearer where the value is as good as half way between them.
    is_open = np.abs(np.abs(found - exact) / step(exact, base[0]) - 0.5) < 1e-6
    wrong = ~(apart <= np.where(is_open, 1, max_ulp) * step(exact, base[0]))
    count = int(wrong.sum())
    if count == 0:
        return None, int((apart > 0).sum())
    if np.array_equal(base[2], merged[2]):
        return "is the base's: nothing was merged into it", 0
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"is wrong in {count} of {wrong.size} elements: at {first} {found[first]}, not {exact[first]}", 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("merged", type=Path)
    parser.add_argument("adapter", nargs="+", type=Adapter)
    parser.add_argument("--max-ulp", type=int, default=0)
    args = parser.parse_args()
    base, merged = read_folder(args.base), read_folder(args.merged)
    problems, rounding = [], 0
    for name, tensor in base.items():
        problem, differing = check(name, tensor, merged.get(name), args.adapter, args.max_ulp)
        rounding += differing
        if problem:
            problems.append(f"{name} {problem}")
    problems += [f"{name} is not the base's" for name in merged.keys() - base.keys()]
    for adapter in args.adapter:
        if unused := adapter.tensors.keys() - adapter.used:
            refuse(f"{sorted(unused)[0]} of {adapter.path} belongs to no tensor of the base")
    if not base:
        refuse(f"no tensors in {args.base}")
    for problem in problems[:SHOWN]:
        print(problem)
    print(f"{len(base)} tensors, {len(problems)} wrong, {rounding} elements differ by rounding")
    sys.exit(bool(problems))


main()
