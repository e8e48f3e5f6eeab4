"""Merges of every method that is not LoRA's product against LoRA of rank 16, in pairs, and the memory that each takes.

    python3 benches/methods.py BINARY GENERATE FOLDER [--shape llama-8b] [--max-ram 256M] [--pairs 3] [--record]

BINARY is `shardfold`, GENERATE the example of that name; FOLDER holds the base and the adapters, and needs twice the base. A pair is a merge of
the LoRA and one of the other method, each from a cold cache and until the result is synced; what counts is the median of the ratios within pairs.
Peaks are VmHWM, as the process reads it at its end, the largest of all runs. `--record` appends the rows to `benches/record/methods.md`.
Linux only.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import time
from pathlib import Path

METHODS = ["dora", "loha", "oft", "boft", "vera", "fourierft"]
RECORD = Path(__file__).resolve().parent / "record" / "methods.md"


def forget(folder):
    """Takes a folder's files out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(args, adapter):
    """Seconds, seconds of CPU and the peak in MiB of one merge."""
    base, output = args.folder / "base", args.folder / "merged"
    shutil.rmtree(output, ignore_errors=True)
    os.sync()
    forget(base)
    forget(adapter)
    command = [args.binary, "merge", "--base", base, "--adapter", adapter, "--output", output, "--max-ram", args.max_ram, "--json"]
    before, started = os.times(), time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True)
    subprocess.run(["sync", "-f", args.folder], check=True)
    seconds, after = time.monotonic() - started, os.times()
    if ran.returncode:
        raise SystemExit(f"{adapter.name}: {ran.stderr}")
    done = json.loads(ran.stdout)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    shutil.rmtree(output)
    return seconds, cpu, done["peak_rss"] / 2**20


def adapter(args, method):
    """The adapter of a method, which is made if it is not there."""
    folder = args.folder / f"adapter-{'' if method == 'lora' else method + '-'}r16-all-linear"
    if not folder.exists() or not (args.folder / "base").exists():
        subprocess.run([args.generate, "--shape", args.shape, "--out", args.folder, "--method", method], check=True)
    return folder


def cpu_name():
    names = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} × {len(names)}, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("generate", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="llama-8b")
    parser.add_argument("--max-ram", default="256M")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    lora, rows = adapter(args, "lora"), []
    for method in args.methods.split(","):
        other = adapter(args, method)
        pairs = [(run(args, lora), run(args, other)) for _ in range(args.pairs)]
        ratios = sorted(theirs[0] / ours[0] for ours, theirs in pairs)
        median = lambda figures: statistics.median(figures)
        row = [
            datetime.date.today().isoformat(), args.shape, method, args.max_ram, args.pairs,
            f"{median(ours[0] for ours, _ in pairs):.1f}", f"{median(theirs[0] for _, theirs in pairs):.1f}",
            f"{median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})",
            f"{median(ours[1] for ours, _ in pairs):.0f}", f"{median(theirs[1] for _, theirs in pairs):.0f}",
            f"{max(theirs[2] for _, theirs in pairs):.0f}", cpu_name(),
        ]
        rows.append("| " + " | ".join(map(str, row)) + " |\n")
        print(rows[-1], end="", flush=True)
    if args.record:
        with RECORD.open("a") as record:
            record.writelines(rows)


if __name__ == "__main__":
    main()
