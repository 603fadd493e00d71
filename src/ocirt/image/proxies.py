"""Which proxy a host is reached by: the variables of the environment, as Go's programs read them.

HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in small letters too. Nobody is asked for what is on this machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final
from urllib.request import getproxies_environment

_WITH_PORT: Final = re.compile(r"(.*[^:]|\[.*\]):([0-9]+)")


def proxy(scheme: str, host: str, port: int) -> str | None:
    """The URL of the proxy for such requests; ``None`` goes there directly."""
    proxies = getproxies_environment()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or _is_here(host):
        return None
    names = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if any(_is_meant(name.strip().lower(), host, port) for name in names.split(",")):
        return None
    return url if "://" in url else f"http://{url}"


def _is_here(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_meant(name: str, host: str, port: int) -> bool:
    """By a name of NO_PROXY: everything, a domain and what is below it, an address or a net; one port of it, if any."""
    if name == "*":
        return True
    with_port = _WITH_PORT.fullmatch(name)
    if with_port is not None and _address(name) is None:
        name, wanted = with_port.groups()
        if int(wanted) != port:
            return False
    address, net = _address(host), _net(name)
    if address is not None and net is not None:
        return address in net
    domain = name.removeprefix("*").removeprefix(".")
    return domain != "" and (host == domain or host.endswith(f".{domain}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _net(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
