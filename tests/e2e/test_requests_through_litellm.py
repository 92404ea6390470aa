"""The latest requests of the real proxy, where each request passes through LiteLLM."""

from test_requests_through_the_proxy import (  # noqa: F401 - collected here once more
    test_a_request_has_its_attempts,
    test_who_sees_which_requests,
)

THROUGH_LITELLM = True
