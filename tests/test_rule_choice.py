"""proxy/rule_choice.py: the first rule that fits a request, by header, body and pool."""

import asyncio
import json

import pytest

from claude_proxy.config.models import ActiveConfig
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.rate_limits import Snapshot, Window
from claude_proxy.providers.meter import Meter
from claude_proxy.proxy.request import Request, read_view
from claude_proxy.proxy.rule_choice import RuleChoice
from claude_proxy.secret import Secret
from claude_proxy.upstream import headers as header_policy

PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}


def request(content="hello", user="anna", groups=(), request_class="main"):
    raw = json.dumps({"model": "claude-opus-4-8", "messages": [{"role": "user", "content": content}]}).encode()
    headers = [("X-Claude-Code-Request-Class", request_class)]
    return Request(header_policy.read(headers), headers, raw, read_view(raw), user=user, groups=groups)


def chosen(when, asked, *pool, ready=True, lacks_price=lambda *_: False):
    """The name of the rule for a request, where the week of each account in the pool is used as given."""
    params = {"model": "anthropic/glm-5", "api_base": "https://glm.example", "api_key": "os.environ/GLM"}
    loaded = {
        "model_list": [
            {"model_name": "glm", "litellm_params": params},
            {"model_name": "claude-*", "litellm_params": {"model": "anthropic/claude-*"}},
        ],
        "claude_proxy": {"rules": [{"name": "the-rule", "when": when, "model": "glm"}]},
    }
    found = {"glm": [params | {"api_key": "made-up" if ready else ""}]}
    config = ActiveConfig(
        loaded,
        {"GLM": "made-up"} if ready else {},
        lookup=lambda name: found.get(name, [{"model": f"anthropic/{name}"}]),
    )
    snapshots = [
        Snapshot(
            Credential(f"c{place}", Kind.OAUTH, Secret("made-up"), source="test"),
            None,
            {},
            {("", "7d"): Window(used, 1e9, 0.0)},
            0,
        )
        for place, used in enumerate(pool)
    ]
    choice = RuleChoice(config, Meter(len), lambda: snapshots, lambda: 0.0, lacks_price=lacks_price)
    rule = asyncio.run(choice.rule(asked))
    return rule.name if rule else None


@pytest.mark.parametrize(
    ("when", "asked", "fits"),
    [
        ({"request": "auxiliary"}, request(request_class="auxiliary"), True),
        ({"request": "auxiliary"}, request(), False),
        ({"group": "team-a"}, request(groups=("team-a",)), True),
        ({"images": True}, request([PICTURE]), True),
        ({"images": True}, request([{"type": "tool_result", "tool_use_id": "t", "content": [PICTURE]}]), True),
        ({"images": True}, request('the word "image"'), False),
        ({"images": False}, request([PICTURE]), False),
        ({"images": False}, request(), True),
        ({"tokens_above": 1000}, request("word " * 5000), True),
        ({"tokens_above": 1000}, request("word " * 100), False),
        ({"tokens_above": 1000}, request([PICTURE | {"source": PICTURE["source"] | {"data": "a" * 9000}}] * 1), True),
        ({"tokens_above": 100_000}, request("word " * 5000), False),
    ],
)
def test_header_and_body(when, asked, fits):
    """Every condition of a rule has to hold; an image has tokens of its own, and its data are no text."""
    assert chosen(when, asked) == ("the-rule" if fits else None)


@pytest.mark.parametrize(("pool", "fits"), [([0.9, 0.8], True), ([0.9, 0.7], False), ([], False)])
def test_the_pool(pool, fits):
    """A rule may apply only while the pool's week is nearly used up."""
    assert chosen({"pool_above": {"week": 80}}, request(), *pool) == ("the-rule" if fits else None)


def test_a_model_without_its_key():
    """A rule whose model lacks its key does not apply."""
    assert chosen({}, request()) == "the-rule"
    assert chosen({}, request(), ready=False) is None


def test_a_model_without_its_price():
    """A rule does not apply to a user whose budget needs the price of its model, if that is not known."""
    asked = request()
    assert chosen({}, asked, lacks_price=lambda request, model: (request, model) == (asked, "glm")) is None
    assert chosen({}, asked, lacks_price=lambda request, model: request is not asked) == "the-rule"
