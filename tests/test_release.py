"""deploy/release.py: the names, files and notes of a release, and the version, which stands in several places."""

import importlib.util
import io
import re
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from claude_proxy import __version__

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "claude-proxy"
IMAGE = "registry.example/team/claude-proxy"


def load():
    spec = importlib.util.spec_from_file_location("release", ROOT / "deploy" / "release.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = load()


def places() -> dict[str, str]:
    """Each place that shows the version, with what it shows."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    manifest = (ROOT / "deploy" / "kubernetes" / "claude-proxy.yaml").read_text(encoding="utf-8")
    shown = {
        "the chart": str(chart["version"]),
        "the chart's app": str(chart["appVersion"]),
        "the changelog": re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0],
        "deploy/release.py": release.version(),
    }
    images = {name: re.findall(r":([^:{}]+)\}$", compose["services"][name]["image"]) for name in ("proxy", "proxy-2")}
    shown |= {f"the image of {name}": tag for name, tags in images.items() for tag in tags}
    shown |= {f"image {n} of the manifest": tag for n, tag in enumerate(re.findall(r'image: "\S+:([^:"]+)"', manifest))}
    return shown | {f"label {n}": tag for n, tag in enumerate(re.findall(r'app.kubernetes.io/version: "(.+)"', manifest))}


def test_every_place_shows_the_version_of_the_package():
    """Chart, manifest, compose file and changelog name one version, which is the package's."""
    assert len(places()) >= 10
    assert {place: shown for place, shown in places().items() if shown != __version__} == {}


def test_the_names_of_a_release():
    """The image is named as the repository, in lower case, at the registry that a variable names."""
    assert release.named(f"v{__version__}", "registry.example", "Team/Claude-Proxy") == {
        "version": __version__,
        "registry": "registry.example",
        "image": IMAGE,
    }


@pytest.mark.parametrize(
    ("tag", "registry", "words"),
    [
        ("v9.9.9", "registry.example", f"the tag is v9.9.9 and the version is {__version__}"),
        (__version__, "registry.example", f"tag v{__version__}"),
        (f"v{__version__}", "", "IMAGE_REGISTRY: should be the host"),
        (f"v{__version__}", "https://registry.example", "IMAGE_REGISTRY: should be the host"),
        (f"v{__version__}", "registry.example/team", "IMAGE_REGISTRY: should be the host"),
    ],
)
def test_a_release_that_cannot_be_made_says_why(tag, registry, words):
    """A wrong tag and a missing registry end the release before anything is built."""
    with pytest.raises(SystemExit, match=re.escape(words)):
        release.named(tag, registry, "team/claude-proxy")


def test_a_version_without_a_part_in_the_changelog_is_not_released():
    """Nothing is published that the changelog does not tell of."""
    assert release.changes(__version__).strip()
    with pytest.raises(SystemExit, match=r"CHANGELOG.md: has no part about 9\.9\.9"):
        release.changes("9.9.9")


def test_the_notes_lead_to_the_tag_and_say_how_to_verify():
    """Links of the changelog lead to the files of the tag; the command names the digest and the workflow that signed it."""
    source = "https://git.example/Team/Claude-Proxy"
    notes = release.release_notes(IMAGE, "sha256:1234", source)
    links = re.findall(r"\]\(([^)]+)\)", notes)
    assert links
    assert all(link.startswith(("https://", "#")) for link in links)
    assert f"cosign verify {IMAGE}@sha256:1234" in notes
    assert f"{source}/.github/workflows/release.yml@refs/tags/v{__version__}" in notes
    assert (ROOT / ".github" / "workflows" / "release.yml").exists()


def test_the_files_name_the_published_image(tmp_path):
    """Chart and manifest of a release work as they are: no placeholder is left in them, and nothing else differs."""
    release.write_files(IMAGE, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"claude-proxy.yaml", f"claude-proxy-{__version__}.tgz"}
    manifest = (tmp_path / "claude-proxy.yaml").read_text(encoding="utf-8")
    assert manifest.count(f'image: "{IMAGE}:{__version__}"') == 2
    assert release.PLACEHOLDER not in manifest
    with tarfile.open(tmp_path / f"claude-proxy-{__version__}.tgz") as archive:
        files = {entry.name: archive.extractfile(entry).read().decode() for entry in archive.getmembers()}
    assert yaml.safe_load(files["claude-proxy/values.yaml"])["image"]["repository"] == IMAGE
    ours = {
        f"claude-proxy/{path.relative_to(CHART)}": path.read_text(encoding="utf-8")
        for path in CHART.rglob("*")
        if path.is_file() and path.parent.name != "ci"
    }
    assert {name: text.replace(IMAGE, release.PLACEHOLDER) for name, text in files.items()} == ours


def test_the_packed_chart_is_the_same_each_time():
    """Two packings of the same files have the same hash."""
    one, two = release.packed_chart(IMAGE), release.packed_chart(IMAGE)
    assert one == two
    with tarfile.open(fileobj=io.BytesIO(one)) as archive:
        assert {(entry.mtime, entry.uid, entry.mode) for entry in archive.getmembers()} == {(0, 0, 0o644)}


@pytest.mark.parametrize("command", ["names", "files", "notes"])
def test_the_workflow_calls_each_command_as_it_is(command, monkeypatch, capsys, tmp_path):
    """What release.yml gives to a command is what the command takes."""
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    (call,) = re.findall(rf"deploy/release\.py {command} (.+?)(?: >>?.*)?$", text, re.MULTILINE)
    values = {
        "GITHUB_REF_NAME": f"v{__version__}", "REGISTRY": "registry.example", "GITHUB_REPOSITORY": "team/claude-proxy",
        "IMAGE": IMAGE, "DIGEST": "sha256:1234", "SOURCE": "https://git.example/team/claude-proxy",
    }  # fmt: skip
    given = [values[part[1:]] if part.startswith("$") else part for part in call.replace('"', "").split()]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["release.py", command, *given])
    release.main()
    assert capsys.readouterr().out or (tmp_path / "dist").exists()
