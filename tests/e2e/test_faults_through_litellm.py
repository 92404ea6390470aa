"""The same about an upstream's faults, with every request entering LiteLLM, which hands its attempts to the lanes."""

from test_faults_through_the_proxy import *  # noqa: F403 - its tests and fixtures are collected here once more

THROUGH_LITELLM = True
