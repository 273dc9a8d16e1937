"""Who reads, and how: by which thread, by peeking, by splice, through io_uring. Nobody is named who did not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.lab import uring
from tests.lab.actor import Actor, fill
from tests.lab.trace import Event
from tests.scenarios.scenario import Lab, Slow, Truth, scenario
from tests.scenarios.steps import CONDITIONAL, every, last_verdict, no_thread, owned_by, shared

URING: Final = Path(uring.__file__).read_text(encoding="utf-8")
SPLICE_ONCE: Final = "r, w = os.pipe(); answer = os.splice(s.fileno(), w, 5)"


@scenario
def read_by_a_thread(lab: Lab) -> Truth:
    """One of two threads reads, then stops."""
    client, server = _two(lab)
    server.do("", "worker-1")
    client.do("s.send(b'hello')")
    tid = server.do("s.recv(5); answer = threading.get_native_id()", "worker-2")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", server.pid, tid), forecast=CONDITIONAL)


@scenario
def read_by_a_thread_that_changed(lab: Lab) -> Truth:
    """The main thread reads the handshake, one of its own everything after: the latter is the reader, or two are."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    server.do("s.recv(5)")
    client.do("s.send(b'hello' * 20)")
    tid = server.do("for _ in range(20): s.recv(5)\nanswer = threading.get_native_id()", "worker-1")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", server.pid, tid), forecast=CONDITIONAL, unknown="two threads have read")


@scenario
def read_by_threads_in_turn(lab: Lab) -> Truth:
    """A pool of threads reads: the process is slow, and either no thread is named or it is said that there are several."""
    client, server = _two(lab)
    client.do("s.send(b'hello' * 12)")
    for number in range(12):
        server.do("s.recv(5)", f"worker-{number % 3}")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", server.pid), forecast=CONDITIONAL, check=_several_threads)


@scenario
def read_by_a_thread_that_is_gone(lab: Lab) -> Truth:
    """The thread that read has ended: it cannot be what is slow, though its process is."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    server.do("t = threading.Thread(target=lambda: s.recv(5)); t.start(); t.join()")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", server.pid), forecast=CONDITIONAL, check=no_thread)


@scenario
def peeked_at(lab: Lab) -> Truth:
    """Whoever only looks (MSG_PEEK) is no reader: nothing was read, ever."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    server.begin("for _ in range(60): s.recv(5, socket.MSG_PEEK); time.sleep(0.1)", "peeker")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", server.pid), forecast=CONDITIONAL, check=every(no_thread, _nothing_read))


@scenario
def peeked_at_by_one_of_several(lab: Lab) -> Truth:
    """Nor does it tell one holder from another."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    lab.forked(server, "exec('for _ in range(100): s.recv(5, socket.MSG_PEEK); time.sleep(0.1)')")
    fill(client)
    lab.stalled(lab.port)
    why = "several hold it, and none was seen reading"
    return Truth(lab.port, slow=Slow("local"), forecast=CONDITIONAL, unknown=why, check=every(owned_by(None), shared))


@scenario
def peeked_at_by_one_and_read_by_another(lab: Lab) -> Truth:
    """The child reads a little; the parent looks all the time."""
    return _peeked_at_after(lab, sent=1, read=1)


@scenario
def read_in_a_burst_and_peeked_at_by_another(lab: Lab) -> Truth:
    """The child reads hundreds of times within a jiffy, of which most are only noted aside; then the parent looks."""
    return _peeked_at_after(lab, sent=400, read=390)


@scenario
def read_in_a_burst_and_handed_on(lab: Lab) -> Truth:
    """One thread reads hundreds of times within a jiffy, then at once another some: that one is the reader."""
    client, server = _two(lab)
    client.do("s.send(b'hello' * 400)")
    server.do("""
turn = threading.Event(); done = threading.Event()
def first():
    for _ in range(300): s.recv(5)
    turn.set(); done.wait()
def second():
    turn.wait()
    for _ in range(20): s.recv(5)
threading.Thread(target=first, daemon=True).start()
""")
    tid = server.do("second(); answer = threading.get_native_id()", "worker-2")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", server.pid, tid), forecast=CONDITIONAL)


@scenario
def spliced(lab: Lab) -> Truth:
    """A thread moves the data into a pipe, which the kernel reads for it."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    tid = server.do(SPLICE_ONCE + "; answer = threading.get_native_id()", "mover")
    fill(client)
    lab.stalled(lab.port)
    slow = Slow("local", server.pid, tid)
    return Truth(lab.port, slow=slow, forecast=CONDITIONAL, unknown="where splice is not seen to be a read")


@scenario
def spliced_by_one_of_several(lab: Lab) -> Truth:
    """Of two holders the child moves the data."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    child = lab.forked(server, SPLICE_ONCE)
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, unknown="where splice is not seen to be a read")


@scenario
def spliced_into_a_file(lab: Lab) -> Truth:
    """A download by splice until the pipe behind it is not emptied any more."""
    client, server = _two(lab)
    server.begin(
        "import tempfile\nf = tempfile.TemporaryFile(); r, w = os.pipe()\n"
        "for _ in range(5): os.splice(r, f.fileno(), os.splice(s.fileno(), w, 4096))\n"
        "while True: os.splice(s.fileno(), w, 65536)",
        "mover",
    )
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", server.pid), forecast=CONDITIONAL)


@scenario
def read_through_io_uring(lab: Lab) -> Truth:
    """Of two holders the child reads, through a ring."""
    return _through_a_ring(lab, "Ring().recv(s.fileno(), 5)")


@scenario
def read_through_io_uring_by_a_worker(lab: Lab) -> Truth:
    """A worker thread of the kernel's reads for it, which belongs to the process."""
    return _through_a_ring(lab, "Ring().recv(s.fileno(), 5, worker=True)")


@scenario
def read_through_io_uring_by_a_poller(lab: Lab) -> Truth:
    """With IORING_SETUP_SQPOLL a kernel thread takes the requests; it belongs to the process too."""
    return _through_a_ring(lab, "ring = Ring(sqpoll=True); ring.recv(s.fileno(), 5)")


@scenario
def read_through_io_uring_of_a_registered_file(lab: Lab) -> Truth:
    """The ring alone holds the socket: no descriptor shows who has it."""
    client, server = _two(lab)
    server.do(URING + "\nring = Ring(); ring.register(s.fileno()); s.close()")
    client.do("s.send(b'hello')")
    server.do("ring.recv(0, 5, fixed=True)")
    fill(client)
    lab.stalled(lab.port)
    why = "no descriptor holds it"
    return Truth(lab.port, slow=Slow("local", server.pid), forecast=CONDITIONAL, unknown=why)


@scenario
def drained_through_io_uring(lab: Lab) -> Truth:
    """A reader that keeps up, through a ring, gives no alarm."""
    client, server = _two(lab)
    server.begin(URING + "\nring = Ring()\nwhile ring.recv(s.fileno(), 65536): pass", "ring")
    client.do("end = time.monotonic() + 2\nwhile time.monotonic() < end: s.sendall(bytes(16384)); time.sleep(0.01)")
    return Truth(lab.port, quiet=True)


def _peeked_at_after(lab: Lab, sent: int, read: int) -> Truth:
    """Of so many words the child reads so many, and the parent looks from then on."""
    client, server = _two(lab)
    client.do(f"s.send(b'hello' * {sent})")
    child = lab.forked(server, f"for _ in range({read}): s.recv(5)")
    server.begin("for _ in range(60): s.recv(5, socket.MSG_PEEK | socket.MSG_DONTWAIT); time.sleep(0.1)", "peeker")
    client.do("time.sleep(0.2)")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, check=owned_by(child))


def _two(lab: Lab) -> tuple[Actor, Actor]:
    """A client connected to a server; the server's end is the one to judge."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    return client, server


def _through_a_ring(lab: Lab, code: str) -> Truth:
    """A child reads so, its parent holds the socket as well and does not."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    child = lab.forked(server, f"{URING}\n{code}")
    client.do("time.sleep(0.3)")
    fill(client)
    lab.stalled(lab.port)
    why = "where a ring's reader is not seen"
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, unknown=why)


def _several_threads(events: list[Event]) -> str:
    evidence = " ".join(last_verdict(events).get("evidence", ()))
    return "" if "threads" in evidence else no_thread(events)


def _nothing_read(events: list[Event]) -> str:
    read = [one for one in events if one["tcptrace"].get("owner", {}).get("last_read_s") is not None]
    return "said to have been read" if read else ""
