"""check/steps.py: the steps of the checks, which a command shows on a terminal."""

from types import SimpleNamespace

import httpx

from claude_proxy.check import live, table
from claude_proxy.check.steps import silently
from claude_proxy.config.settings import Settings
from claude_proxy.providers.endpoints import Hosts


def test_steps_are_yielded_in_their_order():
    """Without anyone to show them, steps are the second parts of the pairs, each taken when it is worked on."""
    taken = []

    def pairs():
        for number in range(3):
            taken.append(number)
            yield f"step {number}", number

    steps = silently(pairs())
    assert (next(steps), taken) == (0, [0])
    assert [*steps] == [1, 2]


def test_every_check_and_every_request_is_a_step(monkeypatch):
    """The words of each check, model and credential are shown while it is under way."""
    shown = []

    def steps(pairs):
        for words, step in pairs:
            shown.append(words)
            yield step

    facts = SimpleNamespace(config={}, has_models=False, client=None, names=[], models=[])
    monkeypatch.setattr(table, "CHECKS", (table.Check("every host responds", lambda _: iter(()), table.When.ONLINE),))
    assert [check.title for check, _ in table.run(facts, table.When.ONLINE, steps=steps)] == ["every host responds"]
    monkeypatch.setattr(live, "asked_models", lambda _: ["glm"])
    monkeypatch.setattr(live, "unready", lambda _: {})
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), trust_env=False) as client:
        assert [one.place for one in live.ask_models(client, facts, Settings.parse({}), steps=steps)] == ["glm"]
        settings = Settings.parse({"CLAUDE_OAUTH_TOKENS": "anna=sk-ant-oat01-made-up"})
        assert [one.place for one in live.ask_credentials(client, settings, Hosts(), lambda: 0.0, steps=steps)] == ["anna"]
    assert shown == [
        "Checking: every host responds ...",
        "Sending a request to the model glm ...",
        "Sending a request with the credential anna ...",
    ]
