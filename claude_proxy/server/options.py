"""The options of server and LiteLLM, with reasons. ``docs/performance.md`` has the measurements."""

from collections.abc import Mapping
from typing import Any

# Variables that LiteLLM reads at import, or once when it first needs them.
LITELLM_ENVIRONMENT: Mapping[str, str] = {
    # Otherwise LiteLLM downloads its price list, with three attempts, before it starts.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # Otherwise it downloads its list of betas at the first request for Claude on Bedrock or Vertex AI.
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    # In its other mode LiteLLM loads a .env file of its own.
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_DONT_SHOW_FEEDBACK_BOX": "True",
    "LITELLM_LOG": "ERROR",
}
# Variables that LiteLLM reads while it serves; they override the operator's. LiteLLM's Rust code would bypass the HTTP client
# that the deployment hook sets, so Claude would receive a placeholder instead of a key (1.108.7).
FORCED_ENVIRONMENT: Mapping[str, str] = {"LITELLM_RUST": "false"}
# The number of open files per process if the system's limit is higher or missing; macOS allows 10240.
MANY_FILES = 10_240
# Options for uvicorn, besides app, address and number of workers.
SERVER: Mapping[str, Any] = {
    # httptools, with limits for heads and connections.
    "http": "claude_proxy.server.http_protocol:BoundedProtocol",
    # uvloop, which LiteLLM installs on supported platforms.
    "loop": "auto",
    # The proxy writes its own line for each request.
    "access_log": False,
    "log_level": "warning",
    "server_header": False,
    # After this many seconds without a sign of life a worker is replaced; importing LiteLLM takes several seconds.
    "timeout_worker_healthcheck": 60,
    # How long a stop waits for pending data, in seconds, after requests have finished or were cut off (draining.py).
    "timeout_graceful_shutdown": 5,
}
