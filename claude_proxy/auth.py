"""LiteLLM's ``custom_auth`` over ``access.py``. Replaces LiteLLM's whole key check, the master key's included."""

from fastapi import Request
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

from claude_proxy import headers as header_policy
from claude_proxy.access import MODEL_ROUTES, Refused, Role, identify
from claude_proxy.settings import Settings

# `allowed_routes` is what closes the rest in LiteLLM 1.106.2: without it a caller with no role still reaches /health,
# which calls every model, and /model/info.
ROUTES = sorted({route for _, route in MODEL_ROUTES})


async def authenticate(request: Request, settings: Settings) -> UserAPIKeyAuth:
    """Return LiteLLM's view of the caller; raise LiteLLM's error with 401. No token is kept in it, only the caller's name."""
    try:
        caller = identify(header_policy.read(request.headers.items()), settings)
    except Refused as refused:
        raise ProxyException(
            str(refused), type="authentication_error", param=None, code=refused.status, headers={"x-should-retry": "false"}
        ) from refused
    if caller.role is Role.ADMIN:
        return UserAPIKeyAuth(api_key="master-key", user_id=caller.name, user_role=LitellmUserRoles.PROXY_ADMIN)
    return UserAPIKeyAuth(
        api_key=f"{caller.role.value}-token", key_alias=caller.name, user_id=caller.name, allowed_routes=ROUTES
    )
