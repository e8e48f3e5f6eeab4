"""Merges a LoRA into checkpoints that GPTQModel quantized (GPTQ) and AutoAWQ packed (AWQ). Decoded, every weight must be what the
library decodes and the delta, rounded once. Kept quantized, every value must be the nearest of those that its scale and its zero
point have codes for, as the library decodes it, and all else the same bytes.

    python tests/real_words.py SHARDFOLD FOLDER

Needs torch, transformers and peft (fixtures/requirements.txt), gptqmodel, optimum and autoawq (`make real-words`); no GPU and no
network.
"""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # On two cores it makes one, and then wants two of it.

import numpy as np
import torch
from gptqmodel import GPTQModel, QuantizeConfig
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tiny_adapter import SCALE, make_adapter

# Bits, group, order of activations, symmetric, format. Groups of 256 leave half a group of the 384 inputs of `down_proj`.
GPTQ = [
    (2, 32, False, False, "gptq"),
    (3, 32, True, False, "gptq"),
    (3, 128, False, False, "gptq_v2"),
    (3, 32, False, True, "gptq"),
    (4, 128, False, True, "gptq"),
    (4, 32, True, False, "gptq"),
    (4, 256, False, False, "gptq_v2"),
    (8, -1, True, True, "gptq_v2"),
    (8, 32, False, False, "gptq"),
]
# Layout and group.
AWQ = [("gemm", 128), ("gemm", 32), ("gemv", 128), ("gemv", 64), ("gemv", 32)]


def main():
    shardfold, folder = (Path(name).resolve() for name in sys.argv[1:3])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)  # GPTQModel leaves logs.
    torch.manual_seed(0)
    make_plain(folder / "plain")
    adapter = make_adapter(folder / "plain", folder / "adapter", std=0.2)
    bases = {
        f"gptq{bits}-g{group}{'-act' * act}{'-sym' * sym}-{form}": (gptq, (bits, group, act, sym, form))
        for bits, group, act, sym, form in GPTQ
    }
    bases |= {f"awq-{layout}-g{group}": (awq, (layout, group)) for layout, group in AWQ}
    print(f"{'':26}   values  decoded: differ  kept: changed, not the nearest, other bytes")
    for name, (write, options) in bases.items():
        base, merged, kept, small = (folder / f"{name}{end}" for end in ("", "-16bit", "-kept", "-small"))
        decode, bits = write(folder / "plain", base, *options)
        command = [shardfold, "merge", "--quiet", "--base", base, "--adapter", folder / "adapter", "-o"]
        subprocess.run([*command, merged], check=True)
        subprocess.run([*command, kept, "--keep-quantized", "--accept-loss"], check=True)
        subprocess.run([*command, small, "--keep-quantized", "--accept-loss", *narrow(shardfold)], check=True)
        same = all((kept / file.name).read_bytes() == file.read_bytes() for file in small.glob("*.safetensors"))
        count, differing = check_decoded(load(base), load(merged), decode, adapter)
        changed, wrong, others = check_kept(load(base), load(kept), decode, bits, adapter)
        print(f"{name:26} {count:8} {differing:16} {changed:14} {wrong:16} {others:12}")
        assert same and changed and not (differing or wrong or others), name


def narrow(shardfold):
    """Flags by which a merge goes in the smallest tiles, which the command of the tests has, else in small memory."""
    flags = ["--slab", "64KiB", "--depth", "1", "--threads", "1"]
    asked = subprocess.run([shardfold, "merge", *flags, "--help"], capture_output=True)
    return flags if asked.returncode == 0 else ["--threads", "1", "--max-ram", "48MiB"]


def make_plain(folder):
    """A small Llama with biases, and a tokenizer, which GPTQModel wants of any model."""
    config = LlamaConfig(
        hidden_size=256,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=256,
        attention_bias=True,
        mlp_bias=True,
    )
    model = LlamaForCausalLM(config)
    for name, values in model.named_parameters():
        if "proj" in name:
            torch.nn.init.normal_(values, std=0.05)
            # Groups without negative values have a zero point of 0, which the first format stores as -1.
            values.data[:24].abs_()
    model.to(torch.bfloat16).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({str(word): word for word in range(256)}, unk_token="0"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="0", pad_token="0", eos_token="1").save_pretrained(folder)


def load(folder):
    """Every tensor of a checkpoint."""
    return {name: values for file in sorted(folder.glob("*.safetensors")) for name, values in load_file(file).items()}


def gptq(plain, folder, bits, group, act, sym, form):
    """Quantized by GPTQModel, and decoded by the layer with which it runs on a CPU."""
    config = QuantizeConfig(bits=bits, group_size=group, desc_act=act, sym=sym, format=form)
    tokens = torch.randint(2, 256, (8, 128)).tolist()
    with contextlib.redirect_stdout(io.StringIO()):
        model = GPTQModel.load(str(plain), config, device="cpu")
        model.quantize([{"input_ids": row, "attention_mask": [1] * 128} for row in tokens], batch_size=1)
        model.save(str(folder))

    def decode(parts):
        inputs, outputs = parts["qweight"].shape[0] * 32 // bits, parts["qweight"].shape[1]
        layer = TorchLinear(bits, group, sym, act, inputs, outputs)
        for leaf in ("qweight", "qzeros", "g_idx", "scales"):
            setattr(layer, leaf, parts[leaf].clone())
        if form == "gptq":
            convert_gptq_v1_to_v2_format_module(layer, bits, torch.int32)
        # In F32 its product of a code and a scale is not rounded.
        layer.scales = layer.scales.float()
        return layer.eval().dequantize_weight().T.contiguous()

    return decode, bits


def awq(plain, folder, layout, group):
    """Packed and decoded by AutoAWQ, whose search for scales of inputs needs a GPU."""
    bare("awq")  # Its models are not those of a transformers of today.
    from awq.modules.linear.gemm import WQLinear_GEMM
    from awq.modules.linear.gemv import WQLinear_GEMV
    from awq.utils.packing_utils import dequantize_gemm, unpack_awq

    shutil.copytree(plain, folder)
    model = LlamaForCausalLM.from_pretrained(plain, dtype=torch.float16)
    stored = model.state_dict()
    layers = {name: module for name, module in model.named_modules() if "proj" in name and hasattr(module, "weight")}
    for name, module in layers.items():
        module.weight.data, scales, zeros = quantize(module.weight.data, group)
        if layout == "gemm":
            packed = WQLinear_GEMM.from_linear(module, 4, group, scales=scales.T.contiguous(), zeros=zeros.T.contiguous())
        else:
            packed = WQLinear_GEMV.from_linear(module, 4, group, scales=scales, zeros=zeros)
        del stored[f"{name}.weight"]
        stored |= {f"{name}.{leaf}": value.contiguous() for leaf, value in packed.state_dict().items()}
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    path = folder / "config.json"
    said = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": layout}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": said, "dtype": "float16"}))

    def decode(parts):
        codes, zeros, scales = parts["qweight"], parts["qzeros"], parts["scales"].float()
        if layout == "gemm":
            return dequantize_gemm(codes, zeros, scales, 4, group).T.contiguous()
        # Its kernels for this layout need a GPU; the fields of a word are in order.
        codes, zeros = (values & 15 for values in unpack_awq(codes, zeros, 4))
        groups = codes.shape[1] // group
        zeros, scales = (values[:, :groups].repeat_interleave(group, 1) for values in (zeros, scales))
        return (codes - zeros) * scales

    return decode, 4


def bare(name):
    """A package of which only chosen modules are imported."""
    if name in sys.modules:
        return
    package = types.ModuleType(name)
    package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = package


def quantize(weight, group):
    """The nearest values, scales and zero points, as AutoAWQ makes them of the extremes of each group."""
    groups = weight.float().reshape(weight.shape[0], -1, group)
    low, high = groups.amin(-1), groups.amax(-1)
    scales = ((high - low).clamp(min=1e-5) / 15).half().float()
    zeros = (-torch.round(low / scales)).clamp(0, 15)
    codes = (torch.round(groups / scales[..., None]) + zeros[..., None]).clamp(0, 15)
    values = (codes - zeros[..., None]) * scales[..., None]
    return values.reshape(weight.shape).half(), scales.half(), zeros.half()


def modules_of(stored):
    """The parts of each quantized module."""
    names = [name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")]
    leaves = ("qweight", "qzeros", "scales", "g_idx")
    return {name: {leaf: stored[f"{name}.{leaf}"] for leaf in leaves if f"{name}.{leaf}" in stored} for name in names}


def check_decoded(base, merged, decode, adapter):
    """How many values there are, and how many are not the exact sum, rounded once."""
    decoded = {f"{module}.weight": decode(parts) for module, parts in modules_of(base).items()}
    decoded |= {name: values for name, values in base.items() if values.is_floating_point() and not name.endswith(".scales")}
    assert merged.keys() == decoded.keys(), merged.keys() ^ decoded.keys()
    pairs = [(rounded(right(name, decoded[name], adapter), values.dtype), values) for name, values in merged.items()]
    return sum(values.numel() for _, values in pairs), sum(int((one != other).sum()) for one, other in pairs)


def check_kept(base, kept, decode, bits, adapter):
    """How many codes changed, how many values are not the nearest that there are, and how many other tensors changed."""
    assert base.keys() == kept.keys(), base.keys() ^ kept.keys()
    changed = wrong = 0
    others = {name for name in base if not torch.equal(base[name], kept[name])}
    for module, parts in modules_of(base).items():
        exact = right(f"{module}.weight", decode(parts), adapter)
        before = decode(parts).double()
        if torch.equal(exact, before):
            continue
        others.discard(f"{module}.qweight")
        found = decode(modules_of(kept)[module]).double()
        low, high = (decode(parts | {"qweight": torch.full_like(parts["qweight"], word)}).double() for word in (0, -1))
        codes = 2**bits
        step = (high - low) / (codes - 1)
        nearest = low + torch.round((exact.clamp(low, high) - low) / step) * step
        # The sum and its quotient are rounded to F32, so that of two values that are as near as that can tell either may come.
        wrong += int(((found - exact).abs() > (nearest - exact).abs() + 2.0**-22 * codes * step).sum())
        changed += int((found != before).sum())
    return changed, wrong, len(others)


def right(name, values, adapter):
    """A weight with its delta, exact but for what F64 rounds."""
    module = "base_model.model." + name.removesuffix(".weight")
    if f"{module}.lora_A.weight" not in adapter:
        return values.double()
    a, b = (adapter[f"{module}.lora_{end}.weight"].double() for end in "AB")
    return values.double() + SCALE * (b @ a)


def rounded(values, dtype):
    """Rounded once, to nearest even: to odd in F32 first, which no second rounding undoes."""
    near = values.numpy().astype(np.float32)
    bits = near.view(np.uint32).copy()
    exact = near.astype(np.float64) == values.numpy()
    bits = np.where(np.abs(near.astype(np.float64)) > np.abs(values.numpy()), bits - 1, bits)
    bits = np.where(exact, bits, bits | 1).astype(np.uint32)
    return torch.from_numpy(bits.view(np.float32).copy()).to(dtype)


if __name__ == "__main__":
    main()
