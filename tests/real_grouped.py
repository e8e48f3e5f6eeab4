"""Merges a LoRA into checkpoints that HQQ, quanto and torchao wrote, and compares every weight with what the library decodes and the
delta, rounded once. Of HQQ, and of quanto with fewer bits than eight, it keeps the weights quantized, too: every value must be the
nearest of all that the library decodes its codes to.

    python tests/real_grouped.py SHARDFOLD FOLDER

Needs torch, transformers, peft, hqq, optimum-quanto, torchao and ninja (fixtures/requirements.txt); no GPU and no network.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
from optimum.quanto import QuantizedModelForCausalLM, qfloat8, qint2, qint4, qint8
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, TorchAoConfig

from tiny_adapter import SCALE, make_adapter

HQQ = [(4, 64, 1), (4, 64, 0), (8, 64, 1), (2, 16, 1), (1, 8, 0)]


def main():
    shardfold, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    plain = make_plain(folder / "plain")
    adapter = make_adapter(folder / "plain", folder / "adapter", std=0.1)
    bases = {f"hqq{bits}-axis{axis}": (hqq, (bits, group, axis)) for bits, group, axis in HQQ}
    bases |= {f"quanto-{qtype.name}": (quanto, (qtype,)) for qtype in (qint2, qint4, qint8, qfloat8)}
    bases |= {"torchao-int8": (torchao, (Int8WeightOnlyConfig(version=2),)), "torchao-fp8": (torchao, (Float8WeightOnlyConfig(version=2),))}
    for name, (write, options) in bases.items():
        base, merged = folder / name, folder / f"{name}-merged"
        decoded, layers = write(folder / "plain", base, *options)
        command = [shardfold, "merge", "--quiet", "--base", base, "--adapter", folder / "adapter", "-o", merged]
        subprocess.run(command, check=True)
        found = load_file(merged / "model.safetensors")
        with safe_open(merged / "model.safetensors", "pt") as file:
            assert set(file.metadata()) <= {"format"}, f"{name}: {file.metadata()}"
        assert not (merged / "quanto_qmap.json").exists(), name
        assert found.keys() == plain.keys(), f"{name}: {found.keys() ^ plain.keys()}"
        differing = sum(int((right(key, decoded[key], adapter) != tensor).sum()) for key, tensor in found.items())
        elements = sum(tensor.numel() for tensor in found.values())
        print(f"{name:16} {elements} values, {differing} differ")
        assert differing == 0
        if layers:
            kept = folder / f"{name}-kept"
            subprocess.run([*command[:-1], kept, "--keep-quantized", "--accept-loss"], check=True)
            check_kept(name, load_file(base / "model.safetensors"), load_file(kept / "model.safetensors"), (layers, decoded, adapter))


def check_kept(name, base, kept, of):
    """Tries every code, and holds what stands beside codes to be the same."""
    layers, decoded, adapter = of
    changed = wrong = 0
    others = {key for key in base if not torch.equal(base[key], kept[key])}
    for module, (leaf, codes, dequantize, bits) in layers.items():
        exact = sum_of(f"{module}.weight", decoded[f"{module}.weight"], adapter)
        if torch.equal(exact, decoded[f"{module}.weight"].double()):
            continue
        others.discard(f"{module}.{leaf}")
        least = torch.full_like(exact, torch.inf)
        for code in range(2**bits):
            codes.fill_(sum(code << shift for shift in range(0, 8, bits)))
            least = torch.minimum(least, (dequantize() - exact).abs())
        codes.copy_(kept[f"{module}.{leaf}"])
        found = dequantize().double()
        # The sum is rounded to F32 before its code is chosen.
        wrong += int(((found - exact).abs() > least + 2.0**-22 * exact.abs()).sum())
        changed += int((found != decoded[f"{module}.weight"]).sum())
    print(f"{'kept':>16} {changed} values changed, {wrong} are not the nearest, {len(others)} other tensors")
    assert base.keys() == kept.keys() and changed and not wrong and not others, (name, others)


def make_plain(folder):
    """A small Llama whose layers have biases, which quanto's packed weights need."""
    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=256,
        attention_bias=True,
        mlp_bias=True,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def linear(model):
    """The layers that are quantized."""
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name != "lm_head"}


def values_of(model):
    """Every tensor of a model in f32, unrounded where its class knows how."""
    return {name: value.detach().float() for name, value in model.state_dict().items() if value.is_floating_point()}


def hqq(plain, folder, bits, group, axis):
    """Written by HQQ's own layers under transformers' names, as transformers 5.23 has no way to quantize with it."""
    shutil.copytree(plain, folder)
    model = LlamaForCausalLM.from_pretrained(plain, dtype=torch.float16)
    stored, decoded, layers = model.state_dict(), values_of(model), {}
    config = BaseQuantizeConfig(nbits=bits, group_size=group, axis=axis)
    for name, module in linear(model).items():
        layer = HQQLinear(module, config, compute_dtype=torch.float16, device="cpu", del_orig=False)
        decoded[f"{name}.weight"] = layer.dequantize().float()
        layers[name] = "W_q", layer.W_q.data, lambda layer=layer: layer.dequantize().float(), bits
        del stored[f"{name}.weight"]
        stored |= {f"{name}.{leaf}": value.detach().contiguous() for leaf, value in layer.state_dict().items()}
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    describe(folder, {"quant_method": "hqq", "quant_config": {"weight_quant_params": config["weight_quant_params"]}, "skip_modules": ["lm_head"]})
    return decoded, layers


def describe(folder, quantization):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"quantization_config": quantization, "dtype": "bfloat16"}
    path.write_text(json.dumps(config))


def quanto(plain, folder, qtype):
    model = LlamaForCausalLM.from_pretrained(plain, dtype=torch.float32)
    quantized = QuantizedModelForCausalLM.quantize(model, weights=qtype, exclude="lm_head")
    quantized.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "bfloat16"}))
    decoded, layers = values_of(model), {}
    for name, module in linear(model).items():
        weight = module.weight
        decoded[f"{name}.weight"] = weight.dequantize().detach().float()
        if qtype.bits < 8:
            layers[name] = "weight._data._data", weight._data._data, lambda weight=weight: weight.dequantize().detach(), qtype.bits
    return decoded, layers


def torchao(plain, folder, config):
    options = TorchAoConfig(config, modules_to_not_convert=["lm_head"])
    model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=options, dtype=torch.bfloat16, device_map="cpu")
    model.save_pretrained(folder)
    decoded = values_of(model)
    for name, module in linear(model).items():
        decoded[f"{name}.weight"] = module.weight.dequantize(torch.float32).detach()
    return decoded, {}


def right(name, values, adapter):
    """A weight of the result: the exact sum, rounded once."""
    return to_bf16(sum_of(name, values, adapter))


def sum_of(name, values, adapter):
    values = values.double()
    module = "base_model.model." + name.removesuffix(".weight")
    if f"{module}.lora_A.weight" in adapter:
        a, b = (adapter[f"{module}.lora_{end}.weight"].double() for end in "AB")
        values = values + SCALE * (b @ a)
    return values


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
