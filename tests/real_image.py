"""What shardfold merges into components of pipelines, into whole pipelines and into single files, loaded by diffusers and transformers: outputs of
one step against the unmerged component with the adapter that diffusers loaded into it.

    python tests/real_image.py target/release/shardfold FOLDER
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "fixtures"))

import make_image as made  # noqa: E402
import make_one_file  # noqa: E402
from diffusers.loaders import FluxLoraLoaderMixin, StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

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
# Pipelines: the directories of their components, and the base of each. A single file has the same under the name of its row.
PIPELINES = {"sd": {"unet": "unet", "text_encoder": "te1"}, "sdxl": {"unet": "sdxl", "text_encoder": "te1", "text_encoder_2": "te2"}}


def pipeline(folder, parts):
    """A pipeline of tiny components."""
    for directory, of in parts.items():
        shutil.copytree(made.FOLDER / f"base-{of}", folder / directory)
    index = {directory: ["diffusers", type(made.MODELS[of]()).__name__] for directory, of in parts.items()}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "SomePipeline", **index}))
    return folder


def one_file(path, name):
    """The same by their original names."""
    rows = json.loads((made.FOLDER.parent / "one_file" / f"{name}.json").read_text())
    save_file({original: make_one_file.value(*rest).contiguous() for original, *rest in rows}, path)
    return path


def loaded_from(output, of, config=None):
    """A component, which must load without a word."""
    kind = type(made.MODELS[of]())
    if config is not None:
        return kind.from_single_file(output, config=str(config))
    model, report = kind.from_pretrained(output, output_loading_info=True)
    wrong = {key: found for key, found in report.items() if "keys" in key and found}
    assert not wrong, (output, wrong)
    return model


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


def bases(folder, of):
    """What a case is merged into: the component alone, a pipeline and a file with it; and what loads the component of the result."""
    own = made.FOLDER / f"base-{of}"
    yield "component", own, lambda output: loaded_from(output, of)
    for name, parts in PIPELINES.items():
        directory = next((directory for directory, base in parts.items() if base == of), None)
        # The first text encoder is that of both, and the file of the case for one.
        if directory is None or (of == "te1" and name == "sdxl"):
            continue
        folder.mkdir(parents=True)
        yield "pipeline", pipeline(folder / "pipeline", parts), lambda output: loaded_from(output / directory, of)
        # transformers loads no single file.
        if directory == "unet":
            yield "one file", one_file(folder / "model.original.safetensors", name), lambda output: loaded_from(next(output.glob("*.safetensors")), of, own)


def main():
    binary, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made.tiny_sizes()
    worst, count = 0, 0
    for case, of, loader in CASES:
        adapter = made.FOLDER / f"image-{case}" / "adapter.safetensors"
        plain = step(of, made.base(of))
        unmerged = step(of, made.loaded(loader, of, load_file(adapter)))
        effect = (unmerged - plain).norm() / plain.norm()
        for what, base, model in bases(folder / f"of-{case}", of):
            output = folder / f"{case}-{what}"
            subprocess.run([binary, "merge", "--base", base, "--adapter", adapter, "--output", output, "--quiet"], check=True)
            ours = step(of, model(output))
            off = (ours - unmerged).norm() / unmerged.norm()
            print(f"{case:16} {what:10} off the unmerged by {off:.1e}, which is off the base by {effect:.2f}")
            assert effect > 1e-3 and off < 1e-5, (case, what)
            worst = max(worst, off)
            count += 1
    print(f"real image models: {count} merged, at most {worst:.1e} off")


if __name__ == "__main__":
    main()
