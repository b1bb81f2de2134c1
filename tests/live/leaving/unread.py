"""What a process has not read yet of a TCP connection on loopback: the kernel tells (sock_diag(7), inet_diag.h)."""

import socket
import struct

_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _ERROR = 20, 1, 2
_NETLINK_SOCK_DIAG = 4
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, sender
_ADDRESS = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
_WHICH = struct.Struct("=BBBxI2s2s16s16sIII")  # family, protocol, extensions, states, ports, addresses, device, cookie
_ANY = 0xFFFFFFFF
_UNREAD_AT = _HEADER.size + 56  # in an answer


def unread_bytes(here: int, there: int) -> int:
    """Return how much waits to be read at port `here` of the connection with port `there`, 0 where none can tell."""
    ports = struct.pack(">H", here), struct.pack(">H", there)
    which = _WHICH.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ANY, *ports, _ADDRESS, _ADDRESS, 0, _ANY, _ANY)
    head = _HEADER.pack(_HEADER.size + len(which), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.send(head + which)
        answer = kernel.recv(4096)
    if _HEADER.unpack_from(answer)[1] == _ERROR:  # it is closed
        return 0
    return int(struct.unpack_from("=I", answer, _UNREAD_AT)[0])
