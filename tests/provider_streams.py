"""One conversation in the stream of each provider, in the shape that its reference documents: the values are made up.

A row says what is particular to a provider: what stands beside the choices, what a delta looks like, in which pieces a call
comes, where the counts stand, how the stream ends and how an error in it looks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from chat_streams import A, B, sse

# What is told in every provider's stream.
THOUGHT, TEXT = ("hm", "m"), ("one ", "two")
READ, LOOK = ("Read", A), ("Look", B)
PROMPT, CACHED, OUTPUT = 100, 80, 7
PROBLEM = "made up"
ID, MODEL = "made-up-1", "made-up-model"


def counts(**more):
    return {"prompt_tokens": PROMPT, "completion_tokens": OUTPUT, "total_tokens": PROMPT + OUTPUT} | more


OPENAI_COUNTS = counts(prompt_tokens_details={"cached_tokens": CACHED}, completion_tokens_details={"reasoning_tokens": 2})
PLAIN_COUNTS = counts()
OPENAI_ERROR = {"error": {"message": PROBLEM, "type": "server_error", "param": None, "code": None}}
VLLM_ERROR = {"error": {"object": "error", "message": PROBLEM, "type": "InternalServerError", "param": None, "code": 500}}


def in_pieces(number, name, arguments, given):
    """OpenAI's way: the name first, then the arguments."""
    opened = {"index": number, "id": given, "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = (arguments[:5], arguments[5:])
    return [[opened], *([{"index": number, "function": {"arguments": piece}}] for piece in pieces)]


def at_once(number, name, arguments, given):
    """A whole call in one piece."""
    return [[{"index": number, "id": given, "type": "function", "function": {"name": name, "arguments": arguments}}]]


def with_empty_fields(number, name, arguments, given):
    """DashScope's: every piece has an id and a name, which are empty behind the first one."""
    pieces = ((given, name, arguments[:5]), ("", None, arguments[5:]), ("", "", ""))
    return [
        [{"index": number, "id": one, "type": "function", "function": {"name": called, "arguments": piece}}]
        for one, called, piece in pieces
    ]


def without_a_type(number, name, arguments, given):
    """Mistral's: whole, and its type is not said."""
    return [[{"id": given, "function": {"name": name, "arguments": arguments}, "index": number}]]


def field_named(name, **more):
    return lambda text: {name: text} | more


@dataclass(frozen=True)
class Shape:
    """What is particular to one provider's stream."""

    # Of the compatibility table: whether its thinking is kept.
    row: str
    # Beside the choices of every chunk, and in every choice.
    beside: dict[str, object] = field(default_factory=dict)
    in_choice: dict[str, object] = field(default_factory=dict)
    # Before the first delta, as it stands there.
    before: tuple[object, ...] = ()
    role: dict[str, object] | None = field(default_factory=lambda: {"role": "assistant", "content": ""})
    thought: Callable[[str], dict[str, object]] | None = None
    text: Callable[[str], dict[str, object]] = lambda text: {"content": text}
    # The pieces of a call; None for a provider whose models call no tools.
    call: Callable[..., list[list[dict[str, object]]]] | None = in_pieces
    id_of: Callable[[int, str], str] = lambda number, _: f"call_made_up_{number}"
    last_delta: dict[str, object] = field(default_factory=dict)
    usage: dict[str, object] = field(default_factory=lambda: OPENAI_COUNTS)
    # Where the counts stand: in a chunk of their own ("alone"), in that of the reason ("end"), in its choice ("choice"),
    # in Groq's ("x_groq"), or in every chunk ("every").
    counted: str = "alone"
    # Beside the choices of the last chunk.
    beside_last: dict[str, object] = field(default_factory=dict)
    # What is said of the message once more behind its end.
    repeated: Callable[[str], dict[str, object]] | None = None
    reason: dict[str, str] = field(default_factory=dict)
    done: bool = True
    error: object = field(default_factory=lambda: OPENAI_ERROR)
    cached: int = CACHED
    between: bytes = b""
    # What the provider names as its sources, as they stand behind the text.
    sources: str = ""

    def chunk(self, delta, finish=None, **more):
        choice = {"index": 0, "delta": delta, "finish_reason": finish} | self.in_choice
        made = {"id": ID, "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
        made |= self.beside | ({"usage": self.usage} if self.counted == "every" else {})
        return made | more

    def begun(self):
        return [*self.before, *([] if self.role is None else [self.chunk(self.role)])]

    def thoughts(self):
        return [self.chunk(self.thought(text)) for text in THOUGHT] if self.thought else []

    def texts(self):
        return [self.chunk(self.text(text)) for text in TEXT]

    def calls(self, *called):
        pieces = [
            piece
            for number, (name, arguments) in enumerate(called)
            for piece in self.call(number, name, arguments, self.id_of(number, name))
        ]
        return [self.chunk({"tool_calls": piece}) for piece in pieces]

    def ended(self, reason, said=""):
        last = self.chunk(self.last_delta, self.reason.get(reason, reason)) | self.beside_last
        if self.counted == "end":
            last |= {"usage": self.usage}
        elif self.counted == "choice":
            last["choices"][0]["usage"] = self.usage
        elif self.counted == "x_groq":
            last |= {"x_groq": {"id": "req_made_up", "usage": self.usage}}
        alone = [self.chunk({}) | {"choices": [], "usage": self.usage}] if self.counted == "alone" else []
        return [last, *alone, *([self.repeated(said)] if self.repeated else [])]

    def stream(self, *chunks):
        return sse(*(part for one in chunks for part in (one, *([self.between] if self.between else []))), done=self.done)

    def streams(self):
        """Return the conversation's streams by name."""
        begun, thoughts, texts = self.begun(), self.thoughts(), self.texts()
        made = {
            "text": [*begun, *texts, *self.ended("stop", "".join(TEXT))],
            "thought": [*begun, *thoughts, *texts, *self.ended("stop", "".join(TEXT))],
            "cut": [*begun, *texts, *self.ended("length", "".join(TEXT))],
            "error": [*begun, *texts, self.error],
            "error-first": [*begun, self.error],
        }
        if self.call:
            made |= {
                "call": [*begun, *thoughts, *self.calls(READ), *self.ended("tool_calls")],
                "calls": [*begun, *thoughts, *texts, *self.calls(READ, LOOK), *self.ended("tool_calls", "".join(TEXT))],
            }
        return {name: self.stream(*chunks) for name, chunks in made.items()}


SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
TOGETHER_CHOICE = {"text": "", "logprobs": None, "seed": None}


def of_mistral(text):
    """A thought of Magistral's, which stands in the content."""
    return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}


def of_openrouter(text):
    return {
        "role": "assistant", "content": "", "reasoning": text,
        "reasoning_details": [{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}],
    }  # fmt: skip


def of_together(text):
    return {"token_id": 17, "role": "assistant", "content": text, "tool_calls": None}


def whole_again(said):
    """MiniMax's last event: the whole answer as one, and the state of the request."""
    message = {"content": said, "role": "assistant", "name": "MiniMax AI", "audio_content": ""}
    return {
        "id": ID, "choices": [{"finish_reason": "stop", "index": 0, "message": message}], "created": 1, "model": MODEL,
        "object": "chat.completion", "usage": counts(total_characters=0), "input_sensitive": False, "output_sensitive": False,
        "base_resp": {"status_code": 0, "status_msg": ""},
    }  # fmt: skip


SOURCES = [{"title": "A title", "url": "https://one.example/a", "date": "2026-01-02", "last_updated": None, "snippet": "words"}]
LISTED, LISTED_BARE = "\n\nSources:\n1. A title: https://one.example/a", "\n\nSources:\n1. https://one.example/a"


def annotated(**more):
    """An annotation as OpenAI's reference has it."""
    cited = {"url": SOURCES[0]["url"], "title": "A title", "start_index": 0, "end_index": 3}
    return {"annotations": [{"type": "url_citation", "url_citation": cited | more}]}


SHAPES = {
    "openai": Shape(
        "openai", beside={"system_fingerprint": "fp_1", "service_tier": "default", "usage": None, "obfuscation": "xY"},
        in_choice={"logprobs": None}, role={"role": "assistant", "content": "", "refusal": None}, last_delta=annotated(),
        sources=LISTED,
    ),
    "azure": Shape(
        "azure", beside={"system_fingerprint": "fp_1"},
        in_choice={"content_filter_results": SAFE, "logprobs": None},
        before=(
            {
                "choices": [], "created": 0, "id": "", "model": "", "object": "",
                "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
            },
        ),
        error={"error": {"code": "429", "message": PROBLEM}},
    ),
    "openrouter": Shape(
        "openrouter-chat", beside={"provider": "Made Up"}, in_choice={"native_finish_reason": None, "logprobs": None},
        before=(b": OPENROUTER PROCESSING\n\n",) * 2, thought=of_openrouter,
        text=field_named("content", role="assistant"), between=b": OPENROUTER PROCESSING\n\n", sources=LISTED,
        last_delta={"role": "assistant", "content": ""} | annotated(content="words"),
        usage=OPENAI_COUNTS | {"cost": 0.001, "is_byok": False},
        error={
            "id": ID, "object": "chat.completion.chunk", "created": 1, "model": MODEL, "provider": "Made Up",
            "error": {"code": 502, "message": PROBLEM, "metadata": {"provider_name": "Made Up"}},
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
        },
    ),
    "groq": Shape(
        "groq", beside={"system_fingerprint": "fp_1", "x_groq": {"id": "req_made_up"}}, in_choice={"logprobs": None},
        thought=field_named("reasoning", channel="analysis"), call=at_once, counted="x_groq",
        id_of=lambda number, _: f"fc_made-up-{number}", usage=OPENAI_COUNTS | {"queue_time": 0.1, "total_time": 0.4},
        error={"error": {"message": PROBLEM, "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400}},
    ),
    "together": Shape(
        "together", beside={"usage": None}, in_choice=TOGETHER_CHOICE, role=None, text=of_together,
        thought=field_named("reasoning", token_id=18, role="assistant", content=""), counted="end", usage=PLAIN_COUNTS,
        reason={"stop": "eos"}, cached=0,
    ),
    "deepseek": Shape(
        "deepseek-chat", beside={"system_fingerprint": "fp_1"}, in_choice={"logprobs": None},
        before=(b": keep-alive\n\n",), role={"role": "assistant", "content": None, "reasoning_content": ""},
        thought=field_named("reasoning_content", content=None), text=field_named("content", reasoning_content=None),
        counted="end", usage=counts(prompt_cache_hit_tokens=CACHED, prompt_cache_miss_tokens=PROMPT - CACHED),
        last_delta={"content": "", "reasoning_content": None}, id_of=lambda number, _: f"call_00_{number}",
    ),
    "moonshot": Shape(
        "moonshot", beside={"system_fingerprint": "fp_1"}, thought=field_named("reasoning_content"), counted="choice",
        usage=counts(cached_tokens=CACHED), id_of=lambda number, name: f"functions.{name}:{number}",
        error={"error": {"type": "engine_overloaded_error", "message": PROBLEM}},
    ),
    "zai": Shape(
        "zai-chat", role=None, thought=field_named("reasoning_content", role="assistant"),
        text=field_named("content", role="assistant"), call=at_once, counted="end",
        last_delta={"role": "assistant", "content": ""}, error={"error": {"code": "1234", "message": PROBLEM}},
    ),
    "minimax": Shape(
        "minimax-chat", role={"role": "assistant", "content": "", "name": "MiniMax AI", "audio_content": ""},
        beside={"usage": None, "input_sensitive": False, "output_sensitive": False},
        thought=field_named("reasoning_content", reasoning_details=[{"type": "reasoning.text", "id": "reasoning-text-1"}]),
        id_of=lambda number, _: f"call_function_{number}", counted="", usage=PLAIN_COUNTS, repeated=whole_again, cached=0,
        error={"choices": None, "base_resp": {"status_code": 1002, "status_msg": PROBLEM}},
    ),
    "dashscope": Shape(
        "dashscope", beside={"system_fingerprint": None, "usage": None}, in_choice={"logprobs": None},
        role={"role": "assistant", "content": None, "reasoning_content": ""},
        thought=field_named("reasoning_content", content=None), call=with_empty_fields,
        text=field_named("content", reasoning_content=None), last_delta={"content": "", "reasoning_content": None},
        error={"error": {"code": "data_inspection_failed", "param": None, "message": PROBLEM, "type": "made_up"}},
    ),
    "xai": Shape(
        "xai", beside={"system_fingerprint": "fp_1"}, thought=field_named("reasoning_content", role="assistant"), call=at_once,
        text=field_named("content", role="assistant"), usage=OPENAI_COUNTS | {"num_sources_used": 1},
        beside_last={"citations": [SOURCES[0]["url"]]}, sources=LISTED_BARE,
    ),
    "mistral": Shape(
        "mistral", thought=of_mistral, call=without_a_type, counted="end", id_of=lambda number, _: f"a1b2c3d4{number}",
        last_delta={"content": "", "tool_calls": None}, usage=counts(num_cached_tokens=CACHED), cached=0,
        error={"object": "error", "message": PROBLEM, "type": "internal_server_error", "code": "1000"},
    ),
    "mistral-parts": Shape(
        "mistral", thought=of_mistral, call=without_a_type, counted="end", id_of=lambda number, _: f"a1b2c3d4{number}",
        text=lambda text: {"content": [{"type": "text", "text": text}]}, usage=PLAIN_COUNTS, cached=0,
    ),
    "fireworks": Shape(
        "fireworks", thought=field_named("reasoning_content"), counted="end", id_of=lambda number, _: f"chatcmpl-tool-{number}",
    ),
    "cerebras": Shape(
        "cerebras", beside={"system_fingerprint": "fp_1"}, role={"role": "assistant"}, thought=field_named("reasoning"),
        call=at_once, counted="end", beside_last={"time_info": {"queue_time": 0.1, "total_time": 0.2}},
        error={"error": {"message": PROBLEM, "type": "server_error", "code": "internal", "status_code": 500}},
    ),
    "nvidia": Shape(
        "nvidia", in_choice={"logprobs": None, "stop_reason": None}, thought=field_named("reasoning_content"),
        id_of=lambda number, _: f"chatcmpl-tool-{number}", usage=PLAIN_COUNTS, cached=0, error=VLLM_ERROR,
    ),
    "vllm": Shape(
        "vllm", in_choice={"logprobs": None, "stop_reason": None, "token_ids": None}, beside={"prompt_token_ids": None},
        thought=field_named("reasoning"), id_of=lambda number, _: f"chatcmpl-tool-{number}", error=VLLM_ERROR,
    ),
    "sglang": Shape(
        "sglang", in_choice={"logprobs": None, "matched_stop": None}, beside={"usage": None},
        role={"role": "assistant", "content": "", "reasoning_content": None, "tool_calls": None},
        thought=field_named("reasoning_content", role=None, content=None, tool_calls=None),
        text=field_named("content", role=None, reasoning_content=None, tool_calls=None),
        last_delta={"role": None, "content": None, "reasoning_content": None, "tool_calls": None}, error=VLLM_ERROR,
    ),
    "llama.cpp": Shape(
        "llama-cpp", beside={"system_fingerprint": "b6000-made0up"}, role={"role": "assistant", "content": None},
        thought=field_named("reasoning_content"), usage=PLAIN_COUNTS, cached=0,
        id_of=lambda number, _: f"madeUp{number}", beside_last={"timings": {"prompt_n": 20, "cache_n": 80, "predicted_n": 7}},
        error={"error": {"code": 500, "message": PROBLEM, "type": "server_error"}},
    ),
    "lm-studio": Shape(
        "lm-studio", beside={"system_fingerprint": MODEL}, in_choice={"logprobs": None}, role=None,
        thought=field_named("reasoning_content", role="assistant"), text=field_named("content", role="assistant"),
        usage=PLAIN_COUNTS, id_of=lambda number, _: f"90000000{number}", cached=0,
        error=b'event: error\ndata: {"error": {"message": "made up"}, "message": "made up"}\n\n',
    ),
    "ollama": Shape(
        "openai-compatible", beside={"system_fingerprint": "fp_ollama"}, role=None,
        thought=field_named("reasoning", role="assistant", content=""), text=field_named("content", role="assistant"),
        call=at_once, usage=PLAIN_COUNTS, last_delta={"role": "assistant", "content": ""}, cached=0,
    ),
    "hugging-face": Shape(
        "hugging-face", beside={"system_fingerprint": "3.0.1-native", "usage": None}, in_choice={"logprobs": None}, role=None,
        text=field_named("content", role="assistant"), id_of=lambda number, _: str(number), usage=PLAIN_COUNTS, cached=0,
        error={"error": PROBLEM, "error_type": "overloaded"},
    ),
    "perplexity": Shape(
        "openai-compatible", beside={"citations": [SOURCES[0]["url"]], "search_results": SOURCES}, call=None, role=None,
        in_choice={"message": {"role": "assistant", "content": "one two"}}, text=field_named("content", role="assistant"),
        thought=None, counted="every", usage=counts(search_context_size="low"), cached=0, sources=LISTED,
    ),
}  # fmt: skip
