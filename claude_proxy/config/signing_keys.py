"""Where the keys are that sign access tokens: in a file, or sealed in a Redis that replicas share."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from claude_proxy.config.settings import Settings
from claude_proxy.secret import Secret

FILE_VARIABLE = "PROXY_SIGNING_KEYS_FILE"
# The file in the folder that holds the proxy's state.
NAME = "signing-keys"
# Under this name the launcher passes the place on: the path of that file, or ``STORE``.
OWN_PLACE = "CLAUDE_PROXY_SIGNING_KEYS"
STORE = "store"

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


def announce(environ: MutableMapping[str, str], state: Path, *, redis: bool, master_key: bool) -> None:
    """Tell the workers where the keys are. ``master_key`` is whether the operator has set one.

    A master key that the start generates is another one at each replica and after each start.
    """
    if redis:
        environ[OWN_PLACE] = STORE if master_key else ""
    else:
        environ[OWN_PLACE] = str(state / NAME)


def place(environ: Mapping[str, str], settings: Settings, *, redis: bool, store: bool) -> Place:
    """Return the place for these settings. ``redis`` is whether replicas share a Redis, ``store`` whether there is a store."""
    if not store and settings.workers > 1:
        return Place(problem=NO_STORE)
    if named := environ.get(FILE_VARIABLE, "").strip():
        return Place(Path(named))
    own = environ.get(OWN_PLACE, "").strip()
    if redis:
        return Place(sealed_by=settings.master_key) if own == STORE and settings.master_key else Place(problem=NO_MASTER_KEY)
    return Place(Path(own)) if own and own != STORE else NO_PLACE
