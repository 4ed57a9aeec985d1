#!/usr/bin/env python3
"""What scripts/release leaves to another language than bash: the list of what is inside, its licences, the Debian package.

    scripts/release.py sbom TARGET RUSTC     CycloneDX in JSON, on standard output
    scripts/release.py licences TARGET       the licence texts of all that is linked in, on standard output
    scripts/release.py deb TARGET FOLDER OUT the package, from [package.metadata.deb] in Cargo.toml and an unpacked tarball

    scripts/release.py publisher             what only a publisher knows, and Cargo.toml does not say yet, a line each

Always from `cargo metadata`, never by tools that may or may not be installed: the bytes are the same everywhere.
"""

import glob
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

LICENCE_FILES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")
# What comes with the target instead of with Cargo.toml.
TARGETS_OWN = """\
The standard library of Rust: MIT OR Apache-2.0. Copyright (c) The Rust Project Contributors.

musl libc: MIT. Copyright (c) 2005-2020 Rich Felker, et al.

    Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
    documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
    rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
    persons to whom the Software is furnished to do so, subject to the following conditions:

    The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
    Software.

    THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
    WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
    COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
    OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

LLVM's libunwind: Apache-2.0 WITH LLVM-exception. Copyright (c) the LLVM contributors.
"""


def metadata(target):
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "metadata", "--format-version", "1", "--locked", "--filter-platform", target]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def linked(data):
    """The program's package, and the packages that are linked into it with those they need."""
    root = data["resolve"]["root"]
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    packages = {package["id"]: package for package in data["packages"]}

    def needs(package):
        normal = lambda dep: any(kind["kind"] is None for kind in dep["dep_kinds"])
        macros = lambda dep: any("proc-macro" in t["kind"] for t in packages[dep["pkg"]]["targets"])
        deps = (dep for dep in nodes[package]["deps"] if normal(dep) and not macros(dep))
        return sorted(dep["pkg"] for dep in deps if dep["pkg"] != package)

    found, ahead = {}, [root]
    while ahead:
        package = ahead.pop()
        if package not in found:
            found[package] = needs(package)
            ahead.extend(found[package])
    order = lambda package: (package["name"], package["version"])
    others = sorted((packages[p] for p in found if p != root), key=order)
    return packages[root], others, found


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def sbom(target, rustc):
    root, others, needs = linked(metadata(target))
    by_id = {package["id"]: package for package in [root, *others]}

    def component(package, kind):
        said = {
            "type": kind,
            "bom-ref": purl(package),
            "name": package["name"],
            "version": package["version"],
            "purl": purl(package),
        }
        if package["license"]:
            said["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
        return said

    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"])))
    lock = subprocess.run(["git", "hash-object", "Cargo.lock"], check=True, stdout=subprocess.PIPE, text=True)
    json.dump(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "timestamp": when,
                "component": component(root, "application"),
                "properties": [
                    {"name": "target", "value": target},
                    {"name": "rustc", "value": rustc},
                    {"name": "Cargo.lock", "value": lock.stdout.strip()},
                ],
            },
            "components": [component(package, "library") for package in others],
            "dependencies": [
                {"ref": purl(package), "dependsOn": sorted(purl(by_id[need]) for need in needs[package["id"]])}
                for package in [root, *others]
            ],
        },
        sys.stdout,
        indent=1,
    )
    print()


def licences(target):
    _, others, _ = linked(metadata(target))
    print("relay-broker is linked with the packages below, under these licences.\n")
    texts = {}
    for package in others:
        name = f"{package['name']} {package['version']}"
        print(f"{name}: {package['license']}")
        for file in sorted(Path(package["manifest_path"]).parent.iterdir()):
            if file.is_file() and file.name.upper().startswith(LICENCE_FILES):
                text = "\n".join(line.rstrip() for line in file.read_text(errors="replace").strip().splitlines())
                texts.setdefault(text, []).append(name)
    print(f"\n{TARGETS_OWN}")
    for text, names in texts.items():
        print(f"{'=' * 80}\n{', '.join(names)}\n{'=' * 80}\n{text}\n")


def compressed(path):
    """As Debian has them: whatever is read by people and long, but not the copyright."""
    return "/man/" in path or path.endswith("changelog")


def deb(target, folder, out):
    package = metadata(target)["packages"]
    package = next(p for p in package if p["name"] == "relay-broker" and p["source"] is None)
    said = package["metadata"]["deb"]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[target.split("-")[0]]
    when = int(os.environ["SOURCE_DATE_EPOCH"])
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        for source, destination, mode in said["assets"]:
            # The paths are those that `cargo deb` knows; the unpacked tarball has the same files.
            source = source.replace("target/release/", "").replace("target/package/", "")
            files = sorted(glob.glob(os.path.join(folder, source)))
            if not files:
                sys.exit(f"[package.metadata.deb] names {source}, which is not there")
            for file in files:
                path = os.path.join(top, destination)
                path = os.path.join(path, os.path.basename(file)) if destination.endswith("/") else path
                install(file, path, int(mode, 8))
        control = os.path.join(top, "DEBIAN")
        os.makedirs(control)
        size = sum(f.stat().st_size for f in Path(top).rglob("*") if f.is_file())
        write(
            os.path.join(control, "control"),
            f"Package: relay-broker\nVersion: {package['version']}\nArchitecture: {machine}\n"
            f"Maintainer: {said['maintainer']}\nInstalled-Size: {size // 1024}\nSection: {said['section']}\n"
            f"Priority: {said['priority']}\nDescription: {package['description']}\n"
            + "".join(f" {line.strip() or '.'}\n" for line in said["extended-description"].strip().splitlines()),
        )
        write(os.path.join(control, "conffiles"), "".join(f"/{file.strip('/')}\n" for file in said["conf-files"]))
        for path in [top, *(str(p) for p in Path(top).rglob("*"))]:
            os.utime(path, (when, when))
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", top, out]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def publisher():
    with open("Cargo.toml", "rb") as file:
        package = tomllib.load(file)["package"]
    if not package.get("repository"):
        print("  repository in [package]: `cargo binstall` finds the tarballs below it")
    if package["metadata"]["deb"]["maintainer"].rstrip(">").endswith("@localhost"):
        print("  maintainer in [package.metadata.deb]: who answers for the Debian package")


def install(file, path, mode):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if compressed(path):
        with open(file, "rb") as plain, open(f"{path}.gz", "wb") as target:
            with gzip.GzipFile("", "wb", 9, target, mtime=0) as packed:
                shutil.copyfileobj(plain, packed)
        path = f"{path}.gz"
    else:
        shutil.copyfile(file, path)
    os.chmod(path, mode)


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    {"sbom": sbom, "licences": licences, "deb": deb, "publisher": publisher}[sys.argv[1]](*sys.argv[2:])
