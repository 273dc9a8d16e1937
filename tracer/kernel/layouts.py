"""Where the fields that our programs read are on the running kernel.

Each line of the tables is one field: the name that bpf/ knows it by (OFF_NAME, SIZE_NAME), then its path, the newest kernel's
first. Whether a field is there decides, never the kernel's version: vendors and stable trees rename backwards too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tracer.errors import TcptraceError
from tracer.kernel.btf import Btf, Field
from tracer.kernel.checks import Missing, Ok


class Member(NamedTuple):
    """`paths`: alternatives, newest first. `lost`: what is lost without it; empty where we cannot do without."""

    name: str
    paths: tuple[str, ...]
    lost: str = ""


def _member(name: str, *paths: str, lost: str = "") -> Member:
    return Member(name, paths, lost)


MEMBERS: Final = (
    # sock_common: what TIME_WAIT and NEW_SYN_RECV sockets have too
    _member("DADDR", "sock.__sk_common.skc_daddr"),
    _member("RCV_SADDR", "sock.__sk_common.skc_rcv_saddr"),
    _member("DPORT", "sock.__sk_common.skc_dport"),
    _member("NUM", "sock.__sk_common.skc_num"),
    _member("FAMILY", "sock.__sk_common.skc_family"),
    _member("STATE", "sock.__sk_common.skc_state"),
    _member("NET", "sock.__sk_common.skc_net.net"),
    _member("V6_DADDR", "sock.__sk_common.skc_v6_daddr", lost="IPv6 addresses"),
    _member("V6_RCV_SADDR", "sock.__sk_common.skc_v6_rcv_saddr", lost="IPv6 addresses"),
    _member("SK_FLAGS", "sock.__sk_common.skc_flags"),
    _member("SK_HASH", "sock.__sk_common.skc_hash"),
    # sock
    _member("SK_SHUTDOWN", "sock.sk_shutdown"),  # a bitfield up to 5.9
    _member("SK_ERR", "sock.sk_err"),
    _member("SK_RCVBUF", "sock.sk_rcvbuf"),
    _member("SK_SNDBUF", "sock.sk_sndbuf"),
    _member("SK_LINGERTIME", "sock.sk_lingertime", lost="SO_LINGER 0 cannot be told from other closes"),
    _member("SK_SOCKET", "sock.sk_socket"),
    _member("SK_LOCK_OWNED", "sock.sk_lock.owned"),
    _member("SK_ACK_BACKLOG", "sock.sk_ack_backlog"),
    _member("SK_MAX_ACK_BACKLOG", "sock.sk_max_ack_backlog"),
    _member("SK_PROTOCOL", "sock.sk_protocol", lost="SCTP and MPTCP are taken for TCP"),  # a bitfield up to 5.5
    # the port that a socket keeps when it ends and gives skc_num back
    _member("INET_SPORT", "inet_sock.inet_sport"),
    # timers. Where icsk_keepalive_timer exists (6.19, Debian's 6.1 and 6.12) sk_timer is there as well and is something else
    _member("KEEPALIVE_TIMER", "inet_connection_sock.icsk_keepalive_timer", "sock.sk_timer"),
    _member("WRITE_TIMER", "sock.tcp_retransmit_timer", "inet_connection_sock.icsk_retransmit_timer"),
    _member("TIMER_FUNCTION", "timer_list.function"),
    _member("TIMER_EXPIRES", "timer_list.expires"),
    _member("TIMER_PPREV", "timer_list.entry.pprev"),
    _member("TIMER_FLAGS", "timer_list.flags"),
    _member("ICSK_TIMEOUT", "inet_connection_sock.icsk_timeout", lost="nothing: since 6.17 the write timer's expires has it"),
    # inet_connection_sock
    _member("ICSK_RTO", "inet_connection_sock.icsk_rto"),
    _member("ICSK_RTO_MAX", "inet_connection_sock.icsk_rto_max", lost="nothing: before 6.17 it is 120 s everywhere"),
    _member("ICSK_RETRANSMITS", "inet_connection_sock.icsk_retransmits"),
    _member("ICSK_PENDING", "inet_connection_sock.icsk_pending"),
    _member("ICSK_BACKOFF", "inet_connection_sock.icsk_backoff"),
    _member("ICSK_SYN_RETRIES", "inet_connection_sock.icsk_syn_retries"),
    _member("ICSK_PROBES_OUT", "inet_connection_sock.icsk_probes_out"),
    _member("ICSK_USER_TIMEOUT", "inet_connection_sock.icsk_user_timeout"),
    _member(
        "ICSK_PROBES_TSTAMP",
        "inet_connection_sock.icsk_probes_tstamp",
        lost="when TCP_USER_TIMEOUT ends a stalled connection",
    ),
    _member("ICSK_LRCVTIME", "inet_connection_sock.icsk_ack.lrcvtime"),
    # tcp_sock
    _member("RCV_NXT", "tcp_sock.rcv_nxt"),
    _member("COPIED_SEQ", "tcp_sock.copied_seq"),
    _member("RCV_WUP", "tcp_sock.rcv_wup"),
    _member("RCV_WND", "tcp_sock.rcv_wnd"),
    _member("WRITE_SEQ", "tcp_sock.write_seq"),
    _member("SND_UNA", "tcp_sock.snd_una"),
    _member("SND_NXT", "tcp_sock.snd_nxt"),
    _member("SND_WND", "tcp_sock.snd_wnd"),
    _member("MAX_WINDOW", "tcp_sock.max_window"),
    _member("PACKETS_OUT", "tcp_sock.packets_out"),
    _member("RETRANS_STAMP", "tcp_sock.retrans_stamp"),
    _member("RCV_TSTAMP", "tcp_sock.rcv_tstamp"),
    _member("KEEPALIVE_TIME", "tcp_sock.keepalive_time"),
    _member("KEEPALIVE_INTVL", "tcp_sock.keepalive_intvl"),
    _member("KEEPALIVE_PROBES", "tcp_sock.keepalive_probes"),
    _member("LINGER2", "tcp_sock.linger2"),
    _member("MSS_CACHE", "tcp_sock.mss_cache"),
    _member("SRTT_US", "tcp_sock.srtt_us"),
    _member("SND_WSCALE", "tcp_sock.rx_opt.snd_wscale"),
    _member("USEC_TS", "tcp_sock.tcp_usec_ts", lost="nothing: before 6.8 timestamps are milliseconds"),
    # the network namespace and its sysctls: int up to 5.11, some u8 since 5.14
    _member("NET_INUM", "net.ns.inum"),
    _member("SYSCTL_KEEPALIVE_TIME", "net.ipv4.sysctl_tcp_keepalive_time"),
    _member("SYSCTL_KEEPALIVE_INTVL", "net.ipv4.sysctl_tcp_keepalive_intvl"),
    _member("SYSCTL_KEEPALIVE_PROBES", "net.ipv4.sysctl_tcp_keepalive_probes"),
    _member("SYSCTL_RETRIES2", "net.ipv4.sysctl_tcp_retries2"),
    _member("SYSCTL_ORPHAN_RETRIES", "net.ipv4.sysctl_tcp_orphan_retries"),
    _member("SYSCTL_SYN_RETRIES", "net.ipv4.sysctl_tcp_syn_retries"),
    _member("SYSCTL_SYN_LINEAR_TIMEOUTS", "net.ipv4.sysctl_tcp_syn_linear_timeouts", lost="nothing: before 6.5 there are none"),
    _member("SYSCTL_FIN_TIMEOUT", "net.ipv4.sysctl_tcp_fin_timeout"),
    # segments
    _member("SKB_DATA", "sk_buff.data"),
    _member("SKB_LEN", "sk_buff.len"),
    _member("SKB_HEAD", "sk_buff.head"),
    _member("SKB_NETWORK_HEADER", "sk_buff.network_header"),
    _member("SKB_TRANSPORT_HEADER", "sk_buff.transport_header"),
    _member("SKB_DEV", "sk_buff.dev", lost="the namespace of a RST without a socket"),
    _member("DEV_NET", "net_device.nd_net.net", lost="the namespace of a RST without a socket"),
    # files and tasks
    _member("SOCKET_SK", "socket.sk"),
    _member("TASK_TGID", "task_struct.tgid"),
    _member("TASK_FLAGS", "task_struct.flags"),
    _member("TASK_COMM", "task_struct.comm"),
    _member("TASK_GROUP_LEADER", "task_struct.group_leader"),
    _member(
        "TASK_START_BOOTTIME",
        "task_struct.start_boottime",  # 5.5
        "task_struct.real_start_time",
        lost="a reused pid is noticed later",
    ),
)

CAST_TO: Final = ("tcp_sock", "tcphdr")
"""Structs that programs cast to by their BTF id; in bpf/ they are TYPE_NAME."""

ENUMERATORS: Final[Mapping[str, tuple[str, ...]]] = {"sock_flags": ("SOCK_DEAD", "SOCK_KEEPOPEN", "SOCK_LINGER")}
"""Enumerators that bpf/ needs, by enum; there they are FLAG_NAME."""

TRACEPOINTS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    # 6.10 added the reason
    "tcp_send_reset": (("sock *", "sk_buff *", "sk_rst_reason"), ("sock *", "sk_buff *")),
    "tcp_receive_reset": (("sock *",),),
    "tcp_probe": (("sock *", "sk_buff *"),),
    "timer_expire_entry": (("timer_list *", "long unsigned int"),),
    "tcp_rcv_space_adjust": (("sock *",),),
    "inet_sock_set_state": (("sock *", "int", "int"),),
    # 6.17 added err
    "tcp_retransmit_skb": (("sock *", "sk_buff *", "int"), ("sock *", "sk_buff *")),
    "tcp_destroy_sock": (("sock *",),),
}
"""The raw tracepoints that we attach to, each with the arguments that our programs can take, newest first."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the programs are compiled with.

    `defines`: C macros and their values. `missing`: optional fields that this kernel lacks, with what is lost. `reasons`:
    the names of enum sk_rst_reason by value, without their prefix. `tracepoints`: whether each can be attached to.
    `typed`: the BTF ids of those among them that can be attached to as typed ones. `cast_id`: that of the function by which
    a program casts a pointer, since 6.2; None before.
    """

    defines: Mapping[str, str]
    missing: Mapping[str, str]
    reasons: Mapping[int, str]
    tracepoints: Mapping[str, Ok | Missing]
    typed: Mapping[str, int] = field(default_factory=dict)
    cast_id: int | None = None


def resolve(btf: Btf) -> Layout:
    """Looks all up. Raises TcptraceError where a field is missing that we cannot do without."""
    btf.expect(_names())
    defines: dict[str, str] = {}
    missing: dict[str, str] = {}
    for member in MEMBERS:
        field = _first(btf, member.paths)
        if field is not None:
            defines.update(_defines(member.name, field))
        elif member.lost:
            missing[member.name] = member.lost
        else:
            raise TcptraceError(
                f"this kernel's BTF has no {' and no '.join(member.paths)}",
                "tcptrace needs Linux 5.11 or later; please report your kernel's version",
            )
    for name, wanted in ENUMERATORS.items():
        values = {text: value for value, text in btf.enum(name).items()}
        for text in wanted:
            if text not in values:
                raise TcptraceError(f"this kernel's BTF has no {text}", "please report your kernel's version")
            defines[f"FLAG_{text}"] = str(values[text])
    tracepoints = {name: check_tracepoint(btf, name) for name in TRACEPOINTS}
    if _arguments(btf, "tcp_send_reset") == TRACEPOINTS["tcp_send_reset"][0]:
        defines["SEND_RESET_HAS_REASON"] = "1"
    if _arguments(btf, "tcp_retransmit_skb") == TRACEPOINTS["tcp_retransmit_skb"][0]:
        defines["RETRANSMIT_HAS_ERR"] = "1"
    reasons = {value: name.removeprefix("SK_RST_REASON_") for value, name in btf.enum("sk_rst_reason").items()}
    typed = {name: found for name in tracepoints if (found := btf.tracepoint_id(name)) is not None}
    types = {f"TYPE_{name.upper()}": btf.struct_id(name) for name in CAST_TO}
    cast_id = btf.function_id("bpf_rdonly_cast") if None not in types.values() else None
    if cast_id is not None:
        defines |= {name: str(found) for name, found in types.items()}
    return Layout(defines, missing, reasons, tracepoints, typed, cast_id)


def check_tracepoint(btf: Btf, name: str) -> Ok | Missing:
    """Whether the kernel has the raw tracepoint with arguments that our program knows."""
    arguments = _arguments(btf, name)
    if arguments is None:
        return Missing(f"this kernel has no tracepoint {name}", "a kernel built with CONFIG_TRACEPOINTS has it")
    if arguments not in TRACEPOINTS[name]:
        return Missing(
            f"the tracepoint {name} takes ({', '.join(arguments)}), which tcptrace does not know",
            "please report your kernel's version",
        )
    return Ok(f"({', '.join(arguments)})")


def _arguments(btf: Btf, name: str) -> tuple[str, ...] | None:
    arguments = btf.tracepoint_arguments(name)
    return None if arguments is None else tuple(arguments)


def _names() -> set[str]:
    structs = {path.split(".")[0] for member in MEMBERS for path in member.paths}
    return (
        structs | {f"btf_trace_{name}" for name in TRACEPOINTS} | {*ENUMERATORS, "sk_rst_reason", *CAST_TO, "bpf_rdonly_cast"}
    )


def _first(btf: Btf, paths: tuple[str, ...]) -> Field | None:
    return next((field for path in paths if (field := btf.member(path)) is not None), None)


def _defines(name: str, field: Field) -> dict[str, str]:
    # a struct, such as a timer, is only pointed at; what is read has at most 8 bytes
    defines = {f"OFF_{name}": str(field.offset), f"SIZE_{name}": str(min(field.size, 8))}
    if field.bits is not None:
        defines |= {f"BIT_{name}": str(field.bit), f"BITS_{name}": str(field.bits)}
    return defines
