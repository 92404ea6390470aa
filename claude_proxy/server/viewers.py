"""Who may see what of the status: identifies the caller of a status route and returns them as a viewer."""

from collections.abc import Callable

from starlette.requests import Request

from claude_proxy.access.routes import Caller, Role, check_route, identify
from claude_proxy.config.pool_groups import NO_GROUPS, PoolGroups
from claude_proxy.config.settings import Settings
from claude_proxy.config.users import folded
from claude_proxy.credentials.order import may_use
from claude_proxy.credentials.pool import Pool
from claude_proxy.upstream import headers as header_policy
from claude_proxy.usage.report import Viewer


class Viewers:
    """Identifies callers again, after the gateway; ``groups`` returns the groups of the pool."""

    def __init__(self, settings: Settings, pool: Pool, groups: Callable[[], PoolGroups] = lambda: NO_GROUPS) -> None:
        self._settings = settings
        self._pool = pool
        self._groups = groups

    def identify(self, request: Request, route: str) -> tuple[Viewer, Caller]:
        """Return the viewer and the caller of a request; raise ``Refused`` if they may not use the route."""
        caller = identify(header_policy.read(request.headers.items()), self._settings)
        check_route(caller, request.method, route)
        return self.viewer(caller), caller

    def viewer(self, caller: Caller) -> Viewer:
        """Return the viewer. Who may not see every user sees only the credentials that they may use, for any model."""
        viewer = viewer_of(caller)
        if viewer.sees_all_users:
            return viewer
        requesters = self._groups().viewer(viewer.name, groups=caller.groups, known=self._pool.groups)
        pool = [one.credential for one in self._pool.snapshot()]
        hidden = [one.label for one in pool if not any(may_use(one.terms, requester, one.label) for requester in requesters)]
        return viewer._replace(hidden=frozenset(hidden))


def viewer_of(caller: Caller) -> Viewer:
    """Return the name under which a caller's requests are counted, and whether they may see every user."""
    return Viewer(folded(caller.name), caller.role is Role.ADMIN)
