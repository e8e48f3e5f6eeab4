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


class Trial:
    """The merge of the demo in a folder of its own, with the files of an undisturbed one."""

    def __init__(self, binary, demo, work):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(demo, work)
        self.binary, self.work = binary, work
        self.environment = dict(os.environ, XDG_STATE_HOME=self.at("state"))
        self.output = self.at("output")
        undisturbed = self.merge_under([], self.at("expected"))
        assert undisturbed.returncode == 0, undisturbed.stderr
        self.expected = files(self.at("expected"))

    def at(self, name):
        return os.path.join(self.work, name)

    def merge_under(self, command, output):
        inputs = ["--base", self.at("base"), "--adapter", self.at("adapter")]
        command = [*command, self.binary, "merge", *inputs, "--output", output]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=60)

    def merge(self, refused):
        """Merges where those calls are refused."""
        always = [CALLS[call] for call in refused if CALLS[call]]
        command = [sys.executable, BUSY_UNLINK, self.at("busy.log")] if len(always) < len(refused) else []
        if always:
            command += ["strace", "-f", "-qq", "-o", self.at("strace.log")]
            command += ["-e", "trace=" + ",".join(calls for calls, _ in always)]
            for calls, error in always:
                command += ["-e", f"inject={calls}:error={error}"]
        return self.merge_under(command, self.output)

    def times_refused(self, call):
        """How often the last merge was refused a call."""
        log = "strace.log" if CALLS[call] else "busy.log"
        with open(self.at(log)) as lines:
            return sum("INJECTED" in line or line == "refused\n" for line in lines)

    def is_whole(self, run):
        return run.returncode == 0 and files(self.output) == self.expected

    def remove(self):
        for left in [self.output, self.output + ".partial"]:
            shutil.rmtree(left, ignore_errors=True)


def refuse_calls(trial):
    """Refuses each call and each pair of them, prints what became of the merges, and returns the late failures."""
    late, merged, refusals, times = [], [], [], {}
    pairs = list(itertools.combinations(CALLS, 2))
    for refused in [*((call,) for call in CALLS), *pairs]:
        run = trial.merge(refused)
        if len(refused) == 1:
            times[refused[0]] = trial.times_refused(refused[0])
        if trial.is_whole(run):
            merged.append(refused)
        elif run.returncode == 73 and not files(trial.output) and not files(trial.output + ".partial"):
            refusals.append(refused)
        else:
            late.append(f"{refused}: {run.returncode}: {run.stderr}")
        trial.remove()
    print(f"{len(CALLS)} calls and {len(pairs)} pairs: {len(merged)} merged, {len(refusals)} refused, {len(late)} failed late")
    print("refused: " + ", ".join(f"{call} {count} times" for call, count in times.items()))
    return late


def refuse_threads(trial):
    """Refuses threads from the nth on, prints how each merge ended, and returns what ended otherwise."""
    ends, late = [], []
    for first in range(1, MOST_THREADS + 1):
        refuse = f"inject=clone,clone3:error=EAGAIN:when={first}+"
        run = trial.merge_under(["strace", "-f", "-qq", "-o", trial.at("strace.log"), "-e", refuse], trial.output)
        is_told = run.returncode == 74 and "no thread can be had" in run.stderr and not files(trial.output)
        ends.append("merged" if trial.is_whole(run) else "told" if is_told else "wrong")
        if ends[-1] == "wrong":
            late.append(f"threads from the {first}th on: {run.returncode}: {run.stderr}")
        trial.remove()
    print(f"threads refused from the first to the {MOST_THREADS}th on: " + ", ".join(ends))
    if "told" not in ends or "merged" not in ends:
        late.append("threads: nothing was refused, or everything was")
    return late


def main():
    trial = Trial(*sys.argv[1:])
    late = refuse_calls(trial) + refuse_threads(trial)
    if late:
        sys.exit("\n".join(late))


main()
