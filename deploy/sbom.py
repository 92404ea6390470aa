"""Writes what an environment or the image is made of, as CycloneDX JSON: Python's packages, Debian's, and Python itself.

Run in the environment of the tools (``make sbom``, and once in the build of the image); the proxy never runs it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft7Validator
from rfc3986_validator import validate_rfc3986

SPEC = "1.6"
BIN = Path(sys.executable).parent
ASCII = bytes(range(128))


def main() -> None:
    """Print one document; end with an error where it is no valid one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="the interpreter of the environment")
    parser.add_argument(
        "--report", type=Path, required=True, help="what pip reported of its installation (pip install --report)"
    )
    parser.add_argument("--root", type=Path, help="where Debian's list of packages is; left out, it is not looked for")
    options = parser.parse_args()
    document = python_packages(options.python)
    add_hashes(document["components"], json.loads(options.report.read_text(encoding="utf-8")))
    document["components"].append(interpreter(options.python))
    if options.root:
        debian = debian_packages(options.root)
        document["components"] += debian["components"]
        document["dependencies"] += debian["dependencies"]
    text = json.dumps(document, indent=1, sort_keys=True)
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"the list is no CycloneDX {SPEC}: {problem}")
    sys.stdout.write(f"{text}\n")


@Draft7Validator.FORMAT_CHECKER.checks("iri-reference")
def is_iri_reference(value: object) -> bool:
    """Whether a text is an address: as the URI that it stands for (RFC 3987, 3.1).

    It takes the place of jsonschema's own check, which needs a tenth of a second for each of hundreds of addresses.
    """
    if not isinstance(value, str):
        return True
    return value.isprintable() and validate_rfc3986(quote(value, safe=ASCII), rule="URI_reference") is not None


def python_packages(python: Path) -> dict[str, Any]:
    """Return the document of what is installed beside an interpreter. Only the whole one is validated."""
    command = [BIN / "cyclonedx-py", "environment", "--no-validate", "--output-reproducible", "--spec-version", SPEC, python]
    document: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return document


def add_hashes(components: list[dict[str, Any]], report: dict[str, Any]) -> None:
    """Give each package the SHA-256 of the file that it was installed from, which pip compared with the lock's."""
    hashes = {
        canonical(one["metadata"]["name"]): one["download_info"]["archive_info"]["hashes"]["sha256"]
        for one in report["install"]
    }
    for component in components:
        if found := hashes.get(canonical(component["name"])):
            component["hashes"] = [{"alg": "SHA-256", "content": found}]


def canonical(name: str) -> str:
    """Return a package's name as PyPI compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def interpreter(python: Path) -> dict[str, Any]:
    """Return Python itself, which neither Debian nor pip has installed in the image."""
    code = "import platform; print(platform.python_version())"
    version = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    purl = f"pkg:generic/python@{version}"
    return {"type": "platform", "name": "python", "version": version, "purl": purl, "bom-ref": purl}


def debian_packages(root: Path) -> dict[str, Any]:
    """Return the document of what Debian's package manager has installed below a folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [BIN / "debsbom", "generate", "--sbom-type", "cdx", "--cdx-schema-version", SPEC, "--root", root]
        subprocess.run([*command, "--out", Path(folder, "debian")], check=True, stdout=sys.stderr)
        document: dict[str, Any] = json.loads(Path(folder, "debian.cdx.json").read_text(encoding="utf-8"))
    return document


if __name__ == "__main__":
    main()
