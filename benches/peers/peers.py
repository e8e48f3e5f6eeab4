"""One merge by shardfold and by what people use instead: wall and CPU time, peak memory, and elements that differ.

    python benches/peers/peers.py SHARDFOLD COMPARE WORK [--mergekit PYTHON] [--runs N] [--record]

WORK has `base/` and one `adapter-*/` as `cargo run --release --example generate -- --shape llama-3b --out WORK` makes them
(7.2 GB); COMPARE is the binary that `cargo build --release --features compare --bin compare` makes. This python needs torch,
transformers and peft; that of `--mergekit` has mergekit's `mergekit-pytorch` beside it and needs not be the same. Runs are
interleaved, with the page cache dropped before each where that is allowed. What differs is counted against shardfold's
result, which is the exact value rounded once (docs/arithmetic.md). With `--record` the table goes to benches/record/peers.md.
"""

import argparse
import datetime
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent


def drop_caches() -> bool:
    """Writes dirty pages, and empties the page cache if this user may."""
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in MB of a command and what it starts."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    os.sync()
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def mergekit_command(python: str, work: pathlib.Path, adapter: pathlib.Path, output: pathlib.Path) -> list[str]:
    """The base with the adapter in mergekit's notation, passed through."""
    recipe = work / "mergekit.yaml"
    recipe.write_text(
        f"merge_method: passthrough\nmodels:\n  - model: {work / 'base'}+{adapter}\ndtype: bfloat16\n"
    )
    program = pathlib.Path(python).parent / "mergekit-yaml"
    cache = work / "mergekit-cache"
    return [str(program), str(recipe), str(output), "--lora-merge-cache", str(cache), "--no-copy-tokenizer"]


def differing(compare: str, exact: pathlib.Path, other: pathlib.Path) -> str:
    """The share of elements that are not the exact result's, as `compare` prints it."""
    done = subprocess.run([compare, str(other), str(exact)], stdout=subprocess.PIPE, text=True)
    if done.returncode == 2:
        return "cannot be compared"
    found = re.search(r"of their (\d+) elements (\d+) are not the same", done.stdout)
    if not found:
        return "0"
    elements, count = map(int, found.groups())
    return f"{100 * count / elements:.3g} % of {elements:.2e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shardfold")
    parser.add_argument("compare")
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--mergekit", metavar="PYTHON")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--max-ram", default="256M")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()

    work = options.work.resolve()
    base, (adapter, *_) = work / "base", sorted(work.glob("adapter-*"))
    outputs = {name: work / f"by-{name.split()[0]}" for name in ["shardfold", "PEFT (whole model)", "script by shard"]}
    python = [sys.executable]
    inputs = [str(base), str(adapter)]
    commands = {
        "shardfold": [options.shardfold, "merge", "--quiet", "--base", str(base), "--adapter", str(adapter),
                      "--max-ram", options.max_ram, "--output", str(outputs["shardfold"])],
        "PEFT (whole model)": [*python, str(HERE / "whole_model.py"), *inputs, str(outputs["PEFT (whole model)"])],
        "script by shard": [*python, str(HERE / "by_shard.py"), *inputs, str(outputs["script by shard"])],
    }
    if options.mergekit:
        outputs["mergekit"] = work / "by-mergekit"
        commands["mergekit"] = mergekit_command(options.mergekit, work, adapter, outputs["mergekit"])

    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    cold = True
    for _ in range(options.runs):
        for name, command in commands.items():
            shutil.rmtree(outputs[name], ignore_errors=True)
            shutil.rmtree(work / "mergekit-cache", ignore_errors=True)
            cold &= drop_caches()
            figures[name].append(measured(command))
            print(name, *(f"{figure:.1f}" for figure in figures[name][-1]), flush=True)

    size = sum(file.stat().st_size for file in base.glob("*.safetensors")) / 1e9
    rows = [
        f"\n{datetime.date.today()}, {size:.1f} GB in bf16, {adapter.name}, {options.runs} interleaved runs each, "
        f"{'cold' if cold else 'warm'}; {os.cpu_count()} CPUs, Linux {platform.release()}:\n",
        "| | seconds | times shardfold's (smallest–largest) | CPU s | peak MB | elements that differ from the exact result |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, runs in figures.items():
        seconds, cpu, peak = (statistics.median(column) for column in zip(*runs))
        ratios = sorted(theirs[0] / ours[0] for theirs, ours in zip(runs, figures["shardfold"]))
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
        share = "–" if name == "shardfold" else differing(options.compare, outputs["shardfold"], outputs[name])
        rows.append(f"| {name} | {seconds:.1f} | {ratio} | {cpu:.1f} | {peak:.0f} | {share} |")
    print("\n".join(rows))
    if options.record:
        with (HERE.parent / "record" / "peers.md").open("a") as record:
            record.write("\n".join(rows) + "\n")
    for output in outputs.values():
        shutil.rmtree(output, ignore_errors=True)


if __name__ == "__main__":
    main()
