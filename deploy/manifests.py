"""Renders and checks the Helm chart, and writes the plain Kubernetes manifest, which is the chart with its default values.

Run in the environment .venv-deploy (``make lint-deploy``, ``make manifest``). Helm's own code renders, in this process, and
no cluster is needed. The proxy never runs it.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

DEPLOY = Path(__file__).parent
CHART = DEPLOY / "helm" / "claude-proxy"
MANIFEST = DEPLOY / "kubernetes" / "claude-proxy.yaml"
NAME = "claude-proxy"
# Values that the check renders, besides the default ones.
CASES = CHART / "ci"
# The oldest version of Kubernetes that the chart allows, and the newest one whose schemas are installed.
VERSIONS = ("1.25", kubernetes_validate.latest_version())
# Kinds of operators, for which Kubernetes has no schema.
FOREIGN = frozenset({"monitoring.coreos.com/v1"})
HEADER = """\
# claude-proxy on Kubernetes, without Helm: docs/kubernetes.md explains it. `make manifest` writes this file from
# deploy/helm/claude-proxy.
#
# 1. Put the name of your image in the place of {image} (twice), or run `make manifest IMAGE=NAME`.
# 2. kubectl apply -f claude-proxy.yaml
# 3. kubectl -n claude-proxy create secret generic claude-proxy --from-env-file=.env
#    The variables are those of .env.example. Without this Secret the proxy makes random tokens and responds as the demo only.
# 4. kubectl -n claude-proxy create configmap claude-proxy --from-file=config.yaml
#    Without this ConfigMap the models are those of config.yaml.example.
# 5. kubectl -n claude-proxy rollout restart deployment/claude-proxy, after 3 and 4.
# 6. kubectl -n claude-proxy exec deploy/claude-proxy -- claude-proxy settings prints the block for Claude Code, with the token.
apiVersion: v1
kind: Namespace
metadata:
  name: claude-proxy
  labels:
    pod-security.kubernetes.io/enforce: restricted
"""
# What only a release of Helm's has.
HELM_LINES = frozenset({"app.kubernetes.io/managed-by: Helm"})


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="lint the chart, validate what it renders, and compare the manifest with it")
    commands.add_parser("render", help="read {case: values} as JSON, print {case: manifests, or what went wrong}")
    write = commands.add_parser("write", help="write the plain manifest")
    write.add_argument("--image", help="the name of the image, without a tag")
    options = parser.parse_args()
    if options.command == "check":
        problems = list(check())
        sys.exit("\n".join(problems) if problems else None)
    elif options.command == "render":
        json.dump({case: attempt(values) for case, values in json.load(sys.stdin).items()}, sys.stdout)
    else:
        MANIFEST.write_text(manifest({"image": {"repository": options.image}} if options.image else {}), encoding="utf-8")


def check() -> Iterator[str]:
    """Yield a sentence for each problem."""
    cases: dict[str, dict[str, Any]] = {"values.yaml": {}}
    cases |= {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CASES.glob("*.yaml"))}
    for case, values in cases.items():
        found = helm_python.lint(CHART, values, strict=True)
        yield from (f"{case}: {problem}" for problem in found["errors"])
        rendered = attempt(values)
        if "error" in rendered:
            yield f"{case}: {rendered['error']}"
        yield from (f"{case}: {problem}" for problem in invalid(rendered.get("text", "")))
    yield from (f"{MANIFEST.name}: {problem}" for problem in invalid(MANIFEST.read_text(encoding="utf-8")))
    if MANIFEST.read_text(encoding="utf-8") != manifest({}):
        yield f"{MANIFEST.name}: differs from the chart; run `make manifest`"


def invalid(text: str) -> Iterator[str]:
    """Yield a sentence for each document that Kubernetes' schemas do not allow; an unknown field is an error, too."""
    for document in yaml.safe_load_all(text):
        if document["apiVersion"] in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                place = ".".join(map(str, error.path))
                yield f"{document['kind']}: {place}: {error.message} (Kubernetes {version})"
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{document['kind']}: {error.message}"


def attempt(values: dict[str, Any]) -> dict[str, str]:
    """Return what the chart renders as ``text``, or Helm's words as ``error``."""
    try:
        return {"text": render(values)}
    except helm_python.HelmError as error:
        return {"error": str(error)}


def render(values: dict[str, Any]) -> str:
    """Return what the chart renders of these values, beside its defaults, as one YAML text."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        rendered = chart.render(values, name=NAME, namespace=NAME)
    texts = (text.strip() for path, text in sorted(rendered.items()) if path.endswith(".yaml"))
    return "".join(f"---\n{text}\n" for text in texts if text)


def manifest(values: dict[str, Any]) -> str:
    """Return the plain manifest: a namespace, and what the chart renders."""
    rendered = render(values)
    image = (
        values.get("image", {}).get("repository") or yaml.safe_load((CHART / "values.yaml").read_text())["image"]["repository"]
    )
    lines = [line for line in rendered.splitlines(keepends=True) if line.strip() not in HELM_LINES]
    return HEADER.format(image=image) + "".join(lines)


if __name__ == "__main__":
    main()
