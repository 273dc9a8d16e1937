"""Which connections the user asked for. Ports are decided in the kernel; these are decided here."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network


@dataclass(frozen=True, slots=True)
class Selection:
    """No `pids`: any. No `peers`: any. `everything`: healthy connections too."""

    pids: frozenset[int] = frozenset()
    peers: tuple[IPv4Network | IPv6Network, ...] = ()
    everything: bool = False

    def wants_peer(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether a peer of that address is among those asked for."""
        return not self.peers or any(address.version == network.version and address in network for network in self.peers)

    def wants_owners(self, pids: set[int]) -> bool:
        """Whether one of the processes at either end is. An end whose owner is not known yet is not."""
        return not self.pids or not self.pids.isdisjoint(pids)
