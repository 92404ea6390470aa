"""Whether the proxy can listen at the address of its settings: for the start, and for ``check``."""

import errno
import re
import socket
from collections.abc import Mapping
from typing import Any

# An address with a scheme, a port or a path.
_MORE = re.compile(r"(?:https?://(?P<url>[^/:]+)(?::\d+)?(?:/.*)?|(?P<name>[^/:]+)(?::\d+|/.*))")
# Problems of the address, by the system's error.
PROBLEMS: Mapping[int, str] = {
    errno.EADDRINUSE: "PORT: {port} is in use: stop the program that uses it (an earlier start of this proxy?), or set PORT",
    errno.EACCES: "PORT: {port} is not for this user: set PORT to one from 1024",
    errno.EADDRNOTAVAIL: "HOST: {host} is not an address of this machine",
}


def address_error(host: str, port: int) -> tuple[int, str]:
    """Return the system's error for listening at an address, and a sentence; 0 and nothing where that is possible.

    Of a name's several addresses one is enough, as it is for the server, but none may be in use.
    """
    if more := _MORE.fullmatch(host):
        address = more["url"] or more["name"]
        return errno.EINVAL, f"HOST: is {host}, which is more than an address; write HOST={address}, and the port in PORT"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        problem = f"HOST: {host} is not known here ({error.strerror}); it should hold an address"
        return error.errno or errno.EINVAL, problem
    errors = [found for family, _, _, _, address in addresses if (found := bind_error(family, address))]
    if errno.EADDRINUSE in errors or len(errors) == len(addresses):
        number = errno.EADDRINUSE if errno.EADDRINUSE in errors else errors[0]
        return number, PROBLEMS.get(number, "HOST: nothing can listen at {host}").format(host=host, port=port)
    return 0, ""


def bind_error(family: int, address: tuple[Any, ...]) -> int:
    """Return the number of the system's error for listening at an address; 0 where that is possible."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the server does: connections that have just ended do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0
