"""The script that people write who lack the memory: a shard at a time, in the dtype of the base, nothing but plain LoRA.

python by_shard.py BASE ADAPTER OUTPUT
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file

base, adapter, output = map(pathlib.Path, sys.argv[1:])
output.mkdir()
config = json.loads((adapter / "adapter_config.json").read_text())
scale = config["lora_alpha"] / config["r"]
factors = load_file(adapter / "adapter_model.safetensors")
for file in base.iterdir():
    if file.suffix != ".safetensors":
        shutil.copy(file, output / file.name)
        continue
    tensors = load_file(file)
    for name in tensors:
        key = "base_model.model." + name.removesuffix(".weight")
        if f"{key}.lora_A.weight" in factors:
            a, b = (factors[f"{key}.lora_{end}.weight"].to(tensors[name].dtype) for end in "AB")
            tensors[name] += scale * (b @ a)
    save_file(tensors, output / file.name, metadata={"format": "pt"})
