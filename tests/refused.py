"""Merges where the system refuses calls that mounted buckets and network file systems lack, one or two of them at a time.

Every merge must succeed with the bytes of an undisturbed one, or be refused (exit code 73) before OUTPUT is there. strace
refuses the calls, with the error number that such stores give.

    python tests/refused.py target/release/shardfold fixtures/demo WORK

Prints how many subsets were merged and how many refused, exits 1 and says what did not hold.
"""

import itertools
import os
import shutil
import subprocess
import sys

CALLS = {
    "rename": ("rename,renameat,renameat2", "ENOSYS"),
    "link": ("link,linkat", "EPERM"),
    "ftruncate": ("ftruncate", "ENOSYS"),
    "fallocate": ("fallocate", "EOPNOTSUPP"),
    "fsync": ("fsync,fdatasync,sync_file_range", "EINVAL"),
    "flock": ("flock", "ENOLCK"),
    "lseek": ("lseek", "ESPIPE"),
    "chmod": ("chmod,fchmod,fchmodat", "EPERM"),
    "statvfs": ("statfs,fstatfs", "ENOSYS"),
}


def files(folder):
    found = {}
    for above, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(above, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


def main():
    binary, demo, work = sys.argv[1:]
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(demo, work)
    at = lambda name: os.path.join(work, name)
    environment = dict(os.environ, XDG_STATE_HOME=at("state"))

    def merge(refused, output):
        command = []
        if refused:
            command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + ",".join(CALLS[c][0] for c in refused)]
            for call in refused:
                command += ["-e", "inject={}:error={}".format(*CALLS[call])]
        command += [binary, "merge", "--base", at("base"), "--adapter", at("adapter"), "--output", output]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    undisturbed = merge([], at("expected"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected, wrong, counts = files(at("expected")), [], {0: 0, 73: 0}
    for refused in [*((call,) for call in CALLS), *itertools.combinations(CALLS, 2)]:
        run, output = merge(refused, at("output")), at("output")
        is_right = files(output) == (expected if run.returncode == 0 else {})
        counts[run.returncode] = counts.get(run.returncode, 0) + 1
        if not is_right or run.returncode not in (0, 73):
            wrong.append(f"{refused}: {run.returncode}: {run.stderr}")
        for left in [output, output + ".partial"]:
            shutil.rmtree(left, ignore_errors=True)
    print(f"{counts[0]} subsets merged, {counts[73]} refused")
    if wrong:
        sys.exit("\n".join(wrong))


main()
