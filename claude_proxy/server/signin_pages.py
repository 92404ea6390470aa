"""The pages with which a user signs in a Claude Code that shows a code after ``/login``.

1. ``/signin`` requests the code. A code in the address is filled in, and the user submits it.
2. The next page shows what will be signed in. The user proves who they are: with a personal token, typed once, or at the OpenID
   Connect provider of ``config.yaml``, which sends the browser back to ``/signin/callback``.
3. ``/signin/confirm`` shows the user's name and the code again. The user approves or denies.

Every form has a token that belongs to the browser's cookie, and the browser must name this proxy as the form's origin. The
cookie's value changes at each proof. Nothing that a browser sends decides where it is sent.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from claude_proxy.access.failed_logins import AttemptLimit, FailedLogins, source_of
from claude_proxy.anthropic.errors import own_refusal
from claude_proxy.asgi import Receive, Scope, Send
from claude_proxy.config.settings import Settings
from claude_proxy.config.users import User
from claude_proxy.secret import Secret
from claude_proxy.server import signin_html
from claude_proxy.server.signin_forms import (
    OLD_FORM,
    ROOT,
    Form,
    Problem,
    cookie,
    failed,
    is_secure,
    query,
    read_form,
    set_cookie,
)
from claude_proxy.signin.browser_sessions import BrowserSessions, form_token, new_id
from claude_proxy.signin.device_codes import LIFETIME_SECONDS, Pending, normalized
from claude_proxy.signin.id_token import NotAllowed
from claude_proxy.signin.identity import Identity
from claude_proxy.signin.oidc_client import Attempt, OidcClient, ProviderFailed, Rejected
from claude_proxy.signin.sign_in import SignIn
from claude_proxy.state.store import StoreUnavailable

logger = logging.getLogger(__name__)

TOKEN, PROVIDER, CALLBACK, CONFIRM = (f"{ROOT}/{name}" for name in ("token", "provider", "callback", "confirm"))
MAX_TOKEN = 4096
# How many wrong codes, tokens and returns from the provider one address may send within these seconds.
WRONG_OF_ADDRESS, WRONG_SECONDS = 100, 300.0
# After this many wrong tokens a code is denied.
WRONG_OF_CODE = 10

WRONG_CODE = "This code is not valid. Codes are valid for ten minutes and for one sign-in. Run /login again for a new code."
WRONG_TOKEN = "This token is not valid here. Enter your personal token for this proxy, or ask its operator for one."  # noqa: S105


class SigninPages:
    """An ASGI app for its routes. One per process."""

    def __init__(
        self,
        settings: Settings,
        sign_in: SignIn,
        sessions: BrowserSessions,
        oidc: OidcClient,
        *,
        learn: Callable[[Secret], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``learn`` gets each token that a user has typed, so that it is removed from the log."""
        self._settings = settings
        self._sign_in = sign_in
        self._codes = sign_in.codes
        self._sessions = sessions
        self._oidc = oidc
        self._learn = learn
        self._clock = clock
        self._failed = FailedLogins()
        self._of_address = AttemptLimit(WRONG_OF_ADDRESS, WRONG_SECONDS)
        self._of_code = AttemptLimit(WRONG_OF_CODE, LIFETIME_SECONDS)

    def routes(self) -> tuple[Route, ...]:
        """Return the routes, for every method: the pages respond to a wrong one, too."""
        return tuple(Route(path, self) for path in (ROOT, TOKEN, PROVIDER, CALLBACK, CONFIRM))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for one of the routes."""
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        route = scope["path"].rstrip("/")
        try:
            found = await self._handler(method, route)(request)
        except Problem as problem:
            found = signin_html.response(problem.page, problem.status, problem.headers)
        except StoreUnavailable as error:
            logger.warning("a sign-in page was not served: %s", error)
            words = "The proxy cannot reach its store, so nobody can sign in now. Try again in a minute."
            found = signin_html.response(
                signin_html.end_page("Not available", words, problem=True), 503, [("retry-after", "60")]
            )
        except ConnectionAbortedError:
            return
        await found(scope, receive, send)

    def _handler(self, method: str, route: str) -> Callable[[Request], Awaitable[Response]]:
        handlers: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
            ("GET", ROOT): self._request_code,
            ("POST", ROOT): self._request_proof,
            ("POST", TOKEN): self._check_token,
            ("POST", PROVIDER): self._leave,
            ("GET", CALLBACK): self._return,
            ("GET", CONFIRM): self._request_decision,
            ("POST", CONFIRM): self._decide,
        }
        if (method, route) in handlers:
            return handlers[method, route]
        allowed = ", ".join(name for name, known in handlers if known == route)
        words = "The sign-in starts with the code that Claude Code shows."
        raise Problem(405 if allowed else 404, failed("Not a page", words), *([("allow", allowed)] if allowed else []))

    async def _request_code(self, request: Request) -> Response:
        session = cookie(request)
        headers = []
        if session is None:
            session = new_id()
            headers = [set_cookie(session, secure=is_secure(request))]
        code = normalized(query(request).get("user_code", ""))
        return signin_html.response(signin_html.code_page(form_token(session), code), headers=headers)

    async def _request_proof(self, request: Request) -> Response:
        form = await read_form(request)
        return self._proof(form, await self._pending(request, form))

    async def _check_token(self, request: Request) -> Response:
        form = await read_form(request)
        login = await self._pending(request, form)
        user = self._user(form.fields.get("token", ""))
        if user is None:
            await self._wrong(request)
            if self._of_code.failed(login.user_code):
                await self._codes.deny(login.user_code)
                words = "Too many wrong tokens were entered for this code. Run /login again for a new code."
                raise Problem(403, failed("The code is no longer valid", words))
            return self._proof(form, login, WRONG_TOKEN)
        return await self._proven(form.origin, login, Identity(user.name, token_digest=user.digest))

    async def _leave(self, request: Request) -> Response:
        form = await read_form(request)
        login = await self._pending(request, form)
        provider, attempt = self._oidc.provider, Attempt.new()
        if provider is None:
            raise Problem(404, failed("Not available", "This proxy has no provider to sign in at. Use your personal token."))
        try:
            address = await self._oidc.address(provider, attempt, self._back(form.origin))
        except ProviderFailed as error:
            raise _provider_failed(provider.host, error) from None
        facts = {"code": login.user_code, "attempt": list(attempt), "origin": form.origin}
        cookie = set_cookie(await self._sessions.start(facts), secure=form.origin.startswith("https:"))
        return signin_html.response(signin_html.leave_page(address, provider.host), headers=[cookie])

    async def _return(self, request: Request) -> Response:
        """The provider has sent the browser back."""
        await self._check_address(request)
        session, returned = cookie(request), query(request)
        facts = await self._sessions.find(session)
        attempt, provider = _attempt(facts), self._oidc.provider
        if attempt is None or provider is None or not Secret(attempt.state).matches(Secret(returned.get("state", ""))):
            await self._wrong(request)
            words = "This browser has not started this sign-in, or it took longer than ten minutes. Enter the code again."
            raise Problem(400, failed("The sign-in was not started here", words))
        await self._sessions.end(session)
        try:
            found = await self._oidc.identify(provider, attempt, self._back(facts["origin"]), returned)
        except ProviderFailed as error:
            raise _provider_failed(provider.host, error) from None
        except Rejected as error:
            logger.warning("a sign-in at %s was rejected: %s", provider.host, error)
            await self._wrong(request)
            words = f"{provider.host} did not confirm who you are. Enter the code again, and sign in there."
            raise Problem(401, failed("You are not signed in", words)) from None
        except NotAllowed as error:
            logger.warning("a user of %s may not sign in: %s", provider.host, error)
            raise Problem(403, failed("You may not sign in", str(error))) from None
        login = await self._codes.find(facts["code"])
        if login is None:
            raise Problem(404, failed("The code is no longer valid", WRONG_CODE))
        return await self._proven(facts["origin"], login, await self._sign_in.confirmations.confirmed(provider, found))

    async def _request_decision(self, request: Request) -> Response:
        session, identity, login = await self._undecided(request)
        return signin_html.response(signin_html.confirm_page(form_token(session), login, self._clock(), identity.name))

    async def _decide(self, request: Request) -> Response:
        form = await read_form(request)
        _, identity, login = await self._undecided(request)
        decision = form.fields.get("decision")
        if decision not in ("approve", "deny"):
            raise Problem(400, failed("Nothing was decided", "Choose Approve or Deny. Enter the code again."))
        await self._sessions.end(form.session)
        approves = decision == "approve"
        is_first = await (self._codes.approve(login.user_code, identity) if approves else self._codes.deny(login.user_code))
        if not is_first:
            raise Problem(404, failed("The code is no longer valid", WRONG_CODE))
        origin = login.origin or "an unknown address"
        logger.info(
            "user %s %s a sign-in that was started from %s", identity.name, "approved" if approves else "denied", origin
        )
        if approves:
            page = signin_html.end_page(
                "You are signed in",
                f"Claude Code is signed in as {identity.name}. Return to Claude Code. You can close this window.",
            )
        else:
            page = signin_html.end_page("The sign-in was denied", "Claude Code is not signed in. You can close this window.")
        return signin_html.response(page, headers=[set_cookie(None, secure=form.origin.startswith("https:"))])

    def _proof(self, form: Form, login: Pending, problem: str = "") -> Response:
        host = self._oidc.provider.host if self._oidc.provider else ""
        value, has_users = form_token(form.session), bool(self._settings.users.all_users())
        proofs = signin_html.Proofs(host, self._sign_in.config.notice, has_users=has_users)
        page = signin_html.proof_page(value, login, self._clock(), proofs, problem)
        return signin_html.response(page, 401 if problem else 200)

    async def _proven(self, origin: str, login: Pending, identity: Identity) -> Response:
        """The user has proven who they are: go on with a new session, which no earlier page of any browser knows."""
        session = await self._sessions.start({"code": login.user_code, "identity": identity.as_json()})
        headers = [("location", CONFIRM), set_cookie(session, secure=origin.startswith("https:"))]
        return signin_html.response(signin_html.end_page("Continue", "Continue on the next page."), 303, headers)

    async def _undecided(self, request: Request) -> tuple[Secret, Identity, Pending]:
        """Return the session of a user who has proven who they are, the user and the login; raise ``Problem``."""
        session = cookie(request)
        facts = await self._sessions.find(session)
        try:
            identity = Identity.of_json(facts["identity"])
        except (KeyError, TypeError, ValueError):
            raise Problem(400, failed("Not signed in", OLD_FORM)) from None
        login = await self._codes.find(facts["code"])
        if login is None or session is None:
            raise Problem(404, failed("The code is no longer valid", WRONG_CODE))
        return session, identity, login

    def _back(self, origin: str) -> str:
        """Return where the provider sends the browser back, for a page of this origin: the redirect URI."""
        return (self._sign_in.config.url or origin) + CALLBACK

    async def _pending(self, request: Request, form: Form) -> Pending:
        """Return the login with the form's code; raise ``Problem``."""
        await self._check_address(request)
        login = await self._codes.find(form.fields.get("user_code", ""))
        if login is None:
            await self._wrong(request)
            raise Problem(404, signin_html.code_page(form_token(form.session), "", WRONG_CODE))
        return login

    def _user(self, token: str) -> User | None:
        """Return the user with this personal token. Every comparison takes the same time."""
        token = token.strip()
        found = self._settings.users.find([Secret(token)]) if 0 < len(token) <= MAX_TOKEN else None
        if found is not None:
            self._learn(found[1])
        return found[0] if found else None

    async def _check_address(self, request: Request) -> None:
        """Raise ``Problem`` if the address has sent too many wrong attempts."""
        if seconds := self._of_address.wait(source_of(request.scope.get("client"))):
            words = f"Too many wrong codes or tokens came from your address. Try again in {-(-seconds // 60)} min."
            raise Problem(429, failed("Too many attempts", words), ("retry-after", str(seconds)))

    async def _wrong(self, request: Request) -> None:
        """Count and log a wrong attempt, and delay its response if there were many."""
        source = source_of(request.scope.get("client"))
        self._of_address.failed(source)
        route = f"{request.method} {request.scope['path']}"
        refusal = own_refusal(401, "")
        later = await self._failed.response_to(refusal, source, route, request.receive, wrong_token=True)
        if later is None:
            raise ConnectionAbortedError
        if later.status == 429:
            raise Problem(
                429,
                failed("Too many attempts", "Too many wrong attempts wait for a response. Try again."),
                *later.headers[1:2],
            )


def _provider_failed(host: str, error: ProviderFailed) -> Problem:
    logger.warning("the sign-in at %s failed: %s", host, error)
    words = f"{host} cannot be used now. Try again later, or use your personal token. The operator finds the reason in the log."
    return Problem(503, failed("The provider is not available", words), ("retry-after", "60"))


def _attempt(facts: Mapping[str, Any]) -> Attempt | None:
    found = facts.get("attempt")
    return Attempt(*map(str, found)) if isinstance(found, list) and len(found) == len(Attempt._fields) else None
