""".github/workflows: what runs on a server with a token is pinned, may do little, and starts what is in the repository.

`make lint-deploy` checks the files against GitHub's schema and with zizmor.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".github" / "workflows"
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())}
# PyYAML takes the key `on` for a truth value.
WORKFLOWS = {
    name: {("on" if key is True else key): value for key, value in yaml.safe_load(text).items()} for name, text in TEXTS.items()
}
JOBS = {(name, job): content for name, workflow in WORKFLOWS.items() for job, content in workflow["jobs"].items()}
RUNS = {
    f"{name}: {step['name']}": step["run"] for (name, _), job in JOBS.items() for step in job.get("steps", ()) if "run" in step
}
# Every right to write that a job has.
WRITES = {
    ("litellm.yml", "report"): {"issues"},
    ("image.yml", "image"): {"packages"},
    ("release.yml", "amd64"): {"packages"},
    ("release.yml", "arm64"): {"packages"},
    ("release.yml", "publish"): {"contents", "packages", "id-token"},
}
PINNED = re.compile(r"uses: (?P<action>[\w.-]+/[\w./-]+)@(?P<hash>[0-9a-f]{40}) # v\d+\.\d+\.\d+$")
REGISTRIES = ("ghcr" + ".io", "docker" + ".io", "quay" + ".io", "gcr" + ".io")


def test_every_action_is_pinned_by_its_commit():
    """An action of others is named by a commit's hash with its version beside it; each action by one hash everywhere."""
    lines = [line.strip().removeprefix("- ") for text in TEXTS.values() for line in text.splitlines() if "uses:" in line]
    others = [line for line in lines if not line.startswith("uses: ./")]
    matches = [PINNED.match(line) for line in others]
    assert [line for line, match in zip(others, matches, strict=True) if match is None] == []
    pins = {(match["action"], match["hash"]) for match in matches if match}
    assert pins
    assert len({action for action, _ in pins}) == len(pins)


def test_a_called_workflow_is_there_and_gets_what_it_needs():
    """A job that calls a workflow of the repository gives it each required input, and none that it does not have."""
    calls = [job for job in JOBS.values() if "uses" in job]
    assert calls
    for job in calls:
        called = WORKFLOWS[job["uses"].removeprefix("./.github/workflows/")]["on"]["workflow_call"] or {}
        inputs = called.get("inputs", {})
        assert {name for name, one in inputs.items() if one["required"]} <= job.get("with", {}).keys() <= inputs.keys()
        assert job.get("secrets", {}).keys() <= called.get("secrets", {}).keys()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_has_no_rights_of_its_own(name):
    """Each job names its rights; only those of the table may write anything."""
    assert WORKFLOWS[name]["permissions"] == {}
    for job, content in WORKFLOWS[name]["jobs"].items():
        rights = content["permissions"]
        assert set(rights.values()) <= {"read", "write"}
        assert {right for right, level in rights.items() if level == "write"} == WRITES.get((name, job), set()), job


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_strangers_send_starts_nothing_with_rights(name):
    """No workflow runs a stranger's change with the repository's secrets, and only a tag releases."""
    triggers = set(WORKFLOWS[name]["on"])
    assert triggers <= {"pull_request", "push", "schedule", "workflow_call", "workflow_dispatch"}
    if any(place[0] == name for place in WRITES):
        assert "pull_request" not in triggers
    if name == "release.yml":
        assert WORKFLOWS[name]["on"] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}


def test_jobs_end_and_keep_no_credentials():
    """Each job has a time limit, and no checkout leaves the token behind in the folder."""
    for place, job in JOBS.items():
        assert "uses" in job or job["timeout-minutes"] <= 120, place
        for step in job.get("steps", ()):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"] == {"persist-credentials": False}, place


@pytest.mark.parametrize("run", RUNS)
def test_no_expression_is_put_into_a_script(run):
    """A script reads variables: an expression in it would run what somebody has put into a name."""
    assert "${{" not in RUNS[run]


@pytest.mark.parametrize("run", RUNS)
def test_a_script_starts_what_is_there(run):
    """Each script is one of bash's, and the files and make targets that it names are the repository's."""
    assert subprocess.run(["bash", "-n"], input=RUNS[run], text=True, check=False).returncode == 0
    for path in re.findall(r"(?<![\w/])deploy/[\w./-]+", RUNS[run]):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", RUNS[run])) <= targets


def test_shellcheck_finds_nothing(tmp_path):
    """The scripts of the workflows and deploy/try-image have none of the usual mistakes of shell scripts."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [ROOT / "deploy" / "try-image"]
    for number, text in enumerate(RUNS.values()):
        scripts.append(tmp_path / f"{number}.sh")
        scripts[-1].write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{text}", encoding="utf-8")
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


def test_both_platforms_are_built_tried_and_signed():
    """Each platform is built on a machine of its kind, and what is published is what these jobs have pushed."""
    jobs = WORKFLOWS["release.yml"]["jobs"]
    kinds = {name: (jobs[name]["with"]["platform"], jobs[name]["with"]["runner"]) for name in ("amd64", "arm64")}
    assert kinds == {"amd64": ("linux/amd64", "ubuntu-24.04"), "arm64": ("linux/arm64", "ubuntu-24.04-arm")}
    assert {"amd64", "arm64"} <= set(jobs["publish"]["needs"])
    assert all("test" in jobs[name]["needs"] for name in kinds)
    steps = [step.get("run", "") for step in WORKFLOWS["image.yml"]["jobs"]["image"]["steps"]]
    tried = next(place for place, run in enumerate(steps) if run.startswith("deploy/try-image"))
    pushed = next(place for place, run in enumerate(steps) if "push=true" in run)
    assert tried < pushed
    assert all(option in steps[pushed] for option in ("--sbom true", "--provenance mode=max", "push-by-digest=true"))
    assert any("cosign sign --yes --recursive" in step.get("run", "") for step in jobs["publish"]["steps"])


def test_a_release_that_is_tried_gets_no_secret():
    """The job that runs an unknown release of LiteLLM reads the repository and nothing else; another one reports."""
    jobs = WORKFLOWS["litellm.yml"]["jobs"]
    (runs,) = (name for name, job in jobs.items() if any("make test" in step.get("run", "") for step in job["steps"]))
    assert jobs[runs]["permissions"] == {"contents": "read"}
    assert not re.search(r"secrets|token", yaml.safe_dump(jobs[runs]))
    assert [name for name, job in jobs.items() if job.get("needs") == runs] == ["report"]
    assert "actions/checkout" not in yaml.safe_dump(jobs["report"])


def test_no_workflow_names_a_registry():
    """Where images go is a variable of the repository."""
    assert [name for name, text in TEXTS.items() for host in REGISTRIES if host in text] == []
