"""The table of providers: what each understands of what Claude Code sends. Plain values, no I/O.

Claude at Anthropic is not in here: it gets what the client sent. Every other provider has a row in ``ROWS``; one that is not
known gets ``STRICT``. ``request_fields.py`` makes a request fit a row, ``returned.py`` the response.
"""

from dataclasses import dataclass
from enum import Enum

from claude_proxy.providers.endpoints import Origin


class Thinking(Enum):
    """Whose thinking a provider is sent."""

    NONE = "nobody's: neither blocks nor parameters"
    OWN = "its own comes back to it, because it works better with it"
    OWN_OR_OFF = "its own; when a turn with calls has none, thinking is switched off, for it answers 400 otherwise"
    CLAUDE = "Claude's, which is signed: the provider runs Claude, and a signature holds on every platform"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A row of the table. The defaults are the strictest: what a provider is not known to understand is not sent."""

    name: str
    # LiteLLM's provider, the part of a model before the first "/"; of several rows with one prefix the first that fits.
    prefix: str = ""
    # Hosts of an Anthropic-format endpoint, which is LiteLLM's prefix "anthropic" with an api_base.
    hosts: tuple[str, ...] = ()
    # Whose model it has to be on a cloud that has several, by the parts of the model's id.
    vendor: str = ""
    # Marks of the plain form, {"type": "ephemeral"}, stay; `ttl` and `scope` never do.
    cache_control: bool = False
    thinking: Thinking = Thinking.NONE
    effort: bool = False
    # Values of `anthropic-beta` that may go, in the place where the provider reads them.
    betas: frozenset[str] = frozenset()
    # Types of server tools that the provider runs itself.
    server_tools: tuple[str, ...] = ()
    images: bool = True
    # The format has a key for its prompt cache, and gets a digest of the session in it.
    prompt_cache_key: bool = False
    # The provider signs its calls, and wants the signature back; it travels in the call's id.
    signs_calls: bool = False
    # The provider fetches an image's address itself, and LiteLLM passes it on as it is.
    addresses: bool = False
    # LiteLLM passes the references in a tool's schema on as they are.
    references: bool = False


STRICT = Dialect("unknown")

# One row a provider, the more specific one first. A row needs a source: what the provider documents or answers.
ROWS = (
    # Prompt caching and thinking are documented for both; a beta goes into the body. Server tools run at Anthropic only,
    # except the web search on Vertex. AWS refuses `context_management`, `scope` and betas that it does not know with 400.
    Dialect(
        "bedrock", prefix="bedrock", vendor="anthropic", cache_control=True, thinking=Thinking.CLAUDE, effort=True,
        references=True,
        betas=frozenset({"context-1m-2025-08-07", "effort-2025-11-24", "interleaved-thinking-2025-05-14"}),
    ),
    Dialect(
        "vertex", prefix="vertex_ai", vendor="claude", cache_control=True, thinking=Thinking.CLAUDE, effort=True,
        references=True,
        betas=frozenset({"context-1m-2025-08-07", "interleaved-thinking-2025-05-14", "web-search-2025-03-05"}),
        server_tools=("web_search_20250305",),
    ),
    # Both take no `user` of more than 64 characters.
    Dialect("openai", prefix="openai", hosts=("api.openai.com",), prompt_cache_key=True, addresses=True, references=True),
    Dialect("azure", prefix="azure", prompt_cache_key=True, addresses=True, references=True),
    Dialect("openai-compatible", prefix="openai", addresses=True, references=True),
    # Works better with its thought signatures; where one is missing, LiteLLM puts a word there that makes up for it.
    Dialect("gemini", prefix="gemini", signs_calls=True),
    Dialect("gemini-on-vertex", prefix="vertex_ai", signs_calls=True),
    # The chat-completions endpoint and the Anthropic-format one understand cache marks.
    Dialect("openrouter-chat", prefix="openrouter", cache_control=True, addresses=True, references=True),
    Dialect("openrouter", hosts=("openrouter.ai",), cache_control=True),
    # Answers 400 to a `metadata.user_id` of more than 128 characters.
    Dialect("zai", hosts=("api.z.ai", "open.bigmodel.cn"), cache_control=True),
    # 400 "thinking is enabled but reasoning_content is missing in assistant tool call message at index 7".
    Dialect(
        "kimi", hosts=("api.kimi.com", "api.moonshot.ai", "api.moonshot.cn"), cache_control=True,
        thinking=Thinking.OWN_OR_OFF,
    ),
    # 400 "The `content[].thinking` in the thinking mode must be passed back to the API"; thinks unless it is told not to.
    # Its compatibility page lists images, documents and server tools as not supported.
    Dialect("deepseek", hosts=("api.deepseek.com",), thinking=Thinking.OWN_OR_OFF, images=False),
    # Wants the whole content of its answers back, thinking included, and says so; without it, it answers all the same.
    Dialect("minimax", hosts=("api.minimax.io", "api.minimaxi.com"), cache_control=True, thinking=Thinking.OWN),
)  # fmt: skip


def dialect(model: str, custom_llm_provider: str | None, api_base: str | None) -> Dialect:
    """Return the row of a deployment, told by LiteLLM's provider, the parsed host and, for clouds, the model's vendor."""
    prefix = custom_llm_provider or model.split("/", 1)[0]
    origin = Origin.of(api_base) if api_base else None
    host = origin.host if origin else ""
    for row in ROWS:
        if row.prefix and row.prefix != prefix:
            continue
        if row.hosts and host not in row.hosts and not (row.prefix and api_base is None):
            continue
        if (row.prefix or prefix == "anthropic") and (not row.vendor or _is_of(row.vendor, model)):
            return row
    return STRICT


def _is_of(vendor: str, model: str) -> bool:
    """Whether a cloud's model id names this vendor: ``us.anthropic.claude-x``, ``claude-x@date``; an ARN does not say."""
    last = model.rsplit("/", 1)[-1]
    return vendor in last.split(".") or last.split("-", 1)[0] == vendor


def allowed_betas(header: str | None, row: Dialect) -> list[str]:
    """Return the values of an ``anthropic-beta`` header that the provider may be sent, each once, in their order."""
    values = [value.strip() for value in (header or "").split(",")]
    return [value for value in dict.fromkeys(values) if value in row.betas]
