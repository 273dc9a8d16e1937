"""Synthetic BTF (Documentation/bpf/btf.rst): type by type, or a kernel's structs from tables of their members."""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, Union

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST = range(1, 11)
RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(11, 20)

HEADER = struct.Struct("=HBBI4I")
MAGIC = 0xEB9F

Shape: TypeAlias = dict[str, Union[str, "Shape"]]
"""A struct: its members in order, each with its type: "u8", "u16:4" (bits), "u8[16]", "sock *", a struct's name, or a shape of
its own. A name in parentheses stands for none."""


class OneOf(dict[str, str | Shape]):
    """A union."""


class Member(NamedTuple):
    """`at` in bits; `bits` makes it a bitfield of the newer encoding."""

    name: str
    type_id: int
    at: int = 0
    bits: int = 0


class Laid(NamedTuple):
    """A struct in place: its size in bytes, and where its members are, those of anonymous ones too, in bits."""

    type_id: int
    size: int
    members: dict[str, int]


class Blob:
    """Types one behind the other. What adds one gives its id."""

    def __init__(self) -> None:
        self._names = bytearray(b"\0")
        self._offsets = {"": 0}
        self._types: list[int] = []
        self._count = 0
        self._known: dict[str, Laid] = {}
        self.where: dict[str, int] = {}
        """The byte at which a declared struct has a member, such as "sock.sk_timer"."""

    def build(self, **header: int) -> bytes:
        """The whole, but for the values of the header that are given."""
        types = struct.pack(f"={len(self._types)}I", *self._types)
        fields = {"magic": MAGIC, "version": 1, "flags": 0, "length": HEADER.size, "types": 0, "types_length": len(types)}
        fields |= {"names": len(types), "names_length": len(self._names)}
        return HEADER.pack(*(fields | header).values()) + types + bytes(self._names)

    def name(self, text: str) -> int:
        """The offset of a name."""
        if text not in self._offsets:
            self._offsets[text] = len(self._names)
            self._names += text.encode() + b"\0"
        return self._offsets[text]

    def add(self, kind: int, name: str, third: int, words: Iterable[int] = (), *, length: int = 0, flag: bool = False) -> int:
        """Any type: `third` is its size or the type that it refers to."""
        self._types += [self.name(name), flag << 31 | kind << 24 | length, third, *(word & 0xFFFFFFFF for word in words)]
        self._count += 1
        return self._count

    def integer(self, name: str, size: int, bits: int = 0, shift: int = 0) -> int:
        return self.add(INT, name, size, [shift << 16 | (bits or size * 8)])

    def pointer(self, to: int = 0) -> int:
        return self.add(PTR, "", to)

    def array(self, of: int, count: int) -> int:
        return self.add(ARRAY, "", 0, [of, 0, count])

    def struct(self, name: str, size: int, *members: Member, kind: int = STRUCT) -> int:
        packed = any(member.bits for member in members)
        words = [(self.name(one.name), one.type_id, one.bits << 24 | one.at if packed else one.at) for one in members]
        return self.add(kind, name, size, (word for three in words for word in three), length=len(members), flag=packed)

    def union(self, name: str, size: int, *members: Member) -> int:
        return self.struct(name, size, *members, kind=UNION)

    def enum(self, name: str, values: Mapping[str, int]) -> int:
        words = [word for text, value in values.items() for word in (self.name(text), value)]
        self._known[name] = Laid(self.add(ENUM, name, 4, words, length=len(values)), 4, {})
        return self._count

    def enum64(self, name: str, values: Mapping[str, int]) -> int:
        words = [word for text, value in values.items() for word in (self.name(text), value, value >> 32)]
        return self.add(ENUM64, name, 8, words, length=len(values))

    def forward(self, name: str) -> int:
        """`struct name;`"""
        return self.add(FWD, name, 0)

    def typedef(self, name: str, to: int) -> int:
        return self.add(TYPEDEF, name, to)

    def const(self, to: int) -> int:
        return self.add(CONST, "", to)

    def prototype(self, *arguments: int) -> int:
        words = [word for argument in arguments for word in (0, argument)]
        return self.add(FUNC_PROTO, "", 0, words, length=len(arguments))

    def tracepoint(self, name: str, *arguments: int) -> int:
        """`typedef void (*btf_trace_name)(void *, …)`."""
        return self.typedef(f"btf_trace_{name}", self.pointer(self.prototype(self.pointer(), *arguments)))

    def declare(self, structs: Mapping[str, str | Shape]) -> None:
        """Structs from their shapes, each after those that it contains. Members stand one behind the other, without holes."""
        for name, shape in structs.items():
            assert not isinstance(shape, str)
            self._known[name] = laid = self._lay(name, shape)
            self.where |= {f"{name}.{member}": at // 8 for member, at in laid.members.items()}

    def spelled(self, text: str) -> int:
        """The type that C would write so, such as "const sock *". What is not declared is forward declared."""
        return self._spelled(text)[0]

    def _lay(self, name: str, shape: Shape) -> Laid:
        end = widest = 0
        members: list[Member] = []
        where: dict[str, int] = {}
        for key, what in shape.items():
            type_id, size, bits, inner = self._type(what)
            if not bits or isinstance(shape, OneOf):
                end = 0 if isinstance(shape, OneOf) else (end + 7) // 8 * 8
            anonymous = key.startswith("(")
            members.append(Member("" if anonymous else key, type_id, end, bits))
            where |= {one: end + at for one, at in inner.items()} if anonymous else {key: end}
            end += bits or size * 8
            widest = max(widest, end)
        size = (widest + 7) // 8
        return Laid(self.struct(name, size, *members, kind=UNION if isinstance(shape, OneOf) else STRUCT), size, where)

    def _type(self, what: str | Shape) -> tuple[int, int, int, dict[str, int]]:
        """Id, size, bits and members."""
        if not isinstance(what, str):
            laid = self._lay("", what)
            return laid.type_id, laid.size, 0, laid.members
        base, _, bits = what.partition(":")
        type_id, size = self._spelled(base)
        return type_id, size, int(bits or 0), {}

    def _spelled(self, text: str) -> tuple[int, int]:
        if text.endswith("]"):
            of, _, count = text[:-1].partition("[")
            type_id, size = self._spelled(of)
            return self.array(type_id, int(count)), size * int(count)
        if text.endswith("*"):
            return self.pointer(self._spelled(text[:-1].rstrip())[0]), 8
        if text.startswith("const "):
            type_id, size = self._spelled(text.removeprefix("const "))
            return self.const(type_id), size
        if text not in self._known:
            size = SIZES.get(text, 0)
            self._known[text] = Laid(self.integer(text, size) if size else self.forward(text), size, {})
        return self._known[text][:2]


SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "int": 4, "long unsigned int": 8}


class Kernel:
    """A kernel's types, to be changed before they are built."""

    def __init__(self) -> None:
        self.structs = copy.deepcopy(MAINLINE)
        self.enums = {
            "sock_flags": {"SOCK_DEAD": 0, "SOCK_DONE": 1, "SOCK_URGINLINE": 2, "SOCK_KEEPOPEN": 3, "SOCK_LINGER": 4},
            "bpf_func_id": {"BPF_FUNC_unspec": 0, "BPF_FUNC_map_lookup_elem": 1, "BPF_FUNC_sock_from_file": 162},
            "sk_rst_reason": {"SK_RST_REASON_NOT_SPECIFIED": 0, "SK_RST_REASON_NO_SOCKET": 1, "SK_RST_REASON_TCP_STATE": 16},
        }
        self.tracepoints: dict[str, tuple[str, ...]] = {
            "tcp_send_reset": ("const sock *", "const sk_buff *", "const sk_rst_reason"),
            "tcp_receive_reset": ("sock *",),
            "tcp_probe": ("sock *", "sk_buff *"),
            "timer_expire_entry": ("timer_list *", "long unsigned int"),
            "tcp_rcv_space_adjust": ("sock *",),
            "inet_sock_set_state": ("const sock *", "const int", "const int"),
            "tcp_retransmit_skb": ("const sock *", "const sk_buff *", "int"),
            "tcp_destroy_sock": ("sock *",),
        }
        self.functions = ["bpf_rdonly_cast"]

    def struct(self, path: str) -> Shape:
        """The shape that holds the last member of a path, to change it; the anonymous one, if there it is."""
        first, *rest = path.split(".")
        shape: Any = self.structs[first]
        for name in rest[:-1]:
            inner = _holder(shape, name)[name]
            shape = self.structs[inner] if isinstance(inner, str) else inner
        return _holder(shape, rest[-1])

    def without(self, *paths: str) -> Kernel:
        """Lacks these members, as far as it had them."""
        for path in paths:
            self.struct(path).pop(path.split(".")[-1], None)
        return self

    def blob(self) -> Blob:
        blob = Blob()
        blob.declare(self.structs)
        for name, values in self.enums.items():
            blob.enum(name, values)
        for name, arguments in self.tracepoints.items():
            blob.tracepoint(name, *map(blob.spelled, arguments))
        for name in self.functions:
            blob.add(FUNC, name, blob.prototype(), length=1)
        return blob


def _holder(shape: Shape, name: str) -> Shape:
    """The shape itself unless an anonymous one in it has the member."""
    for key, inner in shape.items():
        if key.startswith("(") and not isinstance(inner, str):
            found = _holder(inner, name)
            if name in found:
                return found
    return shape


def debian_6_1() -> Kernel:
    """6.1.192: the keepalive timer has moved, and `sk_timer` is there still but for MPTCP. No reasons, no icsk_rto_max."""
    kernel = Kernel().without(
        "inet_connection_sock.icsk_rto_max", "tcp_sock.tcp_usec_ts", "netns_ipv4.sysctl_tcp_syn_linear_timeouts"
    )
    del kernel.struct("sock.sk_timer")["sk_timer"]
    kernel.struct("sock.sk_err")["(timers)"] = OneOf(sk_timer="timer_list", mptcp_retransmit_timer="timer_list")
    connection = kernel.struct("inet_connection_sock.icsk_rto")
    connection |= {"icsk_keepalive_timer": "timer_list", "icsk_timeout": "long unsigned int"}
    del kernel.enums["sk_rst_reason"]
    kernel.functions.remove("bpf_rdonly_cast")
    kernel.tracepoints |= {
        "tcp_send_reset": ("const sock *", "const sk_buff *"),
        "tcp_retransmit_skb": ("const sock *", "const sk_buff *"),
    }
    return kernel


def linux_6_19() -> Kernel:
    """Both timers have moved; `sk_timer` is another name of the retransmit timer."""
    kernel = Kernel().without("sock.sk_timer", "inet_connection_sock.icsk_retransmit_timer")
    timers = OneOf(sk_timer="timer_list", tcp_retransmit_timer="timer_list", mptcp_retransmit_timer="timer_list")
    kernel.struct("sock.sk_err")["(timers)"] = timers
    kernel.struct("inet_connection_sock.icsk_rto")["icsk_keepalive_timer"] = "timer_list"
    return kernel


def _each(kind: str, names: str) -> Shape:
    return dict.fromkeys(names.split(), kind)


_HEADERS = "transport_header network_header"

# what of 6.18 tcptrace reads, in the kernel's nesting but not in its order
MAINLINE: Shape = {
    "possible_net_t": {"net": "net *"},
    "hlist_node": {"next": "hlist_node *", "pprev": "hlist_node * *"},
    "timer_list": {"entry": "hlist_node", "expires": "long unsigned int", "function": "void *", "flags": "u32"},
    "in6_addr": {"in6_u": OneOf(u6_addr8="u8[16]", u6_addr32="u32[4]")},
    "sock_common": {
        "(addresses)": OneOf({"skc_addrpair": "u64", "(apart)": _each("u32", "skc_daddr skc_rcv_saddr")}),
        "(ports)": OneOf({"skc_portpair": "u32", "(apart)": _each("u16", "skc_dport skc_num")}),
        "skc_family": "u16",
        "skc_state": "u8",
        "skc_reuse": "u8:4",
        "skc_net": "possible_net_t",
        "skc_v6_daddr": "in6_addr",
        "skc_v6_rcv_saddr": "in6_addr",
        "(flags)": OneOf(skc_flags="long unsigned int", skc_listener="sock *"),
        "(hash)": OneOf(skc_hash="u32", skc_u16hashes="u16[2]"),
    },
    "socket_lock_t": {"slock": "u32", "owned": "int"},
    "sock": {
        "__sk_common": "sock_common",
        "sk_lock": "socket_lock_t",
        "sk_timer": "timer_list",
        **_each("int", "sk_err sk_rcvbuf sk_sndbuf"),
        **_each("u32", "sk_ack_backlog sk_max_ack_backlog"),
        "sk_lingertime": "long unsigned int",
        "sk_socket": "socket *",
        "sk_shutdown": "u8",
        "sk_protocol": "u16",
    },
    "inet_sock": {"sk": "sock", "inet_sport": "u16"},
    "inet_connection_sock": {
        "icsk_inet": "inet_sock",
        "icsk_retransmit_timer": "timer_list",
        **_each("u32", "icsk_rto icsk_rto_max icsk_user_timeout icsk_probes_tstamp"),
        **_each("u8", "icsk_retransmits icsk_pending icsk_backoff icsk_syn_retries icsk_probes_out"),
        "icsk_ack": {"pending": "u8", "ato": "u32:8", "lrcv_flowlabel": "u32:20", "lrcvtime": "u32"},
    },
    "tcp_options_received": {"ts_recent": "u32", "tstamp_ok": "u16:1", "snd_wscale": "u16:4", "rcv_wscale": "u16:4"},
    "tcp_sock": {
        "inet_conn": "inet_connection_sock",
        **_each(
            "u32", "rcv_nxt copied_seq rcv_wup rcv_wnd write_seq snd_una snd_nxt snd_wnd max_window packets_out retrans_stamp"
        ),
        **_each("u32", "rcv_tstamp keepalive_time keepalive_intvl mss_cache srtt_us"),
        **_each("u8", "keepalive_probes tcp_usec_ts"),
        "linger2": "int",
        "rx_opt": "tcp_options_received",
    },
    "tcphdr": {
        "source": "u16",
        "dest": "u16",
        "seq": "u32",
        "ack_seq": "u32",
        "res1": "u16:4",
        "doff": "u16:4",
        "window": "u16",
    },
    "ns_common": {"stashed": "u64", "inum": "u32"},
    "netns_ipv4": {
        **_each("int", "sysctl_tcp_keepalive_time sysctl_tcp_keepalive_intvl sysctl_tcp_fin_timeout"),
        **_each("u8", "sysctl_tcp_keepalive_probes sysctl_tcp_retries2 sysctl_tcp_orphan_retries sysctl_tcp_syn_retries"),
        "sysctl_tcp_syn_linear_timeouts": "u8",
    },
    "net": {"ns": "ns_common", "ipv4": "netns_ipv4"},
    "net_device": {"nd_net": {"net": "net *"}},  # a possible_net_t of its own, to be taken away alone
    "sk_buff": {
        "(lists)": OneOf({"(list)": {"next": "sk_buff *", "(devices)": OneOf(dev="net_device *", dev_scratch="u64")}}),
        "len": "u32",
        "(headers)": OneOf({"(apart)": _each("u16", _HEADERS), "headers": _each("u16", _HEADERS)}),
        "head": "u8 *",
        "data": "u8 *",
    },
    "socket": {"state": "int", "sk": "sock *"},
    "task_struct": {"flags": "u32", "tgid": "int", "group_leader": "task_struct *", "start_boottime": "u64", "comm": "u8[16]"},
}
