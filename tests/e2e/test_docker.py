"""The image and the compose file, built and run on a real engine."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from claude_code import ClaudeCode
from compose import QUESTION, ROOT, Compose, engine_environment, have_image

pytestmark = pytest.mark.timeout(900)  # the first build downloads every package

CANARY = "made-up-canary-5f1d0c7e"
OWN_TOKEN = "made-up-token-of-a-team-77aa"


@pytest.fixture(scope="module")
def engine() -> dict[str, str]:
    return engine_environment()


@pytest.fixture(scope="module")
def compose_proxy(engine: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """A running proxy, started from a clone without ``.env`` and ``config.yaml``: its ``base_url`` and its ``token``."""
    compose = Compose(tmp_path_factory.mktemp("clone"), engine)
    try:
        yield compose.up()
    finally:
        compose.down()


@pytest.fixture(scope="module")
def equipped(engine: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """A project with files of its own: a private ``.env`` written for ``make run`` too, and a model that never ends."""
    compose = Compose(tmp_path_factory.mktemp("equipped"), engine)
    folder = compose.folder
    example = (folder / ".env.example").read_text(encoding="utf-8")
    own = {"PROXY_STATIC_TOKEN": OWN_TOKEN, "CLAUDE_API_KEYS": f"sk-ant-api03-{CANARY}", "HOST": "127.0.0.1"}
    own |= {"PROXY_DRAIN_SECONDS": "2"}
    (folder / ".env").touch(mode=0o600)
    (folder / ".env").write_text(
        "\n".join(f"{name}={own[name]}" if (name := line.partition("=")[0]) in own else line for line in example.splitlines()),
        encoding="utf-8",
    )
    compose.add_upstream("endless")
    try:
        yield compose
    finally:
        compose.down()


@pytest.fixture(scope="module")
def spoilt(engine: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """A project whose folder tests spoil: what they leave in it is taken away before the next one."""
    compose = Compose(tmp_path_factory.mktemp("spoilt"), engine)
    try:
        yield compose
    finally:
        compose.down()


@pytest.fixture
def unspoilt(spoilt: Compose) -> Iterator[Compose]:
    """The same, with its folder as a clone has it."""
    yield spoilt
    spoilt("rm", "--stop", "--force")
    spoilt.folder.chmod(0o755)
    (spoilt.folder / ".env").unlink(missing_ok=True)
    config = spoilt.folder / "config.yaml"
    if config.is_dir():
        config.rmdir()
    config.unlink(missing_ok=True)


def test_a_clone_without_files_of_its_own_becomes_a_healthy_proxy(compose_proxy):
    """What is missing is neither asked for nor made in the folder, least of all as a directory."""
    assert compose_proxy.inspect()["State"]["Health"]["Status"] == "healthy"
    assert not (compose_proxy.folder / ".env").exists()
    assert not (compose_proxy.folder / "config.yaml").exists()


def test_the_generated_token_opens_the_demo(compose_proxy):
    """The block that `claude-proxy settings` prints in the container holds an address of the host and a token that works."""
    block = compose_proxy.settings()["env"]

    assert block["ANTHROPIC_BASE_URL"] == compose_proxy.base_url
    whole = compose_proxy.ask(block["ANTHROPIC_AUTH_TOKEN"])
    assert (whole.status_code, whole.json()["model"]) == (200, "demo")
    streamed = compose_proxy.ask(block["ANTHROPIC_AUTH_TOKEN"], stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert "event: message_stop" in streamed.text


def test_people_come_and_go_while_the_container_runs(compose_proxy):
    """`claude-proxy user add` in the container makes a token that works at once, and `remove` ends it, without a restart."""
    block = json.loads(compose_proxy("exec", "-T", "proxy", "claude-proxy", "user", "add", "anna").stdout)
    token = block["env"]["ANTHROPIC_AUTH_TOKEN"]
    assert compose_proxy.ask(token, "demo").status_code == 200
    assert "anna" in compose_proxy("exec", "-T", "proxy", "claude-proxy", "user", "list").stdout
    compose_proxy("exec", "-T", "proxy", "claude-proxy", "user", "remove", "anna")
    assert compose_proxy.ask(token, "demo").status_code == 401
    assert token not in compose_proxy.logs()


@pytest.mark.parametrize("token", ["made-up-and-wrong", "none-is-needed"])
def test_another_token_is_refused(compose_proxy, token):
    """A container without an ``.env`` is not an open proxy."""
    assert compose_proxy.ask(token).status_code == 401


def test_no_generated_secret_is_in_the_logs(compose_proxy):
    """What a log collector gets holds neither the token nor the administrator's key, whatever was asked."""
    for token in (compose_proxy.token, "made-up-and-wrong"):
        compose_proxy.ask(token)

    lines = compose_proxy.inside("cat /data/.env").stdout.splitlines()
    secrets = [line.partition("=")[2] for line in lines if line.startswith(("PROXY_STATIC_TOKEN=", "LITELLM_MASTER_KEY="))]
    logs = compose_proxy.logs()
    assert len(secrets) == 2
    assert all(len(secret) > 60 and secret not in logs for secret in secrets)
    assert "claude-proxy settings" in logs, "the log was not read"


def test_the_log_of_a_start_holds_no_complaint(compose_proxy):
    """Nothing in the container wants to write where it cannot, or misses what the image lacks."""
    lines = [line for line in compose_proxy.logs().splitlines() if "refused POST" not in line]  # those are this file's own
    assert any("claude-proxy settings" in line for line in lines), "the log was not read"
    assert [line for line in lines if "ERROR" in line or "WARNING" in line or "Traceback" in line] == []


def test_every_process_in_the_container_is_hardened(compose_proxy):
    """No process is root, has a capability or can gain one, or asks the kernel past Docker's filter."""
    status = compose_proxy.inside("cat /proc/[0-9]*/status").stdout.splitlines()

    values = {
        name: {line.split()[1] for line in status if line.startswith(f"{name}:")}
        for name in ("Uid", "CapEff", "NoNewPrivs", "Seccomp")
    }
    assert values == {"Uid": {"10001"}, "CapEff": {"0000000000000000"}, "NoNewPrivs": {"1"}, "Seccomp": {"2"}}
    assert any(line == "Name:\tpython" for line in status)


@pytest.mark.parametrize("folder", ["/", "/app", "/app/claude_proxy", "/project", "/venv", "/usr/local/bin"])
def test_the_file_system_is_read_only(compose_proxy, folder):
    """Nothing but the volume and the temporary folder can be written."""
    assert compose_proxy.inside(f"touch {folder}/file", check=False).returncode != 0
    assert compose_proxy.inspect()["HostConfig"]["ReadonlyRootfs"] is True


def test_the_image_holds_nothing_that_helps_an_intruder(compose_proxy):
    """No program runs as somebody else, nothing installs or compiles, and no list, history or folder for everybody is left."""
    assert compose_proxy.inside("find / -xdev -type f -perm /6000 2>/dev/null", check=False).stdout == ""
    assert compose_proxy.inside("find / -xdev -type d -perm -0002 ! -perm -1000 2>/dev/null", check=False).stdout == ""
    assert compose_proxy.inside("python -m pip --version", check=False).returncode != 0
    programs = "for name in pip pip3 cc gcc make npm node git curl wget sudo; do command -v $name; done; true"
    assert compose_proxy.inside(programs).stdout == ""
    left = "ls /var/lib/apt/lists; find / -xdev \\( -name '.*_history' -o -name '.env' -o -name '.pip' \\) -type f 2>/dev/null"
    assert compose_proxy.inside(left, check=False).stdout == ""


def test_only_its_user_reads_the_volume(compose_proxy):
    """The volume and what the proxy has written into it are closed to everybody else."""
    modes = compose_proxy.inside("stat -c '%a %u %n' /data /data/.env /data/pool.sqlite3").stdout.split("\n")[:-1]
    assert modes == ["700 10001 /data", "600 10001 /data/.env", "600 10001 /data/pool.sqlite3"]


def test_docker_itself_knows_no_generated_secret(compose_proxy):
    """What Docker shows of the container and of its image holds neither the token nor the administrator's key."""
    lines = compose_proxy.inside("cat /data/.env").stdout.splitlines()
    secrets = [line.partition("=")[2] for line in lines if line.startswith(("PROXY_STATIC_TOKEN=", "LITELLM_MASTER_KEY="))]
    container = compose_proxy.inspect()
    shown = json.dumps(container) + compose_proxy.docker("image", "inspect", container["Image"]).stdout
    assert len(secrets) == 2
    assert [secret for secret in secrets if secret in shown] == []


def test_the_list_in_the_image_is_of_the_image(compose_proxy):
    """/app/sbom.json has each package that Python and Debian find in the image, LiteLLM with its hash, and nothing else."""
    listed = [one for one in json.loads(compose_proxy.inside("cat /app/sbom.json").stdout)["components"] if "purl" in one]
    code = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    python = {canonical(line) for line in compose_proxy.inside(f"python -c '{code}'").stdout.splitlines()}
    assert {canonical(f"{one['name']} {one['version']}") for one in listed if one["purl"].startswith("pkg:pypi/")} == python
    debian = set(compose_proxy.inside("dpkg-query -W -f '${Package} ${Version}\\n'").stdout.splitlines())
    binary = [one for one in listed if one["purl"].startswith("pkg:deb/") and "arch=source" not in one["purl"]]
    assert {f"{one['name']} {one['version']}" for one in binary} == debian
    (litellm,) = (one for one in listed if one["purl"] == "pkg:pypi/litellm@1.108.7")
    assert litellm["hashes"][0]["content"] in (ROOT / "requirements.lock").read_text(encoding="utf-8")


def canonical(line: str) -> str:
    name, _, version = line.partition(" ")
    return f"{name.lower().replace('_', '-').replace('.', '-')} {version}"


def test_every_service_gives_up_what_it_does_not_need():
    """No service of the compose file keeps a capability it does not name, gains privileges, or drops Docker's own filter."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    for name, service in services.items():
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"]), name
        assert not {"privileged", "pid", "ipc", "devices", "userns_mode"} & set(service), name
        assert service.get("read_only") is True or name == "postgres", name
        assert "mem_limit" in service, name


def test_memory_processes_and_logs_are_limited(compose_proxy):
    """One container cannot take the host with it."""
    host = compose_proxy.inspect()["HostConfig"]

    assert host["Memory"] == 2 * 1024**3
    assert 0 < host["PidsLimit"] <= 1024
    assert host["LogConfig"]["Config"]["max-size"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"


def test_an_env_file_that_only_its_owner_can_read_is_enough(equipped):
    """The token of ``.env`` counts, and what it says for `make run` does not lock the container in."""
    equipped.up()

    block = equipped.settings()["env"]
    assert (block["ANTHROPIC_AUTH_TOKEN"], block["ANTHROPIC_BASE_URL"]) == (OWN_TOKEN, equipped.base_url)
    assert equipped.ask(OWN_TOKEN).status_code == 200
    assert CANARY not in equipped.logs()


def test_no_layer_holds_a_secret_of_the_folder(equipped):
    """An image that was built beside an ``.env`` and a ``config.yaml`` holds nothing of either, not even in its history."""
    (equipped.folder / "config.yaml").write_text(
        f"# {CANARY}\n{(equipped.folder / 'config.yaml').read_text(encoding='utf-8')}", encoding="utf-8"
    )
    equipped("build")
    image = equipped("config", "--images").stdout.split()
    image = next(name for name in image if name.startswith(equipped.name))
    control = "The models that the proxy serves. Copy this file to config.yaml"

    found = search_image(equipped, image, CANARY, OWN_TOKEN, control)

    assert found == {control}
    assert CANARY not in equipped.docker("history", "--no-trunc", image).stdout


def search_image(compose: Compose, image: str, *texts: str) -> set[str]:
    """Return those of the texts that stand somewhere in the image as `docker save` writes it, layers and configuration."""
    sought = {text.encode(): text for text in texts}
    found: set[str] = set()
    overlap = max(map(len, sought))
    with subprocess.Popen(["docker", "save", image], env=compose.engine, stdout=subprocess.PIPE) as saving:
        assert saving.stdout
        rest = b""
        while chunk := saving.stdout.read(1 << 22):
            window = rest + chunk
            found |= {text for bytes_, text in sought.items() if bytes_ in window}
            rest = window[-overlap:]
    assert saving.returncode == 0
    return found


# What may be wrong with the folder, and words that the answer holds.
def broken_yaml(folder: Path) -> None:
    (folder / "config.yaml").write_text("model_list: [", encoding="utf-8")


def without_the_rules(folder: Path) -> None:
    (folder / "config.yaml").write_text("model_list: []\n", encoding="utf-8")


def config_is_a_folder(folder: Path) -> None:
    (folder / "config.yaml").mkdir()


def config_is_private(folder: Path) -> None:
    (folder / "config.yaml").touch(mode=0o600)


def folder_is_private(folder: Path) -> None:
    folder.chmod(0o700)


def wrong_setting(folder: Path) -> None:
    (folder / ".env").write_text("CLAUDE_TOKEN_MODE=sometimes\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (broken_yaml, ("config.yaml", "is not YAML", "line 1")),
        (without_the_rules, ("config.yaml", "model_list", "custom_auth")),
        (config_is_a_folder, ("/project/config.yaml", "is a folder", "remove it")),
        (config_is_private, ("/project/config.yaml", "chmod a+r config.yaml")),
        (folder_is_private, ("/project", "chmod a+rx", "docker-compose.yml")),
        (wrong_setting, ("CLAUDE_TOKEN_MODE", "sometimes", "rotate or passthrough")),
    ],
)
def test_what_is_wrong_is_said_in_words(unspoilt: Compose, spoil: Callable[[Path], None], words):
    """A container that cannot start names the file or variable and what to do about it, without a traceback."""
    spoil(unspoilt.folder)
    done = unspoilt("run", "--rm", "--no-TTY", "proxy", check=False)

    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "The proxy does not start:" in said
    assert "Traceback" not in said
    assert [word for word in words if word not in said] == []


def test_a_start_that_fails_is_seen_by_compose_and_told_in_the_logs(unspoilt: Compose):
    """`docker compose up --wait` fails, and `docker compose logs` holds the reason."""
    broken_yaml(unspoilt.folder)
    done = unspoilt("up", "--detach", "--wait", "--wait-timeout", "60", check=False)

    assert done.returncode != 0
    assert "config.yaml: is not YAML" in unspoilt.logs()


def test_the_port_is_published_for_the_team_unless_bound(engine):
    """Without PROXY_BIND every interface is meant, for it is a team's server; PORT is the same inside and outside."""

    def published(**variables: str) -> dict[str, str]:
        command = ["docker", "compose", "config", "--format", "json"]
        done = subprocess.run(command, cwd=ROOT, env=engine | variables, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["services"]["proxy"]["ports"][0]

    everywhere = published(PORT="", PROXY_BIND="")
    assert (everywhere["host_ip"], everywhere["published"], everywhere["target"]) == ("0.0.0.0", "4000", 4000)
    bound = published(PORT="4321", PROXY_BIND="127.0.0.1")
    assert (bound["host_ip"], bound["published"], bound["target"]) == ("127.0.0.1", "4321", 4321)


def test_claude_code_works_through_the_container(compose_proxy: Compose, tmp_path: Path) -> None:
    """With nothing but ``docker compose up``, the real CLI gets an answer through the published port."""
    run = ClaudeCode(tmp_path, compose_proxy.base_url, compose_proxy.token).run("Hello", model="demo")
    assert (run.code, run.retries) == (0, 0), run.result
    assert run.result.startswith("The proxy works")


@pytest.fixture(scope="module")
def encrypted(engine: dict[str, str], equipped: Compose) -> Iterator[httpx.Client]:
    """A client of the profile ``tls`` that trusts nobody but Caddy's own authority."""
    have_image(engine, "caddy:2-alpine")
    equipped.profiles = ("tls",)
    try:
        with equipped.up().encrypted(OWN_TOKEN) as client:
            yield client
    finally:
        equipped("stop", "caddy")
        equipped.profiles = ()


def test_tls_serves_claude_code_s_probe_and_an_answer(encrypted: httpx.Client) -> None:
    """Through Caddy, with a certificate that its authority vouches for, the proxy answers as without it."""
    assert encrypted.head("/").status_code == 200
    answer = encrypted.post("/v1/messages", json=QUESTION | {"model": "demo"})
    assert (answer.status_code, answer.json()["model"]) == (200, "demo")


def test_tls_passes_an_event_on_at_once(encrypted: httpx.Client) -> None:
    """The beginning of an answer that never ends reaches the client: nothing is held back."""
    with encrypted.stream("POST", "/v1/messages", json=QUESTION | {"model": "endless", "stream": True}) as answer:
        assert any("And then" in line for line in answer.iter_lines())


def test_tls_leaves_the_size_of_a_request_to_the_proxy(encrypted: httpx.Client) -> None:
    """A request of Anthropic's size passes, and one beyond it is refused in the proxy's words."""
    size = 32 * 1024 * 1024
    answer = encrypted.post("/v1/messages", json=QUESTION | {"model": "demo", "system": "x" * size})
    assert answer.status_code == 200
    refused = encrypted.post("/v1/messages", content=b"x" * (40 * 1024 * 1024 + 1))
    assert (refused.status_code, refused.json()["error"]["type"]) == (413, "request_too_large")


def test_tls_sends_a_plain_request_to_https(encrypted: httpx.Client, equipped: Compose) -> None:
    """A token is not asked for over a connection that everybody can read."""
    plain = httpx.head(f"http://localhost:{equipped.http_port}/", trust_env=False)
    assert (plain.status_code, plain.headers["location"].partition(":")[0]) == (308, "https")


def test_a_backup_moves_to_a_new_machine(equipped):
    """The commands of docs/deploy.md save a private .env and a running proxy's users, and restore both on a new machine."""
    equipped.up()
    token = json.loads(equipped.inside("claude-proxy user add moved --json").stdout)["token"]
    folder, page = equipped.folder, (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    section = page.split("### In Docker", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    backup, restore = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    (folder / "PASSPHRASE").write_text("a made-up passphrase\n", encoding="utf-8")
    saved = {name: (folder / name).read_bytes() for name in (".env", "config.yaml")}
    done = equipped.shell(backup)
    assert done.returncode == 0, done.stderr
    assert (folder / "claude-proxy.backup").stat().st_mode & 0o777 == 0o600
    equipped("down", "--volumes", "--timeout", "3")
    for name in saved:
        (folder / name).unlink()
    done = equipped.shell(restore)
    assert done.returncode == 0, done.stderr
    assert {name: (folder / name).read_bytes() for name in saved} == saved
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    equipped.up()
    assert [equipped.ask(one).status_code for one in (token, OWN_TOKEN)] == [200, 200]


def test_an_open_stream_does_not_hold_up_a_stop(equipped):
    """The container ends by itself within its grace period while an answer is under way that does not end."""
    equipped.up()
    body = QUESTION | {"model": "endless", "stream": True}
    headers = {"authorization": f"Bearer {OWN_TOKEN}"}
    with httpx.stream("POST", f"{equipped.base_url}/v1/messages", json=body, headers=headers, trust_env=False) as answer:
        assert any("And then" in line for line in answer.iter_lines())
        equipped("stop", "proxy")
        state = equipped.inspect()["State"]

    assert state["ExitCode"] in {0, 143}, "137 is a kill"
    assert state["Status"] == "exited"
