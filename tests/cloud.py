"""Merges from a bucket into a bucket of a server on this machine, and compares with a merge on disk.

    python tests/cloud.py target/release/shardfold WORK [--megabytes 48] [--shards 3] [--max-ram 96M] [--failing 0.05]
    python tests/cloud.py target/release/shardfold WORK --inputs DIR [--max-ram 64M] [--failing 0.05]

With `--inputs`, a directory with `base` and `adapter` as `--example generate` makes them is merged, from bucket to bucket alone.
With `--failing`, as many requests in a hundred get no answer, half of one, that the server is busy, or a late one.
Needs `moto_server` (`pip install 'moto[server]'`), in the PATH or named by MOTO_SERVER; without it, it says so and skips. Files
are put into the bucket and fetched from it by plain HTTP. Runs are killed and stopped in the middle: what is listed then is whole,
what was stopped leaves no unfinished upload, and the same command again gives the same bytes. Exits 1 and says what did not hold.
"""

import argparse
import collections
import hashlib
import http.client
import http.server
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as xml

BUCKET = "bucket"
ROWS, COLS, RANK = 2048, 2048, 8
RECORD = "shardfold.json"
# The server looks who asks, and not at the signature.
SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("work")
    parser.add_argument("--megabytes", type=int, default=48, help="of a shard")
    parser.add_argument("--shards", type=int, default=3)
    parser.add_argument("--max-ram", default="96M")
    parser.add_argument("--inputs", help="a directory with `base` and `adapter`, instead of made ones")
    parser.add_argument("--failing", type=float, default=0.0, help="the share of requests that fail")
    options = parser.parse_args()
    server = os.environ.get("MOTO_SERVER") or shutil.which("moto_server")
    if not server:
        print("skipped: no `moto_server` here (pip install 'moto[server]')")
        return
    shutil.rmtree(options.work, ignore_errors=True)
    os.makedirs(options.work)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Beside the folder, what is left in which is counted.
    with open(f"{options.work.rstrip(os.sep)}.server.log", "wb") as log:
        process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        endpoint = f"http://127.0.0.1:{port}"
        with Flaky(port, options.failing) as flaky:
            check(options, Bucket(endpoint), Runs(options, f"http://127.0.0.1:{flaky.port}"))
            flaky.tell()
    finally:
        process.kill()
        process.wait()


def check(options, bucket, runs):
    bucket.make()
    inputs = options.inputs or options.work
    if not options.inputs:
        make_inputs(options)
    for name in ["base", "adapter"]:
        bucket.put_folder(first(inputs, name), name)
    local = os.path.join(options.work, "local")
    # An adapter is called as its folder is, and the record and the model card say so: it is the one name in both places.
    adapter = os.path.join(options.work, "named", "adapter")
    os.makedirs(os.path.dirname(adapter))
    os.symlink(os.path.abspath(first(inputs, "adapter")), adapter)
    runs.merge(first(inputs, "base"), adapter, local)
    expected = files_of(local)

    before = bytes_below(options.work)
    begun = time.monotonic()
    peak = runs.merge(*INPUTS, f"s3://{BUCKET}/merged")
    took = time.monotonic() - begun
    need(bytes_below(options.work) - before < 1 << 20, "a merge from bucket to bucket left something on this disk")
    compare(bucket, "merged", expected)
    print(f"s3 to s3: {len(expected)} files are those of a merge on disk; VmHWM {peak * 1024 / 1e6:.1f} MB of {options.max_ram}, {took:.0f} s")
    if options.inputs:
        return
    runs.merge(*INPUTS, f"s3://{BUCKET}/merged")
    runs.run("verify", "--hashes-only", f"s3://{BUCKET}/merged")
    print("run again it is already done; verify finds nothing")

    from_bucket = os.path.join(options.work, "from-bucket")
    runs.merge(*INPUTS, from_bucket)
    need(files_of(from_bucket) == expected, "a merge from the bucket to disk has other files")
    print("s3 to disk: the same files")

    for name, sent, code in [("killed", signal.SIGKILL, -9), ("stopped", signal.SIGTERM, 75)]:
        took = interrupt(runs, bucket, name, sent, code)
        found = bucket.names(name)
        need(RECORD not in found, f"{name}: a record is there: {found}")
        for file in found:
            need(bucket.digest(f"{name}/{file}") == expected[file], f"{name}: `{file}` is not whole")
        left = bucket.uploads(name)
        if sent == signal.SIGTERM:
            need(not left, f"{name}: unfinished uploads are left: {left}")
            need(took < 2.5, f"{name}: it took {took:.1f} s to stop")
        print(f"{name}: {len(found)} whole files, {len(left)} unfinished uploads, over after {took:.2f} s")
        runs.merge(*INPUTS, f"s3://{BUCKET}/{name}")
        compare(bucket, name, expected)
        print(f"{name}: the same command again gives the same files")

    bucket.put("holds/notes.txt", b"mine")
    runs.merge(*INPUTS, f"s3://{BUCKET}/holds", code=73)
    runs.merge("s3://no-such-bucket/base", INPUTS[1], f"s3://{BUCKET}/x", code=66)
    runs.merge(f"s3://{BUCKET}/no-such-base", INPUTS[1], f"s3://{BUCKET}/x", code=66)
    runs.merge(*INPUTS, f"s3://{BUCKET}/x", code=71, max_ram="24M")
    runs.merge(*INPUTS, f"s3://{BUCKET}/x", code=74, endpoint="http://127.0.0.1:9")
    need(not bucket.names("x"), "what was refused left something")
    print("refused: an output that holds something (73), what is not there (66), a small budget (71), no network (74)")


INPUTS = (f"s3://{BUCKET}/base", f"s3://{BUCKET}/adapter")


def interrupt(runs, bucket, name, sent, code):
    """Sends a signal while a part of a shard is on its way; seconds until the run was over."""
    for _ in range(5):
        run = runs.start("merge", "--base", INPUTS[0], "--adapter", INPUTS[1], "--output", f"s3://{BUCKET}/{name}")
        while run.poll() is None and not bucket.uploads(name):
            time.sleep(0.01)
        begun = time.monotonic()
        run.send_signal(sent)
        _, err = run.communicate()
        took = time.monotonic() - begun
        if run.returncode == code:
            return took
        need(run.returncode == 0, f"{name}: exit code {run.returncode}: {err}")
        bucket.remove(name)
    sys.exit(f"{name}: no run was caught in the middle")


class Runs:
    def __init__(self, options, endpoint):
        self.options, self.endpoint = options, endpoint

    def start(self, *args, endpoint=None, max_ram=None):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        environment |= {
            "AWS_ENDPOINT": endpoint or self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "XDG_STATE_HOME": os.path.join(self.options.work, "state"),
        }
        budget = ["--max-ram", max_ram or self.options.max_ram] if args[0] == "merge" else []
        command = [self.options.binary, *args, *budget]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *args, code=0, **settings):
        """The peak of its memory in KiB, 0 if nobody saw it."""
        run, peak = self.start(*args, **settings), 0
        while run.poll() is None:
            peak = max(peak, resident_peak(run.pid))
            time.sleep(0.01)
        out, err = run.communicate()
        need(run.returncode == code, f"{' '.join(args)}: exit code {run.returncode}, not {code}: {out}{err}")
        return peak

    def merge(self, base, adapter, output, **settings):
        return self.run("merge", "--base", base, "--adapter", adapter, "--output", output, **settings)


def resident_peak(pid):
    try:
        with open(f"/proc/{pid}/status") as status:
            return next((int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)
    except OSError:
        return 0


class Bucket:
    def __init__(self, endpoint):
        self.url = f"{endpoint}/{BUCKET}"

    def ask(self, path, method="GET", data=None):
        # Else it is said to be a form, and read as one.
        headers = {"Content-Type": "application/octet-stream", "Authorization": SIGNED}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def make(self):
        for _ in range(300):
            try:
                return self.ask("", "PUT")
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        sys.exit("the server does not answer")

    def put(self, key, data):
        self.ask("/" + key, "PUT", data)

    def get(self, key):
        return self.ask("/" + key)

    def digest(self, key):
        request = urllib.request.Request(f"{self.url}/{key}", headers={"Authorization": SIGNED})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return digest(answer)

    def put_folder(self, folder, prefix):
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                self.put(f"{prefix}/{name}", file.read())

    def listed(self, question, item):
        root = xml.fromstring(self.ask(question))
        return [key.text for key in root.findall(f"./{{*}}{item}/{{*}}Key")]

    def names(self, prefix):
        return [key[len(prefix) + 1 :] for key in self.listed(f"?list-type=2&prefix={prefix}/", "Contents")]

    def uploads(self, prefix):
        return [key for key in self.listed("?uploads", "Upload") if key.startswith(prefix + "/")]

    def remove(self, prefix):
        for name in self.names(prefix):
            self.ask(f"/{prefix}/{name}", "DELETE")


def files_of(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = recorded(file.read()) if name == RECORD else digest(file)
    return found


def compare(bucket, prefix, expected):
    names = bucket.names(prefix)
    found = {name: bucket.digest(f"{prefix}/{name}") for name in names if name != RECORD}
    found |= {name: recorded(bucket.get(f"{prefix}/{name}")) for name in names if name == RECORD}
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    need(not differing, f"{prefix}: other files than on disk: {differing}")
    need(not bucket.uploads(prefix) or prefix == "killed", f"{prefix}: unfinished uploads are left")


def digest(file):
    """Of a file or an answer, of which little is in memory at once."""
    whole = hashlib.sha256()
    while piece := file.read(1 << 20):
        whole.update(piece)
    return whole.hexdigest()


def recorded(text):
    """What a record says of the plan and the result: that is the same wherever they are."""
    record = json.loads(text)
    return {field: record[field] for field in ["plan", "result"]}


def first(folder, name):
    """The directory in `folder` whose name begins so."""
    return os.path.join(folder, min(found for found in os.listdir(folder) if re.fullmatch(f"{name}(-.*)?", found)))


def bytes_below(folder):
    return sum(os.path.getsize(os.path.join(dir, name)) for dir, _, names in os.walk(folder) for name in names)


class Flaky:
    """A server in front of another: some requests are not passed on, or their answers are cut, late, or lost."""

    def __init__(self, port, share):
        self.behind, self.share, self.counts = port, share, collections.Counter()
        self.dice = random.Random(14)
        flaky = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                flaky.handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()

    def tell(self):
        print("requests: " + ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items())))

    def handle(self, asked):
        body = asked.rfile.read(int(asked.headers.get("Content-Length", 0)))
        kinds = ["dropped", "busy", "late", "cut"]
        # Whoever completes an upload and gets no answer cannot ask again.
        kinds = kinds[:3] if asked.command == "POST" else kinds
        kind = self.dice.choice(kinds) if self.dice.random() < self.share else "whole"
        self.counts[kind] += 1
        if kind == "dropped":
            asked.close_connection = True
        elif kind == "busy":
            asked.send_response(503)
            asked.send_header("Content-Length", "0")
            asked.end_headers()
        else:
            time.sleep(2 if kind == "late" else 0)
            try:
                self.forward(asked, body, kind == "cut")
            except (BrokenPipeError, ConnectionResetError):
                asked.close_connection = True

    def forward(self, asked, body, is_cut):
        behind = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=120)
        headers = {key: value for key, value in asked.headers.items() if key.lower() != "connection"}
        behind.request(asked.command, asked.path, body, headers)
        answer = behind.getresponse()
        asked.send_response_only(answer.status, answer.reason)
        for key, value in answer.getheaders():
            if key.lower() not in ("connection", "transfer-encoding"):
                asked.send_header(key, value)
        if answer.length is None:
            asked.send_header("Connection", "close")
        asked.end_headers()
        left = (answer.length or 0) // 2 if is_cut else 1 << 62
        while left > 0 and (piece := answer.read(min(left, 1 << 18))):
            asked.wfile.write(piece)
            left -= len(piece)
        asked.close_connection = is_cut or answer.length is None
        behind.close()


def need(holds, otherwise):
    if not holds:
        sys.exit(otherwise)


def make_inputs(options):
    """A base of matrices in bf16, and an adapter for all of them."""
    base, adapter = (os.path.join(options.work, name) for name in ["base", "adapter"])
    os.makedirs(base)
    os.makedirs(adapter)
    layers = max(1, (options.megabytes << 20) // (2 * ROWS * COLS))
    weight_map, factors = {}, {}
    for shard in range(options.shards):
        file = f"model-{shard + 1:05}-of-{options.shards:05}.safetensors"
        tensors = {}
        for layer in range(shard * layers, (shard + 1) * layers):
            module = f"model.layers.{layer}.self_attn.q_proj"
            tensors[f"{module}.weight"] = ("BF16", [ROWS, COLS], numbers(ROWS * COLS))
            factors[f"base_model.model.{module}.lora_A.weight"] = ("BF16", [RANK, COLS], numbers(RANK * COLS))
            factors[f"base_model.model.{module}.lora_B.weight"] = ("BF16", [ROWS, RANK], numbers(ROWS * RANK))
        write_tensors(os.path.join(base, file), tensors)
        weight_map |= dict.fromkeys(tensors, file)
    write_json(os.path.join(base, "model.safetensors.index.json"), {"metadata": {}, "weight_map": weight_map})
    write_json(os.path.join(base, "config.json"), {"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
    write_tensors(os.path.join(adapter, "adapter_model.safetensors"), factors)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["q_proj"]}
    write_json(os.path.join(adapter, "adapter_config.json"), config)


def numbers(count):
    """Numbers in bf16 of about a hundredth."""
    data = bytearray(2 * count)
    data[0::2] = os.urandom(count)
    data[1::2] = b"\x3c" * count
    return bytes(data)


def write_json(path, value):
    with open(path, "w") as file:
        json.dump(value, file)


def write_tensors(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


if __name__ == "__main__":
    main()
