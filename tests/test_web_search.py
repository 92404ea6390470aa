"""config/web_search.py: the section ``claude_proxy: web_search:``, its errors, and what it needs."""

import pytest

from claude_proxy.config.web_search import DEFAULT_RESULTS, mistakes, problem, web_search

OWN = {"provider": "searxng", "api_base": "http://searxng:8080"}
BRAVE = {"provider": "brave", "api_key": "os.environ/BRAVE_KEY"}


def under(section):
    return {"claude_proxy": {"web_search": section}}


def test_an_endpoint():
    """Address and key come from the section or from its variables; the printed form shows no key."""
    found = web_search(under(BRAVE | {"max_results": 3}), {"BRAVE_KEY": " made-up-key "})
    assert (found.provider, found.max_results, found.host) == ("brave", 3, "api.search.brave.com")
    assert found.url == "https://api.search.brave.com/res/v1/web/search"
    assert found.api_key.reveal() == "made-up-key"
    assert "made-up" not in repr(found)
    found = web_search(under({"provider": "searxng", "api_base": "os.environ/BASE"}), {"BASE": "http://searxng:8080/"})
    assert (found.url, found.api_key, found.max_results) == ("http://searxng:8080/search", None, DEFAULT_RESULTS)


@pytest.mark.parametrize("config", [{}, {"claude_proxy": None}, {"claude_proxy": {}}, under(None)])
def test_without_a_section(config):
    """Without a section there is no search and no error."""
    assert web_search(config, {}) is None
    assert [*mistakes(config)] == []


@pytest.mark.parametrize(
    ("section", "environ", "words"),
    [
        (BRAVE, {}, "lacks BRAVE_KEY"),
        (BRAVE, {"BRAVE_KEY": " "}, "lacks BRAVE_KEY"),
        (OWN | {"api_base": "os.environ/BASE"}, {}, "lacks BASE"),
        (OWN | {"api_base": "os.environ/BASE"}, {"BASE": "searxng:8080"}, "has an api_base that is not a URL"),
        (BRAVE, {"BRAVE_KEY": "sk-ant-oat01-made-up"}, "has a Claude credential as its key"),
        (BRAVE, {"BRAVE_KEY": "made-up-key"}, ""),
        (OWN, {}, ""),
    ],
)
def test_what_keeps_it_from_being_used(section, environ, words):
    """An unset variable does not stop a start: there is no search, and the check reports the reason."""
    assert problem(section, environ).startswith(words)
    assert bool(problem(section, environ)) == bool(words)
    assert (web_search(under(section), environ) is None) == bool(words)
    assert [*mistakes(under(section))] == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"web_search": OWN}, ["web_search: belongs under claude_proxy"]),
        (under("brave"), ["should be a mapping"]),
        (under([]), ["should be a mapping"]),
        (under({}), ["provider should be one of searxng, brave, tavily"]),
        (
            under({"provider": "bing"}),
            ["provider should be one of searxng, brave, tavily; write one of them, or remove web_search"],
        ),
        (under({"provider": "Searxn"}), ["provider should be one of searxng, brave, tavily; did you mean searxng?"]),
        (under({"provider": ["brave"]}), ["provider should be one of"]),
        (under({"provider": "searxng"}), ["searxng needs an api_base"]),
        (under({"provider": "brave"}), ["brave needs an api_key"]),
        (under({"provider": "tavily", "api_key": ""}), ["api_key should be a text"]),
        (under({"provider": "tavily", "api_key": 7}), ["api_key should be a text"]),
        (under(OWN | {"api_base": "searxng:8080"}), ["api_base should be a URL"]),
        (under(OWN | {"api_base": "http://user:secret@searxng"}), ["api_base should be a URL"]),
        (under(OWN | {"key": "x"}), ["key is not known; did you mean api_key?"]),
        (under(OWN | {"max_results": 0}), ["max_results should be a number from 1 to 20"]),
        (under(OWN | {"max_results": True}), ["max_results should be"]),
        (under(OWN | {"max_results": "5"}), ["max_results should be"]),
        (under(OWN | {"max_results": 5}), []),
        (under(BRAVE), []),
    ],
)
def test_mistakes(config, words):
    """Each error names the key and its valid values, and shows no value."""
    found = [*mistakes(config)]
    assert len(found) == len(words), found
    assert all(part in sentence for part, sentence in zip(words, found, strict=True))
    assert "secret" not in "".join(found)
