"""docs/seeds.md: each command, run in one shell beside one proxy, prints what the page says, and each named test is there."""

import ast
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import upstream as up
import yaml
from claude_code import require
from echo_upstream import CLIENT_LOGIN, Echo
from processes import MASTER_KEY, ROOT, STATIC_TOKEN, Proxy, clean_environment
from test_dialects_through_the_proxy import EXAMPLE, documented, service_account

PAGE = (ROOT / "docs/seeds.md").read_text(encoding="utf-8")
CONFORMANCE = (ROOT / "docs/CONFORMANCE.md").read_text(encoding="utf-8")
SUITE = "make conformance"
POOL = [f"sk-ant-oat01-made-up-{name}" for name in ("alpha", "bravo", "charlie")]
# The provider of the upstream that stands for a model which is not called like one.
PLACES = {"shared": "gpt", "openrouter-chat": "gpt", "vertex-gemini": "gemini"}
SPAN = re.compile(r"(not )?`([^`]+)`")
TEST = re.compile(r"tests/[\w/]+\.py::\w+")
MARK = "---- command {} of the page ----"


@dataclass(frozen=True)
class Row:
    """One promise: ``commands`` is one command of a shell, or names of tests; it prints ``prints``, nothing of ``never``."""

    promise: str
    commands: tuple[str, ...]
    prints: tuple[str, ...]
    never: tuple[str, ...]

    @property
    def command(self) -> str | None:
        """The command, if the row is shown by one that the shell runs."""
        is_other = self.commands[0] == SUITE or TEST.fullmatch(self.commands[0])
        return None if is_other else self.commands[0]


def rows() -> Iterator[Row]:
    """Read the tables that have a column of commands."""
    columns: dict[str, int] = {}
    for line in PAGE.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if not line.startswith("| "):
            columns = {}
        elif "Command" in cells:
            columns = {name: place for place, name in enumerate(cells)}
        elif columns and set(cells[0]) - {"-"}:
            said = SPAN.findall(cells[columns["Prints"]])
            yield Row(
                cells[0],
                tuple(text for _, text in SPAN.findall(cells[columns["Command"]])),
                tuple(text for never, text in said if not never),
                tuple(text for never, text in said if never),
            )


ROWS = tuple(rows())


def fenced(language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(block)


def configuration(url: str) -> dict[str, Any]:
    """Return the example with all its blocks in use and the lines of the page, and with the upstream as every provider."""
    config, more = documented(EXAMPLE), yaml.safe_load(fenced("yaml"))
    config["model_list"] += more["model_list"]
    config["router_settings"] |= more["router_settings"]
    config["claude_proxy"] = more["claude_proxy"]
    for entry in config["model_list"]:
        params, name = entry["litellm_params"], entry["model_name"]
        if params["model"].endswith(("*", "/demo")) or str(params.get("api_base")).startswith("os.environ/"):
            continue  # Claude's, the proxy's own, and Azure's are elsewhere
        address = "aws_bedrock_runtime_endpoint" if params["model"].startswith("bedrock/") else "api_base"
        params[address] = f"{url}/{PLACES.get(name, name)}"
    return config


def secrets() -> dict[str, str]:
    """Return a made-up value for each variable of the example that holds a key."""
    names = re.findall(r"os\.environ/(\w+_(?:API_KEY|TOKEN)|AWS_SECRET\w+)", EXAMPLE)
    return {name: f"made-up-{name.lower().replace('_', '-')}" for name in names}


def dotenv(home: Path, upstream: up.Upstream) -> dict[str, str]:
    """Return the variables of the page's ``.env``."""
    return secrets() | {
        "PROXY_STATIC_TOKEN": STATIC_TOKEN,
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "ANTHROPIC_API_BASE": upstream.url,
        "CLAUDE_OAUTH_TOKENS": ",".join(POOL),
        "AZURE_API_BASE": f"{upstream.other_url}/azure",
        "AWS_ACCESS_KEY_ID": "AKIAMADEUP",
        "AWS_REGION": "eu-central-1",
        "VERTEX_PROJECT": "made-up-project",
        "VERTEX_LOCATION": "europe-west1",
        "VERTEX_CREDENTIALS": str(service_account(home, upstream.other_url)),
    }


def script(proxy: Proxy, commands: Sequence[str]) -> str:
    """Return the page as one program: its functions, and each command in a shell of its own, behind its mark."""
    prepared = fenced("bash").replace("PROXY=http://127.0.0.1:4000\n", f"PROXY={proxy.url}\n")
    assert proxy.url in prepared
    lines = [
        f'claude-proxy() {{ (cd "{ROOT}" && "{sys.executable}" -m claude_proxy --project "$OLDPWD" "$@"); }}',
        prepared,
    ]
    lines += [f"echo; echo '{MARK.format(number)}'; ( {command} ) 2>&1" for number, command in enumerate(commands)]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def printed(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run each command once, in the order of the page, and return what it printed."""
    if missing := [name for name in ("bash", "curl", "openssl") if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    commands = [*dict.fromkeys(row.command for row in ROWS if row.command)]
    home = tmp_path_factory.mktemp("seeds")
    (project := home / "project").mkdir()
    variables = dotenv(home, shared_upstream)
    (project / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    (project / ".env").chmod(0o600)
    owners = {value: name for name, value in secrets().items()} | {one: f"oauth-{n}" for n, one in enumerate(POOL, start=1)}
    before, shared_upstream.answer = shared_upstream.answer, Echo(owners)
    proxy = Proxy(project, yaml.safe_dump(configuration(shared_upstream.other_url))).wait_ready()
    try:
        (bin_folder := home / "bin").mkdir()
        (bin_folder / "claude").symlink_to(require())
        environment = clean_environment(home, PORT=str(proxy.port), DISABLE_AUTOUPDATER="1")
        environment["PATH"] = f"{bin_folder}:{environment['PATH']}"
        said = subprocess.run(
            ["bash", "--norc", "-c", script(proxy, commands)], cwd=project, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280, check=False,
        ).stdout  # fmt: skip
    finally:
        proxy.stop()
        shared_upstream.answer = before
    strangers = [seen for seen in shared_upstream.asked if not seen.is_claude and seen.path != "/token"]
    own = (STATIC_TOKEN, MASTER_KEY, CLIENT_LOGIN, *POOL)
    assert strangers
    assert not [seen.path for seen in strangers if any(secret in seen.everything for secret in own)]
    parts = re.split(r"\n" + MARK.format(r"\d+") + r"\n", said)
    assert len(parts) == len(commands) + 1, said
    return dict(zip(commands, parts[1:], strict=True))


@pytest.mark.parametrize("row", [row for row in ROWS if row.command], ids=lambda row: row.promise[:60])
def test_a_command_prints_what_the_page_says(printed, row):
    """Each part that the page has is in the output, and none that it says is not."""
    text = printed[row.command]
    assert row.prints or row.never
    assert [part for part in row.prints if part not in text] == [], f"{row.command}\n{text}"
    assert [part for part in row.never if part in text] == [], f"{row.command}\n{text}"


@functools.cache
def names_of_tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", [row for row in ROWS if not row.command], ids=lambda row: row.promise[:60])
def test_a_named_test_is_there(row):
    """A row without a command of its own names tests, or rows of the conformance suite that the proxy meets."""
    if row.commands[0] == SUITE:
        found = [re.search(rf"^\| {re.escape(name)} \|.*\| yes \|", CONFORMANCE, re.MULTILINE) for name in row.prints]
        assert found
        assert all(found)
        return
    assert row.prints == row.never == ()
    for test in row.commands:
        assert TEST.fullmatch(test)
        path, _, name = test.partition("::")
        assert name in names_of_tests(path), test


def test_the_page_has_every_row():
    """The rows are found, or the tests above would prove nothing: as many as the page's tables have lines below their heads."""
    tables = re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)
    assert sum(table.count("\n") - 2 for table in tables) == len(ROWS) > 90
    assert len({row.promise for row in ROWS}) == len(ROWS)
    assert all(row.commands for row in ROWS)
