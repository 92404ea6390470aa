"""Checks of the proxy's own routes and errors."""

from collections.abc import Callable, Mapping

from conformance.target import (
    CLAUDE_MODEL,
    CLIENT_TOKEN,
    COUNT_TOKENS,
    MESSAGES,
    Differs,
    Response,
    Target,
    expect,
    question,
)  # fmt: skip
from conformance.upstream import COUNT, Reply, Seen, count_reply

DISCOVERY = {"user-agent": "claude-code/2.1.197", "anthropic-beta": None, "x-app": None, "accept": "*/*"}
ACCEPTED_PREFIXES = ("claude", "anthropic")
WRONG = "sk-made-up-wrong-token"
# The token in each header in which Claude Code may send it.
PLACES: dict[str, Callable[[str], dict[str, str | None]]] = {
    "authorization": lambda token: {"x-litellm-api-key": None, "authorization": f"Bearer {token}"},
    "x-api-key": lambda token: {"x-litellm-api-key": None, "authorization": None, "x-api-key": token},
    "x-litellm-api-key": lambda token: {"x-litellm-api-key": token},
}
NOT_JSON = b'{"model": "claude-sonnet-5", "messages": ['


def head(target: Target) -> None:
    """Claude Code's probe at every start, without a credential."""
    response = target.ask(None, "/", "HEAD", dict.fromkeys(("x-litellm-api-key", "authorization")))
    expect(response.status < 400, f"HTTP {response.status}")


def models(target: Target) -> None:
    """The list that Claude Code's model discovery reads."""
    response = _models(target, PLACES["authorization"](target.token))
    data = _listed(response)
    expect(all(each.get("type") == "model" and isinstance(each.get("id"), str) for each in data), "not Anthropic's shape")
    expect({"has_more", "first_id", "last_id"} <= set(response.json), "not Anthropic's shape")


def models_kept(target: Target) -> None:
    """No id that Claude Code drops, and no pattern."""
    ids = [str(each.get("id")) for each in _listed(_models(target, PLACES["authorization"](target.token)))]
    expect(all(name.lower().startswith(ACCEPTED_PREFIXES) for name in ids), "some are dropped")
    expect(not any("*" in name for name in ids), "a pattern is listed")


def models_served(target: Target) -> None:
    """The first and last models of the list, which may be long: one end has Claude's models, the other end the others."""
    ids = [str(each.get("id")) for each in _listed(_models(target, PLACES["authorization"](target.token)))]
    for name in dict.fromkeys([*ids[:4], *ids[-4:]]):
        response = target.ask(question(name))
        expect(response.status == 200, f"HTTP {response.status}")
        expect(response.model == name, "different name in the response")


def _listed(response: Response) -> list[dict[str, object]]:
    data = response.json.get("data") if isinstance(response.json, dict) else None
    if not isinstance(data, list) or not data:
        raise Differs("no data")
    return data


def models_by_any_token(target: Target) -> None:
    """One credential in one header, for each header."""
    for place in PLACES.values():
        _models(target, place(target.token))


def _models(target: Target, headers: Mapping[str, str | None]) -> Response:
    response = target.ask(None, "/v1/models?limit=1000", "GET", {**DISCOVERY, **headers})
    expect(response.status == 200, f"HTTP {response.status}")
    return response


def count(target: Target) -> None:
    """Claude's count is returned."""
    response = target.ask(_counted(), COUNT_TOKENS)
    expect(response.status == 200, f"HTTP {response.status}")
    expect(response.json == {"input_tokens": COUNT}, "different number")


def count_as_sent(target: Target) -> None:
    """Body, betas and the client's login, as a bearer token."""
    body = _counted()
    target.ask(body, COUNT_TOKENS, headers={"anthropic-beta": "token-counting-2024-11-01,oauth-2025-04-20,of-tomorrow"})
    received = target.upstream.received(claude=True)
    expect(bool(received), "Claude received no request")
    seen = received[-1]
    differs = [] if seen.json == body else ["body"]
    if seen.header("anthropic-beta") != "token-counting-2024-11-01,oauth-2025-04-20,of-tomorrow":
        differs.append("anthropic-beta")
    if seen.header("authorization") != f"Bearer {CLIENT_TOKEN}" or seen.header("x-api-key"):
        differs.append("credential")
    expect(not differs, f"changed: {', '.join(differs)}")


def count_bills_nothing(target: Target) -> None:
    """No message is requested, even if the count fails."""
    for status in (200, 404, 429, 500):
        reply = count_reply if status == 200 else _refusing(status)
        target.upstream.count = reply
        target.ask(_counted(), COUNT_TOKENS)
    only_counts = all(seen.path.endswith("/count_tokens") for seen in target.upstream.received(claude=True))
    expect(only_counts, "a message was requested")


def _refusing(status: int) -> Callable[[Seen], Reply]:
    return lambda _: Reply(status, body=b'{"type":"error","error":{"type":"api_error","message":"made up"}}')


def _counted() -> dict[str, object]:
    whole = question(thinking={"type": "adaptive"}, context_management={"edits": []})
    return {name: value for name, value in whole.items() if name not in ("metadata", "max_tokens")}


def trailing_slash(target: Target) -> None:
    """A base URL with a trailing slash."""
    plain, slash = (target.ask(NOT_JSON, path).status for path in ("/v1/messages", "/v1/messages/"))
    expect(slash == plain, f"HTTP {slash}")


def bad_token(path: str, method: str = "POST") -> Callable[[Target], None]:
    """Return the check of a wrong token, in each header."""

    def check(target: Target) -> None:
        for place in PLACES.values():
            body = None if method == "GET" else question()
            _own_error(target.ask(body, path, method, headers=place(WRONG)), 401, "authentication_error")

    return check


def no_token(target: Target) -> None:
    """A request without a token."""
    response = target.ask(question(), headers={"x-litellm-api-key": None, "authorization": None})
    _own_error(response, 401, "authentication_error")


def unknown_model(target: Target) -> None:
    """A model that is not configured."""
    _own_error(target.ask(question("no-such-model")), 404, "not_found_error")


def bad_json(target: Target) -> None:
    """An incomplete body."""
    _own_error(target.ask(NOT_JSON), 400, "invalid_request_error")


def no_model(target: Target) -> None:
    """A body without a model."""
    _own_error(target.ask({"max_tokens": 1, "messages": []}), 400, "invalid_request_error")


def _own_error(response: Response, status: int, kind: str) -> None:
    body = response.json if isinstance(response.json, dict) else {}
    error = body.get("error")
    shaped = body.get("type") == "error" and isinstance(error, dict) and isinstance(error.get("message"), str)
    differs = [] if response.status == status else [f"HTTP {response.status}"]
    differs += [] if shaped else ["not Anthropic's shape"]
    differs += [] if not shaped or (error or {}).get("type") == kind else ["different error type"]
    differs += [] if response.headers.get("x-should-retry") == "false" else ["no x-should-retry: false"]
    expect(not differs, ", ".join(differs))


def closed_or_right(path: str) -> Callable[[Target], None]:
    """Return the check of a route that Claude Code does not use: it is closed, or forwards the request unchanged."""

    def check(target: Target) -> None:
        body = {"requests": [{"custom_id": "a", "params": question(CLAUDE_MODEL)}]}
        try:
            response = target.ask(body, path)
        except Differs:
            response = None
        received = [*target.upstream.received(claude=True), *target.upstream.received(claude=False)]
        if response is not None and not received:
            expect(400 <= response.status < 500 or response.status == 501, f"HTTP {response.status}")
            return
        expect(bool(received), "no response")
        expect(all(seen.is_claude and seen.path.endswith(path) for seen in received), "sent elsewhere")
        right = all(
            seen.header("authorization") == f"Bearer {CLIENT_TOKEN}" and not seen.header("x-api-key") for seen in received
        )
        expect(right, "forwarded with a different credential")

    return check


def alias(target: Target) -> None:
    """The base URL in LiteLLM's guide."""
    seen = target.forwarded(question(), path=f"/anthropic{MESSAGES}")
    expect(seen.path == "/v1/messages", "different path")
    expect(seen.header("authorization") == f"Bearer {CLIENT_TOKEN}", "different credential")
