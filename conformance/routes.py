"""Checks of the proxy's own routes and of the errors that it makes itself."""

from collections.abc import Callable, Mapping

from conformance.target import (
    CLAUDE_MODEL,
    CLIENT_TOKEN,
    COUNT_TOKENS,
    MESSAGES,
    Answer,
    Differs,
    Target,
    expect,
    question,
)  # fmt: skip
from conformance.upstream import COUNT, Reply, Seen, count_reply

DISCOVERY = {"user-agent": "claude-code/2.1.197", "anthropic-beta": None, "x-app": None, "accept": "*/*"}
ACCEPTED_PREFIXES = ("claude", "anthropic")
WRONG = "sk-made-up-wrong-token"
# The token in each place where Claude Code puts it.
PLACES: dict[str, Callable[[str], dict[str, str | None]]] = {
    "authorization": lambda token: {"x-litellm-api-key": None, "authorization": f"Bearer {token}"},
    "x-api-key": lambda token: {"x-litellm-api-key": None, "authorization": None, "x-api-key": token},
    "x-litellm-api-key": lambda token: {"x-litellm-api-key": token},
}
NOT_JSON = b'{"model": "claude-sonnet-5", "messages": ['


def head(target: Target) -> None:
    """The probe at every start, without any credential."""
    answer = target.ask(None, "/", "HEAD", dict.fromkeys(("x-litellm-api-key", "authorization")))
    expect(answer.status < 400, f"HTTP {answer.status}")


def models(target: Target) -> None:
    """The list that Claude Code's discovery reads."""
    answer = _models(target, PLACES["authorization"](target.token))
    data = _listed(answer)
    expect(all(each.get("type") == "model" and isinstance(each.get("id"), str) for each in data), "not Anthropic's shape")
    expect({"has_more", "first_id", "last_id"} <= set(answer.json), "not Anthropic's shape")


def models_kept(target: Target) -> None:
    """No id that Claude Code drops, and none that is a pattern."""
    ids = [str(each.get("id")) for each in _listed(_models(target, PLACES["authorization"](target.token)))]
    expect(all(name.lower().startswith(ACCEPTED_PREFIXES) for name in ids), "some are dropped")
    expect(not any("*" in name for name in ids), "a pattern is listed")


def models_served(target: Target) -> None:
    """Both ends of the list, which may be long: one has Claude's models, one the others."""
    ids = [str(each.get("id")) for each in _listed(_models(target, PLACES["authorization"](target.token)))]
    for name in dict.fromkeys([*ids[:4], *ids[-4:]]):
        answer = target.ask(question(name))
        expect(answer.status == 200, f"HTTP {answer.status}")
        expect(answer.model == name, "another name in the answer")


def _listed(answer: Answer) -> list[dict[str, object]]:
    data = answer.json.get("data") if isinstance(answer.json, dict) else None
    if not isinstance(data, list) or not data:
        raise Differs("no data")
    return data


def models_by_any_token(target: Target) -> None:
    """One credential in one header, whichever."""
    for place in PLACES.values():
        _models(target, place(target.token))


def _models(target: Target, headers: Mapping[str, str | None]) -> Answer:
    answer = target.ask(None, "/v1/models?limit=1000", "GET", {**DISCOVERY, **headers})
    expect(answer.status == 200, f"HTTP {answer.status}")
    return answer


def count(target: Target) -> None:
    """Claude's number."""
    answer = target.ask(_counted(), COUNT_TOKENS)
    expect(answer.status == 200, f"HTTP {answer.status}")
    expect(answer.json == {"input_tokens": COUNT}, "another number")


def count_as_sent(target: Target) -> None:
    """Body, betas and the client's login, as a login and not as a key."""
    body = _counted()
    target.ask(body, COUNT_TOKENS, headers={"anthropic-beta": "token-counting-2024-11-01,oauth-2025-04-20,of-tomorrow"})
    asked = target.upstream.asked(claude=True)
    expect(bool(asked), "Claude was not asked")
    seen = asked[-1]
    differs = [] if seen.json == body else ["body"]
    if seen.header("anthropic-beta") != "token-counting-2024-11-01,oauth-2025-04-20,of-tomorrow":
        differs.append("anthropic-beta")
    if seen.header("authorization") != f"Bearer {CLIENT_TOKEN}" or seen.header("x-api-key"):
        differs.append("credential")
    expect(not differs, f"changed: {', '.join(differs)}")


def count_bills_nothing(target: Target) -> None:
    """Also when counting fails, nobody is asked for an answer."""
    for status in (200, 404, 429, 500):
        reply = count_reply if status == 200 else _refusing(status)
        target.upstream.count = reply
        target.ask(_counted(), COUNT_TOKENS)
    expect(all(seen.path.endswith("/count_tokens") for seen in target.upstream.asked(claude=True)), "an answer was asked for")


def _refusing(status: int) -> Callable[[Seen], Reply]:
    return lambda _: Reply(status, body=b'{"type":"error","error":{"type":"api_error","message":"made up"}}')


def _counted() -> dict[str, object]:
    whole = question(thinking={"type": "adaptive"}, context_management={"edits": []})
    return {name: value for name, value in whole.items() if name not in ("metadata", "max_tokens")}


def trailing_slash(target: Target) -> None:
    """A base URL that ends with a slash."""
    plain, slash = (target.ask(NOT_JSON, path).status for path in ("/v1/messages", "/v1/messages/"))
    expect(slash == plain, f"HTTP {slash}")


def bad_token(path: str, method: str = "POST") -> Callable[[Target], None]:
    """Return the check of a wrong token, in each place."""

    def check(target: Target) -> None:
        for place in PLACES.values():
            body = None if method == "GET" else question()
            _own_error(target.ask(body, path, method, headers=place(WRONG)), 401, "authentication_error")

    return check


def no_token(target: Target) -> None:
    """No token at all."""
    answer = target.ask(question(), headers={"x-litellm-api-key": None, "authorization": None})
    _own_error(answer, 401, "authentication_error")


def unknown_model(target: Target) -> None:
    """A model that nobody serves."""
    _own_error(target.ask(question("no-such-model")), 404, "not_found_error")


def bad_json(target: Target) -> None:
    """Half a body."""
    _own_error(target.ask(NOT_JSON), 400, "invalid_request_error")


def no_model(target: Target) -> None:
    """A body without a model."""
    _own_error(target.ask({"max_tokens": 1, "messages": []}), 400, "invalid_request_error")


def _own_error(answer: Answer, status: int, kind: str) -> None:
    body = answer.json if isinstance(answer.json, dict) else {}
    error = body.get("error")
    shaped = body.get("type") == "error" and isinstance(error, dict) and isinstance(error.get("message"), str)
    differs = [] if answer.status == status else [f"HTTP {answer.status}"]
    differs += [] if shaped else ["not Anthropic's shape"]
    differs += [] if not shaped or (error or {}).get("type") == kind else ["another error type"]
    differs += [] if answer.headers.get("x-should-retry") == "false" else ["no x-should-retry: false"]
    expect(not differs, ", ".join(differs))


def closed_or_right(path: str) -> Callable[[Target], None]:
    """Return the check of a route that Claude Code does not use: closed, or sent on as it came."""

    def check(target: Target) -> None:
        body = {"requests": [{"custom_id": "a", "params": question(CLAUDE_MODEL)}]}
        try:
            answer = target.ask(body, path)
        except Differs:
            answer = None
        asked = [*target.upstream.asked(claude=True), *target.upstream.asked(claude=False)]
        if answer is not None and not asked:
            expect(400 <= answer.status < 500, f"HTTP {answer.status}")
            return
        expect(bool(asked), "no answer")
        expect(all(seen.is_claude and seen.path.endswith(path) for seen in asked), "sent to somewhere else")
        right = all(seen.header("authorization") == f"Bearer {CLIENT_TOKEN}" and not seen.header("x-api-key") for seen in asked)
        expect(right, "sent on with another credential")

    return check


def alias(target: Target) -> None:
    """The base URL that LiteLLM's guide names."""
    seen = target.forwarded(question(), path=f"/anthropic{MESSAGES}")
    expect(seen.path == "/v1/messages", "another path")
    expect(seen.header("authorization") == f"Bearer {CLIENT_TOKEN}", "another credential")
