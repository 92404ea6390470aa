"""config/sign_in.py: the section of config.yaml."""

import pytest

from claude_proxy.config.sign_in import LONGEST_NOTICE, SignIn, mistakes


def section(found):
    return {"claude_proxy": {"sign_in": found}}


@pytest.mark.parametrize("config", [{}, {"claude_proxy": None}, {"claude_proxy": {}}, section({})])
def test_the_defaults(config):
    """Without the section a token lives for an hour and a sign-in for thirty days."""
    assert SignIn.of(config) == SignIn(access_seconds=3600, refresh_seconds=30 * 86400)
    assert not [*mistakes(config)]


@pytest.mark.parametrize("own", [{}, {"sign_in": {}}])
def test_the_tag_of_projects(own):
    """The tag of projects is known to sign-in, with or without a section of its own."""
    assert SignIn.of({"claude_proxy": {"project_tag": "project"} | own}) == SignIn(project_tag="project")


def test_the_whole_section():
    """Every key is read."""
    config = section(
        {
            "enabled": False, "url": "https://proxy.example.org/", "notice": " Use your\nwork account. ",
            "access_token_minutes": 10, "refresh_token_days": 7.5, "oidc": {"issuer": "https://login.example.org"},
        }
    )  # fmt: skip
    assert not [*mistakes(config)]
    expected = SignIn(
        enabled=False, url="https://proxy.example.org", notice="Use your\nwork account.", access_seconds=600,
        refresh_seconds=648_000, provider=True,
    )  # fmt: skip
    assert SignIn.of(config) == expected


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "should be a mapping"),
        ("yes", "should be a mapping"),
        ({"lifetime": 1}, "lifetime is not known; the keys are enabled, url"),
        ({"enabled": "no"}, "enabled should be true or false"),
        ({"notice": 7}, "notice should be a text"),
        ({"notice": "x" * (LONGEST_NOTICE + 1)}, "at most 500 characters"),
        ({"notice": "bell \a"}, "plain text"),
        ({"url": "proxy.example.org"}, "url should be the address"),
        ({"url": "https://proxy.example.org/path"}, "url should be the address"),
        ({"url": "https://user@proxy.example.org"}, "url should be the address"),
        ({"url": "https://proxy example.org"}, "url should be the address"),
        ({"url": "http://[::1"}, "url should be the address"),
        ({"url": 7}, "url should be the address"),
        ({"access_token_minutes": 0}, "access_token_minutes should be a number from 1 to 1440"),
        ({"access_token_minutes": True}, "access_token_minutes should be a number"),
        ({"access_token_minutes": float("nan")}, "access_token_minutes should be a number"),
        ({"refresh_token_days": "30"}, "refresh_token_days should be a number from 1 to 90"),
        ({"refresh_token_days": 91}, "refresh_token_days should be a number from 1 to 90"),
    ],
)
def test_errors(found, words):
    """Each error is one sentence that names the key."""
    (mistake,) = mistakes(section(found))
    assert mistake.startswith("claude_proxy: sign_in: ")
    assert words in mistake


def test_a_section_at_the_wrong_place():
    """At the beginning of a line it has no effect, which is said."""
    assert [*mistakes({"sign_in": {}})] == ["sign_in: belongs under claude_proxy; at the beginning of a line it has no effect"]


def test_a_notice_of_the_longest_length():
    """A notice of 500 characters is accepted, whatever surrounds it."""
    assert not [*mistakes(section({"notice": f"\n{'x' * LONGEST_NOTICE}\n"}))]
