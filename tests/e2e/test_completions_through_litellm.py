"""The same about providers whose format LiteLLM alone knows, with every request entering LiteLLM, which asks the lanes."""

from test_completions_through_the_proxy import *  # noqa: F403 - its tests and fixtures are collected here once more

THROUGH_LITELLM = True
# LiteLLM's router may choose the same deployment again.
del test_several_deployments_of_one_name  # noqa: F821
