"""docker-compose.yml and the name of the image: what can be pulled is pulled, and everything else is built from the folder."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from compose import ROOT, Compose, engine_environment, free_port

from claude_proxy import __version__

pytestmark = pytest.mark.timeout(900)  # the first build downloads every package

# In the place of the image that a release publishes: it starts in no time, and cannot be mistaken for one that was built.
PUBLISHED = (
    'FROM debian:bookworm-slim\nLABEL published=yes\nHEALTHCHECK --interval=1s CMD ["true"]\nCMD ["sleep", "infinity"]\n'
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a container registry on this machine."""
    program, port = shutil.which("docker-registry"), free_port()
    if program is None:
        pytest.skip("docker-registry is not installed")
    folder = tmp_path_factory.mktemp("registry")
    (folder / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/images}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
        encoding="utf-8",
    )
    command = [program, "serve", str(folder / "registry.yml")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as running:
        try:
            transport = httpx.HTTPTransport(retries=8)
            with httpx.Client(transport=transport, trust_env=False) as client:
                assert client.get(f"http://127.0.0.1:{port}/v2/").status_code == 200
            yield f"127.0.0.1:{port}"
        finally:
            running.terminate()


@pytest.fixture
def project(tmp_path: Path, registry: str) -> Iterator[Compose]:
    compose = Compose(tmp_path, engine_environment())
    compose.variables["CLAUDE_PROXY_IMAGE"] = f"{registry}/team/claude-proxy"
    image = f"{registry}/team/claude-proxy:{__version__}"
    try:
        yield compose
    finally:
        compose.down()
        compose.docker("image", "rm", "--force", image, check=False)


def label(compose: Compose, name: str) -> str:
    """What the image of the container carries."""
    return str(compose.inspect()["Config"]["Labels"].get(name, ""))


def test_an_image_that_cannot_be_pulled_is_built(project: Compose) -> None:
    """A registry without the image, or none at all, is no error: the folder's own is built under that name."""
    for name in (project.variables["CLAUDE_PROXY_IMAGE"], "127.0.0.1:9/nobody/claude-proxy"):
        project.variables["CLAUDE_PROXY_IMAGE"] = name
        project("create", "proxy")
        assert project.inspect()["Config"]["Image"] == f"{name}:{__version__}"
        assert project.inspect()["Config"]["Entrypoint"] == ["claude-proxy"]
        project.docker("image", "rm", "--force", f"{name}:{__version__}")


def test_an_image_is_tried_before_it_is_published(project: Compose) -> None:
    """deploy/try-image is content with the image of this folder, and with no image that does not respond as the proxy does."""
    project.variables.clear()
    project("build", "proxy")
    stub = f"localhost/{project.name}:stub"
    build = ["docker", "build", "--quiet", "--tag", stub, "-"]
    subprocess.run(build, input=PUBLISHED, env=project.engine, capture_output=True, text=True, check=True)
    try:
        tried = {
            image: subprocess.run(
                [ROOT / "deploy/try-image", image], env=project.engine, capture_output=True, text=True, check=False
            )
            for image in (project.image, stub)
        }
    finally:
        project.docker("image", "rm", "--force", stub, project.image)
    assert tried[project.image].stdout == (
        f"{project.image}: healthy, closed without a token, responds with it, stops by itself\n"
    ), tried[project.image].stderr
    assert tried[stub].returncode != 0


def test_without_a_name_nothing_is_pulled(project: Compose) -> None:
    """Whoever sets nothing gets an image of the folder, and reads of no registry and of no variable that is not set."""
    project.variables.clear()
    done = project("create", "proxy")
    assert project.inspect()["Config"]["Image"] == project.image
    assert [word for word in ("Pulling", "Warning", "variable is not set") if word in done.stdout + done.stderr] == []


def test_an_image_that_can_be_pulled_is_not_built(project: Compose) -> None:
    """With the name of a published image the folder's version of it is pulled; --build still builds."""
    image = f"{project.variables['CLAUDE_PROXY_IMAGE']}:{__version__}"
    (project.folder / "published").mkdir()
    (project.folder / "published" / "Dockerfile").write_text(PUBLISHED, encoding="utf-8")
    project.docker("build", "--quiet", "--tag", image, "published")
    project.docker("push", "--quiet", image)
    project.docker("image", "rm", image)
    project("create", "proxy")
    assert label(project, "published") == "yes"
    pulled = project.inspect()["Image"]
    project("create", "--build", "--force-recreate", "proxy")
    assert label(project, "published") == ""
    project.docker("image", "rm", "--force", pulled)
