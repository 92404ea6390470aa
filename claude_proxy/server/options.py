"""How the server is started: each switch, and why. ``docs/performance.md`` has what each of them gains."""

from collections.abc import Mapping
from typing import Any

# What LiteLLM reads from the environment when it is imported.
LITELLM_ENVIRONMENT: Mapping[str, str] = {
    # Or LiteLLM asks the internet for its price list three times before it starts.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # In its other mode LiteLLM looks for a .env of its own.
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_DONT_SHOW_FEEDBACK_BOX": "True",
    "LITELLM_LOG": "ERROR",
}
# What LiteLLM reads while it serves, whatever the operator has set. Its code in Rust would send requests past the client that
# the deployment hook hands over: Claude would get a placeholder for a key (1.106.2).
FORCED_ENVIRONMENT: Mapping[str, str] = {"LITELLM_RUST": "false"}
# Files that a process may open where the system has no limit of its own, or a higher one; macOS allows 10240.
MANY_FILES = 10_240
# What uvicorn is started with beside an app, an address and a number of workers.
SERVER: Mapping[str, Any] = {
    # httptools, with limits to a request's head and to connections.
    "http": "claude_proxy.server.http_protocol:BoundedProtocol",
    # uvloop, which LiteLLM brings where it runs.
    "loop": "auto",
    # One line a request is the proxy's own.
    "access_log": False,
    "log_level": "warning",
    "server_header": False,
    # How long a worker may be silent before it is replaced, in seconds: importing LiteLLM takes several at each start.
    "timeout_worker_healthcheck": 60,
    # How long a stop waits, in seconds, once requests have ended or were cut off (draining.py): for what is still to be sent.
    "timeout_graceful_shutdown": 5,
}
