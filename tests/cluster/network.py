"""Hosts of a network on this machine: network namespaces on a bridge, each with an address of its own."""

import os
import subprocess
from contextlib import AbstractContextManager, nullcontext


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Network:
    """A bridge that this process is on too, and the hosts on it.

    Its addresses are from a range that no real network uses (RFC 2544), other ones for every process.
    """

    def __init__(self) -> None:
        self._bridge = f"sr{os.getpid()}"
        self._prefix = f"198.18.{os.getpid() % 256}"
        self._hosts: dict[str, int] = {}  # the last numbers of their addresses
        self.address = f"{self._prefix}.1"  # of this process

    def __enter__(self) -> "Network":
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        return self

    def __exit__(self, *_error: object) -> None:
        for number in self._hosts.values():
            _ip("link", "delete", self._plug(number))
            _ip("netns", "delete", f"{self._bridge}-{number}")
        _ip("link", "delete", self._bridge)

    def add(self, name: str) -> tuple[str, list[str]]:
        """A host, new or as it was but plugged in again; its address and what runs a command on it."""
        if name not in self._hosts:
            self._hosts[name] = self._make(len(self._hosts) + 2)
        number = self._hosts[name]
        _ip("link", "set", self._plug(number), "up")
        return f"{self._prefix}.{number}", ["ip", "netns", "exec", f"{self._bridge}-{number}"]

    def cut(self, name: str) -> None:
        """Unplug a host: what runs on it continues, but reaches no other host."""
        _ip("link", "set", self._plug(self._hosts[name]), "down")

    def _plug(self, number: int) -> str:
        return f"{self._bridge}p{number}"

    def _make(self, number: int) -> int:
        host, inside, plug = f"{self._bridge}-{number}", f"{self._bridge}i{number}", self._plug(number)
        _ip("netns", "add", host)
        _ip("link", "add", plug, "type", "veth", "peer", "name", inside)
        _ip("link", "set", plug, "master", self._bridge)
        _ip("link", "set", inside, "netns", host, "name", "eth0")
        _ip("-n", host, "address", "add", f"{self._prefix}.{number}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", host, "link", "set", link, "up")
        return number


def network() -> AbstractContextManager[Network | None]:
    """A network where this machine lets us make one (root on Linux, with iproute2), otherwise None."""
    try:
        with Network() as tried:
            tried.add("probe")
    except (OSError, subprocess.CalledProcessError):
        return nullcontext()
    return Network()
