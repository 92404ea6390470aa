"""last_good.py: which file a start uses when config.yaml is broken."""

import pytest
import yaml

from claude_proxy import config, last_good

GOOD = yaml.safe_dump(
    {
        "model_list": [{"model_name": "glm", "litellm_params": {"model": "anthropic/glm"}}],
        "litellm_settings": {"callbacks": [config.CALLBACK]},
        "general_settings": {"custom_auth": config.CUSTOM_AUTH},
    }
)
BROKEN = "model_list: ["


@pytest.mark.parametrize(
    ("edited", "copy", "chosen"),
    [
        (GOOD, GOOD, "config.yaml"),
        (GOOD, BROKEN, "config.yaml"),
        (BROKEN, GOOD, last_good.NAME),
        (None, GOOD, last_good.NAME),
        (BROKEN, BROKEN, "config.yaml"),
        (BROKEN, None, "config.yaml"),
        # A copy without the rules is none: whoever could write it would have an open proxy.
        (BROKEN, "model_list: [{model_name: a, litellm_params: {model: b}}]", "config.yaml"),
    ],
)
def test_which_file_a_start_uses(tmp_path, edited, copy, chosen):
    """The copy serves only while the file itself cannot, and only when it passes the same check."""
    for name, content in (("config.yaml", edited), (last_good.NAME, copy)):
        if content is not None:
            (tmp_path / name).write_text(content)
    path, mistakes = last_good.choose(tmp_path / "config.yaml", tmp_path / last_good.NAME)
    assert path.name == chosen
    assert bool(mistakes) is (chosen == last_good.NAME)


def test_a_copy_is_whole_and_private(tmp_path):
    """It replaces the one before, is for its owner alone, and leaves nothing else behind."""
    copy = tmp_path / "state" / last_good.NAME
    last_good.keep("a", copy)
    last_good.keep("b", copy)
    assert copy.read_text() == "b"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert list(copy.parent.iterdir()) == [copy]
