"""litellm/windows.py: how many tokens a model takes, by LiteLLM's list."""

import subprocess
import sys

import pytest

from claude_proxy.litellm import windows


@pytest.fixture(autouse=True)
def fresh():
    windows._windows.cache_clear()
    yield
    windows._windows.cache_clear()


@pytest.mark.parametrize("name", ["deepseek/deepseek-chat", "deepseek-chat", "anthropic/deepseek-chat"])
def test_a_listed_model(name):
    """A model is found with its provider, without one, and with another one in front."""
    assert windows.listed_window(name) == 131_072


def test_a_model_that_is_not_listed():
    """Of a model that is not in the list, nothing is known."""
    assert windows.listed_window("openai/made-up-model") is None


def test_without_the_list(monkeypatch):
    """A LiteLLM that ships no list, or none that can be read, is no error."""
    monkeypatch.setattr(windows, "LIST", "missing.json")
    assert windows.listed_window("deepseek-chat") is None
    windows._windows.cache_clear()
    monkeypatch.setattr(windows, "LIST", "__init__.py")
    assert windows.listed_window("deepseek-chat") is None


def test_the_list_that_litellm_has_loaded():
    """A list in memory is read like the file; what is no size is none."""
    found = windows.windows_of({"a/b": {"max_input_tokens": 5}, "b": {"max_input_tokens": True}, "c": {}, "d": None})
    assert found == {"a/b": 5}
    assert windows.window_in(found, "x/a/b") == 5
    assert windows.window_in(found, "b") is None


def test_litellm_is_not_imported():
    """The command line reads the list without LiteLLM, which takes seconds to import."""
    code = "import sys; from claude_proxy.litellm import windows; windows.listed_window('x'); print('litellm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
