"""The table: what Claude Code expects of a gateway, who says so, and the check of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from conformance import answers, providers, requests, routes
from conformance.target import OPENAI_MODEL, THIRD_MODEL, Target


class Source(StrEnum):
    """Who says so."""

    PROTOCOL = "Anthropic's gateway protocol"
    CLIENT = "observed of Claude Code"
    DESIGN = "this project"


@dataclass(frozen=True)
class Row:
    """One expectation. A check returns, or raises ``Differs``; most have to see what the proxy sends on."""

    id: str
    expectation: str
    source: Source
    check: Callable[[Target], None]
    needs_upstream: bool = True


PROTOCOL, CLIENT, DESIGN = Source

REQUESTS = (
    Row("body-value", "The body reaches Claude with every field and every value as they were.", PROTOCOL, requests.same_value),
    Row("body-order", "Keys, blocks and messages keep their order.", DESIGN, requests.same_order),
    Row("body-bytes", "A body in which nothing has to change arrives byte for byte.", DESIGN, requests.same_bytes),
    Row("system", "The system prompt is untouched, the attribution block first in it.", PROTOCOL, requests.system),
    Row("system-string", "A system prompt that is a string stays one.", PROTOCOL, requests.string_system),
    *(
        Row(f"body-{name.replace('_', '-')}", f"The body's `{name}` reaches Claude as it was.", PROTOCOL, requests.field(name))
        for name in requests.FIELDS
    ),
    Row("body-thinking", "`thinking` of any type reaches Claude as it was.", PROTOCOL, requests.thinking),
    Row("body-cache-control", "`cache_control` keeps its `ttl` and `scope`.", CLIENT, requests.cache_control),
    Row("body-tools", "Tools keep fields and types that the gateway does not know.", PROTOCOL, requests.tools),
    Row("body-blocks", "Messages keep roles and blocks that the gateway does not know.", PROTOCOL, requests.blocks),
    Row("anthropic-beta", "`anthropic-beta` is forwarded verbatim: order and unknown values.", PROTOCOL, requests.betas),
    Row("context-1m", "The beta of the million-token context passes.", PROTOCOL, requests.long_context),
    Row("anthropic-version", "`anthropic-version` is forwarded unchanged.", PROTOCOL, requests.version),
    *(Row(name, f"`{name}` reaches Claude.", DESIGN, requests.header(name)) for name in requests.HEADERS),
    Row("x-stainless", "The `x-stainless-*` headers reach Claude.", DESIGN, requests.stainless),
    Row("headers-of-tomorrow", "Unknown end-to-end headers reach Claude.", PROTOCOL, requests.unknown_headers),
    Row("hop-by-hop", "Headers about the client's connection stay with the gateway.", DESIGN, requests.hop_by_hop),
    Row("x-litellm", "`x-litellm-*` headers stay with the gateway.", DESIGN, requests.switches_of_litellm),
    Row("proxy-token", "The gateway's token stays with the gateway.", DESIGN, requests.proxy_token),
    Row("own-login", "A client's own Claude login reaches Claude as a bearer token.", PROTOCOL, requests.own_login),
    Row("query", "`?beta=true` is kept.", CLIENT, requests.query),
    Row("no-rekeying", "A body's `api_key`, `api_base` and the like do not change who is asked, or with what key.", DESIGN,
        requests.no_rekeying),
)  # fmt: skip

ANSWERS = (
    Row("answer-bytes", "A whole answer comes back byte for byte.", DESIGN, answers.same_body),
    Row("stream-bytes", "A stream comes back byte for byte.", DESIGN, answers.same_stream),
    Row("answer-headers", "`request-id`, `anthropic-*` and `retry-after` of a whole answer come back.", CLIENT,
        answers.success_headers(stream=False)),
    Row("stream-headers", "`request-id`, `anthropic-*` and `retry-after` of a stream come back.", CLIENT,
        answers.success_headers(stream=True)),
    *(
        Row(f"error-{status}", f"An error {status} comes back with its status, its body byte for byte, and `retry-after`, "
            "`request-id`, `anthropic-ratelimit-unified-*`, `x-should-retry`.", PROTOCOL, answers.error(status))
        for status in answers.ERRORS
    ),
    *(
        Row(f"healed-{name}", f"Claude Code heals by the words “{words[:60].rstrip()}…”: they arrive, after one request.",
            PROTOCOL, answers.healed(name))
        for name, words in answers.HEALED.items()
    ),
    Row("error-event", "An error in the middle of a stream arrives as it was sent.", CLIENT, answers.error_in_the_stream),
    Row("dropped-stream", "A stream that breaks off ends without a made-up end.", CLIENT, answers.drop),
    Row("first-event", "The first event arrives before the second one is there.", PROTOCOL, answers.first_event),
    Row("ping", "`ping` events arrive where they were.", PROTOCOL, answers.pings),
    Row("gzip", "A compressed answer can be read.", CLIENT, answers.compressed(stream=False)),
    Row("gzip-stream", "A compressed stream can be read.", CLIENT, answers.compressed(stream=True)),
    Row("message-id", "Answers keep their message ids.", CLIENT, answers.message_ids),
    Row("answer-model", "A whole answer names the model that was asked for.", CLIENT, answers.model_name(stream=False)),
    Row("stream-model", "A stream names the model that was asked for.", CLIENT, answers.model_name(stream=True)),
)  # fmt: skip

ROUTES = (
    Row("head", "`HEAD /` is answered without a token.", CLIENT, routes.head, needs_upstream=False),
    Row("models", "`GET /v1/models?limit=1000` lists models in Anthropic's shape.", PROTOCOL, routes.models,
        needs_upstream=False),
    Row("models-kept", "Every model is listed under an id that Claude Code keeps.", PROTOCOL, routes.models_kept,
        needs_upstream=False),
    Row("models-served", "A model is served under the id on the list, and answers under it.", CLIENT, routes.models_served),
    Row("models-token", "The list of models takes the token in `Authorization` or `x-api-key`.", PROTOCOL,
        routes.models_by_any_token, needs_upstream=False),
    Row("count", "`count_tokens` gives Claude's number.", PROTOCOL, routes.count),
    Row("count-as-sent", "`count_tokens` sends Claude the client's body, betas and login.", PROTOCOL, routes.count_as_sent),
    Row("count-bills-nothing", "`count_tokens` never asks for an answer.", CLIENT, routes.count_bills_nothing),
    Row("trailing-slash", "`POST /v1/messages/` is not redirected.", CLIENT, routes.trailing_slash, needs_upstream=False),
    Row("prefix", "`/anthropic/v1/messages` is the same as `/v1/messages`.", CLIENT, routes.alias),
    Row("bad-token", "A wrong token is a 401 in Anthropic's shape that is not repeated.", CLIENT,
        routes.bad_token("/v1/messages"), needs_upstream=False),
    Row("bad-token-count", "So it is for `count_tokens`.", CLIENT, routes.bad_token("/v1/messages/count_tokens"),
        needs_upstream=False),
    Row("bad-token-models", "So it is for the list of models.", CLIENT, routes.bad_token("/v1/models", "GET"),
        needs_upstream=False),
    Row("no-token", "So it is without a token.", CLIENT, routes.no_token, needs_upstream=False),
    Row("unknown-model", "An unknown model is a 404 in Anthropic's shape that is not repeated.", CLIENT, routes.unknown_model,
        needs_upstream=False),
    Row("bad-json", "A body that is not JSON is a 400 in Anthropic's shape that is not repeated.", CLIENT, routes.bad_json,
        needs_upstream=False),
    Row("no-model", "A body without a model is a 400 in Anthropic's shape that is not repeated.", CLIENT, routes.no_model,
        needs_upstream=False),
    *(
        Row(f"closed{path.replace('/', '-').replace('_', '-')}", f"`{path}` is closed, or sends on what came.", DESIGN,
            routes.closed_or_right(path))
        for path in ("/v1/messages/batches", "/v1/files")
    ),
)  # fmt: skip

PROVIDERS = (
    Row("openai-path", "An `openai/` model is asked at `/v1/chat/completions`.", DESIGN,
        providers.chat_completions(stream=False)),
    Row("openai-path-stream", "So it is for a stream.", DESIGN, providers.chat_completions(stream=True)),
    Row("openai-no-thinking", "No thinking parameter and no thinking block reaches an `openai/` model.", DESIGN,
        providers.no_thinking),
    Row("openai-no-cache-control", "No `cache_control` reaches an `openai/` model.", PROTOCOL, providers.no_cache_control),
    Row("openai-no-billing", "The attribution block reaches no `openai/` model.", DESIGN, providers.no_billing),
    Row("openai-tools", "Tool calls and their results reach an `openai/` model in pairs.", DESIGN, providers.tool_pairs),
    Row("openai-no-reasoning", "An `openai/` model's reasoning does not come back as thinking.", CLIENT,
        providers.no_reasoning_back(stream=False)),
    Row("openai-no-reasoning-stream", "So it is for a stream.", CLIENT, providers.no_reasoning_back(stream=True)),
    Row("openai-model", "An `openai/` model's answer names the model that was asked for.", CLIENT,
        providers.model_name(OPENAI_MODEL)),
    Row("openai-no-login", "A client's Claude login reaches no `openai/` model.", DESIGN, providers.no_login(OPENAI_MODEL)),
    Row("openai-no-rekeying", "So it is for an `openai/` model.", DESIGN,
        providers.no_rekeying),
    Row("third-party", "A provider of Anthropic's format with an address of its own answers.", DESIGN, providers.third_party),
    Row("third-party-model", "Its answer names the model that was asked for.", CLIENT, providers.model_name(THIRD_MODEL)),
    Row("third-party-no-login", "A client's Claude login does not reach it.", DESIGN, providers.no_login(THIRD_MODEL)),
    Row("foreign-thinking", "Thinking that Claude did not sign does not break the conversation.", CLIENT,
        providers.foreign_thinking),
    Row("signed-thinking", "Thinking that Claude signed goes back to it unchanged.", PROTOCOL, providers.signed_thinking),
)  # fmt: skip

GROUPS = {
    "What Claude is sent": REQUESTS,
    "What comes back from Claude": ANSWERS,
    "The gateway's own routes": ROUTES,
    "Other providers": PROVIDERS,
}
ROWS = tuple(row for group in GROUPS.values() for row in group)
