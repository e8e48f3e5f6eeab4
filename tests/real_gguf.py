"""GGUF: files with the tensors of tiny models of transformers, named by llama.cpp's own library, merged into with adapters of PEFT.

    python tests/real_gguf.py SHARDFOLD WORK [ARCHITECTURE ...]

Needs torch, transformers, peft and gguf. For each architecture and type of weights it holds the result against

* the exact sum of what the library decodes and the delta, rounded once: every element of every tensor that changes,
* the base, byte by byte, in all that does not,
* what transformers computes when it loads the result, against the base with the adapter beside it.

The same of files made of a checkpoint of transformers with `--to gguf`, in F16, BF16 and Q8_0, against the model with its adapter.

Prints a line for each, and exits with 1 if one fails.
"""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import quants
from peft import PeftModel
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent.parent / "fixtures"))
from make_gguf import ARCHITECTURES, EXPERTS, K_TYPES, OF_EXPERTS, adapter, as_stored, exact, in_file, model_of, write  # noqa: E402

SHARDFOLD, WORK = sys.argv[1], Path(sys.argv[2])
SIZES = dict(hidden_size=256, intermediate_size=512, num_key_value_heads=2, vocab_size=320)
MORE_SIZES = {"head_dim": 32, "moe_intermediate_size": 256, "shared_expert_intermediate_size": 256}
# What transformers does not load from such a file.
UNREAD = ["gemma", "mixtral"]
KINDS = [Type.F16, Type.F32, Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.TQ1_0, Type.TQ2_0, *K_TYPES]


def tensors(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(str(path)).tensors}


def values_of(tensor):
    shape = tuple(reversed([int(size) for size in tensor.shape]))
    return quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)


def run(*args):
    done = subprocess.run([SHARDFOLD, *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{args}: exit code {done.returncode}\n{done.stderr}")
    return done.stderr


def is_exact(name, arch, config, files, stored, deltas):
    wrong, changed = 0, 0
    before, after = map(tensors, files)
    assert list(before) == list(after), "order of tensors"
    for target, tensor in before.items():
        delta = deltas.get(stored[target])
        if delta is None:
            assert after[target].tensor_type == tensor.tensor_type
            assert np.array_equal(np.asarray(tensor.data), np.asarray(after[target].data)), target
            continue
        plain = np.float32 if tensor.tensor_type == Type.F32 else np.float16
        right = exact(values_of(tensor), as_stored(arch, config, stored[target], delta), plain)
        wrong += int((values_of(after[target]) != right.astype(np.float32)).sum())
        changed += right.size
    print(f"{name}: {wrong} of {changed:,} elements differ from the exact sum")
    return wrong == 0


def logits(model):
    with torch.no_grad():
        return model(torch.arange(3, 35).reshape(1, -1)).logits.double()


def load(path, config):
    # Headers do not say how wide an expert is; all else that they say is what the config says.
    options = {"config": config} if config.model_type.endswith("moe") else {}
    loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **options)
    return loaded.eval()


def loads(name, base, merged, lora, config, most):
    right = logits(PeftModel.from_pretrained(load(base, config), lora))
    error, effect = ((logits(load(path, config)) - right).norm() / right.norm() for path in (merged, base))
    print(f"{name}: logits differ by {error:.2e}, the adapter's own effect is {effect:.2e}")
    return error < most


def kept(name, base, lora, merged, config):
    said = run("merge", "--base", base, "--adapter", lora, "--output", merged.parent, "--keep-quantized", "--accept-loss")
    same = all(tensor.tensor_type == tensors(base)[name].tensor_type for name, tensor in tensors(merged).items())
    retained = [line for line in said.splitlines() if "kept after rounding" in line]
    print(f"{name}: kept quantized, types {'the same' if same else 'CHANGED'}; {' '.join(retained)}")
    # What rounding costs depends on the bits; that the file loads and is one of this model is seen.
    return same and (config.model_type in UNREAD or loads(f"{name}, kept", base, merged, lora, config, 1.0))


def rounded(exact_values, kind):
    """Values as a type holds them, each rounded once; of blocks, after they are rounded to f32."""
    single = exact_values.astype(np.float32)
    if kind == Type.F32:
        return single
    if kind == Type.F16:
        return exact_values.astype(np.float16).astype(np.float32)
    if kind == Type.BF16:
        # Halfway in f32 and not halfway before: the side that it came from.
        rest = exact_values - single
        half = (single.view(np.uint32) & 0xFFFF) == 0x8000
        single = np.where(half & (rest != 0), np.nextafter(single, np.where(rest > 0, np.inf, -np.inf).astype(np.float32)), single)
    return quants.dequantize(quants.quantize(single, kind), kind)


def converted(arch, model, stored, deltas, paths):
    """Files made of the model as transformers saves it, in some types, which all lie as the file that it has."""
    base, lora, at = paths
    hf = at / "hf"
    model.to(torch.bfloat16).save_pretrained(hf)
    named, fine = {name: target for target, name in stored.items()}, True
    weights = {}
    for name, tensor in model.state_dict().items():
        weights |= dict(in_file(name, tensor.double().numpy() if tensor.ndim else tensor))
    for kind in (Type.F16, Type.BF16, Type.Q8_0):
        name, out = f"{arch} to {kind.name}", at / f"to-{kind.name}"
        flags = ["--base", hf, "--adapter", lora, "--to", "gguf", "--gguf-template", base, "--gguf-type", kind.name.lower()]
        run("merge", *flags, "--output", out)
        run("merge", *flags, "--output", at / "tight-to", "--max-ram", "40M", "--threads", "1")
        (path,) = out.glob("*.gguf")
        assert (at / "tight-to" / path.name).read_bytes() == path.read_bytes(), f"{name}: other bytes under 40M"
        subprocess.run(["rm", "-rf", str(at / "tight-to")], check=True)
        run("verify", out, *flags)
        found, wrong, size, neighbors = tensors(path), 0, 0, 0
        assert list(found) == list(tensors(base)), f"{name}: other tensors"
        for own, target in named.items():
            right = as_stored(arch, model.config, own, weights[own] + deltas.get(own, 0))
            tensor = found[target]
            found_values, right = values_of(tensor), rounded(right, tensor.tensor_type)
            differs = found_values != right
            if tensor.tensor_type == Type.Q8_0:
                # The sum is rounded to f32 before it is quantized, there and here: where it lies between two codes, either may come.
                steps = np.abs(right).reshape(-1, 32).max(axis=1, keepdims=True) / 127
                off = np.abs(found_values - right).reshape(-1, 32)
                neighbors += int(differs.sum())
                differs = off > 1.01 * steps
            wrong += int(differs.sum())
            size += right.size
        print(f"{name}: {wrong} of {size:,} elements are not what the library makes of the exact sum, {neighbors} have the next code")
        fine &= wrong == 0 and neighbors < size / 10_000
        if arch not in UNREAD:
            right = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(hf, dtype=torch.float32).eval(), lora))
            error = (logits(load(path, model.config)) - right).norm() / right.norm()
            print(f"{name}: logits differ by {error:.2e}")
            fine &= bool(error < (5e-2 if kind == Type.Q8_0 else 1e-2))
    return fine


def main():
    fine = True
    for i, arch in enumerate(ARCHITECTURES):
        if sys.argv[3:] and arch not in sys.argv[3:]:
            continue
        for kind in KINDS if arch == "llama" else [Type.F16, KINDS[2 + i]]:
            name = f"{arch} {kind.name}"
            at = WORK / f"{arch}-{kind.name}"
            subprocess.run(["rm", "-rf", str(at)], check=True)
            base, lora = at / "base" / f"tiny-{kind.name}.gguf", at / "adapter"
            own = EXPERTS.get(arch, {})
            sizes = SIZES | {key: size for key, size in MORE_SIZES.items() if key in own}
            model = model_of(arch, **sizes)
            # As in llama.cpp's own mixtures, the embedding is of another type.
            stored = write(base, arch, model, lambda target: Type.Q8_0 if "embd" in target else kind)
            deltas = adapter(model_of(arch, **sizes), lora, **(OF_EXPERTS if arch in EXPERTS else {}))
            merged, tight = at / "merged" / base.name, at / "tight" / base.name
            run("merge", "--base", base, "--adapter", lora, "--output", merged.parent)
            fine &= is_exact(name, arch, model.config, (base, merged), stored, deltas)
            run("merge", "--base", base, "--adapter", lora, "--output", tight.parent, "--max-ram", "40M", "--threads", "1")
            assert tight.read_bytes() == merged.read_bytes(), f"{name}: other bytes under 40M"
            run("verify", merged.parent, "--base", base, "--adapter", lora)
            if arch not in UNREAD:
                fine &= loads(name, base, merged, lora, model.config, 2e-3)
            if kind == Type.F16:
                fine &= converted(arch, model, stored, deltas, (base, lora, at))
            if (arch == "llama" or arch in EXPERTS) and kind not in (Type.F16, Type.F32):
                fine &= kept(name, base, lora, at / "kept" / base.name, model.config)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
