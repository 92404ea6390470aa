"""A fresh clone and the README's commands, nothing else."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from processes import ROOT, answer_text, free_port, question

# What pip needs to reach an index from here; everything else of this environment stays out.
PIP_VARIABLES = ("PIP_", "SSL_", "REQUESTS_", "HTTP_", "HTTPS_", "NO_PROXY", "http_", "https_", "no_proxy", "LANG", "TMPDIR")
# And what it may leave out here: bytecode of ten thousand files, of which a start reads a part.
NO_BYTECODE = {"PIP_COMPILE": "0", "UV_COMPILE_BYTECODE": "0"}
READY_SECONDS = 300


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The files of this checkout that git knows or would take, in a folder of their own."""
    if shutil.which("make") is None or shutil.which("git") is None:
        pytest.skip("make and git are not installed")
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def path_without_uv() -> str:
    """Return PATH without the folders that hold uv."""
    folders = os.environ["PATH"].split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if not (Path(folder) / "uv").exists())


class MakeRun:
    """``make run`` in a process group of its own, with these folders in front of PATH."""

    def __init__(self, folder: Path, home: Path, *programs: Path) -> None:
        self.port = free_port()
        environment = {name: value for name, value in os.environ.items() if name.startswith(PIP_VARIABLES)}
        path = os.pathsep.join([*map(str, programs), path_without_uv()])
        environment |= NO_BYTECODE | {"PATH": path, "HOME": str(home), "PORT": str(self.port)}
        self.log = home / f"make-{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["make", "run"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self) -> None:
        poll = threading.Event()
        for _ in range(READY_SECONDS * 4):
            assert self.process.poll() is None, self.output
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health/readiness", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                poll.wait(0.25)
        raise AssertionError(self.output)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def ask_demo(self, token: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{self.port}/v1/messages"
        return httpx.post(url, json=question("demo"), headers=headers, trust_env=False)


def make(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run make with nothing of this environment but what pip needs, and uv where there is one."""
    environment = {name: value for name, value in os.environ.items() if name.startswith((*PIP_VARIABLES, "UV_"))}
    environment |= NO_BYTECODE | {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=check)


def variables_of(path: Path) -> dict[str, str]:
    lines = [line.partition("=") for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in lines}


def test_make_run_is_enough(clone, tmp_path):
    """``make run`` alone makes all that is missing and serves; a second start keeps it, and README's line finds the token.

    It reports what it installs, and takes pip where uv does not reach its index. Its last lines are what a new user needs.
    """
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").write_text("#!/bin/sh\nexit 2\n")
    (tmp_path / "bin" / "uv").chmod(0o755)
    first = MakeRun(clone, tmp_path, tmp_path / "bin")
    try:
        first.wait_ready()
        made = variables_of(clone / ".env")
        token = made["PROXY_STATIC_TOKEN"]
        assert stat.S_IMODE((clone / ".env").stat().st_mode) == 0o600
        assert len({token, made["LITELLM_MASTER_KEY"]}) == 2
        assert min(len(token), len(made["LITELLM_MASTER_KEY"])) > 60
        assert (clone / "config.yaml").read_text() == (clone / "config.yaml.example").read_text()
        for how in ("uv", "pip"):
            assert re.search(rf"^Installing \d\d\d packages with {how} \.\.\.$", first.output, re.MULTILINE)
        last = first.output.splitlines()[-3:]
        assert last[0].endswith(f" is ready: open http://127.0.0.1:{first.port}/ in a browser.")
        assert last[1].endswith(f"http://127.0.0.1:{first.port}/pool")
        assert last[2].endswith("`make settings`")
        assert token not in first.output
        assert "The proxy works" in answer_text(first.ask_demo(token))
        assert first.ask_demo("wrong").status_code == 401
    finally:
        first.stop()
    second = MakeRun(clone, tmp_path)
    try:
        second.wait_ready()
        assert variables_of(clone / ".env") == made
        assert second.ask_demo(token).status_code == 200
    finally:
        second.stop()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    printed = subprocess.run(["make", "settings"], cwd=clone, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(printed.stdout)["env"]["ANTHROPIC_AUTH_TOKEN"] == token
    (line,) = re.findall(r"^\$ (TOKEN=\$\(make .*\))$", (clone / "README.md").read_text(), re.MULTILINE)
    before = (clone / ".env").read_bytes()
    quoted = f'PROXY_STATIC_TOKEN="{token}"\r\nLITELLM_MASTER_KEY={made["LITELLM_MASTER_KEY"]}\r\n'.encode()
    for content in (before, quoted):
        (clone / ".env").write_bytes(content)
        shell = subprocess.run(
            ["sh", "-c", f'{line}; printf %s "$TOKEN"'], cwd=clone, env=environment, capture_output=True, text=True, check=True
        )
        assert shell.stdout == token
    (clone / ".env").write_bytes(before)


def test_make_knows_people(clone, tmp_path):
    """``make user-add`` prints a person's block, ``user-list`` shows all, ``user-remove`` and the command take them out."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def make(*arguments: str) -> str:
        return subprocess.run(
            ["make", *arguments], cwd=clone, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert json.loads(make("user-add", "NAME=anna"))["env"]["ANTHROPIC_AUTH_TOKEN"].startswith("sk-")
    block = json.loads(make("user-add", "NAME=ben", "URL=https://proxy.example.org"))["env"]
    assert block["ANTHROPIC_BASE_URL"] == "https://proxy.example.org"
    assert [line.split()[0] for line in make("user-list").splitlines()] == ["user", "anna", "ben"]
    make("user-remove", "NAME=anna")
    command = [clone / ".venv/bin/claude-proxy", "user"]
    subprocess.run([*command, "remove", "ben"], cwd=tmp_path, env=environment, capture_output=True, check=True)
    listed = subprocess.run([*command, "list"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert make("user-list") == listed.stdout == ""


def test_make_install_makes_what_the_lock_says(clone):
    """The environment holds what the lock names, at the locked versions, and nothing for development."""
    frozen = subprocess.run(
        [clone / ".venv/bin/python", "-m", "pip", "freeze"], capture_output=True, text=True, check=True
    ).stdout
    locked = {line.split(" ")[0] for line in (clone / "requirements.lock").read_text().splitlines() if "==" in line[:60]}
    assert {line.lower().replace("_", "-") for line in frozen.splitlines()} <= {line.lower() for line in locked}
    assert "litellm==1.108.7" in frozen
    assert "pytest" not in frozen


def test_make_install_pins_the_installer(clone):
    """The environment's pip is the locked one, whatever came with Python, and setuptools is not there."""
    (locked,) = re.findall(r"^pip==(\S+)", (clone / "requirements-installer.lock").read_text(), re.MULTILINE)
    version = subprocess.run([clone / ".venv/bin/python", "-m", "pip", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.split()[1] == locked
    looked = "import importlib.util; print([importlib.util.find_spec(name) for name in ('setuptools', 'pkg_resources')])"
    found = subprocess.run([clone / ".venv/bin/python", "-c", looked], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[None, None]"


def test_make_sbom_lists_what_is_installed(clone):
    """Each package of the environment is in sbom.json, with its version and the hash of a file that the lock names."""
    make(clone, "sbom")
    listed = {one["purl"]: one for one in json.loads((clone / "sbom.json").read_text())["components"] if "purl" in one}
    frozen = [clone / ".venv/bin/python", "-m", "pip", "list", "--format", "json"]
    installed = json.loads(subprocess.run(frozen, capture_output=True, text=True, check=True).stdout)
    names = {f"pkg:pypi/{one['name'].lower().replace('_', '-').replace('.', '-')}@{one['version']}" for one in installed}
    assert names <= {purl.replace("_", "-").replace(".", "-", purl.split("@")[0].count(".")) for purl in listed}
    (digest,) = (one["content"] for one in listed["pkg:pypi/litellm@1.108.7"]["hashes"])
    lock = (clone / "requirements.lock").read_text()
    assert digest in lock.split("\nlitellm==1.108.7 ", 1)[1].split("\n    #", 1)[0]


def test_uv_installs_the_same(clone, tmp_path):
    """Where uv is on PATH it installs what pip does, at the same versions; where it reaches no index, pip takes over."""
    uv = next((found for found in (ROOT / ".venv-tools/bin/uv", clone / ".venv-tools/bin/uv") if found.exists()), None)
    if uv is None:
        subprocess.run(["make", ".venv-tools/installed"], cwd=clone, capture_output=True, check=True)
        uv = clone / ".venv-tools/bin/uv"
    (tmp_path / "uv").symlink_to(uv)
    environment = {name: value for name, value in os.environ.items() if name.startswith((*PIP_VARIABLES, "UV_"))}
    path = os.pathsep.join([str(tmp_path), path_without_uv()])
    environment |= {"PATH": path, "HOME": str(tmp_path), "UV_COMPILE_BYTECODE": "0"}
    command = ["make", "install", f"VENV={tmp_path}/venv"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)
    assert "with uv" in done.stdout
    frozen = [
        subprocess.run([folder / "bin/python", "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
        for folder in (clone / ".venv", tmp_path / "venv")
    ]
    assert frozen[0] == frozen[1]
    assert (tmp_path / "venv/bin/claude-proxy").exists()


class Database(BaseHTTPRequestHandler):
    """Stands in for a database of known holes: it knows one, in one package."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        hole = {"id": "MADE-UP-1", "modified": "2026-01-01T00:00:00Z", "affected": [{"package": asked["package"]}]}
        body = json.dumps({"vulns": [hole]} if asked["package"]["name"] == self.server.holed else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("holed", "code"), [("", 0), ("tomlkit", 2)])
def test_make_scan_asks_about_every_package(clone, holed, code):
    """With nothing known the scan passes, with a known hole in one package of one lock it fails and names it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Database) as server:
        server.holed = holed
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asked = f"AUDIT_ARGS=--vulnerability-service osv --osv-url http://127.0.0.1:{server.server_port}"
        done = make(clone, "scan", asked, check=False)
        server.shutdown()
    assert done.returncode == code, done.stderr
    assert ("MADE-UP-1" in done.stdout) == bool(holed)


def test_make_scan_does_not_pass_without_an_answer(clone):
    """Where no database answers, nothing is called safe."""
    done = make(clone, "scan", "AUDIT_ARGS=--vulnerability-service osv --osv-url http://127.0.0.1:9", check=False)
    assert done.returncode != 0


def test_make_refuses_a_bad_release(clone):
    """A release that is known to steal is not fetched, whatever it is for."""
    done = make(clone, "test", "LITELLM=1.107.0", check=False)
    assert done.returncode != 0
    assert "1.107.0 is a release that steals credentials" in done.stderr
    assert not (clone / ".venv-litellm-1.107.0").exists()


def test_a_wrong_hash_installs_nothing(clone, tmp_path):
    """An archive that is not the one of the lock is refused: one wrong digit is enough."""
    lock = (clone / "requirements.lock").read_text()
    entry = re.search(r"^tomli==.*?(?=^\S)|^idna==.*?(?=^\S)", lock, re.MULTILINE | re.DOTALL)
    assert entry
    for text, installs in (
        (entry[0], True),
        (re.sub(r"sha256:(\w)", lambda one: f"sha256:{'01'[one[1] == '0']}", entry[0]), False),
    ):
        (tmp_path / "lock").write_text(text)
        target = tmp_path / str(installs)
        command = [clone / ".venv/bin/python", "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        done = subprocess.run(
            [*command, "--target", target, "-r", tmp_path / "lock"], capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == installs, done.stderr
        assert target.exists() == installs
        assert installs or "DO NOT MATCH THE HASHES" in done.stderr
