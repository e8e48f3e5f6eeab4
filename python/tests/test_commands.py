"""The commands as functions, and the command of the wheel."""

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import warnings
from pathlib import Path

import shardfold
from support import DEMO, command, large, read_directory

BASE, ADAPTER = DEMO / "base", DEMO / "adapter"


class Commands(unittest.TestCase):
    def setUp(self) -> None:
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.work = Path(work.name)

    def test_merge_plan_verify_and_inspect(self) -> None:
        plan = shardfold.plan(BASE, ADAPTER, max_ram="2G")
        self.assertEqual(plan["plan"]["tensors"]["merged"], 28)
        merged = shardfold.merge(str(BASE), [ADAPTER], self.work / "merged", max_ram=2_000_000_000)
        self.assertEqual((merged["state"], merged["digest"]), ("done", plan["plan"]["digest"]))
        self.assertEqual(merged["max_ram"], 2_000_000_000)
        self.assertEqual(shardfold.merge(BASE, ADAPTER, self.work / "merged")["state"], "already done")
        self.assertEqual(shardfold.verify(self.work / "merged", hashes_only=True)["findings"], [])
        self.assertEqual(shardfold.verify(self.work / "merged", BASE, ADAPTER)["findings"], [])
        self.assertEqual(shardfold.inspect(ADAPTER)["what"], "adapter")
        self.assertEqual(shardfold.inspect(BASE)["what"], "checkpoint")

    def test_weights_may_be_by_module(self) -> None:
        weights = {"*": 0.5, "self_attn": 0, "layers.0-1": -1.0}
        plan = shardfold.plan(BASE, (ADAPTER, weights))["plan"]
        self.assertEqual(plan["adapters"][0]["weight"], "self_attn=0,layers.0-1=-1,*=0.5")
        self.assertEqual(plan["tensors"]["merged"], 12)
        same = shardfold.plan(BASE, [(ADAPTER, "self_attn=0,layers.0-1=-1,*=0.5")], combine="linear")["plan"]
        self.assertEqual(same["digest"], plan["digest"])

    def test_parts_are_joined_and_a_page_is_written(self) -> None:
        whole = shardfold.merge(BASE, ADAPTER, self.work / "whole")
        parts = self.work / "parts"
        for part in ("1/2", "0/2"):
            shardfold.merge(BASE, ADAPTER, parts, part=part, log_file=self.work / "log")
        joined = shardfold.finish(parts)
        self.assertEqual((joined["state"], joined["result"]), ("done", whole["result"]))
        self.assertEqual(shardfold.finish(parts)["state"], "already done")
        page = shardfold.report(parts, BASE, ADAPTER)
        self.assertIn("Changes by layer", page)
        self.assertIsNone(shardfold.report(parts, output=self.work / "page.html"))
        self.assertNotIn("Changes by layer", (self.work / "page.html").read_text())
        events = [json.loads(line)["event"] for line in (self.work / "log").read_text().splitlines()]
        self.assertEqual((events.count("started"), events.count("ended")), (2, 2))

    def test_adapters_have_weights_and_a_flag_is_a_keyword(self) -> None:
        one = shardfold.plan(BASE, (ADAPTER, 0.5))
        self.assertEqual(one["plan"]["adapters"][0]["weight"], 0.5)
        two = shardfold.plan(BASE, [ADAPTER, (ADAPTER, -0.25)], tied="fold", threads=1, allow_noop=False)
        self.assertEqual([adapter["weight"] for adapter in two["plan"]["adapters"]], [1.0, -0.25])
        self.assertEqual(two["workers"], 1)

    def test_the_budget_is_beside_what_the_process_holds(self) -> None:
        held = b"x" * (64 << 20)
        self.assertEqual(shardfold.plan(BASE, ADAPTER, max_ram="24MiB")["budget"]["total"], 24 << 20)
        self.assertEqual(len(held), 64 << 20)

    def test_the_command_of_the_wheel_does_the_same(self) -> None:
        ran = command("merge", "--base", BASE, "--adapter", ADAPTER, "-o", self.work / "command", "--json")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        merged = shardfold.merge(BASE, ADAPTER, self.work / "module")
        self.assertEqual(json.loads(ran.stdout)["result"], merged["result"])
        self.assertEqual(read_directory(self.work / "command"), read_directory(self.work / "module"))
        self.assertIn(shardfold.__version__, command("--version").stdout)
        self.assertEqual(command("merge").returncode, 2)
        self.assertEqual(command("inspect", self.work / "nowhere").returncode, 66)

    def test_a_checkpoint_is_converted(self) -> None:
        made = shardfold.convert(BASE, self.work / "f16", dtype="f16")
        self.assertEqual((made["state"], made["tensors"]["merged"]), ("done", 0))
        self.assertIn(b"F16", (self.work / "f16" / "model-00001-of-00003.safetensors").read_bytes()[:200])
        with self.assertRaises(shardfold.UsageError):
            shardfold.convert(BASE, self.work / "same")

    def test_an_adapter_is_converted(self) -> None:
        made = shardfold.convert(ADAPTER, self.work / "lora", base=BASE)
        self.assertTrue((self.work / "lora" / "adapter_model.safetensors").exists(), made)

    def test_the_stubs_have_all_flags(self) -> None:
        stub = (Path(shardfold.__file__).with_name("__init__.pyi")).read_text()
        ours = {"json", "quiet", "verbose", "help", "base", "adapter", "scaled-adapter"}
        for name in ("merge", "convert", "finish", "plan", "verify", "report", "inspect"):
            flags = set(re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", command(name, "--help").stdout, re.M)) - ours
            self.assertTrue(flags, name)
            body = re.search(rf"^def {name}\((.*?)\) ->", stub, re.M | re.S)
            keywords = set(re.findall(r"(\w+):", body.group(1)))
            if name == "plan":
                # They are accepted, and change nothing.
                flags -= {"dry-run", "profile", "report", "part", "keep-undo"}
            if name == "convert":
                # Of one type there is nothing to undo, and other types are not undone.
                flags -= {"keep-undo"}
            missing = {flag for flag in flags if flag.replace("-", "_") not in keywords}
            self.assertEqual(missing, set(), name)


class Errors(unittest.TestCase):
    def assert_same(self, caught: shardfold.Error, *args: object) -> None:
        ran = command(*args)
        self.assertEqual(ran.returncode, caught.exit_code)
        self.assertEqual(ran.stderr, caught.text)

    def test_what_is_missing(self) -> None:
        with self.assertRaises(FileNotFoundError) as caught:
            shardfold.inspect("/nowhere/at/all")
        self.assertIsInstance(caught.exception, shardfold.NotFoundError)
        self.assertIn("/nowhere/at/all", str(caught.exception))
        self.assertFalse(str(caught.exception).startswith("error"))
        self.assert_same(caught.exception, "inspect", "/nowhere/at/all")

    def test_misuse(self) -> None:
        with self.assertRaises(shardfold.UsageError) as caught:
            shardfold.plan(BASE, ADAPTER, max_ram="much")
        self.assertIsInstance(caught.exception, ValueError)
        self.assert_same(caught.exception, "plan", "--base", BASE, "--adapter", ADAPTER, "--max-ram", "much")
        with self.assertRaises(shardfold.UsageError) as caught:
            shardfold.plan(BASE, ADAPTER, max_rum="1G")
        self.assertEqual(str(caught.exception).splitlines()[0], "unexpected argument '--max-rum' found")
        self.assertIn("--max-ram", caught.exception.hint)

    def test_a_budget_that_does_not_suffice(self) -> None:
        with self.assertRaises(MemoryError) as caught:
            shardfold.plan(BASE, ADAPTER, max_ram="1MiB")
        self.assertEqual(caught.exception.exit_code, 71)
        self.assertIn("`--max-ram 1MiB` is too small", str(caught.exception))
        self.assertIsInstance(caught.exception, shardfold.BudgetError)

    def test_bad_data_and_an_output_that_is_there(self) -> None:
        with tempfile.TemporaryDirectory() as work:
            with self.assertRaises(shardfold.OutputError) as caught:
                (Path(work) / "file").write_text("mine")
                shardfold.merge(BASE, ADAPTER, work)
            self.assertEqual((Path(work) / "file").read_text(), "mine")
            self.assert_same(caught.exception, "merge", "--quiet", "--base", BASE, "--adapter", ADAPTER, "-o", work)
        with self.assertRaises(shardfold.DataError):
            shardfold.plan(DEMO.parent / "golden" / "gpt2-f32-single" / "base", ADAPTER)

    def test_notes_are_warnings(self) -> None:
        folder = DEMO.parent / "golden" / "attention-f32"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ran = command("plan", "--base", folder / "base", "--adapter", folder / "adapter")
            shardfold.plan(folder / "base", folder / "adapter")
        self.assertEqual(len(caught), 1)
        self.assertEqual(Path(caught[0].filename).name, "test_commands.py", "it is told where the call is")
        for warning in caught:
            self.assertTrue(issubclass(warning.category, shardfold.Notice))
            self.assertIn(str(warning.message), ran.stderr)


class Progress(unittest.TestCase):
    def setUp(self) -> None:
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.work = Path(work.name)

    def test_bytes_grow_to_the_end(self) -> None:
        base, adapter = large(self.work, 8192, 4)
        seen = []
        shardfold.merge(base, adapter, self.work / "out", threads=1, progress=seen.append)
        written = [now.written_bytes for now in seen]
        self.assertEqual(written, sorted(written))
        self.assertGreater(len(set(written)), 1, "more than one look")
        self.assertEqual(seen[-1].written_bytes, seen[-1].total_bytes)
        self.assertEqual((seen[-1].shard, seen[-1].shards), (1, 1))

    def test_an_exception_stops_the_merge(self) -> None:
        base, adapter = large(self.work, 8192, 64)
        raised = []

        def stop(now: shardfold.Progress) -> None:
            raised.append(time.monotonic())
            raise ZeroDivisionError("mine")

        with self.assertRaises(ZeroDivisionError) as caught:
            shardfold.merge(base, adapter, self.work / "out", threads=1, progress=stop)
        self.assertEqual(caught.exception.args, ("mine",))
        self.assertEqual(len(raised), 1)
        self.assertLess(time.monotonic() - raised[0], 2)
        self.assertFalse((self.work / "out").exists())

    def interrupted(self, script: str, *args: object) -> "tuple[float, subprocess.CompletedProcess[str]]":
        """Sends SIGINT once the child says `ready`; the seconds to its end."""
        child = subprocess.Popen(
            [sys.executable, "-u", "-c", script, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs this in the background has SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            self.assertEqual(child.stdout.readline(), "ready\n")
            started = time.monotonic()
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
            return time.monotonic() - started, subprocess.CompletedProcess([], child.returncode, out, err)
        finally:
            child.kill()

    def test_ctrl_c_ends_a_merge(self) -> None:
        base, adapter = large(self.work, 8192, 64)
        script = """
import sys, shardfold
told = []
def progress(now):
    if not told:
        told.append(print("ready"))
try:
    shardfold.merge(sys.argv[1], sys.argv[2], sys.argv[3], threads=1, progress=progress)
except KeyboardInterrupt:
    print("interrupted")
"""
        seconds, ran = self.interrupted(script, base, adapter, self.work / "out")
        self.assertEqual((ran.stdout, ran.returncode), ("interrupted\n", 0), ran.stderr)
        self.assertLess(seconds, 2)
        self.assertFalse((self.work / "out").exists())

    def test_ctrl_c_ends_a_read_and_the_lock_is_free_meanwhile(self) -> None:
        base, adapter = large(self.work, 262_144, 1)
        script = """
import sys, threading, time, shardfold
merged = shardfold.open_merged(sys.argv[1], sys.argv[2], "np", threads=1)
turns = []
def turn():
    while True:
        time.sleep(0.01)
        turns.append(1)
        if len(turns) == 20:
            print("ready")
threading.Thread(target=turn, daemon=True).start()
try:
    while True:
        merged.get_tensor(merged.keys()[0])
except KeyboardInterrupt:
    print("interrupted", len(turns) >= 20)
"""
        try:
            import numpy  # noqa: F401
        except ImportError:
            self.skipTest("numpy is not installed")
        seconds, ran = self.interrupted(script, base, adapter)
        self.assertEqual((ran.stdout, ran.returncode), ("interrupted True\n", 0), ran.stderr)
        self.assertLess(seconds, 2)

    def test_the_command_ends_by_a_signal_as_the_binary_does(self) -> None:
        base, adapter = large(self.work, 8192, 64)
        script = Path(sys.executable).with_name("shardfold")
        args = ["merge", "--base", base, "--adapter", adapter, "-o", self.work / "out", "--threads", "1", "--json"]
        child = subprocess.Popen([script, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            for line in child.stderr:
                if json.loads(line)["event"] == "budget":
                    break
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=20)
        finally:
            child.kill()
        self.assertEqual(child.returncode, 75, err)
        self.assertIn('"exit_code":75', err)
        self.assertNotIn("Traceback", err)


if __name__ == "__main__":
    unittest.main()
