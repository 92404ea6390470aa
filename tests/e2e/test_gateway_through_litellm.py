"""The same about the gateway, with every request entering LiteLLM, which hands its attempts to the lanes."""

from test_gateway_through_the_proxy import *  # noqa: F403 - its tests and fixtures are collected here once more

THROUGH_LITELLM = True
