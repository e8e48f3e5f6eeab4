"""Merges a LoRA into models that MLX quantized, keeps them quantized, and loads the results with mlx-lm on the CPU.

    python tests/real_mlx.py SHARDFOLD FOLDER

Needs mlx[cpu], mlx-lm, numpy and safetensors, in an environment of their own. For each mode it holds the result against

* what shardfold itself decodes it to: every weight that `mx.dequantize` makes of it,
* the quantized model with the adapter beside it: the logits of both, and of the quantized model without it.

Prints a line for each, and exits with 1 if one fails.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.utils import load_model, quantize_model, save_config, save_model
from safetensors.numpy import save_file

SHARDFOLD, WORK = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
RANK = 4
MODULES = ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"]
# Mode, bits and group; the most that logits may be off, which is what rounding to so few bits costs.
MODES = [
    ("affine", 8, 32, 0.03), ("affine", 6, 64, 0.1), ("affine", 4, 64, 0.4), ("affine", 3, 64, 0.7),
    ("mxfp8", 8, 32, 0.12), ("mxfp4", 4, 32, 0.5), ("nvfp4", 4, 16, 0.4),
]
SIZES = dict(
    model_type="llama", hidden_size=256, num_hidden_layers=2, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2,
    rms_norm_eps=1e-5, vocab_size=512, tie_word_embeddings=False, head_dim=64, max_position_embeddings=256, rope_theta=10000.0,
)


def run(*args):
    done = subprocess.run([SHARDFOLD, *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{args}: exit code {done.returncode}\n{done.stderr}")


def logits(model):
    return np.array(model(mx.arange(3, 67).reshape(2, 32)).astype(mx.float32), dtype=np.float64)


def in_single(model):
    """The same in f32: scales and biases in 16 bit have products that MLX rounds too."""
    model.set_dtype(mx.float32)
    return model


def plain(model):
    """The weights of all linear layers and embeddings, decoded."""
    decoded = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.QuantizedLinear, nn.QuantizedEmbedding)):
            rest = dict(group_size=module.group_size, bits=module.bits, mode=module.mode)
            decoded[name + ".weight"] = mx.dequantize(module.weight, module.scales, module.get("biases"), **rest).astype(mx.float32)
    return decoded


def dense(weights, model):
    """A model of plain weights: these, and what else the quantized one has."""
    whole = Model(ModelArgs(**SIZES))
    others = {name: value for name, value in tree_flatten(model.parameters()) if name in dict(tree_flatten(whole.parameters()))}
    whole.update(tree_unflatten(list(({n: v.astype(mx.float32) for n, v in others.items()} | weights).items())))
    return whole


def adapter(folder, with_delta=True):
    folder.mkdir(parents=True, exist_ok=True)
    random, tensors, deltas = np.random.default_rng(5), {}, {}
    for layer in range(SIZES["num_hidden_layers"]):
        for module in MODULES:
            inputs = SIZES["intermediate_size"] if module.endswith("down_proj") else SIZES["hidden_size"]
            outputs = {"q_proj": 256, "v_proj": 128, "up_proj": 512, "down_proj": 256}[module.split(".")[1]]
            a, b = (random.standard_normal(shape).astype(np.float32) * 0.1 for shape in ((RANK, inputs), (outputs, RANK)))
            b *= with_delta
            path = f"model.layers.{layer}.{module}"
            tensors |= {f"base_model.model.{path}.lora_A.weight": a, f"base_model.model.{path}.lora_B.weight": b}
            deltas[path + ".weight"] = mx.array(2 * b @ a)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": [module.split(".")[1] for module in MODULES]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return deltas


def off(found, right):
    return np.linalg.norm(found - right) / np.linalg.norm(right)


def check(mode, bits, group, most):
    name, at = f"{mode} of {bits} bits", WORK / f"{mode}-{bits}"
    mx.random.seed(3)
    model = Model(ModelArgs(**SIZES))
    model.set_dtype(mx.bfloat16)
    model, config = quantize_model(model, dict(SIZES), group, bits, mode=mode)
    (at / "base").mkdir(parents=True)
    save_model(at / "base", model)
    save_config(config | {"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16"}, at / "base" / "config.json")
    deltas = adapter(at / "adapter")
    adapter(at / "nothing", with_delta=False)
    flags = ["--base", at / "base", "--adapter", at / "adapter"]
    run("merge", *flags, "--keep-quantized", "--accept-loss", "--output", at / "kept")
    run("verify", at / "kept", *flags, "--keep-quantized", "--accept-loss")
    run("merge", "--base", at / "kept", "--adapter", at / "nothing", "--allow-noop", "--output", at / "decoded")
    kept, _ = load_model(at / "kept")
    codes, decoded = plain(in_single(kept)), mx.load(str(at / "decoded" / "model.safetensors"))
    wrong = sum(int((decoded[weight] != value.astype(mx.bfloat16)).sum()) for weight, value in codes.items())
    size = sum(value.size for value in codes.values())
    base = plain(in_single(model))
    right = logits(dense({weight: value + deltas.get(weight, 0) for weight, value in base.items()}, model))
    error, effect = off(logits(kept), right), off(logits(model), right)
    print(f"{name}: {wrong} of {size:,} weights are decoded otherwise; logits differ by {error:.3f}, the adapter's own effect is {effect:.3f}")
    return wrong == 0 and error < min(most, effect)


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    sys.exit(0 if all([check(*mode) for mode in MODES]) else 1)


if __name__ == "__main__":
    main()
