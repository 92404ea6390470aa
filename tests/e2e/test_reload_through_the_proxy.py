"""A changed config.yaml is taken up while the proxy serves; a broken one is refused in words."""

import threading
from collections.abc import Callable

import upstream as up
from conftest import CONFIG, by_provider
from processes import Proxy, answer_text, question

ADDED = """model_list:
  - model_name: added
    litellm_params: {{model: anthropic/added, api_base: "{url}/glm", api_key: os.environ/ZAI_API_KEY}}
"""
BROKEN = "model_list:\n  - model_name: [glm\n"


def until(holds: Callable[[], bool], proxy: Proxy) -> None:
    """Wait for what the proxy does by itself within a second or two; the bound is for a busy machine."""
    poll = threading.Event()
    for _ in range(200):
        if holds():
            return
        poll.wait(0.1)
    raise AssertionError(proxy.output)


def status(proxy: Proxy, model: str) -> int:
    return proxy.ask(question(model)).status_code


def replace(proxy: Proxy, text: str) -> None:
    """Put another file in its place, as editors do."""
    part = proxy.home / "config.new"
    part.write_text(text, encoding="utf-8")
    part.replace(proxy.home / "config.yaml")


def test_a_change_counts_without_a_restart(start_proxy, upstream):
    """A new model is served, a fallback changes, a broken file changes nothing, and the mended one is taken up again."""
    proxy = start_proxy()
    config = CONFIG.format(url=upstream.other_url)
    more = config.replace("model_list:\n", ADDED.format(url=upstream.other_url), 1)

    assert status(proxy, "added") == 404
    held, release = threading.Event(), threading.Event()

    def slowly(seen: up.Seen) -> up.Reply:
        if seen.json["model"] == "glm-5-fast":
            held.set()
            release.wait(60)
        return up.anthropic_reply(seen, up.text(f"from {seen.json['model']}"))

    upstream.answer = by_provider(glm=slowly)
    answers: list[str] = []
    under_way = threading.Thread(target=lambda: answers.append(answer_text(proxy.ask(question("glm-fast")))))
    under_way.start()
    assert held.wait(60)
    replace(proxy, more.replace("model_name: glm-fast", "model_name: glm-renamed").replace("[glm-fast]", "[glm-renamed]"))
    until(lambda: status(proxy, "added") == 200, proxy)
    assert status(proxy, "glm-fast") == 404
    release.set()
    under_way.join(60)
    assert status(proxy, "glm-renamed") == 200
    assert answers == ["from glm-5-fast"]
    assert "config.yaml is reloaded: added: added, glm-renamed; removed: glm-fast; router_settings: fallbacks" in proxy.output

    (proxy.home / "config.yaml").write_text(BROKEN, encoding="utf-8")
    until(lambda: "not applied" in proxy.output, proxy)
    assert "config.yaml line 2: is not YAML: opens a [ that is not closed" in proxy.output
    assert status(proxy, "added") == 200

    mended = more.replace("anthropic/added", "anthropic/added-2").replace("drop_params: true", "drop_params: false")
    replace(proxy, mended.replace("anthropic/*: [glm]", "anthropic/*: [added]"))
    until(lambda: answer_text(proxy.ask(question("added"))) == "from added-2", proxy)
    assert "config.yaml: needs a restart to apply: litellm_settings" in proxy.output
    upstream.answer = by_provider(
        claude=lambda _: up.anthropic_error(529, "overloaded_error", "Overloaded"),
        glm=lambda seen: up.anthropic_reply(seen, up.text(f"from {seen.json['model']}")),
    )
    assert answer_text(proxy.ask(question("anthropic/claude-x"))) == "from added-2"


def test_a_broken_file_at_the_start_leaves_the_last_good_one_in_force(start_proxy, upstream):
    """A restart with a broken config.yaml serves what it served before and says so; once mended, the file is taken up."""
    first = start_proxy()
    kept = first.home / ".state" / "config.last-good.yaml"
    until(kept.exists, first)
    assert kept.stat().st_mode & 0o777 == 0o600
    first.stop()

    second = start_proxy(config=BROKEN)
    assert "ERROR: " in second.output
    assert "is not YAML: line 2: opens a [ that is not closed, or lacks a comma; close it with ]" in second.output
    assert str(kept) in second.output
    assert status(second, "glm") == 200
    assert second.ask(question("glm"), token="sk-not-the-token").status_code == 401

    more = ADDED.format(url=upstream.other_url)
    replace(second, CONFIG.format(url=upstream.other_url).replace("model_list:\n", more, 1))
    until(lambda: status(second, "added") == 200, second)
    assert "model_name: added" in kept.read_text(encoding="utf-8")
