"""What a process has not read yet of a TCP connection on loopback, as the kernel says it.

Source: sock_diag(7), linux/inet_diag.h.
"""

import socket
import struct

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NLMSG_ERROR = 4, 20, 1, 2
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, sender
# inet_diag_req_v2: family, protocol, extensions, states, ports, addresses, device, cookie
_WHICH = struct.Struct("=BBBxI2s2s16s16sIII")
_ANY = 0xFFFFFFFF
_LOOPBACK = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
_UNREAD_AT = _HEADER.size + 56  # inet_diag_msg.idiag_rqueue
_ANSWER_BYTES = 4096


class Unread:
    """Asks the kernel. To be closed."""

    def __init__(self) -> None:
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)

    def bytes_at(self, here: int, there: int) -> int:
        """Return how much waits at port `here` of its connection with port `there`; 0, too, if there is none."""
        ports = struct.pack(">H", here), struct.pack(">H", there)
        which = _WHICH.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ANY, *ports, _LOOPBACK, _LOOPBACK, 0, _ANY, _ANY)
        self._kernel.send(_HEADER.pack(_HEADER.size + len(which), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + which)
        answer = self._kernel.recv(_ANSWER_BYTES)
        if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
            return 0
        return int(struct.unpack_from("=I", answer, _UNREAD_AT)[0])

    def close(self) -> None:
        self._kernel.close()
