#!/usr/bin/env python3
"""Writes what a binary is built from: the licenses of every crate in it, and a bill of materials (CycloneDX 1.5).

usage: dependencies.py TARGET FEATURES OUT

Reads `cargo metadata` and the crates' own files, which cargo has on this machine after a build; needs no network.
A crate whose license is not among those that the project accepts, or that names none, ends it with an error.
"""

import json
import pathlib
import re
import subprocess
import sys

ACCEPTED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "OpenSSL", "Unicode-3.0", "Unlicense", "Zlib",
}
TEXTS = re.compile(r"^(licen[cs]e|copying|notice|unlicense|copyright)", re.IGNORECASE)


def metadata(target, features):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    command += ["--features", features] if features else []
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def built_in(data):
    """The packages that the root package needs to run, by walking normal dependencies."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    root = data["resolve"]["root"]
    seen, todo = set(), [root]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        for dep in nodes[at]["deps"]:
            if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                todo.append(dep["pkg"])
    seen.discard(root)
    by_name = sorted((packages[at] for at in seen), key=lambda package: (package["name"], package["version"]))
    return packages[root], by_name


def is_accepted(expression):
    """Whether one of the alternatives of an SPDX expression has accepted licenses only."""
    flat = expression.replace("/", " OR ").replace("(", " ").replace(")", " ")
    alternatives = [re.split(r"\s+AND\s+", part.strip()) for part in re.split(r"\s+OR\s+", flat)]
    return any(all(name.strip() in ACCEPTED for name in names) for names in alternatives)


def license_texts(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    for path in sorted(folder.iterdir()):
        if path.is_file() and TEXTS.match(path.name):
            yield path.name, path.read_text(encoding="utf-8", errors="replace").strip()


def component(package):
    name, version = package["name"], package["version"]
    found = {
        "type": "library",
        "bom-ref": f"pkg:cargo/{name}@{version}",
        "name": name,
        "version": version,
    }
    if package["source"]:  # else it is this repository's own, under the name of the crate that it stands for
        found["purl"] = f"pkg:cargo/{name}@{version}"
    if package["license"]:
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return found


def main():
    target, features, out = sys.argv[1:]
    root, packages = built_in(metadata(target, features))
    refused = [f"{p['name']} {p['version']}: {p['license']}" for p in packages if not is_accepted(p["license"] or "")]
    if refused:
        sys.exit("licenses that are not accepted:\n  " + "\n  ".join(refused))
    out = pathlib.Path(out)
    parts = []
    for package in packages:
        head = f"{package['name']} {package['version']}: {package['license']}"
        texts = [f"--- {name} ---\n{text}" for name, text in license_texts(package)]
        parts.append("\n\n".join([head, *texts]))
    rule = "\n\n" + "=" * 80 + "\n\n"
    (out / "THIRD-PARTY-LICENSES.txt").write_text(rule.join(parts) + "\n", encoding="utf-8")
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**component(root), "type": "application"}},
        "components": [component(package) for package in packages],
    }
    (out / "bom.cdx.json").write_text(json.dumps(bom, indent=1) + "\n", encoding="utf-8")
    print(f"{len(packages)} crates")


if __name__ == "__main__":
    main()
