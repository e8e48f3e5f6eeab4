"""Trains LoRA on a base that bitsandbytes quantized in memory, merges it into the 16-bit base, and compares: every weight with
what bitsandbytes makes of it and the delta, rounded once; and logits with those of the trained model, for the merge with
`--base-as` and for the one without.

    python tests/real_qlora.py SHARDFOLD FOLDER

Needs torch, transformers, peft and bitsandbytes (fixtures/requirements.txt); no GPU and no network.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import bitsandbytes.functional as bnb
import numpy as np
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

SCALE = 2.0
RANK = 4
STEPS = 60
# How training quantized, and the same as a flag.
KINDS = {
    "nf4": ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
    "nf4-double": ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}, "nf4,double"),
    "fp4": ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "fp4"),
    "fp4-double": ({"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True}, "fp4,double"),
    "int8": ({"load_in_8bit": True}, "int8"),
}
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def main():
    shardfold, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plain = make_base(folder / "base", 320)
    for kind, (options, flag) in KINDS.items():
        trained = train(folder / "base", folder / f"{kind}-adapter", options)
        adapter = load_file(folder / f"{kind}-adapter" / "adapter_model.safetensors")
        errors = {}
        for name, flags in {"seen": ["--base-as", flag], "naive": []}.items():
            output = folder / f"{kind}-{name}"
            command = [shardfold, "merge", "--quiet", *flags, "--base", folder / "base", "--adapter", folder / f"{kind}-adapter"]
            subprocess.run([*command, "-o", output], check=True)
            errors[name] = error_of(output, trained)
        differing, elements = compare(plain, adapter, folder / f"{kind}-seen", flag, torch.bfloat16)
        line = f"{kind:10} {elements} values, {differing} differ; logits are off by {errors['seen']:.2e} of their norm,"
        print(line, f"without --base-as by {errors['naive']:.2e}")
        assert differing == 0
        assert errors["seen"] < errors["naive"] / 3
    compare_loaded_as(shardfold, folder)


def make_base(folder, width):
    """A small Llama with a row of large values, and rows of zeros."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=width, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=256
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3] *= 40
        model.model.layers[1].mlp.up_proj.weight[:8] = 0
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def load(folder, options, dtype=torch.bfloat16):
    config = BitsAndBytesConfig(**options) if options else None
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=dtype, device_map="cpu")


def train(base, folder, options):
    torch.manual_seed(1)
    compute = {"bnb_4bit_compute_dtype": torch.bfloat16} if "load_in_4bit" in options else {}
    model = prepare_model_for_kbit_training(load(base, options | compute), use_gradient_checkpointing=False)
    config = LoraConfig(r=RANK, lora_alpha=SCALE * RANK, target_modules=["q_proj", "up_proj", "down_proj"])
    # Not in evaluation, where bitsandbytes packs weights for this CPU at the first pass, and gradients are made of others.
    model = get_peft_model(model, config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    tokens = torch.randint(0, 256, (4, 32))
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return logits(model)


def make_adapter(base, folder):
    config = LoraConfig(r=RANK, lora_alpha=SCALE * RANK, target_modules=["q_proj", "up_proj", "down_proj"])
    model = get_peft_model(load(base, None), config)
    for name, values in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=0.02)
    model.save_pretrained(folder)
    return load_file(folder / "adapter_model.safetensors")


def logits(model):
    torch.manual_seed(2)
    with torch.no_grad():
        return model(input_ids=torch.randint(0, 256, (4, 48))).logits.double()


def error_of(output, trained):
    # In f32, so that what is left is of the weights.
    found = logits(load(output, None, torch.float32).eval())
    return float((found - trained).norm() / trained.norm())


def compare(plain, adapter, merged, flag, dtype):
    """How many values of a merge are not what is right, and of how many."""
    found = load_file(merged / "model.safetensors")
    assert found.keys() == plain.keys()
    differing = sum(int((right(name, tensor, adapter, flag, dtype) != found[name]).sum()) for name, tensor in plain.items())
    return differing, sum(tensor.numel() for tensor in found.values())


def right(name, tensor, adapter, flag, dtype):
    """A weight of the result: the exact sum, rounded once."""
    module = name.removesuffix(".weight")
    is_linear = tensor.dim() == 2 and "embed" not in name and "lm_head" not in name
    values = (seen(tensor.to(dtype), flag) if is_linear else tensor).double()
    key = f"base_model.model.{module}.lora_A.weight"
    if key in adapter:
        a, b = adapter[key].double(), adapter[key.replace("lora_A", "lora_B")].double()
        values = values + SCALE * (b @ a)
    return rounded_once(values, tensor.dtype)


def rounded_once(values, dtype):
    """f64 to 16 bit in one rounding: torch goes by way of f32. Where f32 lies on a tie, the sum is moved off it to its own side."""
    middle = values.float()
    bits = middle.view(torch.int32)
    half = {torch.bfloat16: 0xFFFF, torch.float16: 0x1FFF, torch.float32: 0}[dtype]
    is_tie = (bits & half) == (half + 1) // 2 if half else torch.zeros_like(bits, dtype=torch.bool)
    apart = torch.sign(values.abs() - middle.double().abs()).to(torch.int32)
    return torch.where(is_tie, bits + apart, bits).view(torch.float32).to(dtype)


def seen(tensor, flag):
    """What bitsandbytes makes of a weight: by its library where magnitudes are plain, else by the rule of its operators for every
    device; the compiled one for CPUs takes a code of a magnitude now and then that is not the nearest."""
    if flag == "int8":
        codes, scales, _ = bnb.int8_vectorwise_quant(tensor.half())
        return codes.float() * scales[:, None] * np.float32(1 / 127)
    kind, *rest = flag.split(",")
    block = next((int(word.removeprefix("block=")) for word in rest if word.startswith("block=")), 64)
    packed, state = bnb.quantize_4bit(tensor, blocksize=block, quant_type=kind)
    if "double" in rest:
        state.absmax = decoded_twice(state.absmax)
    return dequantized(packed, state)


def decoded_twice(magnitudes):
    offset = magnitudes.double().mean().float()
    steps = bnb.create_dynamic_map()
    blocks = []
    for block in (magnitudes - offset).split(256):
        most = block.abs().max().clamp(min=1e-38)
        y = block * (1 / most) if len(block) == 256 else block / most
        blocks.append(steps[torch.bucketize(y, (steps[:-1] + steps[1:]) / 2)] * most)
    return torch.cat(blocks) + offset


def dequantized(packed, state):
    """The codes decoded one by one: the compiled operator for CPUs decodes some shapes wrongly."""
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], 1).flatten()[: state.shape.numel()].long()
    magnitudes = state.absmax.repeat_interleave(state.blocksize)[: len(codes)]
    return (state.code[codes] * magnitudes).to(state.dtype).reshape(state.shape)


def compare_loaded_as(shardfold, folder):
    """Models that were loaded as another type than the file's, other blocks, and rows of 200 values, which are no multiple of one:
    there the operators for CPUs that would train on them fail."""
    make_base(folder / "odd", 200)
    adapter = make_adapter(folder / "odd", folder / "odd-adapter")
    for stored in DTYPES:
        base = folder / f"odd-{stored}"
        load(folder / "odd", None, DTYPES[stored]).save_pretrained(base)
        tensors = load_file(base / "model.safetensors")
        for loaded in DTYPES:
            for flag in ["nf4", "nf4,double,block=128", "fp4,block=4096"]:
                output = folder / f"{stored}-{loaded}-{flag}"
                command = [shardfold, "merge", "--quiet", "--base-as", f"{flag},dtype={loaded}", "--base", base]
                subprocess.run([*command, "--adapter", folder / "odd-adapter", "-o", output], check=True)
                differing, elements = compare(tensors, adapter, output, flag, DTYPES[loaded])
                print(f"{stored} loaded as {loaded}, {flag:20} {elements} values, {differing} differ")
                assert differing == 0


if __name__ == "__main__":
    main()
