"""deploy/manifests.py, the chart and the manifest: what Helm's own code renders, and what a cluster would be asked for."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from claude_proxy import __version__
from claude_proxy.access.routes import PUBLIC_ROUTES
from claude_proxy.config.settings import VARIABLES, Settings

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "claude-proxy"
MANIFEST = ROOT / "deploy" / "kubernetes" / "claude-proxy.yaml"
TEMPLATES = "helm/claude-proxy/templates/"
PYTHON = ROOT / ".venv-deploy" / "bin" / "python"
SEVERAL = {"replicaCount": 2, "redis": {"existingSecret": "a-redis"}, "persistence": {"enabled": False}}
SECRETS = {"credentialsSecret": "a-pool", "usersSecret": "the-users", "configMap": "a-config"}
CASES = {
    "default": {},
    "several": SEVERAL | SECRETS,
    "ingress": {"ingress": {"enabled": True, "host": "proxy.example.org", "tlsSecret": "a-certificate"}},
    "autoscaling": SEVERAL | {"replicaCount": 1, "autoscaling": {"enabled": True}},
    "digest": {"image": {"repository": "registry.example/proxy", "digest": f"sha256:{'0' * 64}"}},
    "environment": {"env": {"HOST": "::", "PORT": 1, "NUM_WORKERS": 2}, "drainSeconds": 600, "preStopSeconds": 0},
    "config": {"config": "model_list: []\n# the end\n"},
    "cloud": {
        "extraVolumes": [{"name": "cloud", "secret": {"secretName": "service-account"}}],
        "extraVolumeMounts": [{"name": "cloud", "mountPath": "/cloud", "readOnly": True}],
        "extraEnv": [{"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/cloud/key.json"}],
    },
    "monitor": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "plain": {"existingSecret": "", "persistence": {"enabled": False}, "networkPolicy": {"enabled": False}},
    # What the chart refuses.
    "no Redis": {"replicaCount": 2, "persistence": {"enabled": False}},
    "no tokens": SEVERAL | {"existingSecret": ""},
    "one volume": SEVERAL | {"persistence": {"enabled": True}},
    "growing on one volume": {"autoscaling": {"enabled": True}, "redis": {"existingSecret": "a-redis"}},
    "no host": {"ingress": {"enabled": True}},
    "no key": {"existingSecret": "", "serviceMonitor": {"enabled": True}},
    "unknown": {"replicas": 2},
    "no digest": {"image": {"digest": "sha256:1234"}},
    "too long": {"drainSeconds": 7200},
}  # fmt: skip
REFUSED = {
    "no Redis": "redis.existingSecret: more than one replica needs a Redis",
    "no tokens": "existingSecret: more than one replica needs a Secret with the tokens",
    "one volume": "persistence.enabled: a volume belongs to one replica",
    "growing on one volume": "persistence.enabled: a volume belongs to one replica",
    "no host": "ingress.host: an ingress needs the name",
    "no key": "existingSecret: the ServiceMonitor reads LITELLM_MASTER_KEY",
    "unknown": "additional properties 'replicas' not allowed",
    "no digest": "does not match pattern",
    "too long": "maximum",
}


def run(deploy: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    if not PYTHON.exists():
        pytest.skip("`make lint-deploy` installs what renders the chart")
    command = [str(PYTHON), "-I", str(deploy / "manifests.py"), *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def rendered() -> dict[str, dict[str, str]]:
    done = run(ROOT / "deploy", "render", given=json.dumps(CASES))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def kinds(rendered) -> dict[str, dict[str, dict]]:
    """Each case's documents by their kind; no case has two of one kind."""
    found = {}
    for case in CASES.keys() - REFUSED.keys():
        documents = list(yaml.safe_load_all(rendered[case]["text"]))
        found[case] = {document["kind"]: document for document in documents}
        assert len(found[case]) == len(documents)
    return found


def pod(documents: dict[str, dict]) -> dict:
    return documents["Deployment"]["spec"]["template"]["spec"]


def proxy(documents: dict[str, dict]) -> dict:
    (container,) = pod(documents)["containers"]
    return container


def environment(documents: dict[str, dict]) -> dict[str, str]:
    entries = proxy(documents)["env"]
    assert len({entry["name"] for entry in entries}) == len(entries)
    return {entry["name"]: entry.get("value", "") for entry in entries}


def manifest() -> list[dict]:
    return list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))


def without_helm(document: dict) -> dict:
    labels = {name: value for name, value in document["metadata"]["labels"].items() if value != "Helm"}
    return document | {"metadata": document["metadata"] | {"labels": labels}}


def test_everything_is_valid():
    """Helm's linter, Kubernetes' schemas and the comparison of chart and manifest find no problem."""
    done = run(ROOT / "deploy", "check")
    assert (done.returncode, done.stderr) == (0, "")


def test_chart_and_manifest_agree(kinds):
    """The manifest holds the documents of the default values and a namespace, and nothing else."""
    namespace, *documents = manifest()
    assert namespace["kind"] == "Namespace"
    assert {document["metadata"]["namespace"] for document in documents} == {namespace["metadata"]["name"]}
    assert documents == [without_helm(document) for document in kinds["default"].values()]


@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        (TEMPLATES + "deployment.yaml", "revisionHistoryLimit", "revisionHistory", "'revisionHistory' was unexpected"),
        (TEMPLATES + "service.yaml", "targetPort: http", "targetPort: [http]", "Service: spec.ports.0.targetPort"),
        ("helm/claude-proxy/values.yaml", "replicaCount: 1", "replicaCount: one", "got string, want integer"),
        (TEMPLATES + "service.yaml", ".Values.service.port", ".Values.service.prt", "Service: spec.ports.0"),
        (TEMPLATES + "service.yaml", "{{- end }}", "", "unexpected EOF"),
        (TEMPLATES + "service.yaml", "ClientIP", "None", "run `make manifest`"),
        ("kubernetes/claude-proxy.yaml", "kind: Service\n", "kind: Servise\n", "kind Servise"),
    ],
)  # fmt: skip
def test_a_planted_mistake_is_found(tmp_path, name, before, after, words):
    """The check finds an unknown field, a wrong type, a missing value, a broken template and a manifest that differs."""
    deploy = shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    text = (deploy / name).read_text(encoding="utf-8")
    assert before in text
    (deploy / name).write_text(text.replace(before, after), encoding="utf-8")
    done = run(deploy, "check")
    assert done.returncode != 0
    assert words in done.stderr + done.stdout


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_cannot_work_are_refused(rendered, case):
    """What would start a proxy that does not work is an error that names the value."""
    assert REFUSED[case] in rendered[case].get("error", "")


def test_every_container_is_confined(kinds):
    """No container has root, a capability, a writable root or a token of the cluster; this is what `restricted` asks for."""
    for case, documents in kinds.items():
        spec = pod(documents)
        assert spec["securityContext"]["runAsNonRoot"] is True, case
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & spec.keys()
        for container in (*spec["initContainers"], *spec["containers"]):
            assert container["securityContext"] == {
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
        assert not any("hostPath" in volume for volume in spec["volumes"])
    assert manifest()[0]["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_the_user_and_the_folders_are_those_of_the_image(kinds):
    """The pod's user is the image's, and the volumes are where the image writes and looks."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "USER 10001:10001" in dockerfile
    mounts = {mount["mountPath"]: mount for mount in proxy(kinds["several"])["volumeMounts"]}
    assert set(mounts) == {"/data", "/tmp", "/project", "/credentials", "/users"}
    assert "VOLUME /data" in dockerfile
    assert "ln -s /project/.env /project/config.yaml ." in dockerfile
    (folder,) = pod(kinds["several"])["initContainers"]
    assert folder["command"][-1] == f"{folder['volumeMounts'][0]['mountPath']}/{mounts['/data']['subPath']}"
    writable = {mount["mountPath"] for mount in mounts.values() if not mount.get("readOnly")}
    assert writable == {"/data", "/tmp"}


def test_probes_ask_the_proxys_own_routes(kinds):
    """A pod that drains is not ready and still alive, and a start has two minutes."""
    container = proxy(kinds["default"])
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/health/liveliness", "liveness": "/health/liveliness", "readiness": "/health/readiness"}
    assert set(paths.values()) <= PUBLIC_ROUTES
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] == 120
    (port,) = container["ports"]
    assert (port["name"], str(port["containerPort"])) == ("http", environment(kinds["default"])["PORT"])


def test_a_stop_may_take_as_long_as_requests_have(kinds):
    """The cluster kills a pod twenty seconds after the drain, which begins when the pre-stop time is over."""
    drains = Settings.parse({}).drain_seconds
    assert environment(kinds["default"])["PROXY_DRAIN_SECONDS"] == f"{drains:g}"
    assert pod(kinds["default"])["terminationGracePeriodSeconds"] == drains + 20 + 5
    assert proxy(kinds["default"])["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert pod(kinds["environment"])["terminationGracePeriodSeconds"] == 620
    assert "lifecycle" not in proxy(kinds["environment"])


def test_the_environment(kinds):
    """The address to listen on is the pod's, whatever a Secret made of a `.env` says; every variable is one of the proxy's."""
    assert environment(kinds["default"]) == {"HOST": "0.0.0.0", "PORT": "4000", "PROXY_DRAIN_SECONDS": "120"}
    assert environment(kinds["environment"])["HOST"] == "::"
    assert environment(kinds["environment"])["PORT"] == "4000"
    assert environment(kinds["ingress"])["PROXY_DOMAIN"] == "proxy.example.org"
    names = {name for documents in kinds.values() for name in environment(documents)}
    assert names <= {*VARIABLES, "GOOGLE_APPLICATION_CREDENTIALS"}


def test_secrets_are_only_named(kinds):
    """Tokens, credentials and the address of the Redis come from Secrets that exist already; the chart makes none."""
    assert not any("Secret" in documents for documents in kinds.values())
    several = proxy(kinds["several"])
    assert several["envFrom"] == [{"secretRef": {"name": "claude-proxy"}}]
    (redis,) = (entry for entry in several["env"] if entry["name"] == "REDIS_URL")
    assert redis["valueFrom"] == {"secretKeyRef": {"name": "a-redis", "key": "REDIS_URL"}}
    volumes = {volume["name"]: volume for volume in pod(kinds["several"])["volumes"]}
    assert volumes["credentials"]["secret"] == {"secretName": "a-pool", "defaultMode": 0o440}
    assert volumes["users"]["secret"] == {"secretName": "the-users", "defaultMode": 0o440}
    assert environment(kinds["several"])["CLAUDE_CREDENTIALS_FILE"] == "/credentials/credentials.yaml"
    assert environment(kinds["several"])["PROXY_USER_TOKENS_FILE"] == "/users/users"
    assert proxy(kinds["default"])["envFrom"] == [{"secretRef": {"name": "claude-proxy", "optional": True}}]
    assert "envFrom" not in proxy(kinds["plain"])


def test_where_the_state_is_and_how_pods_are_replaced(kinds):
    """One replica keeps a volume, and its old pod goes first; several have none, and no update takes one away early."""

    def data(case: str) -> dict:
        return next(volume for volume in pod(kinds[case])["volumes"] if volume["name"] == "data")

    spec = {case: documents["Deployment"]["spec"] for case, documents in kinds.items()}
    claim = kinds["default"]["PersistentVolumeClaim"]["metadata"]
    assert data("default")["persistentVolumeClaim"]["claimName"] == claim["name"]
    assert claim["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert spec["default"]["strategy"] == {"type": "Recreate"}
    assert "emptyDir" in data("several")
    assert "PersistentVolumeClaim" not in kinds["several"]
    assert spec["several"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert (spec["several"]["replicas"], "replicas" in spec["autoscaling"]) == (2, False)


def test_the_network_policy_opens_what_is_needed(kinds):
    """In: the port. Out: DNS, HTTPS without a cloud's metadata service, and the Redis where there is one."""
    policy = kinds["several"]["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["podSelector"] == kinds["several"]["Deployment"]["spec"]["selector"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http"]
    opened = [[port["port"] for port in rule["ports"]] for rule in policy["egress"]]
    assert opened == [[53, 53], [443], [6379]]
    assert "169.254.0.0/16" in policy["egress"][1]["to"][0]["ipBlock"]["except"]
    assert len(kinds["default"]["NetworkPolicy"]["spec"]["egress"]) == 2
    assert "NetworkPolicy" not in kinds["plain"]


def test_selectors_find_the_pods(kinds):
    """Service, budget and monitor select what the pods and the Service carry."""
    for case, documents in kinds.items():
        labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
        selectors = [documents["Service"]["spec"]["selector"], documents["Deployment"]["spec"]["selector"]["matchLabels"]]
        selectors += [documents[kind]["spec"]["selector"]["matchLabels"] for kind in {"PodDisruptionBudget"} & documents.keys()]
        assert all(selector.items() <= labels.items() for selector in selectors), case
    monitor = kinds["monitor"]
    assert (
        monitor["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= monitor["Service"]["metadata"]["labels"].items()
    )
    assert monitor["ServiceMonitor"]["metadata"]["labels"]["release"] == "prometheus"


def test_the_rest_of_the_values(kinds):
    """A digest goes before the version, a config arrives whole, and ingress and autoscaler name what is there."""
    assert proxy(kinds["digest"])["image"] == f"registry.example/proxy@sha256:{'0' * 64}"
    config = kinds["config"]["ConfigMap"]
    assert config["data"] == {"config.yaml": "model_list: []\n# the end\n"}
    volumes = {volume["name"]: volume for volume in pod(kinds["config"])["volumes"]}
    assert volumes["config"]["configMap"] == {"name": config["metadata"]["name"], "optional": True}
    rule = kinds["ingress"]["Ingress"]["spec"]["rules"][0]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert (rule["host"], backend["name"]) == ("proxy.example.org", kinds["ingress"]["Service"]["metadata"]["name"])
    cloud = proxy(kinds["cloud"])["volumeMounts"][-1]
    assert pod(kinds["cloud"])["volumes"][-1] == {"name": cloud["name"], "secret": {"secretName": "service-account"}}
    target = kinds["autoscaling"]["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", kinds["autoscaling"]["Deployment"]["metadata"]["name"])


def test_the_manifest_is_made_for_an_image(tmp_path):
    """`make manifest IMAGE=NAME` puts the name of the image into the file."""
    deploy = shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    assert run(deploy, "write", "--image", "registry.example/team/proxy").returncode == 0
    text = (deploy / "kubernetes" / "claude-proxy.yaml").read_text(encoding="utf-8")
    assert re.findall(r"^ +image: (.+)$", text, re.MULTILINE) == [f'"registry.example/team/proxy:{__version__}"'] * 2
    assert "localhost" not in text
