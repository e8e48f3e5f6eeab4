"""Kills a merge at random times, runs it again, and compares the result with that of an undisturbed run.

A kill may come at any moment, several times in a row: whoever runs the same command again, with another budget and
another number of threads every second time, must get the same bytes, with the base unchanged and never a half OUTPUT.

    python tests/kills.py target/release/shardfold BASE ADAPTER WORK [--kills 200] [--seed 1]

Prints a line for every ten kills, exits 1 and says what did not hold.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time


def digests(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = hashlib.file_digest(file, "blake2b").hexdigest()
    return found


def main():
    parser = argparse.ArgumentParser()
    for name in ["binary", "base", "adapter", "work"]:
        parser.add_argument(name)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    os.makedirs(options.work, exist_ok=True)
    output = os.path.join(options.work, "merged")
    for left in [output, output + ".partial", output + ".whole"]:
        shutil.rmtree(left, ignore_errors=True)
    command = [options.binary, "merge", "--base", options.base, "--adapter", options.adapter, "--json", "--output"]

    def merge(path, *flags, limit=None):
        begun = time.time()
        run = subprocess.Popen([*command, path, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, err = run.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
            return None, time.time() - begun
        if run.returncode != 0:
            sys.exit(f"exit code {run.returncode}: {err}")
        return json.loads(out), time.time() - begun

    base = digests(options.base)
    _, whole_time = merge(output + ".whole")
    whole = digests(output + ".whole")
    shutil.rmtree(output + ".whole")
    print(f"a whole run takes {whole_time:.1f} s", flush=True)
    kills, kept, runs = 0, 0, 0
    while kills < options.kills:
        flags = [["--threads", "1", "--max-ram", "300M"], []][runs % 2]
        summary, _ = merge(output, *flags, limit=random.uniform(0.02, 0.7) * whole_time)
        if os.path.exists(output) and digests(output) != whole:
            sys.exit(f"OUTPUT is not whole after {kills} kills")
        if summary is None:
            kills += 1
            if kills % 10 == 0:
                print(f"{kills} kills, {runs} results, at most {kept} bytes kept", flush=True)
            continue
        kept, runs = max(kept, summary["kept_bytes"]), runs + 1
        shutil.rmtree(output)
    merge(output)
    if digests(output) != whole:
        sys.exit("the last result is another")
    shutil.rmtree(output)
    if digests(options.base) != base:
        sys.exit("the base has changed")
    print(f"{kills} kills: {runs + 1} results, each as of an undisturbed run")


main()
