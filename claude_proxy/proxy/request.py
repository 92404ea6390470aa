"""One request of a client, immutable."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from claude_proxy.anthropic.errors import Refused
from claude_proxy.anthropic.messages import is_deeper_than, parsed_object, to_json
from claude_proxy.anthropic.opening import opening_of
from claude_proxy.anthropic.request_view import MAX_DEPTH, RequestView, tags_in, view
from claude_proxy.asgi import Headers
from claude_proxy.lazy import lazy
from claude_proxy.providers.compatibility import Dialect
from claude_proxy.providers.meter import Sent
from claude_proxy.providers.model_names import is_name, served_name
from claude_proxy.upstream.headers import FALLBACKS, NO_FALLBACKS, Client, session_of


def _nothing() -> None:
    """The memory for the body is already reserved."""


class Request(msgspec.Struct, frozen=True, dict=True):
    """The client's request, unchanged. Never log it: headers and body contain secrets and the conversation."""

    client: Client
    headers: Headers
    raw: bytes
    view: RequestView
    query: str = ""
    # The user's name for logs and usage.
    user: str = ""
    # Whether the client requests a token count instead of a response.
    counts_tokens: bool = False
    # Called before the body is parsed: reserves memory for it, or raises ``Refused``.
    weigh: Callable[[], None] = _nothing
    # The user's groups, by config.yaml and by their sign-in: case-folded, sorted.
    groups: tuple[str, ...] = ()
    # The project that the client names for reports of usage; empty without one.
    project: str = ""
    # Whether Claude may be asked only with an API key, and never with a subscription's token.
    api_keys_only: bool = False

    @property
    def model(self) -> str:
        """The model name that the client requested; the response carries it, too."""
        return self.view.model

    @property
    def starts_conversation(self) -> bool:
        """Whether it starts a conversation without a session name; other conversations may start with the same words."""
        return self.view.turns == 1 and self.named_session is None

    @lazy
    def name(self) -> str:
        """The model's name in config.yaml."""
        return served_name(self.view.model)

    @property
    def wants_no_fallback(self) -> bool:
        """Whether the client wants a response of this model, or its error, and of no other model."""
        return any(name.lower() == FALLBACKS and value.strip().lower() == NO_FALLBACKS for name, value in self.headers)

    @property
    def streams(self) -> bool:
        """Whether the client requests a stream."""
        return self.view.streams

    @lazy
    def body(self) -> Mapping[str, Any]:
        """The parsed body, for what the view does not contain. Raises ``Refused`` if there is no memory for it."""
        self.weigh()
        return parse_body(self.raw)

    def sent(self, row: Dialect) -> Sent:
        """The parts of the request that a provider counts as input, measured once per row."""
        return self._sent.setdefault(row.name, Sent(self.body, row))

    @lazy
    def _sent(self) -> dict[str, Sent]:
        return {}

    @property
    def max_tokens(self) -> int | None:
        """The maximum length of the response in tokens; None if the client sets none."""
        requested = self.body.get("max_tokens")
        return requested if isinstance(requested, int) else None

    @lazy
    def named_session(self) -> str | None:
        """A digest of the session name in the request; None without one."""
        return session_of(self.client, self.view.user_id)

    @lazy
    def session(self) -> str | None:
        """A digest of the session name, or else of the conversation's opening; None without both.

        Many conversations start with the same words, so an opening also includes the user and, if present, ``user_id``.
        """
        return self.named_session or opening_of(self.raw, self.user, self.view.user_id or "")


def read_view(raw: bytes, weigh: Callable[[], None] = _nothing) -> RequestView:
    """Return the view of a body; raise ``Refused`` if it is not a JSON object with a model and a conversation."""
    found = view(raw)
    if found is not None and is_name(found.model):
        return found
    weigh()
    body = parse_body(raw)
    metadata = body.get("metadata")
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    user_id = user_id if isinstance(user_id, str) else None
    speed = body.get("speed")
    speed = speed if isinstance(speed, str) else ""
    return RequestView(
        body["model"],
        body.get("stream") is True,
        user_id,
        safeguards="safeguards" in body,
        speed=speed,
        turns=len(body["messages"]),
        tags=tags_in(to_json(body["tags"])) if "tags" in body else None,
    )


def parse_body(raw: bytes) -> dict[str, Any]:
    """Parse a Messages request; raise ``Refused`` if it is not a JSON object with a model."""
    body = parsed_object(raw)
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused(400, "model: Field required")
    if not is_name(body["model"]):
        raise Refused(400, "model: Invalid name: it is too long, or it contains a character that is not printable")
    history = body.get("messages")
    if not isinstance(history, list) or not history:
        # Anthropic's wording. LiteLLM 1.106.2 responds with 500, which Claude Code would retry.
        wrong = "Field required" if history is None else "Input should be a valid list"
        raise Refused(400, f"messages: {'at least one message is required' if history == [] else wrong}")
    if is_deeper_than(body, MAX_DEPTH):
        raise Refused(400, f"The body has more than {MAX_DEPTH} nested lists and objects.")
    return body
