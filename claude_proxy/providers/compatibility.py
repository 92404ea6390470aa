"""The table of providers: which parts of Claude Code's requests each one accepts. Plain values, no I/O.

Claude at Anthropic is not listed: it gets the client's request unchanged. Every other provider has a row in ``ROWS``; an
unknown provider gets ``STRICT``. ``request_fields.py`` adapts a request to a row, ``returned.py`` the response.
"""

from dataclasses import dataclass
from enum import Enum

from claude_proxy.providers.endpoints import Origin


class Thinking(Enum):
    """Which thinking is sent to a provider."""

    NONE = "none: neither blocks nor parameters"
    OWN = "the provider's own thinking, because the provider works better with it"
    OWN_OR_OFF = "the provider's own; disabled if a turn with calls has none, because the provider then responds 400"
    CLAUDE = "Claude's signed thinking: the provider runs Claude, and signatures are valid on every platform"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A row of the table. The defaults are the strictest: only what a provider is known to accept is sent."""

    name: str
    # LiteLLM's provider: the part of a model before the first "/". Of several rows with one prefix the first match applies.
    prefix: str = ""
    # Hosts of an Anthropic-format endpoint (LiteLLM's prefix "anthropic" with an api_base).
    hosts: tuple[str, ...] = ()
    # The required vendor of the model on a cloud with models of several vendors, matched against the parts of the model's id.
    vendor: str = ""
    # Whether cache marks of the plain form, {"type": "ephemeral"}, are kept. `ttl` and `scope` are always removed.
    cache_control: bool = False
    thinking: Thinking = Thinking.NONE
    effort: bool = False
    # The allowed values of `anthropic-beta`, sent where the provider reads them.
    betas: frozenset[str] = frozenset()
    # Types of server tools that the provider runs itself.
    server_tools: tuple[str, ...] = ()
    images: bool = True
    # Whether the format has a field for a prompt cache key. The provider gets a digest of the session in it.
    prompt_cache_key: bool = False
    # Whether the provider signs its calls and requires the signature in later requests. The call's id carries it.
    signs_calls: bool = False
    # Whether the provider fetches an image's URL itself, and LiteLLM forwards the URL unchanged.
    addresses: bool = False
    # Whether LiteLLM fetches a document for the provider, or forwards its URL.
    fetches: bool = False
    # Whether LiteLLM forwards references in a tool's schema unchanged.
    references: bool = False
    # Hosts of a chat-completions endpoint under LiteLLM's prefix "openai" with an api_base. `server` is the value of
    # `model_info: chat_server` for a self-hosted server, whose host says nothing about it.
    chat_hosts: tuple[str, ...] = ()
    server: str = ""
    # For chat completions: the field that limits the response's length, the maximum number of stop sequences and tools (0: no
    # limit), and support for `top_k`, for PDFs as a `file` part, for `stream_options` and for `response_format: json_schema`.
    max_tokens: str = "max_tokens"
    stops: int = 4
    tools: int = 0
    top_k: bool = False
    files: bool = False
    stream_options: bool = True
    json_schema: bool = True
    # Whether `tool_choice` may name a tool. If not, only that tool is sent, and a call is required.
    named_choice: bool = True
    # Whether the provider expects numbered call ids: `functions.NAME:N`.
    numbered_calls: bool = False


STRICT = Dialect("unknown")

# One row per provider, more specific rows first. Each row needs a source: the provider's documentation or its responses.
ROWS = (
    # Both document prompt caching and thinking; betas are sent in the body. Server tools run only at Anthropic, except the web
    # search on Vertex. AWS rejects `context_management`, `scope` and unknown betas with 400.
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
    # Both reject a `user` of more than 64 characters, and a 129th tool. `max_tokens` is deprecated, and reasoning models
    # reject it.
    Dialect(
        "openai", prefix="openai", hosts=("api.openai.com",), prompt_cache_key=True, addresses=True, references=True,
        max_tokens="max_completion_tokens", files=True, tools=128,
    ),
    Dialect(
        "azure", prefix="azure", prompt_cache_key=True, addresses=True, references=True,
        max_tokens="max_completion_tokens", files=True, tools=128,
    ),
    # Providers of chat completions, by LiteLLM's prefix, or by their host under `openai/`.
    Dialect(
        "groq", prefix="groq", chat_hosts=("api.groq.com",), references=True, addresses=True, tools=128,
        max_tokens="max_completion_tokens",
    ),
    Dialect("together", prefix="together_ai", chat_hosts=("api.together.xyz",), references=True, addresses=True, top_k=True),
    # Requires `reasoning_content` within a tool loop, and accepts no images.
    Dialect(
        "deepseek-chat", prefix="deepseek", chat_hosts=("api.deepseek.com",), references=True, images=False,
        thinking=Thinking.OWN,
    ),
    # Kimi K2 was trained on numbered call ids, and its documentation requires them.
    Dialect(
        "moonshot", prefix="moonshot", chat_hosts=("api.moonshot.ai", "api.moonshot.cn"), references=True, addresses=True,
        thinking=Thinking.OWN, numbered_calls=True,
    ),
    Dialect(
        "zai-chat", prefix="zai", chat_hosts=("api.z.ai", "open.bigmodel.cn"), references=True, addresses=True, stops=1,
        thinking=Thinking.OWN, json_schema=False,
    ),
    Dialect("minimax-chat", prefix="minimax", chat_hosts=("api.minimax.io",), references=True, thinking=Thinking.OWN),
    Dialect(
        "dashscope", prefix="dashscope", references=True, addresses=True, top_k=True,
        chat_hosts=("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
    ),
    Dialect("xai", prefix="xai", chat_hosts=("api.x.ai",), references=True, addresses=True),
    # Responds 422 to an unknown field. Its streams always contain token counts.
    Dialect("mistral", prefix="mistral", chat_hosts=("api.mistral.ai",), references=True, addresses=True, stream_options=False),
    Dialect(
        "fireworks", prefix="fireworks_ai", chat_hosts=("api.fireworks.ai",), references=True, addresses=True, top_k=True
    ),
    Dialect("cerebras", prefix="cerebras", chat_hosts=("api.cerebras.ai",), references=True, images=False),
    Dialect("nvidia", prefix="nvidia_nim", chat_hosts=("integrate.api.nvidia.com",), references=True, addresses=True),
    # Its router calls one of many providers; the row follows the router's own reference.
    Dialect(
        "hugging-face", prefix="huggingface", chat_hosts=("router.huggingface.co",), references=True, addresses=True
    ),
    # LiteLLM handles the login. Rejects a 129th tool and image URLs.
    Dialect("github-copilot", prefix="github_copilot", references=True, tools=128),
    # Self-hosted servers that read more than OpenAI's fields.
    Dialect("vllm", prefix="hosted_vllm", server="vllm", references=True, addresses=True, top_k=True, stops=0),
    # Its messages have `reasoning_content`, which the templates of reasoning models read between calls.
    Dialect(
        "sglang", server="sglang", references=True, addresses=True, top_k=True, stops=0, thinking=Thinking.OWN,
    ),
    # Like SGLang, but reads a `tool_choice` that is not a string as "auto". Llamafile is this server with a model included.
    Dialect(
        "llama-cpp", server="llama.cpp", references=True, addresses=True, top_k=True, stops=0, named_choice=False,
        thinking=Thinking.OWN,
    ),
    Dialect("llamafile", prefix="llamafile", references=True, top_k=True, stops=0, named_choice=False),
    # Responds 400 to a `tool_choice` that is not a string.
    Dialect(
        "lm-studio", prefix="lm_studio", server="lm-studio", references=True, addresses=True, top_k=True, stops=0,
        named_choice=False,
    ),
    # Its reference lists neither `tool_choice` nor `top_k` nor image URLs.
    Dialect("ollama", server="ollama", references=True, stops=0, named_choice=False),
    Dialect("openai-compatible", prefix="openai", addresses=True, references=True, stops=0),
    # Works better with its thought signatures; LiteLLM replaces a missing signature with a placeholder that Gemini accepts.
    Dialect("gemini", prefix="gemini", signs_calls=True, files=True, fetches=True, top_k=True),
    Dialect("gemini-on-vertex", prefix="vertex_ai", signs_calls=True, files=True, fetches=True, top_k=True),
    # Converse accepts documents for every model that reads them; other features depend on the model.
    Dialect("bedrock-converse", prefix="bedrock", files=True, fetches=True),
    # Ollama's own API; most settings go into its `options`.
    Dialect("ollama-chat", prefix="ollama_chat", top_k=True, stops=0),
    Dialect("ollama-generate", prefix="ollama", top_k=True, stops=0),
    # Both of OpenRouter's endpoints, chat completions and Anthropic format, read cache marks.
    Dialect(
        "openrouter-chat", prefix="openrouter", chat_hosts=("openrouter.ai",), cache_control=True, addresses=True,
        references=True, files=True, top_k=True,
    ),
    Dialect("openrouter", hosts=("openrouter.ai",), cache_control=True),
    # Responds 400 to a `metadata.user_id` of more than 128 characters.
    Dialect("zai", hosts=("api.z.ai", "open.bigmodel.cn"), cache_control=True),
    # Responds 400 "thinking is enabled but reasoning_content is missing in assistant tool call message at index 7".
    Dialect(
        "kimi", hosts=("api.kimi.com", "api.moonshot.ai", "api.moonshot.cn"), cache_control=True,
        thinking=Thinking.OWN_OR_OFF,
    ),
    # Responds 400 "The `content[].thinking` in the thinking mode must be passed back to the API"; thinking is on by default.
    # Its compatibility page lists images, documents and server tools as not supported.
    Dialect("deepseek", hosts=("api.deepseek.com",), thinking=Thinking.OWN_OR_OFF, images=False),
    # Its documentation asks for the whole content of its responses, including thinking; it also works without.
    Dialect("minimax", hosts=("api.minimax.io", "api.minimaxi.com"), cache_control=True, thinking=Thinking.OWN),
)  # fmt: skip


# The rows by the value of `model_info: chat_server`.
SERVERS = {row.server: row for row in ROWS if row.server}


def dialect(model: str, custom_llm_provider: str | None, api_base: str | None, server: object = None) -> Dialect:
    """Return the row of a deployment, found by LiteLLM's provider, the parsed host and, for clouds, the model's vendor.

    ``server`` is the deployment's ``chat_server``, for a self-hosted server.
    """
    prefix = custom_llm_provider or model.split("/", 1)[0]
    origin = Origin.of(api_base) if api_base else None
    host = origin.host if origin else ""
    if prefix in ("openai", "custom_openai") and host:
        prefix = "openai"
        if named := next((row for row in ROWS if host in row.chat_hosts), None):
            return named
        if isinstance(server, str) and host != "api.openai.com" and server in SERVERS:
            return SERVERS[server]
    for row in ROWS:
        if not row.prefix and not row.hosts:
            continue
        if row.prefix and row.prefix != prefix:
            continue
        if row.hosts and host not in row.hosts and not (row.prefix and api_base is None):
            continue
        if (row.prefix or prefix == "anthropic") and (not row.vendor or _is_of(row.vendor, model)):
            return row
    return STRICT


def _is_of(vendor: str, model: str) -> bool:
    """Whether a cloud's model id names this vendor: ``us.anthropic.claude-x``, ``claude-x@date``; an ARN names none."""
    last = model.rsplit("/", 1)[-1]
    return vendor in last.split(".") or last.split("-", 1)[0] == vendor


def allowed_betas(header: str | None, row: Dialect) -> list[str]:
    """Return the values of an ``anthropic-beta`` header that may be sent to the provider, in order, without duplicates."""
    values = [value.strip() for value in (header or "").split(",")]
    return [value for value in dict.fromkeys(values) if value in row.betas]
