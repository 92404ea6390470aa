"""Responses in OpenAI's format on their way from LiteLLM to a client: usage, errors, the model's name. Bytes in, bytes out."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from claude_proxy.anthropic.messages import to_json
from claude_proxy.anthropic.sse import event_data, json_object, last_event_end, whole_events
from claude_proxy.anthropic.usage import Usage
from claude_proxy.openai.api_errors import chat_event, cleaned, error_object, failed_response
from claude_proxy.openai.api_requests import Api
from claude_proxy.openai.token_counts import usage_in
from claude_proxy.providers.returned import BROKEN_OFF

DONE = b"[DONE]"
# The last events of a streamed response.
COMPLETED = ("response.completed", "response.incomplete")
FAILED = "response.failed"
INTERRUPTED, API_ERROR = "interrupted", "api_error"
# LiteLLM gives the status of an error as its code.
STATUSES = frozenset(map(str, range(400, 600)))
# A larger event ends the stream with an error.
MAX_EVENT_BYTES = 16 * 1024 * 1024


class Counted:
    """The final usage of a response, as the charge of a request reads it."""

    def __init__(self, usage: Usage) -> None:
        self.usage = usage
        self.is_final = True


class ClientStream:
    """One per streamed response: ``feed`` every chunk, then ``finish`` once.

    1. Every event passes with the name of the requested model; ``[DONE]`` and comments pass as they are.
    2. The event that has only the usage passes if the client asked for it.
    3. An error passes without what LiteLLM writes around it, and nothing follows it.
    4. A stream that ends early, or that its provider ended for no normal reason, ends with an error.
    """

    def __init__(self, api: Api, model: str, *, shows_usage: bool, problem: Callable[[], str] = str) -> None:
        """``problem`` describes an abnormal stop reason of the provider; empty for a normal one."""
        self.usage = Usage()
        self.is_final = False
        # Anthropic's type of the error that ended the stream, or ``INTERRUPTED``.
        self.error = ""
        # The words of that error, and its status if it is known.
        self.words = ""
        self.status = 0
        self.has_content = False
        self._api = api
        self._model = model
        self._shows_usage = shows_usage
        self._problem = problem
        self._held = b""
        self._ended = False
        self._number = -1
        self._id = "resp_failed"

    def feed(self, chunk: bytes) -> bytes:
        """Return what the client gets now: whole events."""
        held = self._held + chunk
        end = last_event_end(held)
        self._held = held[end:]
        out = b"".join(map(self._event, whole_events(held[:end])))
        return out + (self._fail(BROKEN_OFF) if len(self._held) > MAX_EVENT_BYTES and not self.error else b"")

    def finish(self) -> bytes:
        """Return an error if the stream has not ended by itself."""
        out = self._event(self._held) if self._held.strip() else b""
        self._held = b""
        if self._ended or self.error:
            return out
        out += self._fail(BROKEN_OFF)
        self.error = INTERRUPTED
        return out

    def _event(self, raw: bytes) -> bytes:
        if self.error:
            return b""
        data = event_data(raw)
        if not data:
            return raw
        if data == DONE:
            self._ended = self._ended or self._api is Api.CHAT
            return raw
        found = json_object(data)
        if found is None:
            return self._fail(BROKEN_OFF)
        return (self._chat if self._api is Api.CHAT else self._response)(found, raw)

    def _chat(self, chunk: dict[str, Any], raw: bytes) -> bytes:
        if chunk.get("error"):
            return self._given(chunk)
        choices = chunk.get("choices")
        choices = choices if isinstance(choices, list) else []
        ends = any(isinstance(one, dict) and one.get("finish_reason") for one in choices)
        if ends and (words := self._problem()):
            return self._fail(words)
        self.has_content = self.has_content or bool(choices)
        if (usage := usage_in(chunk)) is not None:
            self.usage, self.is_final = _counted(usage), True
            if not any(map(_has_content, choices)):
                # LiteLLM (1.106.2) puts an empty choice into it; OpenAI does not.
                return _event_of(chunk | {"model": self._model, "choices": []}) if self._shows_usage else b""
        return raw if chunk.get("model") == self._model else _event_of(chunk | {"model": self._model})

    def _response(self, event: dict[str, Any], raw: bytes) -> bytes:
        kind, response = str(event.get("type")), event.get("response")
        response = response if isinstance(response, dict) else None
        if isinstance(number := event.get("sequence_number"), int):
            self._number = max(self._number, number)
        if kind in ("error", FAILED) or event.get("error"):
            return self._given(event if event.get("error") else response or event)
        self.has_content = self.has_content or kind not in ("response.created", "response.in_progress")
        if response is None:
            return raw
        self._id = str(response.get("id") or self._id)
        if kind in COMPLETED:
            if words := self._problem():
                return self._fail(words)
            self.usage, self.is_final, self._ended = usage_of_response(response), True, True
        return _event_of(event | {"response": response | {"model": self._model, "store": False}})

    def _given(self, event: Mapping[str, Any]) -> bytes:
        """Return an error of LiteLLM or of the provider."""
        inner = event.get("error")
        code = str(inner.get("code")) if isinstance(inner, dict) else ""
        self.status = int(code) if code in STATUSES else 0
        return self._fail(error_object(to_json({"error": inner or dict(event)}), 500)["message"])

    def _fail(self, words: str) -> bytes:
        self.error = API_ERROR
        words = self.words = cleaned(words)
        if self._api is Api.RESPONSES:
            return failed_response(words, model=self._model, response_id=self._id, number=self._number + 1)
        return chat_event(to_json({"error": {"message": words}}))


def whole(body: Mapping[str, Any], api: Api, model: str) -> tuple[bytes, Usage]:
    """Return a whole response with the name of the requested model, and its usage."""
    if api is Api.RESPONSES:
        return to_json({**body, "model": model, "store": False}), usage_of_response(body)
    return to_json({**body, "model": model}), _counted(usage_in(body) or Usage())


def usage_of_response(response: Mapping[str, Any]) -> Usage:
    """Return the usage of an object of the Responses API; its names differ from those of chat completions."""
    counts = response.get("usage")
    if not isinstance(counts, dict):
        return Usage()
    renamed = {
        "prompt_tokens": counts.get("input_tokens"),
        "completion_tokens": counts.get("output_tokens"),
        "prompt_tokens_details": counts.get("input_tokens_details"),
    }
    return usage_in({"usage": renamed, "service_tier": response.get("service_tier")}) or Usage()


def _has_content(choice: Any) -> bool:
    return isinstance(choice, dict) and bool(choice.get("delta") or choice.get("finish_reason"))


def _counted(usage: Usage) -> Usage:
    """Return a usage without its price, which may be LiteLLM's own and not the provider's."""
    return replace(usage, cost=None)


def _event_of(data: Mapping[str, Any]) -> bytes:
    return b"data: " + to_json(data) + b"\n\n"
