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
    # The provider fetches an image's address itself, and whoever asks it passes it on as it is.
    addresses: bool = False
    # LiteLLM fetches a document for the provider, or passes its address on.
    fetches: bool = False
    # LiteLLM passes the references in a tool's schema on as they are.
    references: bool = False
    # Hosts of a chat-completions endpoint under LiteLLM's prefix "openai" with an api_base, and the name by which
    # `model_info: chat_server` says that a server of one's own is there, which no host tells.
    chat_hosts: tuple[str, ...] = ()
    server: str = ""
    # Of chat completions: the field that bounds a response, how many stop sequences and tools there may be (0 for any), and
    # whether the provider reads `top_k`, PDFs as a part `file`, `stream_options` and `response_format: json_schema`.
    max_tokens: str = "max_tokens"
    stops: int = 4
    tools: int = 0
    top_k: bool = False
    files: bool = False
    stream_options: bool = True
    json_schema: bool = True
    # A choice may name a tool; where it may not, that tool alone is offered, and some call is required.
    named_choice: bool = True
    # The provider wants its calls numbered through the conversation: `functions.NAME:N`.
    numbered_calls: bool = False


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
    # `max_tokens` is deprecated, and refused by models that think; so is a 129th tool.
    Dialect(
        "openai", prefix="openai", hosts=("api.openai.com",), prompt_cache_key=True, addresses=True, references=True,
        max_tokens="max_completion_tokens", files=True, tools=128,
    ),
    Dialect(
        "azure", prefix="azure", prompt_cache_key=True, addresses=True, references=True,
        max_tokens="max_completion_tokens", files=True, tools=128,
    ),
    # Providers of chat completions, by LiteLLM's prefix or by their host below `openai/`.
    Dialect(
        "groq", prefix="groq", chat_hosts=("api.groq.com",), references=True, addresses=True, tools=128,
        max_tokens="max_completion_tokens",
    ),
    Dialect("together", prefix="together_ai", chat_hosts=("api.together.xyz",), references=True, addresses=True, top_k=True),
    # Wants `reasoning_content` back within a tool loop, and takes no pictures.
    Dialect(
        "deepseek-chat", prefix="deepseek", chat_hosts=("api.deepseek.com",), references=True, images=False,
        thinking=Thinking.OWN,
    ),
    # Kimi K2 was trained on calls that are numbered through the conversation; its pages say to keep to that.
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
    # Answers 422 to a field that it does not know; it counts in every stream without being asked.
    Dialect("mistral", prefix="mistral", chat_hosts=("api.mistral.ai",), references=True, addresses=True, stream_options=False),
    Dialect(
        "fireworks", prefix="fireworks_ai", chat_hosts=("api.fireworks.ai",), references=True, addresses=True, top_k=True
    ),
    Dialect("cerebras", prefix="cerebras", chat_hosts=("api.cerebras.ai",), references=True, images=False),
    Dialect("nvidia", prefix="nvidia_nim", chat_hosts=("integrate.api.nvidia.com",), references=True, addresses=True),
    # Its router asks one of many providers; what all of them take is what its reference lists.
    Dialect(
        "hugging-face", prefix="huggingface", chat_hosts=("router.huggingface.co",), references=True, addresses=True
    ),
    # LiteLLM signs in. Refuses a 129th tool, and reads no address of an image.
    Dialect("github-copilot", prefix="github_copilot", references=True, tools=128),
    # Servers of one's own that read more than OpenAI's fields.
    Dialect("vllm", prefix="hosted_vllm", server="vllm", references=True, addresses=True, top_k=True, stops=0),
    # Its messages have `reasoning_content`, which the templates of models that think between calls read.
    Dialect(
        "sglang", server="sglang", references=True, addresses=True, top_k=True, stops=0, thinking=Thinking.OWN,
    ),
    # The same, and takes a `tool_choice` that is no text for "auto". Llamafile is this server with a model in it.
    Dialect(
        "llama-cpp", server="llama.cpp", references=True, addresses=True, top_k=True, stops=0, named_choice=False,
        thinking=Thinking.OWN,
    ),
    Dialect("llamafile", prefix="llamafile", references=True, top_k=True, stops=0, named_choice=False),
    # Answers 400 to a `tool_choice` that is no text.
    Dialect(
        "lm-studio", prefix="lm_studio", server="lm-studio", references=True, addresses=True, top_k=True, stops=0,
        named_choice=False,
    ),
    # Its reference has neither `tool_choice` nor `top_k`, and no address of an image.
    Dialect("ollama", server="ollama", references=True, stops=0, named_choice=False),
    Dialect("openai-compatible", prefix="openai", addresses=True, references=True, stops=0),
    # Works better with its thought signatures; where one is missing, LiteLLM puts a word there that makes up for it.
    Dialect("gemini", prefix="gemini", signs_calls=True, files=True, fetches=True, top_k=True),
    Dialect("gemini-on-vertex", prefix="vertex_ai", signs_calls=True, files=True, fetches=True, top_k=True),
    # Converse takes documents of every model that reads them; what else a model takes differs.
    Dialect("bedrock-converse", prefix="bedrock", files=True, fetches=True),
    # Ollama's own API, whose `options` have a place for most things.
    Dialect("ollama-chat", prefix="ollama_chat", top_k=True, stops=0),
    Dialect("ollama-generate", prefix="ollama", top_k=True, stops=0),
    # The chat-completions endpoint and the Anthropic-format one understand cache marks.
    Dialect(
        "openrouter-chat", prefix="openrouter", chat_hosts=("openrouter.ai",), cache_control=True, addresses=True,
        references=True, files=True, top_k=True,
    ),
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


# By `model_info: chat_server`.
SERVERS = {row.server: row for row in ROWS if row.server}


def dialect(model: str, custom_llm_provider: str | None, api_base: str | None, server: object = None) -> Dialect:
    """Return the row of a deployment, told by LiteLLM's provider, the parsed host and, for clouds, the model's vendor.

    ``server`` is what the deployment says of a server of chat completions at an address of its own.
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
    """Whether a cloud's model id names this vendor: ``us.anthropic.claude-x``, ``claude-x@date``; an ARN does not say."""
    last = model.rsplit("/", 1)[-1]
    return vendor in last.split(".") or last.split("-", 1)[0] == vendor


def allowed_betas(header: str | None, row: Dialect) -> list[str]:
    """Return the values of an ``anthropic-beta`` header that the provider may be sent, each once, in their order."""
    values = [value.strip() for value in (header or "").split(",")]
    return [value for value in dict.fromkeys(values) if value in row.betas]
