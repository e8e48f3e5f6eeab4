"""The reader of merged tensors: what it gives is what a merge writes, whole and in slices."""

import random
import subprocess
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from typing import Any, Iterable

import shardfold
from shardfold._index import pick
from support import DEMO, golden_cases, read_directory

try:
    import numpy
except ImportError:
    numpy = None
try:
    import torch
except ImportError:
    torch = None

BASE, ADAPTER = DEMO / "base", DEMO / "adapter"
#: Types that numpy has by itself.
PLAIN = {"BOOL", "U8", "I8", "I16", "U16", "F16", "I32", "U32", "F32", "C64", "F64", "I64", "U64"}

needs_numpy = unittest.skipIf(numpy is None, "numpy is not installed")
needs_torch = unittest.skipIf(torch is None, "torch is not installed")


def bytes_of(array: Any) -> bytes:
    if torch is not None and isinstance(array, torch.Tensor):
        return array.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()
    return array.tobytes()


class Goldens(unittest.TestCase):
    def setUp(self) -> None:
        quiet = warnings.catch_warnings()
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)
        warnings.simplefilter("ignore", shardfold.Notice)

    def check(self, framework: str) -> None:
        seen, checked = 0, 0
        for name, base, adapters, flags in golden_cases():
            with self.subTest(name), tempfile.TemporaryDirectory() as work:
                shardfold.merge(base, adapters, Path(work) / "merged", **flags)
                written = read_directory(Path(work) / "merged")
                with shardfold.open_merged(base, adapters, framework, **flags) as merged:
                    self.assertEqual(merged.keys(), sorted(written))
                    for tensor, (dtype, shape, data) in written.items():
                        of = merged.get_slice(tensor)
                        self.assertEqual((of.get_dtype(), of.get_shape()), (dtype, shape))
                        if framework in ("np", "numpy") and dtype not in PLAIN:
                            continue
                        array = merged.get_tensor(tensor)
                        self.assertEqual(list(array.shape), shape)
                        self.assertEqual(bytes_of(array), data, tensor)
                        checked += 1
            seen += 1
        self.assertGreater(seen, 290)
        self.assertGreater(checked, 1000)

    @needs_numpy
    def test_numpy(self) -> None:
        self.check("np")

    @needs_torch
    def test_torch(self) -> None:
        self.check("pt")


def indices(shape: "tuple[int, ...]", dice: random.Random) -> Iterable[Any]:
    """Indices of such a shape, as many as come."""

    def part(size: int) -> Any:
        if size and dice.random() < 0.3:
            return dice.randrange(-size, size)
        ends = [dice.choice([None, dice.randint(-size - 2, size + 2)]) for _ in range(2)]
        return slice(*ends, dice.choice([None, 1, 2, 3, 7]))

    yield from (..., ())
    while True:
        parts = [part(size) for size in shape[: dice.randint(0, len(shape))]]
        if dice.random() < 0.3:
            behind = len(shape) - len(parts)
            parts = parts + [...] + [part(size) for size in shape[len(shape) - dice.randint(0, behind) :] if behind]
        yield parts[0] if len(parts) == 1 and dice.random() < 0.5 else tuple(parts)


class Slices(unittest.TestCase):
    @needs_numpy
    def test_any_index_picks_what_numpy_picks(self) -> None:
        dice = random.Random(5)
        for shape in [(), (1,), (7,), (5000,), (6, 1200), (5, 3, 4), (3, 1, 2, 5), (0, 4), (4, 0), (2, 0, 3)]:
            whole = numpy.arange(numpy.prod(shape, dtype=int), dtype="float32").reshape(shape)
            for _, index in zip(range(300), indices(shape, dice)):
                picked = pick(shape, index, 32)
                flat = whole.reshape(-1)
                read = [flat[start:end] for start, end in picked.ranges]
                behind = 0
                for start, end in picked.ranges:
                    self.assertLess(start, end)
                    self.assertTrue(start > behind or start == 0, f"{index} of {shape}: {picked.ranges}")
                    behind = end
                array = numpy.concatenate([numpy.empty(0, "float32"), *read]).reshape(picked.shape)[picked.rest]
                numpy.testing.assert_array_equal(array, whole[index], f"{index} of {shape}")

    def test_no_row_is_read_that_is_not_wanted(self) -> None:
        rows = 1024
        self.assertEqual(pick((rows, 2048), slice(10, 12), 32).ranges, [(10 * 2048, 12 * 2048)])
        self.assertEqual(pick((rows, 2048), slice(1, 8, 3), 32).ranges, [(at * 2048, at * 2048 + 2048) for at in (1, 4, 7)])
        self.assertEqual(pick((8, 16, 4), (3, slice(2, 4)), 32).ranges, [(3 * 64 + 8, 3 * 64 + 16)])
        # Small rows between are read with the others.
        self.assertEqual(pick((8, 4), slice(0, 8, 3), 32).ranges, [(0, 28)])

    def test_what_is_no_index_is_refused(self) -> None:
        for index, error in [
            (slice(None, None, -1), ValueError),
            (slice(None, None, 0), ValueError),
            (4, IndexError),
            (-5, IndexError),
            ((0, 0, 0), IndexError),
            ((..., ...), IndexError),
            (None, TypeError),
            (True, TypeError),
            ([0, 1], TypeError),
            ("x", TypeError),
            (1.0, TypeError),
        ]:
            with self.subTest(index=index), self.assertRaises(error):
                pick((4, 4), index, 32)

    def check_against_whole(self, framework: str) -> None:
        dice = random.Random(9)
        for name in ("dora-gpt2-f32", "all-linear", "conv-f32", "experts-f32", "dora-bf16"):
            folder = DEMO.parent / "golden" / name
            with shardfold.open_merged(folder / "base", folder / "adapter", framework) as merged:
                for tensor in merged.offset_keys():
                    of = merged.get_slice(tensor)
                    if framework in ("np", "numpy") and of.get_dtype() not in PLAIN:
                        continue
                    whole = merged.get_tensor(tensor)
                    for _, index in zip(range(12), indices(tuple(of.get_shape()), dice)):
                        found, right = of[index], whole[index]
                        self.assertEqual(found.shape, right.shape, f"{index} of {name}: {tensor}")
                        self.assertEqual(bytes_of(found), bytes_of(right), f"{index} of {name}: {tensor}")

    @needs_numpy
    def test_slices_of_numpy(self) -> None:
        self.check_against_whole("numpy")

    @needs_torch
    def test_slices_of_torch(self) -> None:
        self.check_against_whole("torch")


class Reader(unittest.TestCase):
    def test_it_has_the_interface_of_safe_open(self) -> None:
        with shardfold.open_merged(BASE, ADAPTER, "np") as merged:
            self.assertEqual(merged.keys(), sorted(merged.offset_keys()))
            self.assertEqual(merged.metadata(), {"format": "pt"})
            self.assertIn("model.norm.weight", merged)
            self.assertEqual(len(merged), 39)
            with self.assertRaises(KeyError) as caught:
                merged.get_tensor("model.nothing")
            self.assertEqual(str(caught.exception), "the merged checkpoint has no tensor `model.nothing`")
            self.assertIsInstance(caught.exception, shardfold.Error)
        with self.assertRaisesRegex(ValueError, "closed"):
            merged.metadata()

    def test_frameworks_that_there_are_not(self) -> None:
        with self.assertRaisesRegex(ValueError, "`numpy` .* and `torch`"):
            shardfold.open_merged(BASE, ADAPTER, "jax")
        with self.assertRaisesRegex(ValueError, "numpy has no device"):
            shardfold.open_merged(BASE, ADAPTER, "np", "cuda")

    def test_errors_are_those_of_the_command(self) -> None:
        with self.assertRaises(FileNotFoundError):
            shardfold.open_merged("/nowhere", ADAPTER)
        with self.assertRaises(shardfold.UsageError):
            shardfold.open_merged(BASE, ADAPTER, max_ram="much")

    def test_numpy_is_needed_for_its_arrays_alone(self) -> None:
        script = """
import sys
sys.modules["numpy"] = None
import shardfold
assert "torch" not in sys.modules
assert shardfold.plan(sys.argv[1], sys.argv[2])["plan"]["tensors"]["merged"] == 28
merged = shardfold.open_merged(sys.argv[1], sys.argv[2], "np")
assert merged.get_slice("model.norm.weight").get_dtype() == "BF16"
try:
    merged.get_tensor("model.norm.weight")
except ImportError as error:
    print(error)
"""
        ran = subprocess.run([sys.executable, "-c", script, BASE, ADAPTER], capture_output=True, text=True, timeout=60)
        self.assertIn("numpy is not installed", ran.stdout, ran.stderr)

    @needs_numpy
    def test_numpy_has_no_bfloat16_by_itself(self) -> None:
        with shardfold.open_merged(BASE, ADAPTER, "np") as merged:
            name = next(name for name in merged.keys() if merged.get_slice(name).get_dtype() == "BF16")
            try:
                import ml_dtypes  # noqa: F401
            except ImportError:
                with self.assertRaisesRegex(TypeError, "ml_dtypes"):
                    merged.get_tensor(name)
            else:
                self.assertEqual(str(merged.get_tensor(name).dtype), "bfloat16")

    @needs_torch
    def test_an_engine_takes_all_tensors(self) -> None:
        class Model:
            """As the models of vLLM are loaded."""

            def __init__(self) -> None:
                self.parameters = {}

            def load_weights(self, weights: "Iterable[tuple[str, torch.Tensor]]") -> "set[str]":
                loaded = set()
                for name, weight in weights:
                    assert isinstance(weight, torch.Tensor)
                    self.parameters[name] = bytes_of(weight)
                    loaded.add(name)
                return loaded

        model = Model()
        with tempfile.TemporaryDirectory() as work, shardfold.open_merged(BASE, ADAPTER) as merged:
            self.assertEqual(model.load_weights(merged.tensors()), set(merged.keys()))
            shardfold.merge(BASE, ADAPTER, Path(work) / "merged")
            written = read_directory(Path(work) / "merged")
        self.assertEqual(model.parameters, {name: data for name, (_, _, data) in written.items()})

    @needs_torch
    def test_safe_open_of_the_written_merge_says_the_same(self) -> None:
        try:
            from safetensors import safe_open
        except ImportError:
            self.skipTest("safetensors is not installed")
        golden = DEMO.parent / "golden" / "bert-f32-single"
        with tempfile.TemporaryDirectory() as work:
            shardfold.merge(golden / "base", golden / "adapter", Path(work) / "merged")
            with safe_open(Path(work) / "merged" / "model.safetensors", "pt") as written:
                with shardfold.open_merged(golden / "base", golden / "adapter") as merged:
                    self.assertEqual(merged.keys(), list(written.keys()))
                    self.assertEqual(merged.offset_keys(), written.offset_keys())
                    self.assertEqual(merged.metadata(), written.metadata())
                    for name in merged.keys():
                        ours, theirs = merged.get_slice(name), written.get_slice(name)
                        self.assertEqual(ours.get_shape(), theirs.get_shape())
                        self.assertEqual(ours.get_dtype(), theirs.get_dtype())
                        self.assertTrue(torch.equal(ours[...], theirs[...]))

    @needs_torch
    def test_transformers_loads_it(self) -> None:
        try:
            import transformers
        except ImportError:
            self.skipTest("transformers is not installed")
        tokens = torch.arange(12).reshape(2, 6)
        with tempfile.TemporaryDirectory() as work, shardfold.open_merged(BASE, ADAPTER) as merged:
            shardfold.merge(BASE, ADAPTER, Path(work) / "merged")
            config = transformers.AutoConfig.from_pretrained(BASE)
            model = getattr(transformers, config.architectures[0])
            written = model.from_pretrained(Path(work) / "merged")
            read = model.from_pretrained(None, config=config, state_dict=dict(merged.tensors()), dtype=written.dtype)
            with torch.no_grad():
                self.assertTrue(torch.equal(read(tokens).logits, written(tokens).logits))


if __name__ == "__main__":
    unittest.main()
