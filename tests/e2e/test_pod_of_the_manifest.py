"""The pod of deploy/kubernetes/claude-proxy.yaml, run by Docker as a cluster would: user, volumes, variables and probes.

What only a cluster does is not tried here: scheduling, the Service, the NetworkPolicy.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from compose import PATIENCE, ROOT, Compose, api_version, engine_environment

from claude_proxy.config.users import HASH_PREFIX, digest_of
from claude_proxy.secret import Secret

pytestmark = pytest.mark.timeout(900)  # the first build downloads every package

TOKEN = "made-up-token-of-a-team-77aa"
ANNAS_TOKEN = "made-up-token-of-anna-31bb"
QUESTION = {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": "Are you there?"}]}
# The first Docker that mounts a folder of a volume, as `subPath` does.
SUBPATH_FROM = (1, 45)


def pod() -> dict:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/claude-proxy.yaml").read_text(encoding="utf-8"))
    return next(document for document in documents if document["kind"] == "Deployment")["spec"]["template"]["spec"]


def projected(folder: Path, files: dict[str, str], mode: int) -> Path:
    """Fill a folder as a cluster fills the volume of a ConfigMap or Secret; called again, replace all files at one moment."""
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir(mode=0o755)
    for name, text in files.items():
        (version / name).write_text(text, encoding="utf-8")
        (version / name).chmod(0o644)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").rename(folder / "..data")
    return folder


class Pod:
    """A container that is made anew from the manifest; its volume stays."""

    def __init__(self, compose: Compose, config: Path, **secrets: Path) -> None:
        self._compose, self.config, self.secrets = compose, config, secrets
        self.volume, self.container = f"{compose.name}-data", ""

    def docker(self, *arguments: str, check: bool = True) -> str:
        done = self._compose.docker(*arguments, check=check)
        return done.stdout.strip()

    def confined(self, container: dict) -> list[str]:
        """Docker's options for what the manifest says of a container."""
        outer, inner = pod()["securityContext"], container["securityContext"]
        options = ["--user", f"{outer['runAsUser']}:{outer['runAsGroup']}", "--group-add", str(outer["fsGroup"])]
        options += [f"--read-only={str(inner['readOnlyRootFilesystem']).lower()}"]
        options += [f"--security-opt=no-new-privileges={str(not inner['allowPrivilegeEscalation']).lower()}"]
        return options + [f"--cap-drop={name}" for name in inner["capabilities"]["drop"]]

    def make_volume(self) -> None:
        """A new volume belongs to root, and its group is the pod's; so every user of the pod may write into it."""
        group = pod()["securityContext"]["fsGroup"]
        self.docker("volume", "create", self.volume)
        for_root = ["--user", "0", "--entrypoint", "sh", "--volume", f"{self.volume}:/volume", self._compose.image]
        self.docker("run", "--rm", *for_root, "-c", f"chown 0:{group} /volume && chmod 2777 /volume")

    def start(self, **secret: str) -> None:
        """Run the init container, then the proxy, and wait until its startup probe is content."""
        (first,) = pod()["initContainers"]
        program, *arguments = first["command"]
        mounted = ["--volume", f"{self.volume}:{first['volumeMounts'][0]['mountPath']}", "--entrypoint", program]
        self.docker("run", "--rm", *self.confined(first), *mounted, self._compose.image, *arguments)
        (proxy,) = pod()["containers"]
        options = [f"--env={name}={value}" for name, value in secret.items()]  # envFrom, which env goes before
        options += [f"--env={entry['name']}={entry['value']}" for entry in proxy["env"]]
        for mount in proxy["volumeMounts"]:
            options += ["--mount", self.mounted(mount)]
        for name, folder in self.secrets.items():
            options += ["--mount", f"type=bind,source={folder},target=/{name},readonly"]
        port = proxy["ports"][0]["containerPort"]
        run = ["run", "--detach", *self.confined(proxy), *options, "--publish", f"127.0.0.1::{port}", self._compose.image]
        self.container = self.docker(*run)
        self.url = f"http://{self.docker('port', self.container, f'{port}/tcp').splitlines()[0]}"
        waiting = 'until [ "$(docker inspect --format {{.State.Health.Status}} "$0")" = healthy ]; do sleep 2; done'
        subprocess.run(["timeout", str(PATIENCE), "sh", "-c", waiting, self.container], env=self._compose.engine, check=True)

    def mounted(self, mount: dict) -> str:
        source = {
            "data": f"type=volume,source={self.volume},volume-subpath={mount.get('subPath')}",
            "tmp": "type=tmpfs,tmpfs-size=67108864",
            "config": f"type=bind,source={self.config},readonly",
        }[mount["name"]]
        return f"{source},target={mount['mountPath']}"

    def stop(self) -> int:
        """Stop the container as a cluster does, and return its exit code."""
        self.docker("stop", "--time", str(pod()["terminationGracePeriodSeconds"]), self.container)
        code = int(self.docker("inspect", "--format", "{{.State.ExitCode}}", self.container))
        self.docker("rm", self.container)
        return code

    def probe(self, name: str) -> int:
        (proxy,) = pod()["containers"]
        return httpx.get(f"{self.url}{proxy[f'{name}Probe']['httpGet']['path']}", trust_env=False).status_code

    def ask(self, token: str, model: str = "demo") -> int:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        body = QUESTION | {"model": model}
        return httpx.post(f"{self.url}/v1/messages", json=body, headers=headers, trust_env=False, timeout=30).status_code

    def run(self, *command: str, check: bool = True) -> str:
        return self.docker("exec", self.container, *command, check=check)

    def logs(self) -> str:
        done = self._compose.docker("logs", self.container)
        return done.stdout + done.stderr

    def wait_logged(self, *words: str) -> None:
        """Wait for a line of the log that holds all of the words."""
        command = ["docker", "logs", "--follow", self.container]
        with subprocess.Popen(
            command, env=self._compose.engine, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as logs:
            assert logs.stdout
            assert any(all(word in line for word in words) for line in logs.stdout), f"it stopped without {words}"
            logs.terminate()


def config(*models: str) -> dict[str, str]:
    loaded = yaml.safe_load((ROOT / "config.yaml.example").read_text(encoding="utf-8"))
    demo = {"model": "anthropic/demo", "api_base": "http://demo.invalid"}
    loaded["model_list"] += [{"model_name": name, "litellm_params": demo} for name in models]
    return {"config.yaml": yaml.safe_dump(loaded)}


def credentials(label: str) -> dict[str, str]:
    return {"credentials.yaml": yaml.safe_dump({"credentials": [{"label": label, "secret": f"sk-ant-oat01-{label}"}]})}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """A pod with a ConfigMap and no Secret, as after `kubectl apply`."""
    engine = engine_environment()
    if api_version(engine) < SUBPATH_FROM:
        pytest.skip("Docker before 26 mounts no folder of a volume")
    folder = tmp_path_factory.mktemp("pod")
    folder.chmod(0o755)
    compose = Compose(tmp_path_factory.mktemp("clone"), engine)
    anna = f"anna={HASH_PREFIX}{digest_of(Secret(ANNAS_TOKEN))}\n"
    secrets = {"users": {"users": anna}, "credentials": credentials("made-up-one")}
    mounted = {name: projected(folder / name, files, 0o1777) for name, files in secrets.items()}
    made = Pod(compose, projected(folder / "config", config(), 0o777), **mounted)
    try:
        compose("build", "proxy")
        made.make_volume()
        made.start()
        yield made
    finally:
        made.docker("rm", "--force", made.container, check=False)
        made.docker("volume", "rm", "--force", made.volume, check=False)
        compose.down()


def test_a_pod_without_a_secret_is_closed_and_answers_with_its_own_token(started: Pod) -> None:
    """Without the Secret nothing is open: the token is a random one, which `claude-proxy settings` prints."""
    token = json.loads(started.run("claude-proxy", "settings"))["env"]["ANTHROPIC_AUTH_TOKEN"]
    assert [started.ask(""), started.ask("wrong"), started.ask(token)] == [401, 401, 200]


def test_the_probes_are_content(started: Pod) -> None:
    """Each probe of the manifest is a route of the proxy that needs no token, and the pre-stop command is in the image."""
    assert {started.probe(name) for name in ("startup", "liveness", "readiness")} == {200}
    program = pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][0]
    assert started.run(program, "--version")


def test_the_state_is_private_whatever_the_volume_is(started: Pod) -> None:
    """The proxy's folder in the volume is its own alone, so that its users file is accepted."""
    assert started.run("stat", "--format", "%a %u", "/data") == "700 10001"
    assert started.run("sh", "-c", "touch /x 2>&1 || true").endswith("Read-only file system")


def test_another_pod_has_what_the_volume_holds_and_what_its_secrets_say(started: Pod) -> None:
    """Users of the volume stay when the pod is replaced; token and pool of the Secrets apply, and the port is the pod's.

    The first pod stops by itself, without an init process in it.
    """
    ben = started.run("sh", "-c", "claude-proxy user add ben 2>/dev/null")
    bens_token = json.loads(ben)["env"]["ANTHROPIC_AUTH_TOKEN"]
    assert started.ask(bens_token) == 200
    assert started.stop() in {0, 143}
    named = {"CLAUDE_CREDENTIALS_FILE": "/credentials/credentials.yaml"}
    started.start(PROXY_STATIC_TOKEN=TOKEN, HOST="127.0.0.1", PORT="4321", **named)
    assert [started.ask(""), started.ask(TOKEN), started.ask(bens_token)] == [401, 200, 200]
    assert "made-up-one" in started.run("claude-proxy", "pool", "list")
    logs = started.logs()
    assert [words for words in ("may write", TOKEN, "sk-ant-") if words in logs] == []


def test_users_of_a_secret_are_accepted(started: Pod) -> None:
    """A file in the volume of a Secret is safe enough for users, though everybody may write into the volume's own folder."""
    assert started.run("stat", "--format", "%a", "/users") == "1777"
    listed = started.run("env", "PROXY_USER_TOKENS_FILE=/users/users", "claude-proxy", "user", "list")
    assert ("anna" in listed, "ben" in listed) == (True, False)


def test_a_changed_config_map_applies_without_a_restart(started: Pod) -> None:
    """A cluster replaces the folder behind a link, and the proxy takes the new file up."""
    assert started.ask(TOKEN, "added") != 200
    projected(started.config, config("added"), 0o777)
    started.wait_logged("config.yaml", "added")
    assert started.ask(TOKEN, "added") == 200


def test_a_changed_secret_of_the_pool_applies_without_a_restart(started: Pod) -> None:
    """Another `credentials.yaml` in the Secret is the pool within seconds of its arrival, and no command changes it."""
    projected(started.secrets["credentials"], credentials("made-up-two"), 0o1777)
    started.wait_logged("made-up-two")
    assert "made-up-two" in started.run("claude-proxy", "pool", "list")
    started.run("claude-proxy", "pool", "remove", "made-up-two", check=False)
    assert "made-up-two" in started.run("claude-proxy", "pool", "list")
