"""Rules for every input, one function per surface; a broken rule is an ``AssertionError``.

``tests/test_hostile.py`` tries them with structured inputs, ``fuzz/targets.py`` with arbitrary bytes.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import httpx

from claude_proxy.access.browsers import check_browser, check_own_page
from claude_proxy.access.routes import Caller, Role, check_route
from claude_proxy.anthropic import messages, token_estimate
from claude_proxy.anthropic.errors import Refused, error_body, error_message
from claude_proxy.anthropic.sse import error_of
from claude_proxy.anthropic.usage import usage_of
from claude_proxy.asgi import encoded
from claude_proxy.config.model_access import Limits
from claude_proxy.config.settings import SECRET_NAMES, Settings, SettingsError
from claude_proxy.config.sign_in import SignIn as SignInConfig
from claude_proxy.config.signing_keys import Place
from claude_proxy.config.users import NAME, parse_lines, parse_list, parse_users
from claude_proxy.credentials.credential import Credential, Kind, MalformedCredentials, parse_credentials
from claude_proxy.credentials.redaction import JWT, MARK, Redactor
from claude_proxy.credentials.response_rules import Action, Verdict, judge
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.upstream_response import UpstreamResponse
from claude_proxy.providers import request_fields, returned
from claude_proxy.providers.compatibility import ROWS, STRICT, Thinking, allowed_betas
from claude_proxy.providers.endpoints import Hosts
from claude_proxy.providers.model_names import served_name
from claude_proxy.providers.thinking import ThinkingFilter
from claude_proxy.proxy.lanes.claude_lane import renamed
from claude_proxy.proxy.relay import Renaming, StreamEditor
from claude_proxy.proxy.request import Request, parse_body, read_view
from claude_proxy.proxy.rotation import body_for_claude
from claude_proxy.secret import Secret
from claude_proxy.server.budget_routes import MAX_UNTIL, read_change
from claude_proxy.server.gateway import body_for_litellm, canonical_route
from claude_proxy.server.signin_routes import (
    DESCRIPTIONS,
    DEVICE,
    MISSING,
    PARAMETERS,
    REPEATED,
    REVOKE,
    TOKEN,
    SignInRoutes,
)
from claude_proxy.signin import device_codes
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.upstream import headers
from claude_proxy.usage import otlp, request_log
from claude_proxy.usage.record import Record

CLAUDE_SECRET = re.compile(r"sk-ant-[A-Za-z0-9_-]{8,}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
OWN = next(row for row in ROWS if row.thinking is Thinking.OWN)
POOLED = Credential("a", Kind.OAUTH, Secret("sk-ant-oat01-made-up-alpha"))
CLIENTS_TOKEN = Secret("sk-made-up-token-of-the-proxy")
MODEL = "claude-sonnet-5"


# --- Streams -----------------------------------------------------------------------------------------------------------------


def stream(data: bytes, sizes: Sequence[int] = (1,)) -> None:
    """No bytes raise, the output does not depend on the chunks, and Claude's bytes are unchanged."""
    with mock.patch.object(returned, "new_id", return_value="toolu_new"):  # a constant, so that outputs can be compared
        for row in (STRICT, OWN):
            assert _edited(ThinkingFilter("m", row), data, sizes) == _edited(ThinkingFilter("m", row), data, (len(data) or 1,))
    assert _edited(Renaming(*renamed(MODEL, MODEL)), data, sizes) == data
    changed = _edited(Renaming(*renamed("other", MODEL)), data, sizes)
    assert changed == _edited(Renaming(*renamed("other", MODEL)), data, (len(data) or 1,))
    assert changed == data or changed.replace(b'"other"', b"") != changed
    Renaming(*renamed("other", MODEL)).whole(data)
    assert Renaming(*renamed(MODEL, MODEL)).whole(data) == data
    assert usage_of(data).output >= 0
    assert isinstance(error_of(data), str)
    assert error_message(data, 500)


def _edited(editor: StreamEditor, data: bytes, sizes: Sequence[int]) -> bytes:
    out, position = bytearray(), 0
    for size in cycle(sizes):
        out += editor.feed(data[position : position + size])
        position += size
        if position >= len(data):
            return bytes(out) + editor.finish()
    return b""


# --- Headers -----------------------------------------------------------------------------------------------------------------


def client_headers(sent: list[tuple[str, str]]) -> None:
    """LiteLLM gets only headers of the allow-list and no credential; Claude gets one credential and no token."""
    before = list(sent)
    client = headers.read(sent)
    assert not any(token.reveal().startswith("sk-ant-") for token in client.tokens)
    assert client.credential is None or client.credential.secret.reveal().startswith("sk-ant-")
    for token in (None, CLIENTS_TOKEN):
        seen = headers.for_litellm(sent, token)
        assert {name for name, _ in seen} <= headers.FOR_LITELLM
        tokens = [value for name, value in seen if name == headers.PROXY_TOKEN]
        assert tokens == ([token.reveal()] if token else [])
        assert not any(CLAUDE_SECRET.search(value) for _, value in seen)
        assert encoded(seen) is not None
    for credential in (POOLED, Credential("k", Kind.API_KEY, Secret("sk-ant-api03-made-up-delta"))):
        out = headers.for_claude(sent, credential)
        names = [name.lower() for name, _ in out]
        carried = [pair for pair in out if pair[0].lower() in headers.TOKEN_HEADERS]
        assert carried == [credential.header()]
        assert not {*names} & (headers.HOP_BY_HOP | {headers.TOKEN_MODE})
        assert not [name for name in names if name.startswith(("x-litellm-", "x-forwarded-"))]
        ours = {credential.header(), *((name, value) for name, value in out if name.lower() == "anthropic-beta")}
        assert [pair for pair in out if pair not in ours] == [pair for pair in sent if pair in out and pair not in ours]
    for row in ROWS:
        assert {*allowed_betas(",".join(value for _, value in sent), row)} <= row.betas
    session = headers.session_of(client, None)
    assert session is None or re.fullmatch(r"[0-9a-f]{32}", session)
    assert sent == before


def route(method: str, path: str, query: str = "") -> None:
    """Without the master key only the routes of the list pass the gateway, with or without a database."""
    canonical = canonical_route(path)
    for database in (False, True):
        for role in (Role.USER, Role.KEY, Role.OPEN):
            try:
                check_route(Caller(role, None, "anyone"), method, canonical, query, database=database)
            except Refused as refused:
                assert refused.status in (403, 404)  # noqa: PT017 - whether it is raised is the input's choice
                continue
            allowed = {"/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/models", "/pool", "/metrics", "/key/info"}
            gateway = {"/managed/settings", "/api/oauth/usage", "/v1/metrics", "/v1/logs", "/v1/traces"}
            assert canonical in allowed | gateway


# --- Settings ----------------------------------------------------------------------------------------------------------------


def token_list(text: str) -> None:
    """A list of credentials is parsed or rejected; no label, text or error contains a credential, no value breaks a header."""
    secrets = CLAUDE_SECRET.findall(text)
    for kind in Kind:
        try:
            found = parse_credentials(text, kind)
        except MalformedCredentials as error:
            shown = str(error)
        else:
            shown = repr(found)
            labels = [credential.label for credential in found]
            assert len({*labels}) == len(labels)
            for credential in found:
                assert LABEL.fullmatch(credential.label)
                _carried(credential.secret.reveal())
        assert not [secret for secret in secrets if secret in shown]


def people(content: bytes, variable: str = "") -> None:
    """A list of users is parsed line by line; names are unique, and no error about a broken line contains a token."""
    for entries in (parse_lines(content), parse_list(variable)):
        users, mistakes = parse_users(entries)
        names = [user.name for user in users]
        assert len({*names}) == len(names)
        assert len({user.digest for user in users}) == len(users)
        for user in users:
            assert NAME.fullmatch(user.name)
            assert not CLAUDE_SECRET.search(user.name)
            if user.token:
                _carried(user.token.reveal())
        _hidden([entry.partition("=")[2].strip() for _, entry in entries if "=" in entry], mistakes, names)
        _hidden([user.token.reveal() for user in users if user.token], [repr(user.token) for user in users], names)


def _hidden(values: Sequence[str], shown: Sequence[str], names: Sequence[str]) -> None:
    # A value that also occurs in the error texts or in a user's name reveals nothing.
    text = "\n".join(shown)
    wrong = parse_users([("line 1", "x"), ("line 2", f"sk-x={'x' * 16}"), ("line 3", "a=sha256:x"), ("line 4", "b=x")])[1]
    plain = "\n".join((*wrong, *names))
    assert not [value for value in values if len(value) > 16 and value in text and value not in plain]


def _carried(value: str) -> None:
    assert value.isascii()
    assert value.isprintable()
    assert " " not in value


def settings(environ: Mapping[str, str]) -> None:
    """Settings are parsed or rejected with messages, and neither text contains a secret."""
    secrets = {environ[name].strip() for name in SECRET_NAMES if len(environ.get(name, "").strip()) > 16}
    secrets |= {found for value in environ.values() for found in CLAUDE_SECRET.findall(value)}
    shown_anyway = {value for name, value in environ.items() if name not in SECRET_NAMES}
    try:
        found = Settings.parse(environ)
    except SettingsError as error:
        shown = str(error)
        assert error.mistakes  # noqa: PT017 - whether it is raised is the input's choice
        assert not CLAUDE_SECRET.search(shown)
    else:
        shown = repr(found)
        url = httpx.URL(found.claude_base)
        assert url.scheme in ("http", "https")
        assert url.host
        for secret in (found.static_token, found.master_key):
            if secret:
                _carried(secret.reveal())
    secrets = {secret for secret in secrets if not any(secret in value for value in shown_anyway)}
    assert not [secret for secret in secrets if secret in shown]


def address(url: str) -> None:
    """The sending library connects to Anthropic's host for every URL that counts as Anthropic's."""
    if Hosts().is_claude(url):
        try:
            parsed = httpx.URL(url.strip())
        except (httpx.InvalidURL, UnicodeError):
            return
        assert (parsed.scheme, parsed.host, parsed.port) in (
            ("https", "api.anthropic.com", None),
            ("https", "api.anthropic.com", 443),
        )
        assert Hosts().is_claude(str(parsed))


# --- Requests ----------------------------------------------------------------------------------------------------------------

LIMITED = Limits.of({"claude_proxy": {"users": {"anna": {"models": ["glm"]}}}})


def request_body(raw: bytes) -> None:
    """A body is parsed or rejected; LiteLLM and each provider get only known fields, and Claude gets the client's bytes.

    The view of a body agrees with the whole body.
    """
    try:
        seen = read_view(raw)
    except Refused as refused:
        assert refused.status == 400  # noqa: PT017 - whether it is raised is the input's choice
        seen = None
    try:
        body = parse_body(raw)
    except Refused as refused:
        assert refused.status == 400  # noqa: PT017 - whether it is raised is the input's choice
        return
    assert seen is not None, "the view rejects a valid body"
    assert (seen.model, seen.streams) == (body["model"], body.get("stream") is True)
    request = Request(headers.read([]), [], raw, seen, "", "anna")
    _for_litellm(request)
    _for_claude(request)
    _for_the_log(request)
    allowed = LIMITED.forbidden("anna", request.name, raw) is None
    if allowed:
        assert {served_name(name) for name in _models_that_a_parser_may_read(raw)} == {"glm"}
    metadata = body.get("metadata")
    user_id = metadata.get("user_id") if isinstance(metadata, dict) else None
    assert request.named_session == headers.session_of(request.client, user_id if isinstance(user_id, str) else None)
    assert request.session is None or re.fullmatch(r"(content-)?[0-9a-f]{32}", request.session)
    assert token_estimate.input_tokens(body, len) >= 1


def _for_litellm(request: Request) -> None:
    reduced = json.loads(body_for_litellm(request, "named"), parse_constant=_no_constant)
    assert reduced["model"] == "named"
    assert {*reduced} <= messages.FOR_PROVIDERS | {"metadata"}
    assert {*reduced.get("metadata", {})} <= {"user_id"}
    tools = reduced.get("tools")
    assert (
        not [tool for tool in tools if isinstance(tool, dict) and tool.get("type") == "mcp"]
        if isinstance(tools, list)
        else True
    )
    for row in (STRICT, *ROWS):
        translated = request_fields.translated(reduced, row)
        assert "user_id" not in (translated.get("metadata") or {})
        messages.to_json(translated)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def _for_claude(request: Request) -> None:
    same = body_for_claude(request, request.model)
    history = request.body.get("messages")
    if not isinstance(history, list) or messages.without_foreign_thinking(history) is history:
        assert same == request.raw
    else:
        assert request.view.needs_rewrite
        assert json.loads(same)["messages"] != history
    other = json.loads(body_for_claude(request, "other"))
    assert other["model"] == "other"
    assert {*other} == {*request.body}
    messages.repaired(request.body)


def _for_the_log(request: Request) -> None:
    record = Record(0.0, "anna", request.name, request.model, "a", 200, 0.0, 0.0, error=request.model)
    fields = request_log.request_fields(record)
    assert not [value for value in fields.values() if len(str(value)) > request_log.MAX_TEXT]
    line = " ".join(f"{name}={request_log._shown(value)}" for name, value in fields.items())
    assert len(line.splitlines()) == 1


def _models_that_a_parser_may_read(raw: bytes) -> set[Any]:
    """Return the models in a request, for parsers that read the first of two equal keys, the last, or both."""
    top: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        top[:] = pairs  # the outermost object is completed last
        return {"pairs": pairs}

    json.loads(raw, object_pairs_hook=keep)
    named = {value for name, value in top if name == "model"}
    for name, value in top:
        if name in ("fallbacks", "tools") and isinstance(value, list):
            named |= {
                inner
                for entry in value
                if isinstance(entry, dict)
                for key, inner in entry["pairs"]
                if key == "model" and isinstance(inner, str)
            }
    return {name for name in named if isinstance(name, str)}


# --- Anthropic's responses ---------------------------------------------------------------------------------------------------

# How validation errors quote a request. The first ones start with the client's own words.
QUOTING = (
    "{}: Extra inputs are not permitted",
    "'{}' does not support thinking.",
    "model: {}",
    "messages.0.content.0: Input tag '{}' found using 'type' does not match any of the expected tags: 'text'",
    "messages.0.content.0.text.{}: Extra inputs are not permitted",
    "tool_choice: Tool '{}' not found in provided tools",
    "Unexpected value(s) `{}` for the `anthropic-beta` header.",
)


def quotation(words: str) -> None:
    """A 400 that quotes a client's words is the client's error: it starts no cooldown, rejection or retry."""
    for form in QUOTING:
        error = error_body("invalid_request_error", form.format(words))
        verdict = judge(UpstreamResponse(400, {}, json.dumps(error).encode(), Scope("sonnet"), 0.0), 60.0)
        assert verdict == Verdict(Action.CLIENT, "")


# --- Redaction ---------------------------------------------------------------------------------------------------------------


def redacted(text: str, secrets: Sequence[str]) -> None:
    """A redacted text contains no known secret and nothing that looks like a credential of Claude, or like an access token.

    Other text is unchanged.
    """
    clean = Redactor([Secret(secret) for secret in secrets]).text(text)
    assert not [secret for secret in secrets if len(secret) >= 8 and secret in clean.replace(MARK, "\n")]
    assert not CLAUDE_SECRET.search(clean)
    assert not JWT.search(clean)
    if not any(secret in text for secret in secrets) and not CLAUDE_SECRET.search(text) and not JWT.search(text):
        assert clean == text


# --- Sign-in -----------------------------------------------------------------------------------------------------------------

SIGN_IN_SETTINGS = Settings.parse({"PROXY_USER_TOKENS": "anna=sk-made-up-token-of-anna"})


def _sign_in() -> SignIn:
    """Return the sign-in of a process of its own, whose keys are in its memory."""
    return SignIn(None, Place(sealed_by=CLIENTS_TOKEN), SIGN_IN_SETTINGS.users, SignInConfig)


SIGN_IN = _sign_in()
asyncio.run(SIGN_IN.prepare())
assert SIGN_IN.keys.current()


def sign_in_form(raw: bytes, host: str = "proxy.test") -> None:
    """Any form is answered in the protocol's words, without an error of the server and without a part of the form."""
    for path in (DEVICE, TOKEN, REVOKE):
        status, body = asyncio.run(_answer(path, raw, host))
        assert status in (200, 400, 401)
        found = json.loads(body) if body else {}
        if status != 200:
            # All of it is constant, so nothing of the form is repeated.
            words = {DESCRIPTIONS[found["error"]]}
            if found["error"] == "invalid_request":
                words |= {text.format(name) for text in (MISSING, REPEATED) for name in PARAMETERS}
            assert found.keys() == {"error", "error_description"}
            assert found["error_description"] in words
        elif path == DEVICE:
            page = urlsplit(found["verification_uri"])
            assert (page.scheme, page.path, page.query) == ("http", "/signin", "")
            assert page.username is None
        else:
            assert not found, "a token was issued, or something was revoked with words"


async def _answer(path: str, raw: bytes, host: str) -> tuple[int, bytes]:
    """Send a form to the routes of a process of its own, which has no earlier requests to delay it for."""
    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"", "scheme": "http", "client": ("192.0.2.7", 1),
        "headers": [(b"host", host.encode("utf-8", "surrogatepass"))],
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await SignInRoutes(_sign_in(), SIGN_IN_SETTINGS)(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def access_token(text: str) -> None:
    """No text is an access token that was not issued, and no form of it is an error."""
    for form in (text, f"eyJ{text}", f"eyJhbGciOiJIUzI1NiJ9.{text}.x"):
        assert SIGN_IN.tokens.find(Secret(form)) is None
        assert SIGN_IN.tokens.session_of(Secret(form)) is None
    code = device_codes.normalized(text)
    assert code == "" or device_codes.normalized(f" {code.lower()} ") == code


# --- Telemetry, budgets and pages --------------------------------------------------------------------------------------------

SENDER = otlp.Sender("anna", ("team-a",))


def telemetry(body: bytes, coding: str = "") -> None:
    """A body is refused without a word of it, or it names this sender alone, and is larger only by the sender's name."""
    for media_type in (otlp.JSON, otlp.PROTOBUF):
        for signal in ("metrics", "logs", "traces"):
            try:
                raw = otlp.decompressed(body, coding)
                made = otlp.identified(signal, raw, media_type, SENDER)
            except otlp.UnreadableTelemetry as error:
                assert len(str(error)) < 100  # noqa: PT017 - whether it is raised is the input's choice
                continue
            assert len(made) <= 12 * len(raw) + otlp.MAX_RESOURCES * 300
            if media_type == otlp.JSON:
                assert len({*json.loads(made)}) == 1
            otlp.identified(signal, made, media_type, SENDER)


def budget_change(raw: bytes) -> None:
    """A change is refused with 400, or it is of one scope, and its amounts are whole numbers above 0, or none."""
    try:
        scope, limits, until = read_change(raw)
    except Refused as refused:
        assert refused.status == 400  # noqa: PT017 - whether it is raised is the input's choice
        return
    assert scope == "all" or scope.startswith(("user:", "group:"))
    assert scope.isprintable()
    assert isinstance(until, str)
    assert len(until) <= MAX_UNTIL
    assert all(amount is None or (isinstance(amount, int) and 0 < amount <= 10**15) for amount in limits.values())


def page_of(sent: list[tuple[str, str]]) -> None:
    """Headers of a browser are accepted or refused; a page of another site changes nothing."""
    for check in (check_own_page, lambda sent: check_browser("POST", "/v1/messages", sent, {"proxy.example"})):
        try:
            check(sent)
        except Refused as refused:
            assert refused.status in (403, 415)  # noqa: PT017 - whether it is raised is the input's choice
            continue
        if any(name == "sec-fetch-site" for name, _ in sent):
            continue
        origins = [value.strip().lower() for name, value in sent if name == "origin"][:1]
        named = {"", *(urlsplit(origin).netloc for origin in origins if origin)}
        hosts = {value.strip().lower() for name, value in sent if name == "host"}
        assert named <= {"", *hosts}
