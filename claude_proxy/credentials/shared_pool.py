"""The pool's state, kept the same in all processes that share a store. Plain and synchronous.

``changed`` returns what this process has learned, as rows; ``merge`` applies the rows of other processes.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from claude_proxy.credentials import demand, pool_rows
from claude_proxy.credentials.credential import Credential, Kind
from claude_proxy.credentials.demand import Demand
from claude_proxy.credentials.order import Order
from claude_proxy.credentials.pool_changes import updated_states
from claude_proxy.credentials.rate_limits import CredentialState
from claude_proxy.credentials.scope import Scope
from claude_proxy.credentials.sessions import Sessions
from claude_proxy.state.rows import Row, read_salt, skipping_unreadable


class SharedPool:
    """Credentials, sessions and the position of the round robin. ``clock`` returns Unix seconds."""

    def __init__(
        self, credentials: Iterable[Credential], clock: Callable[[], float], *, soft_limit: float, order: Order
    ) -> None:
        self._clock = clock
        self._soft_limit = soft_limit
        self._order = order
        self._states: dict[str, CredentialState] = {}
        self._by_key: dict[str, CredentialState] = {}
        self._kinds: dict[Kind, list[CredentialState]] = {}
        # The credentials whose terms exclude some requests.
        self._with_terms: frozenset[CredentialState] = frozenset()
        # All groups that a credential has.
        self.groups: frozenset[str] = frozenset()
        self._sessions = Sessions()
        self._cursor = 0
        self._cursor_moved = False
        # Whether this process has chosen a credential; from then on it ignores the round robin of others.
        self._has_chosen = False
        # When a rate-limited credential was last probed, in Unix seconds.
        self._probed = 0.0
        self._demand = Demand()
        self._changed: dict[str, Row] = {}
        self._salt = ""
        self.replace_credentials(credentials)

    def __len__(self) -> int:
        return len(self._states)

    def replace_credentials(self, credentials: Iterable[Credential]) -> None:
        """Replace the credentials; those that stay keep their state, even under a new label.

        The state of a removed credential is dropped, and its sessions move at their next request.
        """
        self._states, labels = updated_states(self._states, credentials, self._soft_limit, self._order, self._clock())
        self._kinds = {
            kind: [state for state in self._states.values() if state.credential.kind is kind]
            for kind in (Kind.OAUTH, Kind.API_KEY)
        }
        self._with_terms = frozenset(state for state in self._states.values() if state.has_terms)
        self.groups = frozenset(group for state in self._states.values() for group in state.credential.terms.groups)
        self._sessions.relabel(labels)
        self._name_states()

    def set_salt(self, salt: str) -> None:
        """Set the salt of the keyed hash that names credentials in the store, so that the store reveals none."""
        self._salt = salt
        self._name_states()
        if self._changed:  # their keys contain the old names
            self._changed = {row.key: row for row in self.everything()}

    def record_requested(self, scope: Scope) -> None:
        """Record that a client requests a model, whatever credential serves it."""
        row = self._demand.record(scope, self._clock())
        if row is not None:
            self._record_change(row)

    def changed(self) -> list[Row]:
        """Return what has changed in this process since the last call."""
        rows, self._changed = [*self._changed.values()], {}
        if self._cursor_moved:
            self._cursor_moved = False
            rows.append(pool_rows.cursor_row(self._cursor, self._clock()))
        return rows

    def everything(self) -> list[Row]:
        """Return the whole state as rows."""
        rows = [pool_rows.cursor_row(self._cursor, self._clock()), *self._demand.rows()]
        for state in self._states.values():
            rows += pool_rows.credential_rows(state)
        for session, binding in self._sessions.items():
            if binding.label in self._states:
                rows.append(pool_rows.session_row(session, binding, self._states[binding.label]))
        return rows

    def merge(self, rows: Iterable[Row]) -> None:
        """Apply rows of other processes. Rows of unknown credentials and invalid rows are skipped.

        The row ``salt`` comes first; a new salt changes the names of the credentials.
        """
        now = self._clock()
        touched: dict[str, CredentialState] = {}
        for row in rows:
            with skipping_unreadable(row):
                if row.key.startswith(demand.PREFIX):
                    self._demand.merge(row, now)
                elif math.isfinite(row.stamp):
                    self._merge_row(row, json.loads(row.value), touched, now)
        for state in touched.values():
            state.derive(now)

    def _merge_row(self, row: Row, value: Any, touched: dict[str, CredentialState], now: float) -> None:
        match row.key.split(":"):
            case ["cursor"] if not self._has_chosen:  # continue where another process stopped
                self._cursor = int(pool_rows.number(value, pool_rows.MAX_CURSOR))
            case ["salt"]:
                self.set_salt(read_salt(row))
            case ["seen", key] if key in self._by_key:
                since, first_seen = self._by_key[key].since, float(pool_rows.number(value, now + pool_rows.MAX_AHEAD))
                self._by_key[key].since = first_seen if since is None else min(since, first_seen)
            case ["probed"]:
                self._probed = max(self._probed, min(row.stamp, now))
            case ["lifted", key] if key in self._by_key and row.stamp <= now + pool_rows.MAX_AHEAD:
                if row.stamp > self._by_key[key].lifted:
                    pool_rows.lift(self._by_key[key], row.stamp)
                    touched[key] = self._by_key[key]
            case ["session", session] if value["credential"] in self._by_key and row.stamp <= now + pool_rows.MAX_AHEAD:
                self._merge_session(session, self._by_key[value["credential"]], row, value, now)
            case ["credential", key, *place] if key in self._by_key:
                if pool_rows.apply_row(self._by_key[key], place, row.stamp, value, now):
                    touched[key] = self._by_key[key]

    def _merge_session(self, session: str, state: CredentialState, row: Row, value: Any, now: float) -> None:
        bound = float(pool_rows.number(value["bound"], row.stamp))
        ours = self._sessions.merge(session, state, bound, row.stamp, now)
        if ours is not None:
            # A store ignores a row with the stamp that it already has.
            later = replace(ours, used=math.nextafter(ours.used, math.inf))
            self._record_change(pool_rows.session_row(session, later, self._states[ours.label]))
        self._forget_surplus()

    def _name_states(self) -> None:
        for state in self._states.values():
            state.key = pool_rows.key_of(state.credential, self._salt)
        self._by_key = {state.key: state for state in self._states.values()}

    def _record_change(self, row: Row) -> None:
        """Keep a row for ``changed``; a later row with its key replaces it."""
        self._changed[row.key] = row

    def _forget_surplus(self) -> None:
        for session in self._sessions.forget_surplus():
            # Without a store nothing reads the changes, and they must stay bounded.
            self._changed.pop(pool_rows.session_key(session), None)
