"""LiteLLM's ``custom_auth``. Replaces LiteLLM's key check; with a database only that of the static token."""

from typing import Any

from fastapi import Request
from litellm.proxy import proxy_server
from litellm.proxy._types import UI_TEAM_ID, LitellmUserRoles, ProxyException, UserAPIKeyAuth, hash_token
from litellm.proxy.auth.auth_checks import _can_object_call_model, get_key_object, get_user_object

from claude_proxy.access.routes import MODEL_ROUTES, OPENAI_ROUTES, Role, identify
from claude_proxy.anthropic.errors import Refused
from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret
from claude_proxy.upstream import headers as header_policy

# In LiteLLM 1.108.7 only `allowed_routes` closes the other routes: without it a caller without a role can use /health, which
# calls every model, and /model/info.
ROUTES = sorted({route for _, route in MODEL_ROUTES | OPENAI_ROUTES})


async def authenticate(request: Request, settings: Settings) -> UserAPIKeyAuth | str:
    """Return LiteLLM's view of the caller, with the name and no token; raise LiteLLM's error with 401.

    With a database the master key and virtual keys are returned unchanged: LiteLLM 1.106.2 applies its own check to a returned
    string, with the key's models, budget and limits.
    """
    try:
        caller = identify(header_policy.read(request.headers.items()), settings)
    except Refused as refused:
        raise ProxyException(
            str(refused), type="authentication_error", param=None, code=refused.status, headers={"x-should-retry": "false"}
        ) from refused
    if settings.database_url and caller.token and caller.role in (Role.ADMIN, Role.KEY):
        return caller.token.reveal()
    if caller.role is Role.ADMIN:
        return UserAPIKeyAuth(api_key="master-key", user_id=caller.name, user_role=LitellmUserRoles.PROXY_ADMIN)
    return UserAPIKeyAuth(
        api_key=f"{caller.role.value}-token", key_alias=caller.name, user_id=caller.name, allowed_routes=ROUTES
    )


def key_allows(key: UserAPIKeyAuth, model: str, router: Any) -> bool:
    """Whether a virtual key and its team may use a model; an empty list allows every model."""
    try:
        for names in (key.models, key.team_models):
            _can_object_call_model(model=model, llm_router=router, models=names, object_type="key")
    except ProxyException:
        return False
    return True


async def is_session(token: Secret) -> bool:
    """Whether a virtual key is the session of an administrator of LiteLLM's pages. False if that cannot be determined."""
    shared = {"prisma_client": proxy_server.prisma_client, "user_api_key_cache": proxy_server.user_api_key_cache}
    try:
        key = await get_key_object(hash_token(token.reveal()), **shared)
        if key.team_id != UI_TEAM_ID or key.user_id is None:
            return False
        user = await get_user_object(user_id=key.user_id, user_id_upsert=False, **shared)
    except Exception:  # noqa: BLE001 - a missing key and an unavailable database raise different classes
        return False
    return user is not None and user.user_role == LitellmUserRoles.PROXY_ADMIN
