"""config/backup.py: the file that a start uses if config.yaml is broken."""

import pytest
import yaml

from claude_proxy.config import backup, models

GOOD = yaml.safe_dump(
    {
        "model_list": [{"model_name": "glm", "litellm_params": {"model": "anthropic/glm"}}],
        "litellm_settings": {"callbacks": [models.CALLBACK]},
        "general_settings": {"custom_auth": models.CUSTOM_AUTH},
    }
)
BROKEN = "model_list: ["


@pytest.mark.parametrize(
    ("edited", "copy", "chosen"),
    [
        (GOOD, GOOD, "config.yaml"),
        (GOOD, BROKEN, "config.yaml"),
        (BROKEN, GOOD, backup.NAME),
        (None, GOOD, backup.NAME),
        (BROKEN, BROKEN, "config.yaml"),
        (BROKEN, None, "config.yaml"),
        # A copy without the rules is none: whoever could write it would have an open proxy.
        (BROKEN, "model_list: [{model_name: a, litellm_params: {model: b}}]", "config.yaml"),
    ],
)
def test_which_file_a_start_uses(tmp_path, edited, copy, chosen):
    """The copy is used only if the file itself is broken and the copy passes the same check."""
    for name, content in (("config.yaml", edited), (backup.NAME, copy)):
        if content is not None:
            (tmp_path / name).write_text(content)
    path, mistakes = backup.choose(tmp_path / "config.yaml", tmp_path / backup.NAME)
    assert path.name == chosen
    assert bool(mistakes) is (chosen == backup.NAME)


def test_a_copy_is_whole_and_private(tmp_path):
    """The copy replaces the one before, only its owner can read it, and no other file is left."""
    copy = tmp_path / "state" / backup.NAME
    backup.keep("a", copy)
    backup.keep("b", copy)
    assert copy.read_text() == "b"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert list(copy.parent.iterdir()) == [copy]
