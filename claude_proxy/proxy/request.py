"""One request of a client's, as it came. Nothing of it changes."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from claude_proxy.anthropic.errors import Refused
from claude_proxy.anthropic.messages import is_deeper_than
from claude_proxy.anthropic.opening import opening_of
from claude_proxy.anthropic.request_view import MAX_DEPTH, RequestView, view
from claude_proxy.asgi import Headers
from claude_proxy.providers.compatibility import Dialect
from claude_proxy.providers.meter import Sent
from claude_proxy.providers.model_names import is_name, served_name
from claude_proxy.upstream.headers import Client, session_of


def _nothing() -> None:
    """A body that was counted already."""


@dataclass(frozen=True)
class Request:
    """What the client sent, in its own words. Not to be logged: headers and body hold secrets and the conversation."""

    client: Client
    headers: Headers
    raw: bytes
    view: RequestView
    query: str = ""
    # The caller's name, by which it is logged and counted.
    user: str = ""
    # Whether the client asks how many tokens its request has, and for no response of a model.
    counts_tokens: bool = False
    # Called before the body is parsed: takes the memory for it, or raises ``Refused``.
    weigh: Callable[[], None] = _nothing

    @property
    def model(self) -> str:
        """The name that the client asked for, which the response carries."""
        return self.view.model

    @property
    def begins(self) -> bool:
        """Whether it is the first of a conversation that has no name: others may have begun with the same words."""
        return self.view.turns == 1 and self.named_session is None

    @property
    def name(self) -> str:
        """The same model's name in config.yaml."""
        return served_name(self.view.model)

    @property
    def streams(self) -> bool:
        """Whether the client wants events."""
        return self.view.streams

    @cached_property
    def body(self) -> Mapping[str, Any]:
        """The body's values; read only where the view does not do. Raises ``Refused`` where there is no memory for them."""
        self.weigh()
        return parse_body(self.raw)

    def sent(self, row: Dialect) -> Sent:
        """What of the request a provider counts, measured once for each row."""
        return self._sent.setdefault(row.name, Sent(self.body, row))

    @cached_property
    def _sent(self) -> dict[str, Sent]:
        return {}

    @property
    def max_tokens(self) -> int | None:
        """How long the response may be; None where the client does not say."""
        asked = self.body.get("max_tokens")
        return asked if isinstance(asked, int) else None

    @cached_property
    def named_session(self) -> str | None:
        """A digest of the session that the request names; None without one."""
        return session_of(self.client, self.view.user_id)

    @cached_property
    def session(self) -> str | None:
        """The session that the request names, else a digest of its opening; None where neither is found.

        Many begin with the same words: an opening is the caller's own and, where there is an opaque ``user_id``, that user's.
        """
        return self.named_session or opening_of(self.raw, self.user, self.view.user_id or "")


def read_view(raw: bytes, weigh: Callable[[], None] = _nothing) -> RequestView:
    """Return the view of a body; raise ``Refused`` for one that is not a JSON object with a model and a conversation."""
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
    )


def parse_body(raw: bytes) -> dict[str, Any]:
    """Return a Messages request; raise ``Refused`` for one that is not a JSON object with a model."""
    try:
        body = json.loads(raw, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body should be a JSON object.")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused(400, "model: Field required")
    if not is_name(body["model"]):
        raise Refused(400, "model: Not a name: it is too long, or has a character in it that is not printable")
    history = body.get("messages")
    if not isinstance(history, list) or not history:
        # As Anthropic says it. LiteLLM 1.106.2 answers 500, which Claude Code would repeat.
        wrong = "Field required" if history is None else "Input should be a valid list"
        raise Refused(400, f"messages: {'at least one message is required' if history == [] else wrong}")
    if is_deeper_than(body, MAX_DEPTH):
        raise Refused(400, f"The body has more than {MAX_DEPTH} lists and objects inside each other.")
    return body


def _finite(text: str) -> float:
    """Return a number; raise ``ValueError`` for one that JSON does not have, or that is too large to be written again."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
