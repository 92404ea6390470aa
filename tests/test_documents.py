"""README, ``docs/``, ``.env.example``, ``config.yaml.example``, the changelog and the locks say what the code does."""

import ast
import functools
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from command_line import parsed

from claude_proxy import __version__
from claude_proxy.cli import onboarding
from claude_proxy.config import alerts, budgets, client_models, groups, model_access, prices, user_limits, web_search
from claude_proxy.config import models as config
from claude_proxy.config.settings import SECRET_NAMES, VARIABLES
from claude_proxy.providers import demo, fetching, summary
from claude_proxy.providers.endpoints import Hosts

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIG_EXAMPLE = (ROOT / "config.yaml.example").read_text(encoding="utf-8")
# Every page that a person reads; CONFORMANCE.md is generated, and its links and commands hold all the same.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")))
}
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-database.lock",
    "requirements-tools.lock",
    "requirements-deploy.lock",
    "requirements-installer.lock",
)
LITELLM = "1.108.7"
# In parts, so that this file is not among what it finds.
REGISTRIES = (
    "py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "npm" + "js.com", "yarn" + "pkg.com", "crates" + ".io",
    "proxy.golang" + ".org", "ruby" + "gems.org",
)  # fmt: skip
INDEX_OPTIONS = ("--index-url", "--extra-index-url", "--find-links", "--trusted-host", "-i ", "-f ")
# A row whose first cell is a variable's name and nothing else.
TABLE_ROW = re.compile(r"^\| `(?P<name>[A-Z][A-Z0-9_]*)` \|(?P<cells>.*)\|$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
COMMAND = re.compile(r"(?:^|\s)(?:claude-proxy|-m claude_proxy|run --rm proxy)[ ]+(?P<arguments>[^\n|<>)]+)", re.MULTILINE)
# A message of somebody else's has its author in front of it; every other one is the proxy's own.
SPEAKERS = ("Anthropic: ", "Claude Code: ", "LiteLLM: ", "Python: ", "make: ")


def fenced(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def table() -> dict[str, list[str]]:
    """The rows of the tables of variables in docs/configuration.md: the name, and the cells after it."""
    rows = [(row["name"], row["cells"]) for row in TABLE_ROW.finditer(PAGES["docs/configuration.md"])]
    assert len({name for name, _ in rows}) == len(rows)
    return {name: [cell.strip().strip("`") for cell in cells.split("|")] for name, cells in rows}


def env_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    assert len({name for name, _, _ in pairs}) == len(pairs)
    return {name: value for name, _, value in pairs}


def provider_keys() -> set[str]:
    """The variables that config.yaml.example names, in its commented blocks too."""
    return set(re.findall(r"os\.environ/([A-Za-z0-9_]+)", CONFIG_EXAMPLE)) - {"NAME"}


def ready_blocks() -> list[str]:
    """The commented entries of model_list: each begins with ``# - model_name`` and goes on while the comment is indented."""
    return re.findall(r"^  # - model_name:.*\n(?:  #   .*\n)*", CONFIG_EXAMPLE, re.MULTILINE)


def uncommented(block: str) -> str:
    return re.sub(r"^  # ", "  ", block, flags=re.MULTILINE)


# --- variables -------------------------------------------------------------------------------------------------------------


def test_every_variable_is_in_every_document():
    """The settings and the keys in config.yaml.example are the variables of .env.example and docs/configuration.md."""
    known = set(VARIABLES) | provider_keys()
    assert set(env_example()) == known
    assert set(table()) == known


def test_defaults_are_the_same_everywhere():
    """A default in .env.example and docs/configuration.md is that of the settings; a secret and a provider's key have none."""
    defaults = {name: variable.default for name, variable in VARIABLES.items()}
    assert {name: defaults[name] for name in SECRET_NAMES} == dict.fromkeys(SECRET_NAMES, "")
    assert env_example() == defaults | dict.fromkeys(provider_keys() - set(VARIABLES), "")
    assert {name: cells[0] for name, cells in table().items() if name in VARIABLES} == defaults


# --- config.yaml.example ---------------------------------------------------------------------------------------------------


def test_config_example_is_accepted():
    """config.yaml.example works as it stands."""
    assert config.load(ROOT / "config.yaml.example")


def test_there_are_ready_blocks():
    """Every commented entry is found as a block, so that none escapes the tests of blocks."""
    assert len(ready_blocks()) == CONFIG_EXAMPLE.count("# - model_name:") > 0


@pytest.mark.parametrize("block", [pytest.param(block, id=block.split()[3]) for block in ready_blocks()])
def test_ready_block_is_an_entry_once_its_comment_signs_are_gone(block):
    """A ready block needs nothing but its comment signs taken away."""
    (entry,) = yaml.safe_load(uncommented(block))
    assert set(entry) == {"model_name", "litellm_params"}
    assert entry["litellm_params"]["model"]


def test_config_example_is_accepted_with_all_ready_blocks(tmp_path):
    """All ready blocks together are a config.yaml whose models have different names."""
    text = CONFIG_EXAMPLE
    for block in ready_blocks():
        text = text.replace(block, uncommented(block))
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    loaded = config.load(path)
    plain = config.load(ROOT / "config.yaml.example")
    assert len(config.model_names(loaded)) == len(loaded["model_list"]) == len(plain["model_list"]) + len(ready_blocks())
    assert config.variables(loaded) == provider_keys()


def test_fallbacks_name_models():
    """A fallback's target is a model of the file, and what it stands in for is one or a part of one."""
    loaded = config.load(ROOT / "config.yaml.example")
    names = set(config.model_names(loaded))
    fallbacks = [pair for entry in loaded["router_settings"]["fallbacks"] for pair in entry.items()]
    assert fallbacks
    for pattern, targets in fallbacks:
        assert set(targets) <= names
        assert any(pattern.startswith(name.rstrip("*")) for name in names)


# --- README ----------------------------------------------------------------------------------------------------------------


def test_demo_answer_is_the_one_in_readme():
    """The answer that README shows is what the demo says on a fresh clone."""
    loaded = config.load(ROOT / "config.yaml.example")
    answer = demo.text(config.model_names(loaded), config.not_ready(loaded, {}, Hosts(), no_pool=True), 0)
    assert answer in README


def test_readme_lists_the_models_of_the_example():
    """README's table of models and config.yaml.example have the same models."""
    rows = re.findall(r"^\| (`[a-z].*?) \|", section("Models"), re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(.+?)`", row)]
    assert listed == config.model_names(config.load(ROOT / "config.yaml.example"))


def test_json_in_readme_can_be_pasted():
    """Every JSON block of README is JSON, and the base URL in it has no /v1, which Claude Code adds by itself."""
    blocks = [json.loads(block) for block in fenced("json")]
    urls = [block["env"]["ANTHROPIC_BASE_URL"] for block in blocks if "env" in block]
    assert len(urls) == 2
    assert not any(url.rstrip("/").endswith("/v1") for url in urls)


def test_form_a_in_readme_is_what_the_command_prints():
    """README's form A names the variables that a printed block has whatever the model, and says how much its model takes."""
    shown = next(block["env"] for block in map(json.loads, fenced("json")) if "ANTHROPIC_AUTH_TOKEN" in block.get("env", {}))
    model = shown["ANTHROPIC_MODEL"]
    printed = onboarding.Setup(shown["ANTHROPIC_BASE_URL"], shown["ANTHROPIC_AUTH_TOKEN"], model, is_claude=False).environment()
    more = {*client_models.MODEL_VARIABLES[1:], client_models.FORCE_VARIABLE}
    assert {name: value for name, value in printed.items() if name not in more} == shown


def test_custom_headers_in_readme_stand_on_lines_of_their_own():
    """Claude Code splits ANTHROPIC_CUSTOM_HEADERS at newlines only, so each line is one header with no comma in it."""
    values = [json.loads(block).get("env", {}).get("ANTHROPIC_CUSTOM_HEADERS") for block in fenced("json")]
    lines = [line for value in values if value for line in value.split("\n")]
    assert [line.partition(": ")[0] for line in lines] == ["x-litellm-api-key", "x-claude-token-mode"]
    assert not any("," in line for line in lines)


def test_model_block_in_readme_is_an_entry():
    """The entry that README shows for a new model fits under model_list."""
    (entry,) = next(found for found in map(yaml.safe_load, fenced("yaml")) if isinstance(found, list))
    assert set(entry) == {"model_name", "litellm_params"}


def test_limits_in_the_documents_are_accepted():
    """README's block of limits, and the commented one of config.yaml.example, are right beside models of those names."""
    (shown,) = (found for found in map(yaml.safe_load, fenced("yaml")) if isinstance(found, dict))
    (commented,) = re.findall(r"^# claude_proxy:\n(?:#   .*\n)+", CONFIG_EXAMPLE, re.MULTILINE)
    models = yaml.safe_load(CONFIG_EXAMPLE)["model_list"]
    models[0]["model_info"] = {"access_groups": ["cheap"]}
    for block in (shown, yaml.safe_load(re.sub(r"^# ", "", commented, flags=re.MULTILINE))):
        assert list(model_access.mistakes(block | {"model_list": models})) == []
        assert list(fetching.mistakes(block)) == list(web_search.mistakes(block)) == list(alerts.mistakes(block)) == []
        assert [mistake for part in (budgets, groups, prices, user_limits) for mistake in part.mistakes(block)] == []
        assert model_access.Limits.of(block).allows("anna", "claude-opus-4-8")


def test_alerts_in_the_documents():
    """The blocks of docs/alerts.md are accepted, and its table has each rule."""
    page = PAGES["docs/alerts.md"]
    blocks = [*map(yaml.safe_load, fenced("yaml", page))]
    assert len(blocks) == 2
    assert [mistake for block in blocks for mistake in alerts.mistakes(block)] == []
    assert sorted(re.findall(r"^\| `(\w+)` \| [^|]+ \| (?:info|warning|critical)", page, re.MULTILINE)) == sorted(
        alerts.RULE_NAMES
    )


# --- README and docs/ ------------------------------------------------------------------------------------------------------


def code(text: str) -> str:
    """Return what a page shows as code, a line for each line or span of it."""
    return "\n".join([*(block.split("\n", 1)[1] for block in FENCE.findall(text)), *SPAN.findall(FENCE.sub("", text))])


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings get on GitHub."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def is_command(arguments: list[str]) -> bool:
    """Whether the command line takes these arguments."""
    try:
        parsed(arguments)
    except click.ClickException:
        return False
    return True


@functools.cache
def own_texts() -> tuple[str, ...]:
    """Return every text in the proxy's sources but the docstrings, with a placeholder for each value that is put into it."""
    texts: list[str] = []
    for path in (ROOT / "claude_proxy").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                texts.append(node.value)
    return tuple(texts)


def is_said(message: str) -> bool:
    """Whether a text of the proxy's holds the parts of the message between its ``...``, in their order."""
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("...")), re.DOTALL)
    return any(pattern.search(text) for text in own_texts())


def symptoms() -> list[str]:
    """Return the first cells of the rows of docs/troubleshooting.md."""
    rows = re.findall(r"^\| (.+?) \| .+ \|$", PAGES["docs/troubleshooting.md"], re.MULTILINE)
    return [cell for cell in rows if cell not in ("What you see", "---")]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """A link inside the repository names a file that is there, and its anchor is a heading of that file."""
    found = [match["target"] for match in LINK.finditer(SPAN.sub("", FENCE.sub("", PAGES[page])))]
    for target in found:
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target


def test_readme_leads_to_every_page():
    """Whoever reads README finds a link to each page of docs/ and to the changelog."""
    targets = {match["target"].partition("#")[0] for match in LINK.finditer(README)}
    assert set(PAGES) - {"README.md"} <= targets


def test_pages_are_short():
    """README fits 200 lines, and an operator reads the page about the pool in five minutes."""
    assert len(README.splitlines()) <= 200
    assert len(FENCE.sub("", PAGES["docs/pool.md"]).split()) <= 1100


def test_no_page_makes_a_public_env():
    """A copy of .env.example is made with a mode that closes it to others, because it will hold keys."""
    texts = {**PAGES, **{name: (ROOT / name).read_text(encoding="utf-8") for name in (".env.example", "docker-compose.yml")}}
    copies = {name: re.findall(r"\b(\w+(?: -m \d+)?) \.env\.example \.env\b", text) for name, text in texts.items()}
    made = {command for found in copies.values() for command in found} - {"diff"}
    assert made == {"install -m 600"}
    assert all(copies[name] for name in ("README.md", "docs/deploy.md", ".env.example", "docker-compose.yml"))


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    """Every make target that a page names is one of the Makefile's."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|\s)make (?:[A-Z]+=\S+ )*([a-z-]+)", code(PAGES[page]), re.MULTILINE))
    assert named <= targets
    assert page != "README.md" or {"run", "settings", "test"} <= named


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    """Every ``claude-proxy`` command that a page shows is one that the command line takes, options included."""
    shown = [shlex.split(match["arguments"], comments=True) for match in COMMAND.finditer(code(PAGES[page]))]
    assert not [arguments for arguments in shown if arguments and not is_command(arguments)]
    assert page != "README.md" or ["user", "add", "anna"] in [arguments[:3] for arguments in shown]


@pytest.mark.parametrize("page", PAGES)
def test_profiles_and_services_exist(page):
    """Every profile and service of Docker's that a page names is one of docker-compose.yml's."""
    services = compose()["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    text = code(PAGES[page])
    named = re.findall(r"--profile (\S+)", text) + re.findall(r"profiles? `([^`]+)`", PAGES[page])
    named += [name for names in re.findall(r"COMPOSE_PROFILES=(\S+)", text) for name in names.split(",")]
    assert set(named) <= profiles
    assert set(re.findall(r"docker compose .*?(?:exec|run|logs)(?: -\S+)* ([a-z]\S*)", text)) <= set(services)


@pytest.mark.parametrize("page", PAGES)
def test_files_exist(page):
    """Every file of the repository that a page names by its path is there."""
    spans = SPAN.findall(FENCE.sub("", PAGES[page]))
    named = [
        span for span in spans if re.fullmatch(r"(?:deploy|docs|claude_proxy|conformance|tests|benchmarks)/[\w./-]*", span)
    ]
    assert not [name for name in named if not (ROOT / name).exists()]


def test_architecture_names_every_source_file():
    """docs/architecture.md has each package with all of its files in its reading order, and none that is not there."""
    package = ROOT / "claude_proxy"
    table = PAGES["docs/architecture.md"].split("## The files, in reading order\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    named = {SPAN.findall(folder)[0].rstrip("/"): sorted(SPAN.findall(files)) for folder, files in rows}
    there = {
        str(folder.relative_to(ROOT)): sorted(path.name for path in folder.glob("[!_]*.py"))
        for folder in (path.parent for path in package.rglob("__init__.py"))
    }
    assert named == there


@pytest.mark.parametrize("symptom", symptoms())
def test_a_message_in_troubleshooting_is_said(symptom):
    """A quoted message without another speaker in front is the proxy's wording; ``...`` stands for what is put into it."""
    messages = [] if symptom.startswith(SPEAKERS) else SPAN.findall(symptom)
    assert not [message for message in messages if not is_said(message)]


def test_troubleshooting_quotes_messages():
    """Most of what stands in the first columns are the proxy's messages, long enough to be found by nothing else."""
    own = [message for symptom in symptoms() if not symptom.startswith(SPEAKERS) for message in SPAN.findall(symptom)]
    assert len(own) > len(symptoms()) / 2
    assert not [message for message in own if max(map(len, message.split("..."))) < 10]


def test_variables_are_explained_in_one_table():
    """A variable has its row in docs/configuration.md only, and no page names a variable of the proxy that does not exist."""
    for page, text in PAGES.items():
        if page != "docs/configuration.md":
            assert not [row["name"] for row in TABLE_ROW.finditer(text)], page
        named = set(re.findall(r"`((?:PROXY|CLAUDE_POOL|CLAUDE_TOKEN|CLAUDE_API|CLAUDE_OAUTH)_[A-Z_]+)[=`]", text))
        assert named <= set(VARIABLES), page


def test_metrics_in_the_documents_exist():
    """docs/operate.md names the metrics that there are."""
    files = (ROOT / "claude_proxy" / name for name in ("usage/prometheus.py", "alerts/metrics.py"))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    known = set(re.findall(r'"(claude_proxy_\w+)"', source))
    named = {name.removesuffix("_total") for name in SPAN.findall(PAGES["docs/operate.md"]) if name.startswith("claude_proxy_")}
    assert named == known


def test_the_settings_options_in_the_documents_exist():
    """Every option and format that docs/claude-code.md names for ``settings`` is one of the command's."""
    text = PAGES["docs/claude-code.md"].split("## Blocks and commands to paste\n", 1)[1].split("\n## ", 1)[0]
    options = {
        f"--{name.replace('_', '-')}" for name in vars(parsed(["settings"])).keys() - {"project", "data", "command", "json"}
    }
    assert options == set(re.findall(r"`(--[a-z-]+)", "\n".join(re.findall(r"^- .*:", text, re.MULTILINE))))
    formats = text.split("- `--format`:", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"`([a-z]+)`", formats)) == set(onboarding.FORMATS)


def test_changelog_has_the_version():
    """The newest entry of the changelog is the version of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == __version__


# --- dependencies ----------------------------------------------------------------------------------------------------------


def test_no_file_names_a_package_registry():
    """No file in git names the host of a package registry: where packages come from is the machine's own matter."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        text = path.read_text(encoding="utf-8", errors="ignore") if path.is_file() else ""
        found += [f"{name}: {host}" for host in REGISTRIES if host in text]
    assert found == []


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_index(name):
    """A lock file holds names, versions and hashes, and neither a URL nor an option that names an index."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "://" in line or line.strip().startswith(INDEX_OPTIONS)]


def test_every_installation_checks_hashes():
    """Each pip and uv of Makefile and Dockerfile installs by a lock, with hashes, and in no other way."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    by_pip, by_uv = re.findall(r"^.*\bpip\b.*\binstall\b.*$", makefile, re.MULTILINE)
    assert by_pip == "INSTALL := -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps"
    uv, python = '$(if $(3),UV_COMPILE_BYTECODE=0 )"$(UV)"', "$(or $(2),$(BIN)/python)"
    assert by_uv.strip().startswith(f"{uv} pip install --quiet --python {python} --require-hashes --no-deps -r $(1) ")
    locks = re.findall(r"\$\(call packages,(.*?)(?:,.*)?\)$", makefile, re.MULTILINE)
    assert set(locks) == {"requirements-installer.lock", "$(LOCK)", "$(DEV_LOCK)", "requirements-$*.lock"}
    assert makefile.count("$(INSTALL)") == 2
    uses = re.findall(r"^.*\$\((?:PIP|INSTALL)\).*$", makefile, re.MULTILINE)[1:]
    assert all(re.search(r" -r (?:\$\(1\)|\$\((?:DEV_)?LOCK\)|requirements(?:[a-z-]*|-\$\*)\.lock)$", line) for line in uses), (
        uses
    )
    dockerfile = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    steps = re.findall(r"pip --python \S+ install [^&\n]*", dockerfile)
    assert len(steps) == dockerfile.count(" install --require-hashes") == 3
    assert all("--require-hashes --no-deps" in step and re.search(r" -r requirements\S*\.lock", step) for step in steps)


@pytest.mark.parametrize("name", LOCKS)
def test_lock_pins_everything_with_hashes(name):
    """Each requirement of a lock file is one exact version with at least one hash."""
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8"))
    requirements = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert requirements
    assert not [line for line in requirements if not re.match(r"[A-Za-z0-9._\[\],-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]


def test_litellm_is_pinned_exactly():
    """LiteLLM, whose inside the hooks depend on, has one exact version in pyproject.toml and the same one in the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [entry for entry in project["dependencies"] if entry.startswith("litellm")] == [f"litellm[proxy]=={LITELLM}"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert re.findall(r"^litellm(?:\[[a-z]+\])?==(\S+) \\\n    --hash=sha256:", lock, re.MULTILINE) == [LITELLM]


# --- SECURITY.md -----------------------------------------------------------------------------------------------------------

# The columns that deny something, by section, and that of the tests.
PROMISES = {"Threat model": 2, "Promises": 1}


def promises() -> list[tuple[str, str]]:
    """What SECURITY.md denies an attacker or promises, each with the cell that names its tests."""
    found = []
    for heading, column in PROMISES.items():
        rows = PAGES["SECURITY.md"].split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0].splitlines()
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("| ")]
        found += [(row[column], row[-1]) for row in cells[1:] if set(row[column]) - {"-", " "}]
    return found


@functools.cache
def names_of_tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("promise", "tests"), promises(), ids=[promise[:60] for promise, _ in promises()])
def test_a_promise_names_its_tests(promise, tests):
    """Whatever SECURITY.md promises names at least one test, and each named test is there."""
    named = [name.partition("::") for name in SPAN.findall(tests)]
    assert named
    for path, _, name in named:
        assert name in names_of_tests(path), f"{path}::{name}"


def test_there_are_promises():
    """The rows are found, or the test above would prove nothing."""
    assert len(promises()) > 30
    assert PAGES["SECURITY.md"].count("\n| ") == len(promises()) + 3 * 2 - 2 + OPEN_ROWS


# Rows of the threat model that deny nothing: whoever has these has everything.
OPEN_ROWS = 3


def test_the_table_of_providers_is_that_of_the_rows():
    """What docs/models.md says that each provider is sent is made of the rows; paste ``summary.table()`` where they differ."""
    assert summary.table() in PAGES["docs/models.md"]
