"""Merges where the system refuses calls that mounted buckets and network file systems lack, one or two of them at a time.

Every merge must succeed with the bytes of an undisturbed one, or be refused (exit code 73) before anything is there: any other
end is a late failure. strace refuses the calls, with the error number that such stores give; `busy_unlink.py` refuses to
remove a file that is open.

    python tests/refused.py target/release/shardfold fixtures/demo WORK

Then threads are refused, from the first on, from the second on, and so on: a merge takes fewer, or says that it cannot.

Prints how many subsets were merged, how many refused and how many failed late, how often each call was refused when it was
the only one, from which thread on a merge is made, and exits 1 if anything ended otherwise.
"""

import itertools
import os
import shutil
import subprocess
import sys

# What is refused: the calls of the system, and the error; none where it depends on more than the call.
CALLS = {
    "rename": ("rename,renameat,renameat2", "ENOSYS"),
    "link": ("link,linkat", "EPERM"),
    "ftruncate": ("ftruncate", "ENOSYS"),
    "fallocate": ("fallocate", "EOPNOTSUPP"),
    "fsync": ("fsync,fdatasync,sync_file_range,syncfs", "EINVAL"),
    "flock": ("flock", "ENOLCK"),
    "lseek": ("lseek", "ESPIPE"),
    "unlink of an open file": None,
    "chmod": ("chmod,fchmod,fchmodat", "EPERM"),
    "statvfs": ("statfs,fstatfs", "ENOSYS"),
}
# A merge has a reader, a worker and a writer beside its own thread, and others that it can do without.
MOST_THREADS = 12
BUSY_UNLINK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "busy_unlink.py")


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

    def merge_under(command, output):
        command = [*command, binary, "merge", "--base", at("base"), "--adapter", at("adapter"), "--output", output]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    def merge(refused, output):
        always = [CALLS[call] for call in refused if CALLS[call]]
        command = [sys.executable, BUSY_UNLINK, at("busy.log")] if len(always) < len(refused) else []
        if always:
            command += ["strace", "-f", "-qq", "-o", at("strace.log"), "-e", "trace=" + ",".join(calls for calls, _ in always)]
            for calls, error in always:
                command += ["-e", f"inject={calls}:error={error}"]
        return merge_under(command, output)

    def remove(output):
        for left in [output, output + ".partial"]:
            shutil.rmtree(left, ignore_errors=True)

    undisturbed = merge([], at("expected"))
    assert undisturbed.returncode == 0, undisturbed.stderr

    def times_refused(call):
        log = "strace.log" if CALLS[call] else "busy.log"
        with open(at(log)) as lines:
            return sum("INJECTED" in line or line == "refused\n" for line in lines)

    expected, late, merged, refusals = files(at("expected")), [], [], []
    subsets = [*((call,) for call in CALLS), *itertools.combinations(CALLS, 2)]
    times = {}
    for refused in subsets:
        run, output = merge(refused, at("output")), at("output")
        if len(refused) == 1:
            times[refused[0]] = times_refused(refused[0])
        if run.returncode == 0 and files(output) == expected:
            merged.append(refused)
        elif run.returncode == 73 and not files(output) and not files(output + ".partial"):
            refusals.append(refused)
        else:
            late.append(f"{refused}: {run.returncode}: {run.stderr}")
        remove(output)
    pairs = sum(len(refused) == 2 for refused in subsets)
    print(f"{len(CALLS)} calls and {pairs} pairs: {len(merged)} merged, {len(refusals)} refused, {len(late)} failed late")
    print("refused: " + ", ".join(f"{call} {count} times" for call, count in times.items()))
    ends = []
    for first in range(1, MOST_THREADS + 1):
        refuse = f"inject=clone,clone3:error=EAGAIN:when={first}+"
        run, output = merge_under(["strace", "-f", "-qq", "-o", at("strace.log"), "-e", refuse], at("output")), at("output")
        is_told = run.returncode == 74 and "no thread can be had" in run.stderr and not files(output)
        ends.append("merged" if run.returncode == 0 and files(output) == expected else "told" if is_told else "wrong")
        if ends[-1] == "wrong":
            late.append(f"threads from the {first}th on: {run.returncode}: {run.stderr}")
        remove(output)
    print(f"threads refused from the first to the {MOST_THREADS}th on: " + ", ".join(ends))
    if "told" not in ends or "merged" not in ends:
        late.append("threads: nothing was refused, or everything was")
    if late:
        sys.exit("\n".join(late))


main()
