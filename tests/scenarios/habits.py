"""What applications do about stalled peers, learned from what they did before; and what readers do meanwhile."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.lab.actor import Actor, fill
from tests.lab.hosts import Host
from tests.lab.trace import Event
from tests.scenarios.scenario import Expected, Lab, Slow, Truth, now, scenario
from tests.scenarios.steps import CONDITIONAL, last_verdict
from tracer.demo.processes import identity, kill, start

RESET_NOW: Final = "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()"
PATIENCE_S: Final = 2.0
LEARNED: Final = Expected("reset", "application", "learned")

NGINX: Final = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log info;
events {{ worker_connections 64; }}
http {{
  access_log off; send_timeout {seconds}s; client_body_temp_path {folder}; proxy_temp_path {folder};
  fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen {ip}:{port} sndbuf=32k; root {folder}; }}
}}
"""


@scenario
def an_application_that_gives_up(lab: Lab) -> Truth:
    """It has reset three stalled connections after two seconds each: the fourth will go the same way, and does."""
    _, there, client, server = lab.two()
    for _ in range(3):
        _gives_up(lab, client, server, there)
    port = lab.connect(client, server, there.ip)
    steady = now() + 1.0
    ended = _bears(client)
    return Truth(port, "linger-zero", Slow("peer", server.pid), LEARNED, ended, steady, check=_three_were_seen)


@scenario
def an_application_that_gave_up_twice(lab: Lab) -> Truth:
    """Two sightings are none: no time is told."""
    _, there, client, server = lab.two()
    for _ in range(2):
        _gives_up(lab, client, server, there)
    port = lab.connect(client, server, there.ip)
    _bears(client)
    return Truth(port, "linger-zero", Slow("peer", server.pid), CONDITIONAL, check=_nothing_learned)


@scenario
def an_application_of_no_habits(lab: Lab) -> Truth:
    """It has given up after one second, two and four: no clock runs there."""
    _, there, client, server = lab.two()
    for seconds in (0.5, 2, 4):
        _gives_up(lab, client, server, there, seconds)
    port = lab.connect(client, server, there.ip)
    _bears(client)
    return Truth(port, "linger-zero", Slow("peer", server.pid), CONDITIONAL, check=_nothing_learned)


@scenario
def nginx_with_a_send_timeout(lab: Lab) -> Truth:
    """A real nginx ends downloads that stall; seen from the fourth of its clients."""
    _, there, client, _ = lab.two()
    folder = Path(lab.folder())
    (folder / "large").write_bytes(bytes(4 << 20))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, seconds=2, ip=there.ip, port=lab.port))
    server = start(["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")], there.namespace)
    who = identity(server.pid)
    assert who is not None
    lab.cleanup(server.wait)
    lab.cleanup(lambda: kill(who))
    lab.pids.add(server.pid)
    _waited_for(lambda: there.run("ss", "-ltnH", "sport", "=", str(lab.port)), "nginx does not listen")
    for _ in range(4):
        port = _download(client, there, lab.port)
        _closed_by_nginx(there, port)
    ended = now()

    def foreseen(events: list[Event]) -> str:
        learned = [f for f in map(_forecast, events) if f.get("basis") == "learned"]
        if not learned:
            return "nginx's patience was not learned"
        found = learned[-1]
        if found["program"] != "nginx" or found["sightings"] != 3:
            return f"learned of {found['program']}, seen {found['sightings']} times"
        error = _seconds(found["at"]) - (time.time() - time.monotonic()) - ended
        return "" if abs(error) <= 0.3 else f"nginx's end was foreseen {error:+.2f} s off"

    return Truth(port, slow=Slow("local", client.pid), forecast=CONDITIONAL, check=foreseen)


@scenario
def a_reader_that_is_busy(lab: Lab) -> Truth:
    """Its thread reads once, then computes: all of a CPU goes there."""
    client, server, tid = _read_once(lab)
    server.begin("end = time.monotonic() + 6\nwhile time.monotonic() < end: pass", "worker-1")
    return _stalls(lab, client, server, tid, "worker-1 is busy at ")


@scenario
def a_reader_that_is_idle(lab: Lab) -> Truth:
    """Its thread reads once, then waits for a lock."""
    client, server, tid = _read_once(lab)
    return _stalls(lab, client, server, tid, "worker-1 is idle in futex")


@scenario
def a_reader_that_is_stopped(lab: Lab) -> Truth:
    """SIGSTOP, as a debugger or a container's freezer does."""
    client, server, tid = _read_once(lab)
    client.do(f"os.kill({server.pid}, signal.SIGSTOP)")
    try:
        return _stalls(lab, client, server, tid, "worker-1 is stopped")
    finally:
        client.do(f"os.kill({server.pid}, signal.SIGCONT)")


@scenario
def a_reader_that_is_too_slow(lab: Lab) -> Truth:
    """It reads 4 kB a second of all that comes: both rates are told."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    tid = server.do("answer = threading.get_native_id()", "worker-1")
    server.begin("for _ in range(16): s.recv(1024); time.sleep(0.25)", "worker-1")
    client.begin("s.sendall(bytes(200_000))", "sender")
    server.do("time.sleep(3.5)")
    return Truth(lab.port, slow=Slow("local", server.pid, tid), forecast=CONDITIONAL, check=_rates_are_told)


def _gives_up(lab: Lab, client: Actor, server: Actor, there: Host, seconds: float = PATIENCE_S) -> None:
    lab.connect(client, server, there.ip)
    _bears(client, seconds)
    server.do("s.close()")


def _bears(client: Actor, seconds: float = PATIENCE_S) -> float:
    """The client sends until its peer takes no more, waits, and has enough; when that is."""
    fill(client)
    ended = client.do(f"time.sleep({seconds}); answer = time.monotonic(); {RESET_NOW}")
    assert isinstance(ended, float)
    return ended


def _download(client: Actor, there: Host, port: int) -> int:
    """Asks for a large file, and reads none of it; the client's port."""
    answer = client.do(f"""
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768); s.connect(({there.ip!r}, {port}))
s.sendall(b"GET /large HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"); answer = s.getsockname()[1]
""")
    assert isinstance(answer, int)
    return answer


def _closed_by_nginx(there: Host, port: int) -> None:
    """Waits until its end is in FIN_WAIT1 (04 in /proc/net/tcp): closed, with data unsent."""
    _waited_for(lambda: there.run("ss", "-tnH", "state", "fin-wait-1", "dport", "=", str(port)), "nginx does not give up")


def _waited_for(look: Callable[[], str], else_: str) -> None:
    deadline = now() + 10
    while not look().strip():
        assert now() < deadline, else_
        time.sleep(0.02)


def _read_once(lab: Lab) -> tuple[Actor, Actor, int]:
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    client.do("s.send(b'hello')")
    tid = server.do("s.recv(5); answer = threading.get_native_id()", "worker-1")
    assert isinstance(tid, int)
    return client, server, tid


def _stalls(lab: Lab, client: Actor, server: Actor, tid: int, condition: str) -> Truth:
    """The server's end stalls; what is said of its thread must begin so."""
    fill(client)
    lab.stalled(lab.port)
    client.do("time.sleep(3)")

    def told(events: list[Event]) -> str:
        evidence = last_verdict(events).get("evidence", ())
        return "" if any(fact.startswith(condition) for fact in evidence) else f"not told: {condition} in {evidence}"

    return Truth(lab.port, slow=Slow("local", server.pid, tid), forecast=CONDITIONAL, check=told)


def _forecast(event: Event) -> dict[str, Any]:
    found = event["tcptrace"].get("verdict", {}).get("forecast", {})
    assert isinstance(found, dict)
    return found


def _three_were_seen(events: list[Event]) -> str:
    seen = {one["sightings"] for one in map(_forecast, events) if one.get("basis") == "learned"}
    return "" if seen == {3} else f"{seen or 'no'} sightings were told"


def _nothing_learned(events: list[Event]) -> str:
    return "learned from too little" if any(one.get("basis") == "learned" for one in map(_forecast, events)) else ""


def _rates_are_told(events: list[Event]) -> str:
    evidence = last_verdict(events).get("evidence", ())
    return "" if any(fact.startswith("reads ") for fact in evidence) else f"no rates in {evidence}"


def _seconds(moment: str) -> float:
    return dt.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
