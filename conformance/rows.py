"""The table: Claude Code's expectations of a gateway, their sources, and their checks."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from conformance import providers, requests, responses, routes
from conformance.target import OPENAI_MODEL, THIRD_MODEL, Target


class Source(StrEnum):
    """The source of an expectation."""

    PROTOCOL = "Anthropic's gateway protocol"
    CLIENT = "observed of Claude Code"
    DESIGN = "this project"


@dataclass(frozen=True)
class Row:
    """One expectation. A check returns, or raises ``Differs``; most checks need the requests that the proxy forwards."""

    id: str
    expectation: str
    source: Source
    check: Callable[[Target], None]
    needs_upstream: bool = True


PROTOCOL, CLIENT, DESIGN = Source

REQUESTS = (
    Row("body-value", "The body reaches Claude with all fields and values unchanged.", PROTOCOL, requests.same_value),
    Row("body-order", "Keys, blocks and messages keep their order.", DESIGN, requests.same_order),
    Row("body-bytes", "A body that needs no change reaches Claude byte for byte.", DESIGN, requests.same_bytes),
    Row("system", "The system prompt is unchanged, with the attribution block first.", PROTOCOL, requests.system),
    Row("system-string", "A string as the system prompt is not changed to a list.", PROTOCOL, requests.string_system),
    *(
        Row(f"body-{name.replace('_', '-')}", f"The body's `{name}` reaches Claude unchanged.", PROTOCOL, requests.field(name))
        for name in requests.FIELDS
    ),
    Row("body-thinking", "`thinking` of any type reaches Claude unchanged.", PROTOCOL, requests.thinking),
    Row("body-cache-control", "`cache_control` keeps its `ttl` and `scope`.", CLIENT, requests.cache_control),
    Row("body-tools", "Tools keep unknown fields and types.", PROTOCOL, requests.tools),
    Row("body-blocks", "Messages keep unknown roles and blocks.", PROTOCOL, requests.blocks),
    Row("anthropic-beta", "`anthropic-beta` keeps its order and unknown values.", PROTOCOL, requests.betas),
    Row("context-1m", "The beta of the million-token context is forwarded.", PROTOCOL, requests.long_context),
    Row("anthropic-version", "`anthropic-version` is forwarded unchanged.", PROTOCOL, requests.version),
    *(Row(name, f"`{name}` reaches Claude.", DESIGN, requests.header(name)) for name in requests.HEADERS),
    Row("x-stainless", "The `x-stainless-*` headers reach Claude.", DESIGN, requests.stainless),
    Row("headers-of-tomorrow", "Unknown end-to-end headers reach Claude.", PROTOCOL, requests.unknown_headers),
    Row("hop-by-hop", "Headers about the client's connection are not forwarded.", DESIGN, requests.hop_by_hop),
    Row("x-litellm", "`x-litellm-*` headers are not forwarded.", DESIGN, requests.switches_of_litellm),
    Row("proxy-token", "The gateway's token is not forwarded.", DESIGN, requests.proxy_token),
    Row("own-login", "A client's own Claude login reaches Claude as a bearer token.", PROTOCOL, requests.own_login),
    Row("query", "`?beta=true` is kept.", CLIENT, requests.query),
    Row("no-rekeying", "Body fields such as `api_key` and `api_base` change neither the target nor the key.", DESIGN,
        requests.no_rekeying),
)  # fmt: skip

RESPONSES = (
    Row("response-bytes", "A whole response is returned byte for byte.", DESIGN, responses.same_body),
    Row("stream-bytes", "A stream is returned byte for byte.", DESIGN, responses.same_stream),
    Row("response-headers", "`request-id`, `anthropic-*` and `retry-after` of a whole response are returned.", CLIENT,
        responses.success_headers(stream=False)),
    Row("stream-headers", "`request-id`, `anthropic-*` and `retry-after` of a stream are returned.", CLIENT,
        responses.success_headers(stream=True)),
    *(
        Row(f"error-{status}", f"An error {status} is returned with its status, its body byte for byte, and `retry-after`, "
            "`request-id`, `anthropic-ratelimit-unified-*`, `x-should-retry`.", PROTOCOL, responses.error(status))
        for status in responses.ERRORS
    ),
    *(
        Row(f"recovery-{name}", f"Claude Code recovers from “{words[:60].rstrip()}…”: the message arrives, after one request.",
            PROTOCOL, responses.recovery(name))
        for name, words in responses.RECOVERABLE.items()
    ),
    Row("error-event", "An error event in a stream is returned unchanged.", CLIENT, responses.error_in_the_stream),
    Row("dropped-stream", "A stream that breaks off gets no added end.", CLIENT, responses.drop),
    Row("first-event", "The first event arrives before the second event exists.", PROTOCOL, responses.first_event),
    Row("ping", "`ping` events keep their places.", PROTOCOL, responses.pings),
    Row("gzip", "A compressed response can be read.", CLIENT, responses.compressed(stream=False)),
    Row("gzip-stream", "A compressed stream can be read.", CLIENT, responses.compressed(stream=True)),
    Row("message-id", "Responses keep their message ids.", CLIENT, responses.message_ids),
    Row("response-model", "A whole response names the requested model.", CLIENT, responses.model_name(stream=False)),
    Row("stream-model", "A stream names the requested model.", CLIENT, responses.model_name(stream=True)),
)  # fmt: skip

ROUTES = (
    Row("head", "`HEAD /` succeeds without a token.", CLIENT, routes.head, needs_upstream=False),
    Row("models", "`GET /v1/models?limit=1000` lists models in Anthropic's shape.", PROTOCOL, routes.models,
        needs_upstream=False),
    Row("models-kept", "Every model is listed under an id that Claude Code accepts.", PROTOCOL, routes.models_kept,
        needs_upstream=False),
    Row("models-served", "A model is served under its listed id, which its responses name.", CLIENT, routes.models_served),
    Row("models-token", "The list of models accepts the token in `Authorization` or `x-api-key`.", PROTOCOL,
        routes.models_by_any_token, needs_upstream=False),
    Row("count", "`count_tokens` returns Claude's number.", PROTOCOL, routes.count),
    Row("count-as-sent", "`count_tokens` sends Claude the client's body, betas and login.", PROTOCOL, routes.count_as_sent),
    Row("count-bills-nothing", "`count_tokens` never requests a message.", CLIENT, routes.count_bills_nothing),
    Row("trailing-slash", "`POST /v1/messages/` is not redirected.", CLIENT, routes.trailing_slash, needs_upstream=False),
    Row("prefix", "`/anthropic/v1/messages` is the same as `/v1/messages`.", CLIENT, routes.alias),
    Row("bad-token", "A wrong token gets a 401 in Anthropic's shape that is not retried.", CLIENT,
        routes.bad_token("/v1/messages"), needs_upstream=False),
    Row("bad-token-count", "The same for `count_tokens`.", CLIENT, routes.bad_token("/v1/messages/count_tokens"),
        needs_upstream=False),
    Row("bad-token-models", "The same for the list of models.", CLIENT, routes.bad_token("/v1/models", "GET"),
        needs_upstream=False),
    Row("no-token", "The same without a token.", CLIENT, routes.no_token, needs_upstream=False),
    Row("unknown-model", "An unknown model gets a 404 in Anthropic's shape that is not retried.", CLIENT, routes.unknown_model,
        needs_upstream=False),
    Row("bad-json", "A body that is not JSON gets a 400 in Anthropic's shape that is not retried.", CLIENT, routes.bad_json,
        needs_upstream=False),
    Row("no-model", "A body without a model gets a 400 in Anthropic's shape that is not retried.", CLIENT, routes.no_model,
        needs_upstream=False),
    *(
        Row(f"closed{path.replace('/', '-').replace('_', '-')}", f"`{path}` is closed, or forwards requests unchanged.", DESIGN,
            routes.closed_or_right(path))
        for path in ("/v1/messages/batches", "/v1/files")
    ),
)  # fmt: skip

PROVIDERS = (
    Row("openai-path", "A request for an `openai/` model is sent to `/v1/chat/completions`.", DESIGN,
        providers.chat_completions(stream=False)),
    Row("openai-path-stream", "The same for a stream.", DESIGN, providers.chat_completions(stream=True)),
    Row("openai-no-thinking", "An `openai/` model gets neither thinking parameters nor thinking blocks.", DESIGN,
        providers.no_thinking),
    Row("openai-no-cache-control", "An `openai/` model gets no `cache_control`.", PROTOCOL, providers.no_cache_control),
    Row("openai-no-billing", "An `openai/` model does not get the attribution block.", DESIGN, providers.no_billing),
    Row("openai-tools", "Tool calls and their results reach an `openai/` model in pairs.", DESIGN, providers.tool_pairs),
    Row("openai-no-reasoning", "An `openai/` model's reasoning is not returned as thinking.", CLIENT,
        providers.no_reasoning_back(stream=False)),
    Row("openai-no-reasoning-stream", "The same for a stream.", CLIENT, providers.no_reasoning_back(stream=True)),
    Row("openai-model", "An `openai/` model's response names the requested model.", CLIENT,
        providers.model_name(OPENAI_MODEL)),
    Row("openai-no-login", "An `openai/` model gets no Claude login of a client.", DESIGN, providers.no_login(OPENAI_MODEL)),
    Row("openai-no-rekeying", "The row `no-rekeying` for an `openai/` model.", DESIGN,
        providers.no_rekeying),
    Row("third-party", "A provider with Anthropic's format and its own address responds.", DESIGN, providers.third_party),
    Row("third-party-model", "Its response names the requested model.", CLIENT, providers.model_name(THIRD_MODEL)),
    Row("third-party-no-login", "It gets no Claude login of a client.", DESIGN, providers.no_login(THIRD_MODEL)),
    Row("foreign-thinking", "Thinking that Claude did not sign does not break the conversation.", CLIENT,
        providers.foreign_thinking),
    Row("signed-thinking", "Thinking that Claude signed is sent back to it unchanged.", PROTOCOL, providers.signed_thinking),
)  # fmt: skip

GROUPS = {
    "Requests to Claude": REQUESTS,
    "Responses of Claude": RESPONSES,
    "The gateway's own routes": ROUTES,
    "Other providers": PROVIDERS,
}
ROWS = tuple(row for group in GROUPS.values() for row in group)
