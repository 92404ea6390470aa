"""The same about what Claude sees of the real client's requests, with every request entering LiteLLM.

LiteLLM hands its attempts to the lanes.
"""

from test_fixtures_through_the_proxy import *  # noqa: F403 - its tests and fixtures are collected here once more

THROUGH_LITELLM = True
