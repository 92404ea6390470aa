"""The book of usage, the status and the users' file against clients and neighbours who mean harm, through the real proxy."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import upstream as up
from conftest import CONFIG, by_provider
from processes import MASTER_KEY, ROOT, Proxy, clean_environment, question

ANNA, BEN = "sk-made-up-token-of-anna-0123456789", "sk-made-up-token-of-ben-0123456789"
SHOWN = ("/pool", "/metrics", "/usage.csv")


def get(proxy: Proxy, path: str, token: str = MASTER_KEY) -> httpx.Response:
    return httpx.get(f"{proxy.url}{path}", headers={"x-litellm-api-key": token}, trust_env=False, timeout=60)


def rows_of(proxy: Proxy, user: str) -> dict[str, int]:
    """How many requests of a user the CSV holds, by model."""
    lines = [line.split(",") for line in get(proxy, "/usage.csv").text.splitlines()]
    found: dict[str, int] = {}
    for line in lines:
        if line[1] == user:
            found[line[2]] = found.get(line[2], 0) + int(line[5])
    return found


@pytest.mark.parametrize("answers", [False, True], ids=["upstream-refuses", "upstream-answers-everything"])
def test_a_user_who_makes_up_names_costs_nobody_theirs(start_proxy, upstream, answers):
    """However many models one user makes up, the others are counted under their models, and what is shown stays short."""

    def claude(seen: up.Seen) -> up.Reply:
        if "junk" in seen.json["model"] and not answers:
            return up.anthropic_error(404, "not_found_error", "model")
        return up.anthropic_reply(seen, up.text("hello"))

    upstream.answer = by_provider(claude=claude)
    proxy = start_proxy(PROXY_USER_TOKENS=f"anna={ANNA},ben={BEN}")
    for number in range(110):
        proxy.ask(question(f"claude-junk-{number}-{'x' * 100}"), token=ANNA)
    models = ("claude-opus-4-8", "claude-sonnet-5", "claude-of-ben", "glm")
    for model in models:
        assert proxy.ask(question(model), token=BEN).status_code == 200
    proxy.logged("user=ben", times=len(models))
    assert rows_of(proxy, "ben") == dict.fromkeys(models, 1)
    anna = rows_of(proxy, "anna")
    assert (len(anna), sum(anna.values())) == (21 if answers else 1, 110)
    assert anna["other"] == 110 - 20 * answers
    junk = {line.split('model="')[1].split('"')[0] for line in get(proxy, "/metrics").text.splitlines() if "junk" in line}
    assert len(junk) == 20 * answers


NASTY = "\x1b]0;owned\x07\r\n=cmd|' /C calc'!A0\u202e"


def malformed(credential: str) -> list[tuple[object, object, object]]:
    """Rows as no proxy writes them: wrong types, wrong numbers, wrong times, wrong texts."""
    now = time.time()
    today = time.strftime("%Y-%m-%d", time.gmtime(now))
    taken = ["taken", NASTY, NASTY, NASTY, NASTY]
    values: list[tuple[str, float, object]] = [
        (f"usage:{today}:a", now, [[taken, [1] * 7]]),
        (f"usage:{today}:b", now, [[taken, ["1"] * 7]]),
        (f"usage:{today}:c", now, [[taken, [1e308] * 7]]),
        (f"usage:{today}:d", now, [[taken, [10**400] * 7]]),
        (
            f"usage:{today}:e",
            now,
            [[["taken", f"u{number}", f"m{number}", "s", "c"], [1] + [0] * 6] for number in range(20_000)],
        ),
        (f"usage:{today}:f", now, [[["total", "m"], [float("inf")] * 14]]),
        (f"usage:{today}:g", 1e300, [[["moved", NASTY], [1]]]),
        ("usage:99999-01-01:a", now, [[["moved", "x"], [1]]]),
        ("usage:2999-01-01:a", now, [[["moved", "x"], [1]]]),
        ("month:9999-12", now, [[["moved", "x"], [1]]]),
        ("events:a", now, {"failovers": [[1e300, "a", "b", NASTY]], "errors": {"a": [1e300, NASTY]}}),
        ("events:b", now, {"failovers": [[now, NASTY, NASTY, NASTY]] * 500, "errors": {"a": [now, NASTY]}}),
        ("cursor", now, 10**4000),
        ("cursor", now, [[]]),
        (f"seen:{credential}", 0.0, 1e300),
        ("session:s", 1e300, credential),
        (f"credential:{credential}:limit:{NASTY}", now, {"until": now + 60, "reason": NASTY, "out": True, "windows": [NASTY]}),
        (f"credential:{credential}:limit:opus", now, {"until": now + 60, "reason": NASTY * 10_000, "out": 1, "windows": []}),
        (f"credential:{credential}:limit:sonnet", 1e300, {"until": 1e300, "reason": "x", "out": False, "windows": []}),
        (f"credential:{credential}:window::{'9' * 5000}h", now, {"utilization": 0.5, "reset": now + 60}),
        (f"credential:{credential}:window::5h", now, {"utilization": -1e300, "reset": 1e300}),
        (f"credential:{credential}:window::7d", now, {"utilization": 0.5, "reset": 1e15}),
    ]
    rows: list[tuple[object, object, object]] = [
        (key.encode(), stamp, json.dumps(value).encode() if key != "cursor" or value == [[]] else b"9" * 4000)
        for key, stamp, value in values
    ]
    deep = b"[" * 1_000_000
    return [
        *rows,
        (b"usage:x:y", now, deep),
        (7, now, b"1"),
        ("text", now, "text"),
        (b"\xff", now, b"\xff"),
        (b"k", "much", b"1"),
    ]


def test_malformed_rows_break_nothing_that_is_shown(start_proxy):
    """With malformed rows of every kind in the state file the proxy answers, and shows plain text within its bounds."""
    proxy = start_proxy(PROXY_USER_TOKENS=f"anna={ANNA}")
    assert proxy.ask(question("claude-opus-4-8"), token=ANNA).status_code == 200
    assert get(proxy, "/pool").status_code == 200
    state = proxy.home / ".state" / "pool.sqlite3"
    with sqlite3.connect(state, timeout=30) as connection:
        connection.text_factory = bytes
        keys = [key.decode() for (key,) in connection.execute("SELECT key FROM rows")]
        credential = next(key for key in keys if key.startswith("seen:"))
        for place, (key, stamp, value) in enumerate(malformed(credential.removeprefix("seen:"))):
            connection.execute(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, (SELECT seq FROM counter) + ?)", (key, stamp, value, place + 1)
            )
        connection.execute("UPDATE counter SET seq = seq + 1000")
    for _ in range(2):
        shown = {path: get(proxy, path) for path in SHOWN}
        assert {path: answer.status_code for path, answer in shown.items()} == dict.fromkeys(SHOWN, 200)
    assert all(char.isprintable() or char == "\n" for answer in shown.values() for char in answer.text)
    assert all(len(answer.content) < 3_000_000 for answer in shown.values())
    assert "owned" in shown["/usage.csv"].text
    assert shown["/pool"].json()["store"]["unavailable"] is False
    environment = clean_environment(proxy.home, PORT=str(proxy.port), LITELLM_MASTER_KEY=MASTER_KEY)
    for command in (["status"], ["usage"], ["usage", "--csv"]):
        done = subprocess.run(
            [sys.executable, "-m", "claude_proxy", "--project", str(proxy.home), *command],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert all(char.isprintable() or char == "\n" for char in done.stdout)
    assert proxy.ask(question("claude-opus-4-8"), token=ANNA).status_code == 200
    assert "Traceback" not in proxy.output


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o755)
    (folder / "users").write_text(f"anna={ANNA}\n")
    return folder / "users"


def of_file(path: Path) -> Path:
    return path


def of_folder(path: Path) -> Path:
    return path.parent


@pytest.mark.parametrize("loosened", [of_file, of_folder], ids=["file", "folder"])
def test_a_users_file_that_others_may_write_opens_nothing(start_proxy, users_file, loosened: Callable[[Path], Path]):
    """Its users are refused, nobody comes in without a token, the log and the check say what to do, and then it counts."""
    proxy = start_proxy(PROXY_STATIC_TOKEN="", PROXY_USER_TOKENS_FILE=str(users_file))
    assert proxy.ask(question("demo"), token=ANNA).status_code == 200
    loose, mode = loosened(users_file), loosened(users_file).stat().st_mode & 0o777
    loose.chmod(mode | 0o022)
    for token in (ANNA, None):
        assert proxy.ask(question("demo"), token=token).status_code == 401
    (line,) = proxy.logged("others may write")
    assert f"({loose}, mode {mode | 0o022:o})" in line
    environment = clean_environment(proxy.home, PROXY_USER_TOKENS_FILE=str(users_file))
    checked = subprocess.run(
        [sys.executable, "-m", "claude_proxy", "--project", str(proxy.home), "check", "--offline"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"chmod go-w {loose}" in checked.stdout
    loose.chmod(mode)
    assert proxy.ask(question("demo"), token=ANNA).status_code == 200


def test_a_users_limits_and_usage_hold_in_any_case(start_proxy, upstream):
    """What config.yaml allows Anna holds for anna, a second spelling is refused, and what either used is one user's."""
    limits = "claude_proxy:\n  users:\n    Anna: {models: [demo]}\n"
    proxy = start_proxy(config=CONFIG.format(url=upstream.other_url) + limits)

    def user(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "claude_proxy", "--project", str(proxy.home), "user", *arguments],
            cwd=ROOT, env=clean_environment(proxy.home), input=given, capture_output=True, text=True, check=False,
        )  # fmt: skip

    for name, token in (("anna", ANNA), ("ANNA", BEN)):
        assert user("add", name, "--token", "-", given=token).returncode == 0
        again = user("add", "Anna")
        assert (again.returncode, "upper and lower case make no difference" in again.stderr) == (1, True)
        assert proxy.ask(question("glm"), token=token).status_code == 400
        assert proxy.ask(question("demo"), token=token).status_code == 200
        assert user("remove", "aNNA").returncode == 0
        assert proxy.ask(question("demo"), token=token).status_code == 401
    proxy.logged("model=demo", times=2)
    assert rows_of(proxy, "anna")["demo"] == 2
