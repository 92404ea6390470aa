"""The same about rules that choose a model, with every request entering LiteLLM."""

from test_rules_through_the_proxy import (
    proxy,
    test_a_model_without_its_key,
    test_the_first_rule_that_fits_applies,
    test_the_requested_model_is_the_last_fallback,
)

__all__ = [
    "proxy",
    "test_a_model_without_its_key",
    "test_the_first_rule_that_fits_applies",
    "test_the_requested_model_is_the_last_fallback",
]

THROUGH_LITELLM = True
