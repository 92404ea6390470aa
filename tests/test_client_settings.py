"""config/client_settings.py: what Claude Code's settings are called, and what kind each is."""

import pytest

from claude_proxy.config import client_settings
from claude_proxy.config.client_settings import CHOICES, KINDS, NESTED, mistakes, unknown, unknown_words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"verbose": "yes"}, ["verbose: should be true or false"]),
        ({"cleanupPeriodDays": 1.5}, ["cleanupPeriodDays: should be a whole number"]),
        ({"cleanupPeriodDays": True}, ["cleanupPeriodDays: should be a whole number"]),
        ({"cleanupPeriodDays": 30.0, "feedbackSurveyRate": 0.5, "autoCompactWindow": "auto"}, []),
        ({"feedbackSurveyRate": "0.5"}, ["feedbackSurveyRate: should be a number"]),
        ({"availableModels": "opus"}, ["availableModels: should be a list of texts"]),
        ({"availableModels": ["opus", 5]}, ["availableModels: should be a list of texts"]),
        ({"permissions": []}, ["permissions: should be a mapping"]),
        ({"permissions": {"deny": "x", "defaultMode": 1}},
         ["permissions: deny: should be a list of texts", "permissions: defaultMode: should be a text; write it in quotes"]),
        ({"modelOverrides": {"a": 1}}, ["modelOverrides: should be a mapping of texts; write each value in quotes"]),
        ({"env": {"A": ["x"]}}, ["env: should be a mapping of names to texts"]),
        ({"env": {"A": 1, "B": True, "C": None}}, []),
        ({"remoteMessageReceipts": True}, ["remoteMessageReceipts: should be one of on, always, off; write it in quotes"]),
        ({"modelPicker": {"options": [{"model": "a"}, {"label": "b"}, {"model": 1}], "replaceBuiltInOptions": 1}},
         ["modelPicker: replaceBuiltInOptions: should be true or false",
          "modelPicker: options: entry 2 should have a model, and label, description, behavesAs as texts",
          "modelPicker: options: entry 3 should have a model, and label, description, behavesAs as texts"]),
        ({"verbose": None, "of a newer release": object()}, []),
    ],
)  # fmt: skip
def test_a_value_of_another_kind(settings, words):
    """A value that Claude Code would ignore is named with what it should be; a key that is not known has no kind."""
    assert [*mistakes(settings)] == words


def test_keys_that_are_not_known():
    """A key that Claude Code does not know is named with its place, and with the keys that are known there."""
    found = dict(unknown({"verbos": True, "modelPicker": {"option": []}, "permissions": {"newer": 1}, "$schema": "x"}))
    assert found == {("verbos",): tuple(KINDS), ("modelPicker", "option"): tuple(NESTED["modelPicker"])}


def test_words_that_are_not_known():
    """A word that is none of a setting's is named with the words; a newer release may know more."""
    assert [*unknown_words({"effortLevel": "highest", "tui": "default", "viewMode": None})] == [
        ("effortLevel", CHOICES["effortLevel"])
    ]


def test_each_name_has_one_kind():
    """Each setting is in the table once."""
    named = [name for _, names in client_settings._NAMES for name in names.split()] + [*CHOICES]
    assert len(named) == len({*named}) == len(KINDS) > 200
    assert not {name for name in KINDS if name != "$schema" and not name.isalnum()}
