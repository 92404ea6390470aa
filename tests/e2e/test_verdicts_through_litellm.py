"""The same about what a response says about a credential, with every request entering LiteLLM.

LiteLLM hands its attempts to the lanes.
"""

from test_verdicts_through_the_proxy import *  # noqa: F403 - its tests and fixtures are collected here once more

THROUGH_LITELLM = True
