"""Merges a LoRA into checkpoints that compressed-tensors and bitsandbytes quantized, keeps them quantized, and loads the results
with transformers: compares what the library decodes with what was reported, and the logits with those of the quantized model with
the adapter beside it (PEFT).

    python tests/real_kept.py SHARDFOLD FOLDER

Needs torch, transformers, peft, compressed-tensors and bitsandbytes (fixtures/requirements.txt); no GPU and no network.
"""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, CompressedTensorsConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

RANK, ALPHA = 4, 8
TARGETS = ["q_proj", "v_proj", "up_proj", "down_proj"]
TOKENS = torch.arange(2, 66).reshape(2, 32)
# What the library rounds, the product of code and scale to BF16: half a unit in the last place of the largest value, per value.
UNIT = 2.0**-8


def floats(bits, strategy, **more):
    return QuantizationArgs(num_bits=bits, type="float", symmetric=True, strategy=strategy, **more)


def whole(strategy, **more):
    return QuantizationArgs(num_bits=8, type="int", symmetric=True, strategy=strategy, **more)


# Formats and arguments of compressed-tensors; none of bitsandbytes.
KINDS = {
    "ct-fp8-channel": ("float-quantized", floats(8, "channel")),
    "ct-fp8-tensor": ("float-quantized", floats(8, "tensor")),
    "ct-fp8-block": ("float-quantized", floats(8, "block", block_structure=[32, 64])),
    "ct-int8-channel": ("int-quantized", whole("channel")),
    "ct-int8-group": ("naive-quantized", whole("group", group_size=32)),
    "ct-mxfp8": ("mxfp8-quantized", floats(8, "group", group_size=32, scale_dtype=torch.uint8)),
    "ct-mxfp4": ("mxfp4-pack-quantized", floats(4, "group", group_size=32, scale_dtype=torch.uint8)),
    "bnb-int8": None,
}


def main():
    shardfold, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    plain, adapter = folder / "plain", folder / "adapter"
    make_plain(plain)
    make_adapter(plain, adapter)
    print(f"{'':16} delta kept  logits: effect of the adapter, error kept quantized, error in 16 bit")
    for kind, how in KINDS.items():
        base, kept, decoded = (folder / f"{kind}{end}" for end in ("", "-kept", "-16bit"))
        quantize(plain, base, how)
        command = [shardfold, "merge", "--json", "--base", base, "--adapter", adapter, "-o"]
        summary = json.loads(run([*command, kept, "--keep-quantized"]))
        run([*command, decoded])
        check(kind, how, (base, kept, decoded, adapter), summary)


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_plain(folder):
    config = LlamaConfig(
        hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=256
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    for name, values in model.named_parameters():
        if "proj" in name:
            torch.nn.init.normal_(values, std=0.08)
    model.save_pretrained(folder)


def make_adapter(plain, folder):
    model = LlamaForCausalLM.from_pretrained(plain, dtype=torch.bfloat16)
    model = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS))
    for name, values in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=0.02)
    model.save_pretrained(folder)


def quantize(plain, folder, how):
    if how is None:
        config = BitsAndBytesConfig(load_in_8bit=True)
        model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=config, dtype=torch.bfloat16, device_map="cpu")
        model.save_pretrained(folder)
        return
    form, args = how
    shutil.copytree(plain, folder)
    stored = load_file(plain / "model.safetensors")
    compressor = BaseCompressor.get_value_from_registry(form)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=form)
    for name in [name for name in stored if "proj" in name]:
        weight = stored.pop(name)
        module = name.removesuffix(".weight")
        low, high = extremes(weight, args)
        scale, _ = calculate_qparams(low, high, args)
        made = compressor.compress({"weight": weight, "weight_scale": scale}, scheme)
        stored |= {f"{module}.{leaf}": value.contiguous() for leaf, value in made.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": form,
        "config_groups": {"group_0": json.loads(scheme.model_dump_json())},
        "ignore": ["lm_head"],
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def extremes(x, args):
    """The least and the largest value of what shares a scale, in the shape that the library gives scales."""
    rows, cols = x.shape
    match args.strategy:
        case "tensor":
            return x.amin().reshape(1), x.amax().reshape(1)
        case "channel":
            return x.amin(1, keepdim=True), x.amax(1, keepdim=True)
        case "group":
            groups = x.reshape(rows, -1, args.group_size)
            return groups.amin(-1), groups.amax(-1)
        case "block":
            high, wide = args.block_structure
            blocks = x.reshape(rows // high, high, cols // wide, wide)
            return blocks.amin((1, 3)), blocks.amax((1, 3))


def load(folder, how):
    more = {}
    if how is not None and "quantization_config" in json.loads((folder / "config.json").read_text()):
        more["quantization_config"] = CompressedTensorsConfig(run_compressed=False)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map="cpu", **more).eval()


def weights(model, how):
    """What the library decodes."""
    modules = {name: module for name, module in model.named_modules() if name.endswith(tuple(TARGETS))}
    if how is not None:
        return {name: module.weight.detach().double() for name, module in modules.items()}
    return {name: module.weight.CB.double() * module.weight.SCB.double()[:, None] / 127 for name, module in modules.items()}


def check(kind, how, folders, summary):
    base, kept, decoded, adapter = folders
    model = load(base, how)
    before = weights(model, how)
    after = weights(load(kept, how), how)
    factors = load_file(adapter / "adapter_model.safetensors")
    modules = summary["applied"]["modules"]
    reported = {module["module"].removeprefix("base_model.model."): module["retained"] for module in modules}
    assert before.keys() == after.keys() == reported.keys(), f"{before.keys()} {reported.keys()}"
    for name, values in before.items():
        a, b = (factors[f"base_model.model.{name}.lora_{end}.weight"].double() for end in "AB")
        delta = ALPHA / RANK * (b @ a)
        arrived = float(((after[name] - values) * delta).sum() / (delta * delta).sum())
        # Each of both is rounded to BF16 by the library; such roundings are as good as random.
        off = UNIT * float((values.norm() + after[name].norm()) / delta.norm() / values.numel() ** 0.5)
        told = f"{kind}: {name} keeps {arrived}, reported is {reported[name]} (± {off})"
        assert abs(arrived - reported[name]) <= 4 * off, told
    with torch.no_grad():
        alone = model(TOKENS).logits.double()
        right = PeftModel.from_pretrained(model, adapter)(TOKENS).logits.double()
        found = [load(folder, how)(TOKENS).logits.double() for folder in (kept, decoded)]
    effect, *errors = [float((logits - right).norm() / right.norm()) for logits in (alone, *found)]
    left = summary["applied"]["encoded_again"]["median"]
    print(f"{kind:16} {100 * left:8.1f} %  {effect:.4f} {errors[0]:.4f} {errors[1]:.4f}")
    # Nearer to the adapted model than the base is, or the merge would be worth nothing.
    assert max(errors) < effect, kind


if __name__ == "__main__":
    main()
