"""config/telemetry.py: the section ``claude_proxy: telemetry:``, its errors, and what it needs."""

import pytest

from claude_proxy.config.telemetry import mistakes, problem, telemetry

PLAIN = {"collector": "http://otel:4318"}


def under(section):
    return {"claude_proxy": {"telemetry": section}}


def test_a_collector():
    """Address and headers come from the section or from its variables; the printed form shows no value of a header."""
    section = {"collector": "os.environ/OTEL", "headers": {"authorization": "os.environ/KEY", "x-team": "a"}, "own": True}
    assert [*mistakes(under(section))] == []
    found = telemetry(under(section), {"OTEL": "https://otel.example.org/base/", "KEY": "Basic bWFkZTp1cA=="})
    assert (found.url, found.host, found.clients, found.own) == (
        "https://otel.example.org/base",
        "otel.example.org",
        True,
        True,
    )
    assert [(name, value.reveal()) for name, value in found.headers] == [
        ("authorization", "Basic bWFkZTp1cA=="),
        ("x-team", "a"),
    ]
    assert "bWFk" not in repr(found)
    found = telemetry(under(PLAIN), {})
    assert (found.url, found.headers, found.clients, found.own) == ("http://otel:4318", (), True, False)


@pytest.mark.parametrize("config", [{}, {"claude_proxy": None}, {"claude_proxy": {}}, under(None)])
def test_without_a_section(config):
    """Without a section there is no collector and no error."""
    assert telemetry(config, {}) is None
    assert [*mistakes(config)] == []


@pytest.mark.parametrize(
    ("section", "environ", "words"),
    [
        ({"collector": "os.environ/OTEL"}, {}, "lacks OTEL"),
        (PLAIN | {"headers": {"authorization": "os.environ/KEY"}}, {}, "lacks KEY"),
        ({"collector": "os.environ/OTEL"}, {"OTEL": "otel"}, "has a collector that is not a URL"),
        (PLAIN | {"headers": {"authorization": "Bearer sk-ant-oat01-made-up"}}, {}, "has a Claude credential in its headers"),
        (PLAIN | {"headers": {"x-api-key": "os.environ/KEY"}}, {"KEY": "sk-ant-api03-made-up"}, "has a Claude credential"),
    ],
)
def test_a_collector_that_is_not_ready(section, environ, words):
    """Without its variables there is no collector, and a Claude credential goes to no collector."""
    assert [*mistakes(under(section))] == []
    assert problem(section, environ).startswith(words)
    assert telemetry(under(section), environ) is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"telemetry": PLAIN}, "telemetry: belongs under claude_proxy"),
        (under("http://otel:4318"), "should be a mapping with the key collector"),
        (under({}), "collector should be the address of an OTLP collector"),
        (under({"collector": 4318}), "collector should be the address of an OTLP collector"),
        (under({"collector": "otel:4318"}), "collector should be a URL"),
        (under({"collector": "http://otel:4318/v1/metrics"}), "collector should end before /v1"),
        (under(PLAIN | {"headers": ["a: b"]}), "headers should be a mapping"),
        (under(PLAIN | {"headers": {"a b": "c"}}), "headers should be a mapping"),
        (under(PLAIN | {"own": "yes"}), "own should be true or false"),
        (under(PLAIN | {"client": True}), "client is not known; did you mean clients?"),
        (under(PLAIN | {"url": "x"}), "url is not known; the keys are collector, headers, clients, own"),
    ],
)
def test_errors(config, words):
    """Each error names the section and what to write."""
    found = [*mistakes(config)]
    assert len(found) == 1
    assert words in found[0]
