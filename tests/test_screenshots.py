"""docs/screenshots: each picture exists, is small, and shows the words that the proxy and its page have today."""

import json
import re
from pathlib import Path

import pytest
from test_documents import PAGES, is_said

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs/screenshots"
MAX_BYTES = 150_000
# What a user of Claude Code sees for each error; ``...`` stands for what is put into the message.
ERRORS = {
    "exhausted-pool": ("all ... Claude credentials are rate-limited until ...", "Try again then, or use another model."),
    "rejected-pool": (
        "claude-proxy: Anthropic rejected every Claude credential of this proxy.",
        "The operator finds the reasons in the log of the proxy and on its page /pool.",
    ),
    "empty-pool": (
        "No Claude credential: the pool of this proxy is empty, and the request has none of its own.",
        "The operator adds one with `claude-proxy pool add LABEL`;",
    ),
    "missing-key": ("... is not ready: set ... on the proxy (.env) and restart it.",),
    "forbidden-model": ("model: ... may not use ... on this proxy. Allowed: ...",),
    "full-budget": ("Budget has been exceeded: ... of ... are spent. An administrator can raise it.",),
}
# A sign-in with /login, a budget, and the end of the sign-in.
SIGN_IN = {
    "sign-in": "Waiting for sign-in to complete in your browser",
    "sign-in-page": "Confirm the sign-in",
    "sign-in-phone": "Confirm the sign-in",
    "budget-75": "You've used 76% of your usage credits",
    "budget-95": "You've used 96% of your usage credits",
    "budget-spent": "Your daily budget ($1.00) is spent; it resets on",
    "signed-out": "Please run /login",
}
# The views of the page /pool, some of them twice: wide and narrow, light and dark.
VIEWS = {
    "pool": ("What to do", "Credentials, worst first", "Last failovers"),
    "credentials": ("Credentials", "resets", "the even pace"),
    "history": ("Requests", "Cost", "Tokens", "Cache hit rate", "First byte, p95", "Errors", "Failovers", "CSV: one row per"),
    "requests": ("Search", "Attempts", "request-id", "first byte"),
    "budgets": ("Budgets",),
}
PAGE = VIEWS | {"history-dark": ("First byte", "Errors and failovers")} | {f"{name}-phone": VIEWS[name][:1] for name in VIEWS}
# Here Claude Code has words of its own.
UNKNOWN = "There's an issue with the selected model (gml)."


def words(name: str) -> str:
    return " ".join((PICTURES / f"{name}.txt").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", ERRORS)
def test_a_picture_shows_what_the_proxy_says(name):
    """Each message in a picture is one that the sources have; ``make screenshots`` draws them anew."""
    for message in ERRORS[name]:
        assert is_said(message)
        parts = [re.escape(part.strip()) for part in message.split("...")]
        assert re.search(".*".join(parts), words(name)), f"{message!r} is not in {name}.txt: make screenshots PICTURE={name}"


@pytest.mark.parametrize("name", SIGN_IN)
def test_a_sign_in(name):
    """The pictures of a sign-in show each of its steps."""
    assert SIGN_IN[name] in words(name)


def test_no_user_is_sent_to_log_in():
    """A login cures none of these errors, so Claude Code must not tell its user to log in."""
    assert not [name for name in ERRORS if "/login" in words(name)]


def test_an_unknown_model():
    """Claude Code has its own words for a model that is not served, and they say what to do."""
    assert UNKNOWN in words("unknown-model")
    assert "Run /model to pick a different model." in words("unknown-model")


@pytest.mark.parametrize("name", PAGE)
def test_the_page(name):
    """The picture of each view has the words that the page has today, and a credential in each state."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "claude_proxy/server/web/app").glob("*.js"))
    for word in PAGE[name]:
        assert word.casefold() in sources.casefold()
        assert word in words(name), f"{word!r} is not in {name}.txt: make screenshots PICTURE=page"
    states = ("usable", "rate-limited since", "rejected since", "rate-limited for Opus", "paused")
    assert [state for state in states if state in words("credentials")] == [*states]


@pytest.mark.parametrize("name", [*ERRORS, "unknown-model", "model-picker"])
def test_the_client_is_the_tested_one(name):
    """A terminal's picture shows the release of Claude Code that the end-to-end tests start."""
    package = json.loads((ROOT / "tests/e2e/client/package.json").read_text(encoding="utf-8"))
    release = package["dependencies"]["@anthropic-ai/claude-code"]
    assert f"Claude Code v{release}" in words(name)


@pytest.mark.parametrize("name", [*ERRORS, "unknown-model", "model-picker", *PAGE, *SIGN_IN])
def test_a_picture_is_small(name):
    """A picture is a PNG that a page loads in a moment."""
    picture = (PICTURES / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) < MAX_BYTES


def test_every_picture_is_known():
    """No picture lies there that no test knows."""
    known = {*ERRORS, *SIGN_IN, *PAGE, "unknown-model", "model-picker"}
    assert {path.stem for path in PICTURES.iterdir()} == known


@pytest.mark.parametrize("name", [*ERRORS, "unknown-model"])
def test_the_errors_are_in_troubleshooting(name):
    """docs/troubleshooting.md shows the picture of each error."""
    assert f"](screenshots/{name}.png)" in PAGES["docs/troubleshooting.md"]
