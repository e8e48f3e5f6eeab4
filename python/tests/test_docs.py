"""The examples of docs/python.md run, one after the other, where its base and its adapter are."""

import importlib.util
import os
import re
import shutil
import tempfile
import unittest

from support import DEMO, ROOT

#: What an example imports that may be missing, with what stands for it in the text.
PACKAGES = {"torch": ("open_merged", "transformers"), "transformers": ("transformers",)}


class Docs(unittest.TestCase):
    def test_the_examples_run(self) -> None:
        text = (ROOT / "docs" / "python.md").read_text()
        examples = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
        self.assertEqual(len(examples), 7)
        left_out, names = [], {}
        with tempfile.TemporaryDirectory() as work:
            for name in ("base", "adapter"):
                shutil.copytree(DEMO / name, os.path.join(work, name))
            before = os.getcwd()
            os.chdir(work)
            try:
                for example in examples:
                    lacks = [
                        package
                        for package, words in PACKAGES.items()
                        if any(word in example for word in words) and importlib.util.find_spec(package) is None
                    ]
                    if lacks:
                        left_out.append(lacks[0])
                        continue
                    exec(compile(example, "docs/python.md", "exec"), names)
            finally:
                os.chdir(before)
        if left_out:
            self.skipTest(f"{len(left_out)} examples need {' and '.join(sorted(set(left_out)))}")


if __name__ == "__main__":
    unittest.main()
