"""config/project_tag.py: the tag of a project, its errors, and the project in a request."""

import pytest

from claude_proxy.config.project_tag import MAX_PROJECT, mistakes, project_in, project_tag


@pytest.mark.parametrize(
    ("config", "tag"),
    [
        ({}, ""),
        ({"claude_proxy": None}, ""),
        ({"claude_proxy": {}}, ""),
        ({"claude_proxy": {"project_tag": "project"}}, "project"),
    ],
)
def test_the_tag(config, tag):
    """Without the key there is no tag and no error."""
    assert project_tag(config) == tag
    assert [*mistakes(config)] == []


@pytest.mark.parametrize("tag", [1, "", "a b", "Anthropic_project", "x" * 65, ["project"]])
def test_errors(tag):
    """A tag that Claude Code does not accept is an error with what to write."""
    (found,) = mistakes({"claude_proxy": {"project_tag": tag}})
    assert "write project_tag: project" in found


@pytest.mark.parametrize(
    ("tags", "tag", "project"),
    [
        (None, "project", ""),
        ({}, "project", ""),
        ({"project": "payments"}, "project", "payments"),
        ({"project": "payments"}, "team", ""),
        ({"project": "payments"}, "", ""),
        ({"project": " a\nb\x1b[31m "}, "project", "ab[31m"),
        ({"project": "x" * 100}, "project", "x" * MAX_PROJECT),
    ],
)
def test_the_project(tags, tag, project):
    """The project is the text under the tag, in one short line."""
    assert project_in(tags, tag) == project
