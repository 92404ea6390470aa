"""What LiteLLM knows by name, collected from LiteLLM itself. Run as a program it writes the table that the checks read."""

import inspect
import os
import re
import sys
import textwrap
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "claude_proxy" / "check" / "litellm_names.txt"
# Prices are a family of names without an end; the checks know them by their pattern.
PRICE = re.compile(r"_cost(_|$)|_uplift_multiplier")
SIMPLE = (bool, int, float, str, list, dict, set, type(None))
READ = r"(?:\.get\(|\[|key == )\s*\"([a-z][a-z_0-9]*)\""


def collect() -> dict[str, set[str]]:
    """Import LiteLLM and return its names by section of config.yaml; ``providers`` are the prefixes of models."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # without it, LiteLLM waits for a list from the internet
    import litellm  # noqa: PLC0415 - slow
    from litellm.constants import OPENAI_CHAT_COMPLETION_PARAMS, ROUTER_SETTINGS_MANAGED_OUTSIDE_CONFIG  # noqa: PLC0415
    from litellm.llms.openai_like.json_loader import JSONProviderRegistry  # noqa: PLC0415
    from litellm.proxy import proxy_server  # noqa: PLC0415
    from litellm.proxy._types import ConfigGeneralSettings, ConfigYAML  # noqa: PLC0415
    from litellm.types.router import LiteLLM_Params  # noqa: PLC0415
    from litellm.types.utils import all_litellm_params  # noqa: PLC0415

    source = inspect.getsource(proxy_server)
    proxy_files = [path.read_text(encoding="utf-8") for path in Path(proxy_server.__file__).parent.rglob("*.py")]
    params = {*LiteLLM_Params.model_fields, *all_litellm_params, *OPENAI_CHAT_COMPLETION_PARAMS}
    general = set(ConfigGeneralSettings.model_fields)
    for text in proxy_files:
        general |= set(re.findall(rf"general_settings{READ}", text))
    settings = {name for name, value in vars(litellm).items() if is_setting(name, value)}
    for text in proxy_files:
        settings |= set(re.findall(rf"litellm_settings{READ}", text))
    loader = inspect.getsource(proxy_server.ProxyConfig.load_config)
    settings |= set(re.findall(r"\bkey == \"([a-z_0-9]+)\"", loader))
    return {
        "top": {*ConfigYAML.model_fields, *re.findall(r"\bconfig\.get\(\s*\"([a-z_0-9]+)\"", source), "include"},
        "litellm_params": {name for name in params if plain(name) and not PRICE.search(name)},
        "router_settings": set(litellm.Router.get_valid_args()) - ROUTER_SETTINGS_MANAGED_OUTSIDE_CONFIG,
        "litellm_settings": settings,
        "general_settings": general,
        "providers": {str(getattr(one, "value", one)) for one in litellm.provider_list}
        | {*JSONProviderRegistry.list_providers()},
    }


def is_setting(name: str, value: object) -> bool:
    """Whether a variable of the module ``litellm`` is one that somebody would set."""
    return (
        plain(name)
        and name == name.lower()
        and isinstance(value, SIMPLE)
        and not name.endswith(("_models", "_key", "client_session"))
    )


def plain(name: str) -> bool:
    return not name.startswith("_") and name != "self"


def text(names: dict[str, set[str]]) -> str:
    sections = [
        f"[{section}]\n{textwrap.fill(' '.join(sorted(found)), 126, break_on_hyphens=False)}\n"
        for section, found in names.items()
    ]
    return "\n".join(sections)


if __name__ == "__main__":
    TABLE.write_text(text(collect()), encoding="utf-8")
    sys.stdout.write(f"{TABLE}\n")
