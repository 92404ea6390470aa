"""The same about searches of the web, with every request entering LiteLLM, which hands its attempts to the lanes."""

import pytest
from test_web_search_through_the_proxy import (
    running,
    searching,
    test_a_search,
    test_a_second_round_that_fails,
    test_a_tool_of_the_clients_beside,
)

__all__ = ["running", "searching", "test_a_search", "test_a_second_round_that_fails", "test_a_tool_of_the_clients_beside"]

THROUGH_LITELLM = True
pytestmark = pytest.mark.parametrize("running", ["searxng"], indirect=True)
