#!/usr/bin/env python3
"""Holds docs/recipes/many-hosts.yaml against the schema of Kubernetes, and runs the commands of its pods by hand, with the
indices that an Indexed Job gives. Exit code 77 if kubernetes-validate is not here.

    tests/recipes/kubernetes.py SHARDFOLD BASE ADAPTER FOLDER
"""

import filecmp
import os
import pathlib
import shutil
import subprocess
import sys

try:
    import kubernetes_validate
    import yaml
except ImportError:
    print("skipped: there is no kubernetes-validate here (PYTHON=... with it)")
    sys.exit(77)

shardfold, base, adapter, folder = map(os.path.abspath, sys.argv[1:5])
recipe = pathlib.Path(__file__).resolve().parents[2] / "docs/recipes/many-hosts.yaml"
parts, finish = yaml.safe_load_all(recipe.read_text())
for document in (parts, finish):
    kubernetes_validate.validate(document, "1.31", strict=True)
    print(f"{document['kind']} {document['metadata']['name']} is valid")

shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
one, many = os.path.join(folder, "one"), os.path.join(folder, "merged")
subprocess.run([shardfold, "merge", "-q", "--base", base, "--adapter", adapter, "--output", one], check=True)


def command(job):
    """What the pods of a job run, with the paths of this machine."""
    words = job["spec"]["template"]["spec"]["containers"][0]["command"]
    places = {"/models/llama-70b": base, "/models/style-lora": adapter, "/models/merged": many}
    for path, place in places.items():
        words = [word.replace(path, place) for word in words]
    assert words[0] == "shardfold"
    return [shardfold, *words[1:]]


count = parts["spec"]["completions"]
tried_again = {66, 73}
for index in reversed(range(count)):
    ended = subprocess.run(command(finish), capture_output=True).returncode
    assert ended in tried_again, ended
    environment = {**os.environ, "JOB_COMPLETION_INDEX": str(index)}
    environment.pop("SLURM_ARRAY_TASK_ID", None)
    subprocess.run(command(parts), env=environment, check=True, capture_output=True)
subprocess.run(command(finish), check=True)
names = [sorted(str(path.relative_to(top)) for path in pathlib.Path(top).rglob("*")) for top in (one, many)]
assert names[0] == names[1], names
assert all(filecmp.cmp(f"{one}/{name}", f"{many}/{name}", shallow=False) for name in names[0]), "other bytes"
print(f"the bytes of one merge in {count} parts")
