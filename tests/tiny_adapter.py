"""The LoRA that scripts train on their tiny Llamas: on one projection of attention and two of the MLP."""

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

SCALE = 2.0
RANK = 4


def make_adapter(plain, folder, std):
    """Writes the adapter for the model in `plain` as PEFT saves it, `lora_B` of that deviation, and returns its tensors."""
    model = LlamaForCausalLM.from_pretrained(plain, dtype=torch.bfloat16)
    config = LoraConfig(r=RANK, lora_alpha=SCALE * RANK, target_modules=["q_proj", "up_proj", "down_proj"])
    model = get_peft_model(model, config)
    for name, values in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=std)
    model.save_pretrained(folder)
    return load_file(folder / "adapter_model.safetensors")
