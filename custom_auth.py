"""The ``custom_auth`` that config.yaml names. Binds the function; everything is in the package ``claude_proxy``."""

import sys
from pathlib import Path

# LiteLLM runs this file by its path and does not put its folder on the path for imports.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

from claude_proxy.litellm.bootstrap import start
from claude_proxy.litellm.custom_auth import authenticate

settings = start().app.settings


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth | str:  # noqa: ARG001 - LiteLLM's signature
    """Check the request's token. ``api_key``, LiteLLM's reading of it, is not used: it takes Claude credentials for keys."""
    return await authenticate(request, settings)
