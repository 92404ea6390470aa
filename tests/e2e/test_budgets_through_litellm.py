"""Budgets where every request enters LiteLLM: what it serves is counted, reported and refused as on the proxy's own path."""

import pytest
import upstream as up
from conftest import by_provider
from processes import Proxy
from test_budgets_through_the_proxy import (
    AT_CLAUDE,
    AT_GLM,
    OF_ACCOUNT,
    ask,
    configuration,
    environment,
    leaves_at_once,
    only_priced_models,
    unified,
    usage_of,
)

THROUGH_LITELLM = True


@pytest.fixture(scope="module")
def proxy(shared_upstream: up.Upstream, tmp_path_factory: pytest.TempPathFactory):
    variables = environment(shared_upstream) | {"NUM_WORKERS": "1"}
    more = "    gpt: {input: 1000, output: 2000}\n"
    running = Proxy(tmp_path_factory.mktemp("litellm"), configuration(shared_upstream, more), **variables).wait_ready()
    yield running
    running.stop()


@pytest.mark.parametrize("model", ["claude-sonnet-5", "glm", "gpt"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_response_of_litellm_is_counted(proxy, upstream, model, stream):
    """A response is charged at its model's price, and has the headers of the budget instead of those of the account."""
    upstream.answer = by_provider(claude=lambda seen: up.anthropic_reply(seen, up.text("hello"), headers=OF_ACCOUNT))
    before = usage_of(proxy, "anna")["extra_usage"]["used_credits"]
    response = ask(proxy, "anna", model, stream=stream)
    assert (response.status_code, unified(response)["representative-claim"]) == (200, "overage")
    assert "anthropic-ratelimit-requests-remaining" not in response.headers
    spent = usage_of(proxy, "anna")["extra_usage"]["used_credits"] - before
    assert spent == round(100 * (AT_GLM if model == "glm" else AT_CLAUDE))


def test_a_spent_budget_is_refused_before_litellm(proxy, upstream):
    """The eighth response of two cents spends sixteen cents, and the ninth request reaches no provider."""
    assert [ask(proxy, "eve").status_code for _ in range(9)] == [200] * 8 + [429]
    assert len(upstream.asked) == 8


def test_a_fallback_through_litellm_has_its_own_price(proxy, upstream):
    """LiteLLM's fallback is charged by the model that responded."""
    upstream.answer = by_provider(claude=lambda _: up.anthropic_error(529, "overloaded_error", "busy"))
    before = usage_of(proxy, "anna")["extra_usage"]["used_credits"]
    assert ask(proxy, "anna", "claude-fallback-1").status_code == 200
    assert usage_of(proxy, "anna")["extra_usage"]["used_credits"] - before == round(100 * AT_GLM)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("model", ["claude-sonnet-5", "glm", "gpt"])
def test_a_client_that_leaves_before_the_first_byte_pays_for_its_input(proxy, upstream, model, stream):
    """Once the provider has the request, its input counts, although the client disconnects before any response."""
    leaves_at_once(proxy, proxy, upstream, model, stream=stream)


def test_models_without_a_price_can_be_refused(shared_upstream, upstream, start_proxy):
    """A user with a hard budget gets no model without a price, neither by its name nor as a fallback of LiteLLM's."""
    variables = environment(shared_upstream) | {"NUM_WORKERS": "1"}
    only_priced_models(
        start_proxy("priced", configuration(shared_upstream, "  unpriced_models: refuse\n"), **variables), upstream
    )
