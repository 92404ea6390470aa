"""server/pages.py: what a browser gets of ``/`` and ``/pool``."""

import json
import re

import pytest

from claude_proxy import __version__
from claude_proxy.config.settings import Settings
from claude_proxy.server.assets import hash_of_all, respond
from claude_proxy.server.pages import page

TOKEN = "sk-made-up-token-of-the-page"


def text_of(response):
    return response.body.decode()


@pytest.mark.parametrize("name", ["start", "pool"])
def test_what_a_page_may_do(name):
    """A page may load files of this host, has no script or style in it, cannot be framed and is not kept."""
    response = page(name, Settings.parse({"PROXY_STATIC_TOKEN": TOKEN}))
    text, policy = text_of(response), response.headers["content-security-policy"]
    assert policy == (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert not re.search(r"<style|<script(?! (?:type=.module. )?src=[^>]*></script>)", text)
    files = re.findall(r'"(pool/assets/[^"]*)"', text)
    assert {file.split("/")[2] for file in files} == {hash_of_all()}
    assert [respond(f"/{file}", []).status_code for file in files] == [200] * len(files)
    assert (response.headers["cache-control"], response.headers["x-frame-options"]) == ("no-store", "DENY")
    assert (response.headers["referrer-policy"], response.headers["x-content-type-options"]) == ("no-referrer", "nosniff")
    assert "{{" not in text
    assert not re.search(r"\son\w+=|style=", text)


@pytest.mark.parametrize("name", ["start", "pool"])
@pytest.mark.parametrize("static", [TOKEN, "open"])
def test_an_open_proxy_has_a_banner(name, static):
    """Both pages say that a proxy is open, and only then."""
    text = text_of(page(name, Settings.parse({"PROXY_STATIC_TOKEN": static})))
    assert ("This proxy is open: everyone" in text) == (static == "open")


def test_the_pages_have_titles_of_their_own():
    """A browser's tabs and history tell the two pages apart."""
    titles = [re.findall(r"<title>(.*)</title>", text_of(page(name, Settings.parse({})))) for name in ("start", "pool")]
    assert titles == [["claude-proxy"], ["claude-proxy: pool"]]


def test_what_the_start_page_holds():
    """It links to /pool, names the version, and shows the block with a placeholder in the token's place; no secret."""
    secrets = {
        "PROXY_STATIC_TOKEN": TOKEN,
        "LITELLM_MASTER_KEY": "sk-made-up-master",
        "CLAUDE_OAUTH_TOKENS": "a=sk-ant-oat01-made-up",
    }
    text = text_of(page("start", Settings.parse(secrets)))
    assert re.findall(r'<a href="([^"]*)"', text) == ["/pool"]
    assert f"version {__version__}" in text
    (block,) = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", text, re.DOTALL)
    assert json.loads(re.sub(r"</?span[^>]*>", "", block))["env"] == {
        "ANTHROPIC_BASE_URL": "the address of this page",
        "ANTHROPIC_AUTH_TOKEN": "YOUR-TOKEN",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    assert "Ask the operator of this proxy for your token." in " ".join(text.split())
    assert "claude-proxy settings" in text
    assert "made-up" not in text
