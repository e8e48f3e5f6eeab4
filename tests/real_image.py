"""What shardfold merges into components of pipelines, loaded by diffusers and transformers: outputs of one step against the unmerged component
with the adapter that diffusers loaded into it.

    python tests/real_image.py target/release/shardfold FOLDER
"""

import shutil
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "fixtures"))

import make_image as made  # noqa: E402
from diffusers.loaders import FluxLoraLoaderMixin, StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

SD, XL, FLUX = StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin, FluxLoraLoaderMixin
# Case, base, what loads it in diffusers.
CASES = [
    ("kohya-unet", "unet", SD),
    ("kohya-te1", "te1", SD),
    ("kohya-conv", "unet", SD),
    ("kohya-sdxl-sdxl", "sdxl", XL),
    ("kohya-sdxl-te2", "te2", XL),
    ("diffusers-unet", "unet", SD),
    ("diffusers-flux", "flux", FLUX),
    ("kohya-flux", "flux", FLUX),
]


def step(of, model):
    """One pass over inputs that are the same each time."""
    torch.manual_seed(1)
    model.eval()
    with torch.no_grad():
        if of.startswith("te"):
            return model(torch.arange(8)[None]).last_hidden_state
        if of == "flux":
            return model(
                hidden_states=torch.randn(1, 4, 4),
                encoder_hidden_states=torch.randn(1, 3, 12),
                pooled_projections=torch.randn(1, 12),
                timestep=torch.tensor([0.5]),
                img_ids=torch.zeros(4, 3),
                txt_ids=torch.zeros(3, 3),
            ).sample
        more = {"text_embeds": torch.randn(1, 8), "time_ids": torch.randn(1, 6)} if of == "sdxl" else None
        return model(torch.randn(1, 4, 8, 8), 3, torch.randn(1, 3, 8), added_cond_kwargs=more).sample


def main():
    binary, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made.tiny_sizes()
    worst = 0
    for case, of, loader in CASES:
        adapter = made.FOLDER / f"image-{case}" / "adapter.safetensors"
        output = folder / case
        run = [binary, "merge", "--base", made.FOLDER / f"base-{of}", "--adapter", adapter, "--output", output, "--quiet"]
        subprocess.run(run, check=True)
        merged, report = type(made.MODELS[of]()).from_pretrained(output, output_loading_info=True)
        wrong = {key: found for key, found in report.items() if "keys" in key and found}
        assert not wrong, (case, wrong)
        plain = step(of, made.base(of))
        unmerged = step(of, made.loaded(loader, of, load_file(adapter)))
        ours = step(of, merged)
        effect = (unmerged - plain).norm() / plain.norm()
        off = (ours - unmerged).norm() / unmerged.norm()
        print(f"{case:20} off the unmerged by {off:.1e}, which is off the base by {effect:.2f}")
        assert effect > 1e-3 and off < 1e-5, case
        worst = max(worst, off)
    print(f"real image models: {len(CASES)} merged, at most {worst:.1e} off")


if __name__ == "__main__":
    main()
