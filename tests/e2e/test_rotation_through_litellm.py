"""The same about the rotation, with every request entering LiteLLM, which hands its attempts to the lanes."""

from test_rotation_through_the_proxy import *  # noqa: F403 - its tests and fixtures are collected here once more

THROUGH_LITELLM = True
