"""Merges adapters that change the ends of a language model, and loads the results in transformers.

The golden fixtures say what the tensors must be; here the files must also load: a head that was untied, a vocabulary
that grew or shrank and a head that is new change `config.json`, and transformers reads that, not our plan. For each
case a small random model is saved, PEFT saves an adapter for it, and what counts is that the class which the merged
config names gives the logits of PEFT's model before merging, with no key missing, left over or of another shape that
was not so in the base. The unmerged model is the truth, as PEFT's own merge of a tied model changes both ends; only
`--tied fold` is held against that merge.

In F32 logits may differ by the order of sums. In BF16 the result must be the F32 merge of the same values rounded
once, bit by bit, and that F32 merge must give the logits; so no bound on what BF16 does to logits has to be guessed.

    python tests/real_heads.py target/release/shardfold [--only WORD]

Needs `fixtures/requirements.txt`. Prints a table, exits 1 and says what did not hold.
"""

import os

os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file

from loading import recording

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}
SAME = 1e-5  # of the largest logit: what the order of sums may do in F32
DIFFERENT = 1e-2  # of the largest logit: what an adapter must do at least, or a case would prove nothing
VOCABULARY = 20
IDS = torch.tensor([[1, 5, 3, 9, 4, 7], [6, 11, 3, 2, 8, 10]])
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
WEIGHT_STD, FACTOR_STD = 0.2, 0.3
SEED = 20251124

# Names that the cases use for a module of any model.
EMBEDDING, HEAD, ATTENTION = "<embedding>", "<head>", "<attention>"
BOTH = [EMBEDDING, HEAD]
CLASSES = {
    "ForCausalLM": transformers.AutoModelForCausalLM,
    "LMHeadModel": transformers.AutoModelForCausalLM,
    "ForMaskedLM": transformers.AutoModelForMaskedLM,
    "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
    "ForTokenClassification": transformers.AutoModelForTokenClassification,
    "ForQuestionAnswering": transformers.AutoModelForQuestionAnswering,
    "ForConditionalGeneration": transformers.AutoModelForSeq2SeqLM,
    "ForImageClassification": transformers.AutoModelForImageClassification,
    "Model": transformers.AutoModel,
}
TASKS = {
    None: "ForCausalLM",
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}


# --- the models -------------------------------------------------------------------------------------------------------


@dataclass
class Model:
    """A small architecture: how to build it, and what it calls the modules that cases name."""

    build: object
    names: dict
    tied: bool = True


def decoder(kind, tied, **sizes):
    """Any model that is laid out like a Llama. The width is a square, so that Gemma's scale is exact in BF16."""
    sizes |= {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 16,
        "initializer_range": WEIGHT_STD,
        "tie_word_embeddings": tied,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = transformers.Gemma3TextConfig if kind == "Gemma3" else getattr(transformers, f"{kind}Config")
    model = getattr(transformers, f"{kind}ForCausalLM")
    names = {EMBEDDING: "embed_tokens", HEAD: "lm_head", ATTENTION: "q_proj"}
    return Model(lambda: model(config(**sizes)), names, tied)


def gpt2():
    """Names begin with `transformer.`, and `Conv1D` stores [in, out]."""
    sizes = {"vocab_size": VOCABULARY, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.GPT2Config(**sizes, **tokens, initializer_range=WEIGHT_STD)
    names = {EMBEDDING: "wte", HEAD: "lm_head", ATTENTION: "c_attn"}
    return Model(lambda: transformers.GPT2LMHeadModel(config), names)


SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
    "initializer_range": WEIGHT_STD,
}


def encoder(kind, attention="query", **sizes):
    """A masked language model like BERT: what its tasks need of it stands under the name of the base model."""
    config = getattr(transformers, f"{kind}Config")(**SIZES | sizes)
    names = {EMBEDDING: "word_embeddings", ATTENTION: attention}
    return Model(lambda: getattr(transformers, f"{kind}ForMaskedLM")(config), names)


def bart():
    """An encoder and a decoder; its classifier reads the state of the last of its end tokens, of which each row has one."""
    sizes = {f"{part}_{size}": value for part in ("encoder", "decoder") for size, value in
             (("layers", 2), ("attention_heads", 2), ("ffn_dim", 24))}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3, "decoder_start_token_id": 3, "forced_eos_token_id": 3}
    config = transformers.BartConfig(
        vocab_size=VOCABULARY, d_model=16, max_position_embeddings=24, init_std=WEIGHT_STD, **sizes, **tokens)
    return Model(lambda: transformers.BartForConditionalGeneration(config), {ATTENTION: "q_proj"})


def xlnet():
    """A head of two modules, neither of which PEFT's own lists name."""
    config = transformers.XLNetConfig(
        vocab_size=VOCABULARY, d_model=16, n_layer=2, n_head=2, d_inner=24, initializer_range=WEIGHT_STD, pad_token_id=0)
    return Model(lambda: transformers.XLNetLMHeadModel(config), {ATTENTION: "layer_1"})


def vit():
    """An image model that was saved without a head and without the name of the base model."""
    sizes = {key: value for key, value in SIZES.items() if key not in ("vocab_size", "max_position_embeddings")}
    config = transformers.ViTConfig(image_size=32, patch_size=16, **sizes)
    return Model(lambda: transformers.ViTModel(config, add_pooling_layer=False), {ATTENTION: "q_proj"})


# Encoders by what `ForSequenceClassification` needs beyond what PEFT saves by itself.
ENCODERS = {
    "roberta": encoder("Roberta", pad_token_id=0),
    "xlm-roberta": encoder("XLMRoberta", pad_token_id=0),
    "camembert": encoder("Camembert", pad_token_id=0),
    "electra": encoder("Electra", embedding_size=16),
    "esm": encoder("Esm", pad_token_id=0, mask_token_id=18, position_embedding_type="absolute"),
    "distilbert": encoder("DistilBert", "q_lin", dim=16, hidden_dim=24, n_layers=2, n_heads=2),
    "mpnet": encoder("MPNet", "q", pad_token_id=0),
    "convbert": encoder("ConvBert", embedding_size=16, num_attention_heads=4),
    "roformer": encoder("RoFormer", embedding_size=16),
    "nystromformer": encoder("Nystromformer", num_landmarks=1, segment_means_seq_len=6),
    "modernbert": encoder("ModernBert", "Wo", pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2),
    "fnet": encoder("FNet", "dense"),
    "squeezebert": encoder("SqueezeBert", embedding_size=16, q_groups=1, k_groups=1, v_groups=1, post_attention_groups=1,
        intermediate_groups=1, output_groups=1),
}
POOLED = {
    "bert": encoder("Bert"),
    "deberta": encoder("Deberta", "in_proj", pad_token_id=0),
    "deberta-v2": encoder("DebertaV2", "query_proj", pad_token_id=0),
    "albert": encoder("Albert", embedding_size=16),
    "mobilebert": encoder("MobileBert", embedding_size=16, true_hidden_size=16, intra_bottleneck_size=16),
    "rembert": encoder("RemBert", input_embedding_size=16, output_embedding_size=16),
    "megatron-bert": encoder("MegatronBert"),
}
MODELS = {
    "llama": decoder("Llama", True),
    "qwen2": decoder("Qwen2", True),
    "gemma3": decoder("Gemma3", True),
    "gpt2": gpt2(),
    "llama-untied": decoder("Llama", False),
}
TIED = [name for name in MODELS if MODELS[name].tied]
CAUSAL = list(MODELS)
MODELS |= ENCODERS | POOLED | {"bart": bart(), "xlnet": xlnet(), "vit": vit()}


# --- the cases --------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One adapter, or several for one model, and what PEFT says of them."""

    name: str
    adapters: list  # configs without their type; a rank makes it LoRA
    models: list = field(default_factory=lambda: TIED)
    flags: tuple = ()
    truth: str = "unmerged"
    grow: int = 0  # tokens by which the model is made larger before training
    labels: int | None = None
    head: str | None = None  # the class's ending, where no type of PEFT's names the task
    save: dict = field(default_factory=dict)

    @property
    def task(self):
        return self.adapters[0].get("task_type")

    @property
    def is_task(self):
        return bool(self.task or self.head)

    @property
    def ending(self):
        return self.head or TASKS[self.task]

    @property
    def vocabulary(self):
        return VOCABULARY + self.grow


def lora(*targets, **fields):
    return {"r": 4, "lora_alpha": 8, "target_modules": list(targets)} | fields


FOLD = {"flags": ("--tied", "fold"), "truth": "merged"}
SAVED = {"save_embedding_layers": True}
CASES = [
    Case("lora-head", [lora(HEAD, ATTENTION)], CAUSAL),
    Case("lora-embedding", [lora(EMBEDDING, ATTENTION)], CAUSAL),
    Case("lora-both", [lora(*BOTH)], CAUSAL),
    Case("lora-head-fold", [lora(HEAD, ATTENTION)], **FOLD),
    Case("lora-embedding-fold", [lora(EMBEDDING, ATTENTION)], **FOLD),
    Case("lora-both-fold", [lora(*BOTH)], **FOLD),
    Case("save-head", [lora(ATTENTION, modules_to_save=[HEAD])], CAUSAL),
    Case("save-embedding", [lora(ATTENTION, modules_to_save=[EMBEDDING])], CAUSAL),
    Case("save-both", [lora(ATTENTION, modules_to_save=BOTH)], CAUSAL),
    Case("lora-embedding-save-head", [lora(EMBEDDING, modules_to_save=[HEAD])], CAUSAL),
    Case("ensured-lora-embedding", [lora(EMBEDDING, ensure_weight_tying=True)]),
    # Loading it again, PEFT finds the head of a Llama and not that of a GPT-2, whose factors it passes over.
    Case("ensured-lora-head", [lora(HEAD, ensure_weight_tying=True)], truth="trained"),
    Case("ensured-save-embedding", [lora(ATTENTION, modules_to_save=[EMBEDDING], ensure_weight_tying=True)]),
    Case("ensured-save-head", [lora(ATTENTION, modules_to_save=[HEAD], ensure_weight_tying=True)]),
    Case("tokens-lora", [lora(ATTENTION, trainable_token_indices=[9, 3, 5])], CAUSAL),
    Case("tokens-lora-by-name", [lora(ATTENTION, trainable_token_indices={EMBEDDING: [3, 9]})], CAUSAL),
    Case("tokens-lora-both", [lora(ATTENTION, trainable_token_indices={EMBEDDING: [3, 9], HEAD: [5, 2]})], CAUSAL),
    Case("tokens-method", [{"token_indices": [3, 5, 11]}], CAUSAL),
    Case("grown-save-both", [lora(ATTENTION, modules_to_save=BOTH)], CAUSAL, grow=8),
    Case("grown-save-embedding", [lora(ATTENTION, modules_to_save=[EMBEDDING])], CAUSAL, grow=8, save=SAVED),
    Case("grown-saved", [lora(ATTENTION)], CAUSAL, grow=8, save=SAVED),
    Case("grown-saved-auto", [lora(ATTENTION)], CAUSAL, grow=8),
    Case("grown-lora-both", [lora(*BOTH)], CAUSAL, grow=8),
    # Of an untied model PEFT saves only the end with LoRA, and the new rows of the other are lost.
    Case("grown-lora-head", [lora(HEAD)], grow=8),
    Case("grown-lora-embedding", [lora(EMBEDDING)], grow=8),
    Case("grown-lora-head-fold", [lora(HEAD)], grow=8, **FOLD),
    Case("grown-lora-embedding-fold", [lora(EMBEDDING)], grow=8, **FOLD),
    Case("grown-lora-both-fold", [lora(*BOTH)], grow=8, **FOLD),
    Case("grown-tokens", [lora(ATTENTION, trainable_token_indices=[VOCABULARY + 2, 3])], CAUSAL, grow=8, save=SAVED),
    Case("grown-tokens-both", [lora(ATTENTION, trainable_token_indices={EMBEDDING: [3, 25], HEAD: [22]})], CAUSAL,
        grow=8, save=SAVED),
    Case("grown-tokens-method", [{"token_indices": [VOCABULARY + 2, 3]}], grow=8, save=SAVED),
    Case("grown-ensured", [lora(ATTENTION, modules_to_save=[EMBEDDING], ensure_weight_tying=True)], grow=8),
    Case("shrunk-save-both", [lora(ATTENTION, modules_to_save=BOTH)], CAUSAL, grow=-4),
    Case("shrunk-lora-head", [lora(HEAD)], grow=-4),
    Case("shrunk-saved", [lora(ATTENTION)], CAUSAL, grow=-4, save=SAVED),
    Case("classifier-3", [lora(ATTENTION, task_type="SEQ_CLS")], CAUSAL, labels=3),
    Case("classifier-1", [lora(ATTENTION, task_type="SEQ_CLS")], CAUSAL, labels=1),
    Case("classifier-lora-embedding", [lora(EMBEDDING, task_type="SEQ_CLS")], CAUSAL, labels=3),
    Case("classifier-save-embedding", [lora(ATTENTION, task_type="SEQ_CLS", modules_to_save=[EMBEDDING, "score"])],
        CAUSAL, labels=3),
    Case("classifier-tokens", [lora(ATTENTION, task_type="SEQ_CLS", trainable_token_indices=[3, 9])], CAUSAL, labels=3),
    Case("classifier-grown", [lora(ATTENTION, task_type="SEQ_CLS")], CAUSAL, labels=3, grow=8, save=SAVED),
    Case("tagger", [lora(ATTENTION, task_type="TOKEN_CLS")], ["llama", "gpt2", "llama-untied", "bert"], labels=4),
    # A head of one layer or of several, and PEFT's own list of modules to save.
    Case("labels-3", [lora(ATTENTION, task_type="SEQ_CLS")], [*ENCODERS], labels=3),
    Case("labels-16", [lora(ATTENTION, task_type="SEQ_CLS")], ["roberta", "distilbert"], labels=16),
    Case("tokens-5", [lora(ATTENTION, task_type="TOKEN_CLS")], [name for name in [*ENCODERS, *POOLED] if name != "esm"],
        labels=5),
    # Modules that the list names beyond the head, or for it.
    Case("pooler", [lora(ATTENTION, task_type="SEQ_CLS", modules_to_save=["classifier", "pooler"])], [*POOLED], labels=3),
    Case("head", [lora(ATTENTION, task_type="SEQ_CLS", modules_to_save=["classification_head"])], ["bart"], labels=3),
    Case("head-and-classifier", [lora(ATTENTION, task_type="SEQ_CLS", modules_to_save=["head", "classifier"])],
        ["modernbert"], labels=3),
    Case("summary", [lora(ATTENTION, task_type="SEQ_CLS", modules_to_save=["logits_proj", "sequence_summary"])], ["xlnet"],
        labels=3),
    # No task: PEFT writes the class.
    Case("score", [lora(ATTENTION, modules_to_save=["score"])], CAUSAL, labels=1, head="ForSequenceClassification"),
    Case("dense", [lora(ATTENTION, modules_to_save=["classifier"])], ["roberta", "electra"], labels=3,
        head="ForSequenceClassification"),
    Case("images", [lora(ATTENTION, modules_to_save=["classifier"])], ["vit"], labels=4, head="ForImageClassification"),
    Case("answers", [lora(ATTENTION, task_type="QUESTION_ANS")], ["bert"]),
    Case("dora-embedding", [lora(EMBEDDING, ATTENTION, use_dora=True)], CAUSAL),
    Case("dora-both", [lora(*BOTH, use_dora=True)], CAUSAL),
    Case("dora-two", [lora(ATTENTION, use_dora=True), lora(ATTENTION, r=3, use_dora=True)], CAUSAL),
]


def renamed(value, names):
    """A config with a model's own names in place of those that all cases use."""
    if isinstance(value, dict):
        return {renamed(key, names): renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


# --- bases and adapters -----------------------------------------------------------------------------------------------


def write_base(model, dtype, folder):
    torch.manual_seed(SEED)
    model.build().to(DTYPES[dtype]).save_pretrained(folder)
    return folder


def widened(base, folder):
    """A copy of a BF16 base in F32, with the same values."""
    folder.mkdir()
    tensors = {name: tensor.float() for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text()) | {"dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def load_to_train(case, base, dtype):
    """The base as it is before PEFT wraps it: of the class of the task, and resized."""
    changes = {} if case.labels is None else {"num_labels": case.labels}
    torch.manual_seed(SEED + 1)  # of a new head, which training replaces
    model = CLASSES[case.ending].from_pretrained(base, dtype=DTYPES[dtype], **changes)
    if case.grow:
        model.resize_token_embeddings(case.vocabulary, mean_resizing=False)
    return model


def write_adapter(case, number, names, base, dtype, folder):
    """An adapter whose every trained tensor is random, as PEFT saves it; returns the model as training left it."""
    fields = renamed(case.adapters[number], names)
    config = PEFT_TYPE_TO_CONFIG_MAPPING["LORA" if "r" in fields else "TRAINABLE_TOKENS"](**fields)
    model = get_peft_model(load_to_train(case, base, dtype), config)
    torch.manual_seed(SEED + 2 + number)
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            continue
        drawn = torch.randn(tensor.shape)
        if "lora_magnitude_vector" in name:
            tensor.data *= 1 + FACTOR_STD * drawn  # of the size of the rows, as training leaves it
        else:
            tensor.data.copy_(drawn * (FACTOR_STD if "lora_" in name else WEIGHT_STD))
    model.save_pretrained(folder, **case.save)
    return model


def load_with_peft(case, base, dtype, adapters):
    """The base with all its adapters in use, as a user loads them."""
    names = [f"adapter_{i}" for i in range(len(adapters))]
    model = PeftModel.from_pretrained(load_to_train(case, base, dtype), adapters[0], adapter_name=names[0])
    for name, folder in list(zip(names, adapters))[1:]:
        model.load_adapter(folder, adapter_name=name)
    model.base_model.set_adapter(names)
    return model


def logits(model, case):
    """In F32 whatever the weights are stored in: what they mean, not how a forward pass rounds."""
    ids = IDS.clone()
    ids[:, 1] = case.vocabulary - 1  # so that new rows of an embedding are looked up
    with torch.no_grad():
        inputs = {"pixel_values": IMAGES} if model.main_input_name == "pixel_values" else {"input_ids": ids}
        output = model.float().eval()(**inputs)
    return output["logits"] if "logits" in output else torch.stack([output["start_logits"], output["end_logits"]])


def truths(case, base, dtype, adapters, trained):
    """What PEFT's model says, and what it says without its adapters."""
    model = trained if case.truth == "trained" else load_with_peft(case, base, dtype, adapters)
    with model.disable_adapter():
        without = logits(model, case)
    if case.truth == "merged":
        return logits(model.float().merge_and_unload(), case), without
    return logits(model, case), without


# --- loading the result -----------------------------------------------------------------------------------------------


def load_named(folder, dtype):
    """Loads a checkpoint by the class in its config; returns the model and what loading it said."""
    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    return load_as(name, folder, dtype)


def load_as(name, folder, dtype):
    auto = next(auto for ending, auto in CLASSES.items() if name.endswith(ending))
    with recording(folder) as messages:
        model, info = auto.from_pretrained(folder, dtype=DTYPES[dtype], output_loading_info=True)
    assert type(model).__name__ == name, f"{folder} was loaded as {type(model).__name__}, not {name}"
    said = {f"{kind}: {key}" for kind, keys in info.items() for key in map(str, keys)}
    # The report repeats the keys, and has the base's own among them.
    return model, said | {message for message in messages if "LOAD REPORT" not in message}


def said_of_other_class(name, base, dtype):
    """What is said of a base that is loaded as the class of a task, but for the new head that it lacks."""
    return {line for line in load_as(name, base, dtype)[1] if not line.startswith("missing")}


# --- checks -----------------------------------------------------------------------------------------------------------


def apart(ours, wanted):
    """The largest difference, as part of the largest logit. Infinite if the shapes differ."""
    if ours.shape != wanted.shape:
        return float("inf")
    return ((ours - wanted).abs().max() / wanted.abs().max()).item()


def merge(binary, case, base, adapters, output):
    """Calls the binary under test as a user would; returns what it said if it failed."""
    command = [binary, "merge", "--base", base, "--output", output, "--quiet", *case.flags]
    for adapter in adapters:
        command += ["--adapter", adapter]
    result = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    return None if result.returncode == 0 else f"exit code {result.returncode}\n{result.stderr}{result.stdout}"


def check_config(case, folder, model):
    """The config must say what the tensors are, for those who read it and not the weights."""
    config = json.loads((folder / "config.json").read_text())
    if config.get("vocab_size", case.vocabulary) != case.vocabulary:
        yield f"`vocab_size` is {config['vocab_size']}, expected {case.vocabulary}"
    if case.labels is not None and model.config.num_labels != case.labels:
        yield f"the config has {model.config.num_labels} labels, expected {case.labels}"
    if not config["architectures"][0].endswith(case.ending) and case.is_task:
        yield f"`architectures` is {config['architectures']}, expected one for {case.ending}"


def check_rounded_once(folder, wide):
    """Every tensor in BF16 is that of the F32 merge, rounded: the two are roundings of one exact value."""
    ours, wanted = (load_file(path / "model.safetensors") for path in (folder, wide))
    if ours.keys() != wanted.keys():
        yield f"the merge in F32 has other tensors: {sorted(ours.keys() ^ wanted.keys())}"
        return
    for name, tensor in ours.items():
        if tensor.dtype != torch.bfloat16 or not is_rounding_of(tensor, wanted[name]):
            yield f"`{name}` is not the F32 merge rounded once"


def is_rounding_of(narrow, wide):
    """Whether BF16 values are what F32 values round to. An F32 value in the middle between two of BF16 does not tell on which
    side of it the exact value lies, so that either is right."""
    bits = wide.view(torch.int32)
    is_middle = (bits & 0xFFFF) == 0x8000
    below = (bits >> 16).to(torch.int16)
    is_neighbor = (narrow.view(torch.int16) == below) | (narrow.view(torch.int16) == below + 1)
    return bool(((narrow == wide.bfloat16()) | (is_middle & is_neighbor)).all())


@dataclass
class Row:
    """What one run came to: a line of the table, and what did not hold."""

    case: str
    dtype: str
    difference: float = float("nan")
    rounded: float | None = None
    warnings: int = 0
    failures: list = field(default_factory=list)

    def __str__(self):
        rounded = "" if self.rounded is None else f"{self.rounded:.1e}"
        held = f"  FAILED: {len(self.failures)}" if self.failures else ""
        return f"{self.case:<40} {self.dtype:<5} {self.difference:>9.1e} {rounded:>9} {self.warnings:>9}{held}"


# The largest differences of logits, as parts of the largest logit: of the F32 merge, and of that in BF16.
HEADER = f"{'case':<40} {'dtype':<5} {'F32 merge':>9} {'rounded':>9} {'warnings':>9}"


def run(binary, case, model, dtype, base, work):
    """Merges in the base's dtype, and in F32 if that is another, and holds both against PEFT."""
    row = Row(f"{model}/{case.name}", dtype)
    names = MODELS[model].names
    adapters = [work / f"adapter-{i}" for i in range(len(case.adapters))]
    for i, folder in enumerate(adapters):
        trained = write_adapter(case, i, names, base, dtype, folder)
    wanted, without = truths(case, base, dtype, adapters, trained)
    bases = {dtype: base} if dtype == "F32" else {"F32": widened(base, work / "base-f32"), dtype: base}
    if not apart(without, wanted) > DIFFERENT:
        row.failures.append("the adapter changes next to nothing: the case proves nothing")
    for stored, stored_base in bases.items():
        output = work / f"merged-{stored.lower()}"
        if failed := merge(binary, case, stored_base, adapters, output):
            row.failures.append(failed)
            return row
        row.failures += hold(row, case, stored, stored_base, output, wanted)
    if dtype != "F32":
        row.failures += check_rounded_once(work / "merged-bf16", work / "merged-f32")
    return row


def hold(row, case, dtype, base, output, wanted):
    """Loads one result and yields what does not hold of it."""
    try:
        model, said = load_named(output, dtype)
    except Exception as error:  # whatever transformers makes of a checkpoint that is wrong
        yield f"{dtype}: does not load: {type(error).__name__}: {error}"
        return
    base_said = load_named(base, dtype)[1]
    if case.is_task:
        base_said |= said_of_other_class(type(model).__name__, base, dtype)
    new = said - base_said
    row.warnings += len(new)
    yield from (f"{dtype}: loading says what the base does not: {line}" for line in sorted(new))
    yield from check_config(case, output, model)
    difference = apart(logits(model, case), wanted)
    if dtype == "F32":
        row.difference = difference
        if not difference < SAME:  # a NaN must fail
            yield f"F32: logits differ by {difference:.2e} of the largest, expected less than {SAME}"
    else:
        row.rounded = difference


# --- all of it --------------------------------------------------------------------------------------------------------


def run_all(binary, work, only):
    """Every case on every model it is for, in both dtypes."""
    print(HEADER)
    failures = []
    for dtype in DTYPES:
        for name, model in MODELS.items():
            base = write_base(model, dtype, work / f"{name}-{dtype.lower()}")
            for case in CASES:
                if name not in case.models or only not in f"{name}/{case.name}":
                    continue
                with tempfile.TemporaryDirectory(dir=work) as folder:
                    row = run(binary, case, name, dtype, base, Path(folder))
                print(row, flush=True)
                failures += [f"{row.case} {dtype}: {failure}" for failure in row.failures]
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("binary", type=Path, help="the shardfold binary to test")
    parser.add_argument("--only", default="", metavar="WORD", help="only MODEL/CASE with this in it")
    args = parser.parse_args()
    binary = shutil.which(args.binary.absolute())
    if binary is None:
        sys.exit(f"error: `{args.binary}` is not a program that can be run")

    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    transformers.logging.disable_default_handler()  # `recording` sees all the same
    transformers.logging.add_handler(logging.NullHandler())
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="shardfold-heads-") as work:
        failures = run_all(binary, Path(work), args.only)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    print(f"\n{'FAILED: ' + str(len(failures)) + ' checks' if failures else 'all checks hold'}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
