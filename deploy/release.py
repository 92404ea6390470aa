"""What a release is made of: its names, the files beside the image, and its notes. Only Python's own library is needed.

.github/workflows/release.yml runs it; the proxy never does.
"""

import argparse
import gzip
import io
import re
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "claude-proxy"
MANIFEST = ROOT / "deploy" / "kubernetes" / "claude-proxy.yaml"
# The name of the image in the files of the repository, which a release replaces by the published one.
PLACEHOLDER = "localhost/claude-proxy"
HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?")
NOTES = """\
{changes}
## Image

`{image}:{version}` for amd64 and arm64, digest `{digest}`. It is signed, with its SBOM and its provenance:

```
cosign verify {image}@{digest} \\
  --certificate-oidc-issuer https://token.actions.githubusercontent.com \\
  --certificate-identity {source}/.github/workflows/release.yml@refs/tags/v{version}
```

- Docker Compose: `CLAUDE_PROXY_IMAGE={image}` in `.env`, in the folder of this version.
- Helm: `claude-proxy-{version}.tgz`. Kubernetes without Helm: `claude-proxy.yaml`.
- `SHA256SUMS` has the hashes of the files, and `SHA256SUMS.sigstore.json` is its signature (`cosign verify-blob`).
"""


def main() -> None:
    """Run one of the commands; end with a sentence where the release cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    names = commands.add_parser("names", help="print version, registry and image for later steps")
    names.add_argument("--tag", required=True)
    names.add_argument("--registry", required=True)
    names.add_argument("--repository", required=True)
    files = commands.add_parser("files", help="write the chart and the manifest with the name of the image in them")
    files.add_argument("--image", required=True)
    files.add_argument("--output", type=Path, required=True)
    notes = commands.add_parser("notes", help="print the changelog's part and how to check the image")
    notes.add_argument("--image", required=True)
    notes.add_argument("--digest", required=True)
    notes.add_argument("--source", required=True, help="the repository's address")
    options = parser.parse_args()
    if options.command == "names":
        for name, value in named(options.tag, options.registry, options.repository).items():
            sys.stdout.write(f"{name}={value}\n")
    elif options.command == "files":
        write_files(options.image, options.output)
    else:
        sys.stdout.write(release_notes(options.image, options.digest, options.source))


def version() -> str:
    """Return the version of the project."""
    text = (ROOT / "claude_proxy" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return found[1] if found else sys.exit("claude_proxy/__init__.py: has no __version__")


def changes(number: str) -> str:
    """Return the changelog's part about a version, without its heading."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(number)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found or not found[1].strip():
        sys.exit(f"CHANGELOG.md: has no part about {number}; write it before the tag")
    # The headings of the part become those of the notes.
    return re.sub(r"^###", "##", found[1].strip(), flags=re.MULTILINE) + "\n"


def named(tag: str, registry: str, repository: str) -> dict[str, str]:
    """Return the names that the steps of the release use."""
    number = version()
    if tag != f"v{number}":
        sys.exit(f"the tag is {tag} and the version is {number}: change claude_proxy/__init__.py, or tag v{number}")
    if not HOST.fullmatch(registry):
        sys.exit(
            "IMAGE_REGISTRY: should be the host of a container registry, without https:// and without a path; set this variable"
        )
    changes(number)
    # Names of images have no upper case.
    return {"version": number, "registry": registry, "image": f"{registry}/{repository}".lower()}


def write_files(image: str, output: Path) -> None:
    """Write the packed chart and the manifest."""
    output.mkdir(parents=True, exist_ok=True)
    (output / MANIFEST.name).write_text(renamed(MANIFEST, image), encoding="utf-8")
    (output / f"{CHART.name}-{version()}.tgz").write_bytes(packed_chart(image))


def packed_chart(image: str) -> bytes:
    """Return the chart as Helm packs one: the same bytes for the same files."""
    ignored = tuple(name for name in (CHART / ".helmignore").read_text(encoding="utf-8").split() if name.endswith("/"))
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
            name = path.relative_to(CHART).as_posix()
            if not name.startswith(ignored):
                content = renamed(path, image).encode()
                entry = tarfile.TarInfo(f"{CHART.name}/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def renamed(path: Path, image: str) -> str:
    """Return a file's text with the name of the published image in it."""
    return path.read_text(encoding="utf-8").replace(PLACEHOLDER, image)


def release_notes(image: str, digest: str, source: str) -> str:
    """Return the text of the release. Links of the changelog lead to the files of the tag."""
    number = version()
    text = re.sub(r"\]\((?![a-z]+://|#)", f"]({source}/blob/v{number}/", changes(number))
    return NOTES.format(changes=text, image=image, version=number, digest=digest, source=source)


if __name__ == "__main__":
    main()
