"""What is worth telling, and to whom: notices about the connections that the user asked for."""

from __future__ import annotations

from typing import Any

from tracer.events.records import SockState
from tracer.model.connection import Changes, Connection, address
from tracer.model.findings import Action, Endpoint, Notice, Phase, ResetView
from tracer.model.judge import Judge
from tracer.model.resets import Resets
from tracer.model.selection import Selection


class Notices:
    """Makes notices; a connection's first is `connection-seen`. Resets are kept for the screen."""

    def __init__(self, selection: Selection, judge: Judge, resets: Resets) -> None:
        self._selection = selection
        self._judge = judge
        self._resets = resets

    def wanted(self, connection: Connection) -> bool:
        """Whether the user asked for the connection."""
        if not self._selection.wants_peer(address(connection.sock.peer_addr)):
            return False
        return not self._selection.pids or self._selection.wants_owners(self._judge.pids(connection))

    def enter(self, connection: Connection, ns: int) -> list[Notice]:
        """Introduces the connection if it was asked for and is not in the stream yet."""
        if connection.in_stream or not self.wanted(connection):
            return []
        connection.in_stream = True
        return [Notice("connection-seen", ns, self._judge.view(connection, ns))]

    def of(self, connection: Connection, action: Action, ns: int, **details: Any) -> list[Notice]:
        """The notice, after the one that introduces the connection; nothing for one that was not asked for."""
        entered = self.enter(connection, ns)
        if not connection.in_stream:
            return []
        return [*entered, Notice(action, ns, self._judge.view(connection, ns), **details)]

    def windows(self, connection: Connection, ns: int, changes: Changes) -> list[Notice]:
        """Windows that a sample showed to have closed or opened."""
        notices: list[Notice] = []
        for side, closed in (("local", changes.local), ("peer", changes.peer)):
            if closed is not None:
                notices += self.of(connection, "window-closed" if closed else "window-opened", ns, window_side=side)
        return notices

    def verdict(self, connection: Connection, ns: int) -> list[Notice]:
        """`verdict-changed`, if it did."""
        verdict = self._judge.verdict(connection, ns)
        if not self._judge.is_news(connection, verdict):
            return []
        if verdict.phase is Phase.OK and not connection.in_stream:
            return []
        if not self._judge.is_settled(connection, ns):
            return []
        notices = self.of(connection, "verdict-changed", ns)
        if notices:
            connection.announced = verdict
        return notices

    def reset(self, connection: Connection, action: Action, ns: int) -> list[Notice]:
        """A reset, or an end without one."""
        notices = self.of(connection, action, ns, reset=connection.reset)
        for notice in notices:
            if notice.action == action:
                self._resets.show(notice)
        return notices

    def reset_without_socket(self, sock: SockState, ns: int, view: ResetView) -> list[Notice]:
        """A RST that this host sent for no connection of its own."""
        if self._selection.pids or not self._selection.wants_peer(address(sock.peer_addr)):
            return []
        notice = Notice(
            "reset-sent",
            ns,
            local=Endpoint(str(address(sock.local_addr)), sock.local_port),
            peer=Endpoint(str(address(sock.peer_addr)), sock.peer_port),
            netns=sock.netns or None,
            reset=view,
        )
        self._resets.show(notice)
        return [notice]
