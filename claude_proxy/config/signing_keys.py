"""Where the keys are that sign access tokens: in a file, or sealed in a Redis that replicas share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret

FILE_VARIABLE = "PROXY_SIGNING_KEYS_FILE"
# The file in the folder that holds the proxy's state.
NAME = "signing-keys"
# Under this name the launcher passes the path of that file on.
OWN_FILE = "CLAUDE_PROXY_SIGNING_KEYS"
# And with this one it says that it has generated the master key: each replica then has another one, and after each start.
GENERATED_MASTER_KEY = "CLAUDE_PROXY_MASTER_KEY_IS_GENERATED"

NO_MASTER_KEY = (
    "the replicas that share this Redis need the same keys: set LITELLM_MASTER_KEY, which seals them there, or "
    f"{FILE_VARIABLE} to a file that all of them can read"
)
NO_STORE = "the processes share no state: CLAUDE_POOL_STATE_FILE is `none`; remove it, or set NUM_WORKERS to 1"
NO_FOLDER = f"there is no folder for its keys: start the proxy with `claude-proxy serve`, or set {FILE_VARIABLE}"


@dataclass(frozen=True)
class Place:
    """The place of the keys: a file, the store with the secret that seals them, or none, with the reason."""

    path: Path | None = None
    sealed_by: Secret | None = None
    problem: str = ""


NO_PLACE = Place(problem=NO_FOLDER)


def place(environ: Mapping[str, str], settings: Settings, *, redis: bool, store: bool) -> Place:
    """Return the place for these settings. ``redis`` is whether replicas share a Redis, ``store`` whether there is a store."""
    if not store and settings.workers > 1:
        return Place(problem=NO_STORE)
    if named := environ.get(FILE_VARIABLE, "").strip():
        return Place(Path(named))
    if redis:
        generated = bool(environ.get(GENERATED_MASTER_KEY))
        return Place(sealed_by=settings.master_key) if settings.master_key and not generated else Place(problem=NO_MASTER_KEY)
    own = environ.get(OWN_FILE, "").strip()
    return Place(Path(own)) if own else NO_PLACE
