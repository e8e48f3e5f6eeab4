"""Kills a merge at random times, runs it again, and compares the result with that of an undisturbed run.

A kill may come at any moment, several times in a row: whoever runs the same command again, half of the times with another
budget and another number of threads than the run that was killed, must get the same bytes, with the base unchanged and
never a half OUTPUT.

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

# The budgets and threads that a run may have; none is what the machine gives.
SETTINGS = [["--threads", "1", "--max-ram", "300M"], ["--threads", "3", "--max-ram", "150M"], []]


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
    kills, continued, turned, kept, runs, settings = 0, 0, 0, 0, 0, SETTINGS[0]
    while kills < options.kills:
        is_continued = os.path.exists(output + ".partial")
        if not is_continued or continued % 2 == 0:
            others = [other for other in SETTINGS if other != settings]
            turned += is_continued
            settings = random.choice(others)
        continued += is_continued
        summary, _ = merge(output, *settings, limit=random.uniform(0.02, 1.5) * whole_time)
        if os.path.exists(output) and digests(output) != whole:
            sys.exit(f"OUTPUT is not whole after {kills} kills")
        if summary is None:
            kills += 1
        else:
            kept, runs = max(kept, summary["kept_bytes"]), runs + 1
            shutil.rmtree(output)
        if summary is None and kills % 10 == 0:
            print(f"{kills} kills, {continued} runs went on ({turned} with other settings), {runs} results, "
                  f"at most {kept} bytes kept", flush=True)
    merge(output)
    if digests(output) != whole:
        sys.exit("the last result is another")
    shutil.rmtree(output)
    if digests(options.base) != base:
        sys.exit("the base has changed")
    print(f"{kills} kills: {continued} runs went on, {turned} of them with another budget and other threads; "
          f"{runs + 1} results, each as of an undisturbed run")


main()
