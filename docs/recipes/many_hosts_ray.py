#!/usr/bin/env python3
"""One merge as tasks of Ray: each makes a part on whatever node has room, and a last one joins the parts.

    python docs/recipes/many_hosts_ray.py PARTS OUTPUT MERGE-FLAGS...
    python docs/recipes/many_hosts_ray.py 16 /shared/merged --base /shared/llama-70b --adapter /shared/style-lora

All nodes must see the paths, and have the command (or SHARDFOLD names it). A task whose worker or node dies is run again, as
Ray does with tasks, and goes on where it stopped.
"""

import os
import subprocess
import sys

import ray

SHARDFOLD = os.environ.get("SHARDFOLD", "shardfold")
# I/O errors and interruptions may pass; misuse, bad data and refusals do not.
PASSING = {74, 75}


class Refused(Exception):
    """The command ended with a code that running it again would not change."""


class Interrupted(Exception):
    """The command ended with a code, or by a signal, after which it can be run again."""


def run(arguments):
    """Runs the command, and returns what it printed."""
    ended = subprocess.run([SHARDFOLD, *arguments], capture_output=True, text=True)
    if ended.returncode == 0:
        return ended.stdout
    kind = Interrupted if ended.returncode < 0 or ended.returncode in PASSING else Refused
    raise kind(f"shardfold ended with {ended.returncode}: {ended.stderr}")


@ray.remote(num_cpus=1, max_retries=5, retry_exceptions=[Interrupted])
def make_part(part, parts, output, flags):
    """Makes one part."""
    return run(["merge", *flags, "--output", output, "--part", f"{part}/{parts}"])


@ray.remote(num_cpus=1, max_retries=5, retry_exceptions=[Interrupted])
def finish(output):
    """Joins the parts."""
    return run(["finish", output])


def merge(parts, output, flags):
    """Makes all parts and joins them; returns what `finish` printed."""
    ray.get([make_part.remote(part, parts, output, flags) for part in range(parts)])
    return ray.get(finish.remote(output))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    ray.init()
    print(merge(int(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]), end="")
