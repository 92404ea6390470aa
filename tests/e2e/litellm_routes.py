"""Write every route of LiteLLM's app into a file as JSON, those included that it loads when they are first asked for."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from litellm.proxy import _lazy_features, proxy_server


def found(routes: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield method and path of each route, those of routers inside included."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from found(inner.routes, prefix + (getattr(route.include_context, "prefix", "") or ""))
            continue
        for method in getattr(route, "methods", None) or ():
            yield method, prefix + route.path


if __name__ == "__main__":
    for feature in _lazy_features.LAZY_FEATURES:
        feature.register_fn(proxy_server.app, importlib.import_module(feature.module_path))
    Path(sys.argv[1]).write_text(json.dumps(sorted(set(found(proxy_server.app.routes)))), encoding="utf-8")
