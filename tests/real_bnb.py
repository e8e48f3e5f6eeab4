"""Merges a LoRA into checkpoints that transformers and bitsandbytes wrote, and compares every weight with what bitsandbytes decodes
and the delta, rounded once.

    python tests/real_bnb.py SHARDFOLD FOLDER

Needs torch, transformers, peft and bitsandbytes (fixtures/requirements.txt); no GPU and no network.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import bitsandbytes.functional as bnb
import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from tiny_adapter import SCALE, make_adapter

KINDS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4-double": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4-bf16": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_quant_storage": torch.bfloat16},
    "int8": {"load_in_8bit": True},
}


def main():
    shardfold, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    plain = make_plain(folder / "plain")
    adapter = make_adapter(folder / "plain", folder / "adapter", std=0.02)
    for kind, options in KINDS.items():
        base, merged = folder / kind, folder / f"{kind}-merged"
        quantize(folder / "plain", base, options)
        command = [shardfold, "merge", "--quiet", "--base", base, "--adapter", folder / "adapter", "-o", merged]
        subprocess.run(command, check=True)
        stored, found = (load_file(path / "model.safetensors") for path in (base, merged))
        assert found.keys() == plain.keys(), f"{kind}: {found.keys() ^ plain.keys()}"
        differing = sum(int((right(name, stored, adapter) != tensor).sum()) for name, tensor in found.items())
        elements = sum(tensor.numel() for tensor in found.values())
        print(f"{kind:12} {elements} values, {differing} differ")
        assert differing == 0


def make_plain(folder):
    """A small Llama, some of whose rows are no multiple of a block."""
    config = LlamaConfig(
        hidden_size=128, intermediate_size=200, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=256
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def quantize(plain, folder, options):
    config = BitsAndBytesConfig(**options)
    model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=config, dtype=torch.bfloat16, device_map="cpu")
    model.save_pretrained(folder)


def right(name, stored, adapter):
    """A weight of the result: the exact sum, rounded once."""
    values = decoded(name, stored).double()
    module = "base_model.model." + name.removesuffix(".weight")
    if f"{module}.lora_A.weight" in adapter:
        a, b = (adapter[f"{module}.lora_{end}.weight"].double() for end in "AB")
        values = values + SCALE * (b @ a)
    return to_bf16(values)


def decoded(name, stored):
    """What bitsandbytes decodes, before it rounds to 16 bits."""
    beside = {key.removeprefix(f"{name}."): t for key, t in stored.items() if key.startswith(f"{name}.")}
    if any("quant_state" in key for key in beside):
        state = bnb.QuantState.from_dict(beside, device="cpu")
        state.dtype = torch.float32
        return bnb.dequantize_4bit(stored[name], quant_state=state)
    scales = stored.get(name.removesuffix("weight") + "SCB")
    if scales is not None:
        return stored[name].float() * scales[:, None] * 0.007874015718698502
    return stored[name].float()


def to_bf16(values):
    """Rounded once, to nearest even: to odd in f32 first, which no second rounding undoes."""
    near = values.numpy().astype(np.float32)
    bits = near.view(np.uint32).copy()
    exact = near.astype(np.float64) == values.numpy()
    bits = np.where(np.abs(near.astype(np.float64)) > np.abs(values.numpy()), bits - 1, bits)
    bits = np.where(exact, bits, bits | 1).astype(np.uint32)
    return torch.from_numpy(bits.view(np.float32).copy()).to(torch.bfloat16)


if __name__ == "__main__":
    main()
