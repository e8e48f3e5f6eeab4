#!/usr/bin/env python3
"""Runs docs/recipes/many_hosts_ray.py on a Ray cluster of three nodes on this machine, kills the worker of one task in its work,
and compares with one merge. Exit code 77 if there is no Ray here.

    tests/recipes/ray_cluster.py SHARDFOLD BASE ADAPTER FOLDER
"""

import filecmp
import importlib.util
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

try:
    import ray
    from ray.cluster_utils import Cluster
except ImportError:
    print("skipped: there is no Ray here (PYTHON=... with it)")
    sys.exit(77)

shardfold, base, adapter, folder = map(os.path.abspath, sys.argv[1:5])
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
one, many = os.path.join(folder, "one"), os.path.join(folder, "many")
flags = ["--base", base, "--adapter", adapter, "--threads", "1"]
subprocess.run([shardfold, "merge", "-q", *flags, "--output", one], check=True)

# The first run of part 1 waits to be killed; it tells who it is.
waiting = os.path.join(folder, "waiting")
slow = pathlib.Path(folder, "slow")
slow.write_text(f"""#!/bin/sh
case "$*" in
*"--part 1/4"*)
    if [ ! -e {waiting} ]; then echo $PPID > {waiting}.new && mv {waiting}.new {waiting} && sleep 600; fi ;;
esac
exec {shardfold} "$@"
""")
slow.chmod(slow.stat().st_mode | stat.S_IXUSR)
os.environ["SHARDFOLD"] = str(slow)

recipe = pathlib.Path(__file__).resolve().parents[2] / "docs/recipes/many_hosts_ray.py"
spec = importlib.util.spec_from_file_location("many_hosts_ray", recipe)
module = importlib.util.module_from_spec(spec)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
for _ in range(2):
    cluster.add_node(num_cpus=1)
ray.init(address=cluster.address)
spec.loader.exec_module(module)
print(f"{len(ray.nodes())} nodes")


def kill_worker():
    """Kills the worker process in which the first run of part 1 waits."""
    while not os.path.exists(waiting):
        time.sleep(0.1)
    worker = int(pathlib.Path(waiting).read_text())
    os.kill(worker, signal.SIGKILL)
    print(f"killed worker {worker}")


killer = threading.Thread(target=kill_worker)
killer.start()
print(module.merge(4, many, flags), end="")
killer.join()
ray.shutdown()
cluster.shutdown()

names = [sorted(str(path.relative_to(top)) for path in pathlib.Path(top).rglob("*")) for top in (one, many)]
assert names[0] == names[1], names
assert all(filecmp.cmp(f"{one}/{name}", f"{many}/{name}", shallow=False) for name in names[0]), "other bytes"
assert not os.path.exists(f"{many}.partial")
print(f"the bytes of one merge, {len(names[0])} files")
