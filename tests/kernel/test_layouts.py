"""Where the fields are, on kernels that put them elsewhere, renamed them or lack them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernel.btf_blobs import Kernel, debian_6_1, linux_6_19
from tracer.errors import MISSING_PRECONDITION, TcptraceError
from tracer.kernel import layouts
from tracer.kernel.btf import Btf, BtfError
from tracer.kernel.checks import Missing, Ok
from tracer.kernel.layouts import MEMBERS, TRACEPOINTS, Layout, Member

REQUIRED = [member for member in MEMBERS if not member.lost]
OPTIONAL = [member for member in MEMBERS if member.lost]
VARIANTS = [(name, arguments) for name, known in TRACEPOINTS.items() for arguments in known]

each_required = pytest.mark.parametrize("member", REQUIRED, ids=lambda member: member.name)
each_optional = pytest.mark.parametrize("member", OPTIONAL, ids=lambda member: member.name)


def resolve(kernel: Kernel) -> Layout:
    return layouts.resolve(Btf(kernel.blob().build()))


def timers(kernel: Kernel) -> dict[str, str]:
    """Which of the kernel's timers each of ours is."""
    blob = kernel.blob()
    found = layouts.resolve(Btf(blob.build())).defines
    timers = {path: str(at) for path, at in blob.where.items() if path.endswith("_timer")}
    return {
        name: " ".join(path for path, at in timers.items() if at == found[f"OFF_{name}"])
        for name in ("KEEPALIVE_TIMER", "WRITE_TIMER")
    }


def test_up_to_6_18_the_keepalive_timer_is_the_sockets() -> None:
    assert timers(Kernel()) == {"KEEPALIVE_TIMER": "sock.sk_timer", "WRITE_TIMER": "inet_connection_sock.icsk_retransmit_timer"}


def test_on_debian_6_1_the_sockets_timer_is_not_taken_for_keepalive() -> None:
    assert timers(debian_6_1()) == {
        "KEEPALIVE_TIMER": "inet_connection_sock.icsk_keepalive_timer",
        "WRITE_TIMER": "inet_connection_sock.icsk_retransmit_timer",
    }


def test_on_6_19_the_write_timer_is_the_sockets() -> None:
    assert timers(linux_6_19()) == {
        "KEEPALIVE_TIMER": "inet_connection_sock.icsk_keepalive_timer",
        "WRITE_TIMER": "sock.sk_timer sock.tcp_retransmit_timer sock.mptcp_retransmit_timer",
    }


@pytest.mark.parametrize(
    ("kernel", "missing"),
    [
        (Kernel, {"ICSK_TIMEOUT"}),
        (debian_6_1, {"ICSK_RTO_MAX", "USEC_TS", "SYSCTL_SYN_LINEAR_TIMEOUTS"}),
        (linux_6_19, {"ICSK_TIMEOUT"}),
    ],
)
def test_each_kernel_lacks_what_its_version_lacks(kernel: Callable[[], Kernel], missing: set[str]) -> None:
    layout = resolve(kernel())
    assert layout.missing.keys() == missing
    for member in MEMBERS:
        assert (f"OFF_{member.name}" in layout.defines) == (member.name not in missing)
        assert (f"SIZE_{member.name}" in layout.defines) == (member.name not in missing)


def test_since_6_2_programs_may_cast() -> None:
    types = Btf(Kernel().blob().build())
    layout = layouts.resolve(types)
    assert layout.cast_id == types.function_id("bpf_rdonly_cast") is not None
    assert layout.defines["TYPE_TCP_SOCK"] == str(types.struct_id("tcp_sock"))
    assert layout.defines["TYPE_TCPHDR"] == str(types.struct_id("tcphdr"))
    assert resolve(debian_6_1()).cast_id is None


def test_without_what_to_cast_to_there_are_no_casts() -> None:
    kernel = Kernel()
    del kernel.structs["tcphdr"]
    layout = resolve(kernel)
    assert layout.cast_id is None and not any(name.startswith("TYPE_") for name in layout.defines)


def test_offsets_and_sizes_are_those_of_the_kernel() -> None:
    blob = Kernel().blob()
    defines = layouts.resolve(Btf(blob.build())).defines
    assert defines["OFF_RCV_NXT"] == str(blob.where["tcp_sock.rcv_nxt"])
    assert defines["OFF_DPORT"] == "8"  # behind the pair of addresses
    assert defines["OFF_NUM"] == "10"
    assert defines["OFF_NET_INUM"] == "8"
    assert [defines[f"SIZE_{name}"] for name in ("RCV_NXT", "DPORT", "STATE", "NET")] == ["4", "2", "1", "8"]
    assert [defines[f"SIZE_{name}"] for name in ("SYSCTL_KEEPALIVE_TIME", "SYSCTL_RETRIES2")] == ["4", "1"]


def test_of_what_is_only_pointed_at_eight_bytes_count() -> None:
    defines = resolve(Kernel()).defines
    assert [defines[f"SIZE_{name}"] for name in ("WRITE_TIMER", "V6_DADDR", "TASK_COMM")] == ["8", "8", "8"]


def test_a_bitfield_says_what_to_keep() -> None:
    blob = Kernel().blob()
    defines = layouts.resolve(Btf(blob.build())).defines
    assert (defines["BIT_SND_WSCALE"], defines["BITS_SND_WSCALE"], defines["SIZE_SND_WSCALE"]) == ("1", "4", "1")
    assert defines["OFF_SND_WSCALE"] == str(blob.where["tcp_sock.rx_opt"] + 4)
    assert [name for name in defines if name.startswith("BIT")] == ["BIT_SND_WSCALE", "BITS_SND_WSCALE"]


def test_what_became_a_whole_byte_may_still_be_a_bitfield() -> None:
    kernel = Kernel()
    kernel.struct("sock.sk_shutdown")["sk_shutdown"] = "u32:2"
    assert "BIT_SK_SHUTDOWN" not in resolve(Kernel()).defines
    defines = resolve(kernel).defines
    assert (defines["BIT_SK_SHUTDOWN"], defines["BITS_SK_SHUTDOWN"]) == ("0", "2")


def test_the_sysctls_may_be_ints_as_they_were() -> None:
    kernel = Kernel()
    kernel.struct("netns_ipv4.sysctl_tcp_retries2")["sysctl_tcp_retries2"] = "int"
    assert resolve(kernel).defines["SIZE_SYSCTL_RETRIES2"] == "4"


@each_optional
def test_without_an_optional_field_is_said_what_is_lost(member: Member) -> None:
    layout = resolve(Kernel().without(*member.paths))
    assert layout.missing[member.name] == member.lost
    assert f"OFF_{member.name}" not in layout.defines


@each_required
def test_without_a_required_field_nothing_goes(member: Member) -> None:
    with pytest.raises(TcptraceError) as raised:
        resolve(Kernel().without(*member.paths))
    assert all(path in raised.value.cause for path in member.paths)
    assert "Linux 5.11 or later" in raised.value.remedy
    assert raised.value.exit_code == MISSING_PRECONDITION


def test_no_field_stands_for_two() -> None:
    paths = [path for member in MEMBERS for path in member.paths]
    assert len(set(paths)) == len(paths)
    assert len({member.name for member in MEMBERS}) == len(MEMBERS)


def test_of_alternatives_the_newest_counts() -> None:
    kernel = Kernel()
    kernel.struct("task_struct.comm")["real_start_time"] = "u64"
    blob = kernel.blob()
    found = layouts.resolve(Btf(blob.build())).defines["OFF_TASK_START_BOOTTIME"]
    assert found == str(blob.where["task_struct.start_boottime"])
    blob = kernel.without("task_struct.start_boottime").blob()
    found = layouts.resolve(Btf(blob.build())).defines["OFF_TASK_START_BOOTTIME"]
    assert found == str(blob.where["task_struct.real_start_time"])


def test_a_kernel_without_the_structs_is_refused() -> None:
    with pytest.raises(TcptraceError, match="no sock"):
        layouts.resolve(Btf(Kernel().blob().build(types_length=0, names_length=1)))


def test_the_flags_have_the_running_kernels_numbers() -> None:
    kernel = Kernel()
    kernel.enums["sock_flags"] = {"SOCK_LINGER": 0, "SOCK_DEAD": 7, "SOCK_KEEPOPEN": 31}
    defines = resolve(kernel).defines
    assert {name: value for name, value in defines.items() if name.startswith("FLAG_")} == {
        "FLAG_SOCK_DEAD": "7",
        "FLAG_SOCK_KEEPOPEN": "31",
        "FLAG_SOCK_LINGER": "0",
    }


@pytest.mark.parametrize("name", layouts.ENUMERATORS["sock_flags"])
def test_without_a_flag_nothing_goes(name: str) -> None:
    kernel = Kernel()
    del kernel.enums["sock_flags"][name]
    with pytest.raises(TcptraceError, match=name):
        resolve(kernel)


def test_the_reasons_of_a_reset_are_named_without_their_prefix() -> None:
    assert resolve(Kernel()).reasons == {0: "NOT_SPECIFIED", 1: "NO_SOCKET", 16: "TCP_STATE"}
    assert resolve(debian_6_1()).reasons == {}


@pytest.mark.parametrize(
    ("tracepoint", "arguments", "defined"),
    [
        ("tcp_send_reset", ("sock *", "sk_buff *", "sk_rst_reason"), True),
        ("tcp_send_reset", ("sock *", "sk_buff *"), False),
        ("tcp_send_reset", ("sock *", "sk_buff *", "int"), False),
        ("tcp_retransmit_skb", ("sock *", "sk_buff *", "int"), True),
        ("tcp_retransmit_skb", ("sock *", "sk_buff *"), False),
    ],
)
def test_an_argument_that_came_later_is_read_where_it_is(tracepoint: str, arguments: tuple[str, ...], defined: bool) -> None:
    macros = {"tcp_send_reset": "SEND_RESET_HAS_REASON", "tcp_retransmit_skb": "RETRANSMIT_HAS_ERR"}
    kernel = Kernel()
    kernel.tracepoints[tracepoint] = arguments
    assert resolve(kernel).defines.get(macros[tracepoint]) == ("1" if defined else None)


def test_before_6_10_a_reset_has_no_reason() -> None:
    defines = resolve(debian_6_1()).defines
    assert "SEND_RESET_HAS_REASON" not in defines and "RETRANSMIT_HAS_ERR" not in defines
    assert resolve(debian_6_1()).tracepoints["tcp_send_reset"] == Ok("(sock *, sk_buff *)")


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_each_known_form_of_a_tracepoint_is_taken(name: str, arguments: tuple[str, ...]) -> None:
    kernel = Kernel()
    kernel.tracepoints[name] = arguments
    assert resolve(kernel).tracepoints[name] == Ok(f"({', '.join(arguments)})")


@pytest.mark.parametrize("name", TRACEPOINTS)
def test_a_tracepoint_with_unknown_arguments_is_not_attached_to(name: str) -> None:
    kernel = Kernel()
    kernel.tracepoints[name] = ("sk_buff *", "sock *", "u64")
    found = resolve(kernel).tracepoints
    missing = found[name]
    assert isinstance(missing, Missing)
    assert f"{name} takes (sk_buff *, sock *, u64)" in missing.why
    assert all(isinstance(other, Ok) for key, other in found.items() if key != name)


@pytest.mark.parametrize("name", TRACEPOINTS)
def test_a_tracepoint_may_be_missing(name: str) -> None:
    kernel = Kernel()
    del kernel.tracepoints[name]
    missing = resolve(kernel).tracepoints[name]
    assert isinstance(missing, Missing) and f"no tracepoint {name}" in missing.why


def test_a_tracepoint_that_is_no_function_is_a_btf_error() -> None:
    kernel = Kernel()
    del kernel.tracepoints["tcp_probe"]
    blob = kernel.blob()
    blob.typedef("btf_trace_tcp_probe", blob.spelled("sock *"))
    with pytest.raises(BtfError, match="no function"):
        layouts.resolve(Btf(blob.build()))
