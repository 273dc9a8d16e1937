"""The table's exact text at 80 and at 200 columns, and that nothing ever overflows."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tests.views import proxied, reset_notice, screen, verdict, view
from tracer.model.findings import Phase, Screen
from tracer.text import printable
from tracer.view.table import Header, render

HEADER = Header("web-1", 65.0, "port 8443", 8, 8)


def drawn(shown: Screen, width: int, height: int | None = None, header: Header = HEADER) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(render(shown, header, width, height))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_80_columns() -> None:
    shown = screen(view(), proxied(), resets=(reset_notice(),))
    assert drawn(shown, 80) == [
        "tcptrace on web-1, 65 s, port 8443",
        "ok 1,204  backlogged 0  stalled 2  unanswered 0",
        "",
        "stalled    app decides 172.28.72.119:63132 > 172.28.72.117:8443             43 s",
        "  java[32278]/worker-1 > -",
        "  slow reader: java[32278]/worker-1",
        "  Recv-Q 362,708  Send-Q 0  windows 0/65536  off (0.00/0/0)",
        "  java[32278]/worker-1 has not read for 43 s; 362,708 bytes unread, window",
        "  closed; worker-1 is idle in futex; if it closes now, the peer gets a RST",
        "stalled    no deadline 172.28.72.117:8443 > 172.28.72.119:63132             43 s",
        "  nginx[13308] > -",
        "  slow reader: 172.28.72.119:63132",
        "  Recv-Q 0  Send-Q 108,528  windows 65536/0  probe (0.16/0/0)",
        "  172.28.72.119:63132 does not read: window closed for 43 s, 108,528 bytes",
        "  unsent, zero-window probe 6 answered; no kernel deadline",
        "",
        "resets and time-outs of the last minute: 1",
        "  3.0 s ago  sent close-with-unread-data (TCP_ABORT_ON_CLOSE), 362,708 unread",
        "             java[32278]/worker-1 172.28.72.119:63132 > 172.28.72.117:8443",
        "1,234 events, 0 lost, 8 of 8 tracepoints",
    ]


def test_200_columns_have_a_line_a_connection_with_every_column() -> None:
    lines = drawn(screen(proxied()), 200)
    heading = "PHASE ENDS IN LOCAL PEER SLOW READER RECV-Q SEND-Q RCV/SND WND TIMER STALLED EVIDENCE"
    assert " ".join(lines[3].split()) == heading
    assert lines[4].startswith(
        "stalled    no deadline 172.28.72.117:8443    172.28.72.119:63132   172.28.72.119:63132                    0"
        "   108,528       65536/0 probe (0.16/0/0)        43 s window of 172.28.72.119:63132 closed"
    )
    assert lines[5].split()[:2] == ["nginx[13308]", "-"]
    assert lines[5].index("nginx[13308]") == lines[4].index("172.28.72.117:8443")
    evidence = lines[3].index("EVIDENCE")
    assert " ".join(line[evidence:].strip() for line in lines[4:7]).endswith(
        "108,528 bytes unsent; zero-window probe 6 answered"
    )


def test_a_pipe_has_a_line_a_connection_with_the_processes_of_both_ends() -> None:
    lines = drawn(screen(replace(proxied(), peer_owner=view().owner)), 500)
    assert "PROCESS" in lines[3] and "PEER PROCESS" in lines[3]
    assert lines[4].split()[3:8] == [
        "172.28.72.117:8443",
        "172.28.72.119:63132",
        "nginx[13308]",
        "java[32278]/worker-1",
        "172.28.72.119:63132",
    ]
    assert lines[4].endswith("108,528 bytes unsent; zero-window probe 6 answered") and lines[5].startswith("1,234 events")


def test_what_does_not_fit_the_height_is_counted() -> None:
    shown = screen(*(replace(view(), id=f"c{number}") for number in range(40)))
    lines = drawn(shown, 80, 24)
    assert len(lines) == 23  # three whole cards of six lines; a fourth would be cut
    assert lines[-2:] == ["  … and 37 more", "1,234 events, 0 lost, 8 of 8 tracepoints"]


def test_resets_keep_their_place_on_a_full_screen() -> None:
    shown = screen(*(replace(view(), id=f"c{number}") for number in range(40)), resets=(reset_notice(),))
    lines = drawn(shown, 80, 24)
    assert "resets and time-outs of the last minute: 1" in lines and len(lines) <= 24


def test_losses_and_missing_tracepoints_are_said() -> None:
    header = Header("web-1", 1.0, "all ports", 7, 8, ("tcp_probe",))
    shown = screen(ring_buffer_lost=12, table_full=3)
    assert drawn(shown, 80, header=header)[-2:] == [
        "1,234 events, 12 lost, 3 sockets untracked (table full), 7 of 8 tracepoints,",
        "missing: tcp_probe",
    ]
    assert drawn(shown, 200, header=header)[-1].endswith("7 of 8 tracepoints, missing: tcp_probe")


def test_an_empty_screen_says_so() -> None:
    assert "  nothing heads toward a reset" in drawn(screen(), 80)


def test_phases_have_colours() -> None:
    text = render(screen(view()), HEADER, 80)
    spans = {str(span.style) for span in text.spans}
    assert "bold magenta" in spans


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", [b"[red]x[/red]", b"\x1b[31mred\x07", b"\xff\xfe", "漢字かな交じり文".encode(), b"a" * 300])
def test_hostile_names_are_shown_harmless(name: bytes, width: int) -> None:
    known_as = printable(name)
    slow = replace(verdict().slow_reader, name=known_as)
    shown = screen(view(verdict=verdict(slow_reader=slow, summary=f"{known_as} has not read")))
    lines = drawn(shown, width)
    assert all(cell_len(line) <= width for line in lines)
    assert not any(char in line for line in lines for char in "\x1b\x07")
    if name == b"[red]x[/red]":
        assert any("[red]x[/red][32278]" in line for line in lines)


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(40, 240),
    height=st.none() | st.integers(5, 60),
    number=st.integers(0, 12),
    text=st.text(max_size=120).map(printable),
    phase=st.sampled_from(list(Phase)),
)
def test_no_line_is_wider_than_the_terminal_and_none_too_many(
    width: int, height: int | None, number: int, text: str, phase: Phase
) -> None:
    slow = replace(verdict().slow_reader, name=text)
    one = view(verdict=verdict(slow_reader=slow, summary=text, evidence=(text,), phase=phase))
    shown = screen(*[one] * number, resets=(reset_notice(connection=one),) * number)
    rendered = render(shown, HEADER, width, height)
    assert isinstance(rendered, Text)
    lines = rendered.plain.split("\n")
    assert all(cell_len(line) <= width for line in lines)
    assert height is None or len(lines) <= height
