"""`Proxies`: the peers whose headers about the client are believed (``--forwarded-allow-ips``). Pure."""

from __future__ import annotations

import ipaddress

from fdpass.errors import ConfigError

DEFAULT = "127.0.0.1,::1,unix"
"""The default of ``--forwarded-allow-ips``."""

_KNOWN_MAX = 4096
_LONGEST = 64  # characters of an address; longer text is none


class Proxies:
    """The peers in a list.

    Args:
        text: Addresses, networks, ``unix`` (clients of Unix sockets) and ``*`` (every peer), with commas between;
            empty: none.

    Attributes:
        all: Every peer is believed.
        unix: Clients of Unix sockets are believed.

    Raises:
        ConfigError: Something else is in the list.
    """

    def __init__(self, text: str) -> None:
        words = {word.strip() for word in text.split(",")} - {""}
        self.all = "*" in words
        self.unix = self.all or "unix" in words
        self._networks = [_network(word) for word in sorted(words - {"*", "unix"})]
        self._known: dict[str, tuple[str, bool]] = {}

    def __bool__(self) -> bool:
        return self.unix or bool(self._networks)

    def look_up(self, text: str) -> tuple[str, bool]:
        """Return an address in its usual form, and whether it is in the list; "" and False if it is no address."""
        found = self._known.get(text)
        if found is None:
            found = self._look_up(text)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            if len(text) <= _LONGEST:
                self._known[text] = found
        return found

    def _look_up(self, text: str) -> tuple[str, bool]:
        try:
            address = ipaddress.ip_address(text if len(text) <= _LONGEST else "")
        except ValueError:
            return "", False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return str(address), self.all or any(address in network for network in self._networks)


def _network(word: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(word)
    except ValueError as error:
        raise ConfigError(
            f"--forwarded-allow-ips {word!r}: write addresses, networks such as 10.0.0.0/8, unix or *, "
            f"with commas between ({error})"
        ) from error
