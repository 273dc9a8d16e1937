"""Proxies: a process that does not read because it cannot write is a victim, and the slow reader sits further along."""

from __future__ import annotations

from tests.lab.actor import Actor, fill
from tests.lab.segments import THERE
from tests.scenarios.scenario import Lab, Slow, Truth, scenario
from tests.scenarios.steps import CONDITIONAL, chain_says, connect_to, every, never_blamed, no_chain, remote

FAR_SIDE = "198.18.102.1"
"""The address at which the third host of a row reaches the middle one."""

RELAY = """
while data := {0}.recv(65536):
    {1}.sendall(data)
"""

LOOP = """
for pair in pairs:
    for one in pair: one.setblocking(False)
waiting = {{pair: b"" for pair in pairs}}
while True:
    reads, writes, _ = select.select([a for a, b in pairs if not waiting[a, b]], [b for a, b in pairs if waiting[a, b]], [])
    for a, b in pairs:
        if a in reads: waiting[a, b] = a.recv(65536)
        if b in writes: waiting[a, b] = waiting[a, b][b.send(waiting[a, b]):]
"""

SPLICE = """
pipe_read, pipe_write = os.pipe()
while taken := os.splice({0}.fileno(), pipe_write, 65536):
    while taken: taken -= os.splice(pipe_read, {1}.fileno(), taken)
"""


@scenario
def one_hop(lab: Lab) -> Truth:
    """A proxy reads from its upstream no more, because its client reads nothing: the client is slow."""
    _, proxy, client, a, b, ip = _proxied(lab, RELAY.format("a", "b"))
    chain = chain_says(f"proxy[{proxy.pid}]", f"client[{client.pid}]")
    return Truth(a, slow=Slow("local", client.pid, None, ip, b), forecast=CONDITIONAL, check=chain)


@scenario
def one_hop_seen_from_upstream(lab: Lab) -> Truth:
    """The upstream's end of the same: its peer is but a victim."""
    _, proxy, client, _, b, ip = _proxied(lab, RELAY.format("a", "b"))
    chain = chain_says(f"proxy[{proxy.pid}]", f"client[{client.pid}]")
    return Truth(lab.port, slow=Slow("peer", client.pid, None, ip, b), forecast=CONDITIONAL, check=chain)


@scenario
def one_hop_through_an_event_loop(lab: Lab) -> Truth:
    """A proxy that waits in select(), as nginx does in epoll."""
    _, proxy, client, a, b, ip = _proxied(lab, "pairs = [(a, b)]" + LOOP.format())
    chain = chain_says(f"proxy[{proxy.pid}]", f"client[{client.pid}]")
    return Truth(a, slow=Slow("local", client.pid, None, ip, b), forecast=CONDITIONAL, check=chain)


@scenario
def one_hop_through_splice(lab: Lab) -> Truth:
    """A proxy that never sees the data, as HAProxy may."""
    _, proxy, client, a, b, ip = _proxied(lab, SPLICE.format("a", "b"))
    chain = chain_says(f"proxy[{proxy.pid}]", f"client[{client.pid}]")
    return Truth(a, slow=Slow("local", client.pid, None, ip, b), forecast=CONDITIONAL, check=chain)


@scenario
def two_hops(lab: Lab) -> Truth:
    """Upstream, proxy, proxy, client."""
    first, middle, third = lab.row()
    upstream, outer = lab.actor(first, "upstream"), lab.actor(middle, "outer")
    inner, client = lab.actor(middle, "inner"), lab.actor(third, "client")
    lab.connect(inner, upstream, first.ip, 0, "a")
    lab.connect(inner, outer, "127.0.0.1", 1, "b")
    port = lab.connect(client, outer, FAR_SIDE, 2, "c")
    inner.begin(RELAY.format("a", "b"), "relay")
    outer.begin(RELAY.format("b", "c"), "relay")
    fill(upstream, "a")
    lab.stalled(lab.port)
    chain = chain_says(f"inner[{inner.pid}]", f"outer[{outer.pid}]", f"client[{client.pid}]")
    return Truth(lab.port, slow=Slow("peer", client.pid, None, third.ip, port), forecast=CONDITIONAL, check=chain)


@scenario
def one_hop_to_a_remote_host(lab: Lab) -> Truth:
    """The slow client is on another host: an address, and no process."""
    host, proxy, far = remote(lab)
    upstream = lab.actor(host, "upstream")
    connect_to(lab, proxy, far, opening=8192)
    port = lab.connect(proxy, upstream, host.ip, 1, "a")
    proxy.begin(RELAY.format("a", "s"), "relay")
    fill(upstream, "a")
    lab.stalled(port)
    chain = chain_says(f"[{proxy.pid}]", f"{THERE}:{lab.port}")
    return Truth(port, slow=Slow("local", None, None, THERE, lab.port), forecast=CONDITIONAL, check=chain)


@scenario
def a_proxy_that_could_write(lab: Lab) -> Truth:
    """Its client reads all it gets; it is the proxy that does nothing."""
    upstream, proxy, client, a, _, _ = _proxied(lab, "")
    client.begin("while b.recv(65536): pass", "reader")
    proxy.do("b.send(b'hello')")
    fill(upstream, "a")
    lab.stalled(a)
    return Truth(a, slow=Slow("local", proxy.pid), forecast=CONDITIONAL, check=every(no_chain, never_blamed(client.pid)))


@scenario
def a_proxy_blocked_only_later(lab: Lab) -> Truth:
    """It had stopped reading long before its client did: a consequence does not come before its cause."""
    upstream, proxy, client, a, _, _ = _proxied(lab, "")
    fill(upstream, "a")
    lab.stalled(a)
    proxy.do("time.sleep(1)")
    fill(proxy, "b")
    proxy.do("time.sleep(2)")
    check = every(no_chain, never_blamed(client.pid))
    return Truth(a, slow=Slow("local", proxy.pid), forecast=CONDITIONAL, also=frozenset({client.pid}), check=check)


@scenario
def a_proxy_blocked_on_two_clients(lab: Lab) -> Truth:
    """Which of them keeps the proxy from reading cannot be told from outside; the wrong one must not be guessed."""
    first, middle, third = lab.row()
    upstream, proxy = lab.actor(first, "upstream"), lab.actor(middle, "proxy")
    one, other = lab.actor(third, "one"), lab.actor(third, "other")
    a = lab.connect(proxy, upstream, first.ip, 0, "a")
    c = lab.connect(proxy, upstream, first.ip, 1, "c")
    lab.connect(one, proxy, FAR_SIDE, 2, "b")
    lab.connect(other, proxy, FAR_SIDE, 3, "d")
    proxy.begin("pairs = [(a, b), (c, d)]" + LOOP.format(), "loop")
    fill(upstream, "a")
    fill(upstream, "c")
    lab.stalled(a)
    lab.stalled(c)
    return Truth(
        a,
        slow=Slow("local", proxy.pid),
        forecast=CONDITIONAL,
        also=frozenset({one.pid, other.pid}),
        unknown="blocked on two peers",
        check=never_blamed(other.pid),
    )


@scenario
def a_proxy_with_a_lazy_thread(lab: Lab) -> Truth:
    """One thread is blocked by a slow client, another does not read though nothing keeps it: that one is no victim."""
    first, middle, third = lab.row()
    upstream, proxy, client = lab.actor(first, "upstream"), lab.actor(middle, "proxy"), lab.actor(third, "client")
    lab.connect(proxy, upstream, first.ip, 0, "a")
    lab.connect(client, proxy, FAR_SIDE, 1, "b")
    lazy = lab.connect(proxy, upstream, first.ip, 2, "c")
    upstream.do("c.send(b'hello')")
    tid = proxy.do("c.recv(5); answer = threading.get_native_id()", "lazy")
    proxy.begin(RELAY.format("a", "b"), "relay")
    fill(upstream, "a")
    fill(upstream, "c")
    lab.stalled(lazy)
    return Truth(
        lazy,
        slow=Slow("local", proxy.pid, tid),
        forecast=CONDITIONAL,
        also=frozenset({client.pid}),
        unknown="which thread writes is not known before 6.17",
        check=every(no_chain, never_blamed(client.pid)),
    )


@scenario
def both_ends_in_one_process(lab: Lab) -> Truth:
    """It writes to itself and does not read: nobody else is behind it."""
    host = lab.alone()
    one = lab.actor(host, "both")
    one.do(f"l = socket.create_server(({host.ip!r}, {lab.port}))")
    port = one.do(
        f"s = socket.create_connection(({host.ip!r}, {lab.port})); r, _ = l.accept(); l.close(); answer = s.getsockname()[1]"
    )
    fill(one)
    lab.stalled(port)
    return Truth(port, slow=Slow("peer", one.pid, None, host.ip, lab.port), forecast=CONDITIONAL, check=no_chain)


@scenario
def both_write_and_neither_reads(lab: Lab) -> Truth:
    """A deadlock of two: each end waits for the other, and each is told of its own."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    fill(client)
    fill(server)
    lab.stalled(lab.port)
    slow = Slow("local", server.pid, None, there.ip, lab.port)
    return Truth(lab.port, slow=slow, forecast=CONDITIONAL, also=frozenset({client.pid}), check=no_chain)


def _proxied(lab: Lab, relay: str) -> tuple[Actor, Actor, Actor, int, int, str]:
    """An upstream, a proxy that relays so, a client that does not read; the proxy's port on `a`, the client's on `b`, its ip.

    With a relay the upstream has sent all it could, and the stall is told.
    """
    first, middle, third = lab.row()
    upstream, proxy, client = lab.actor(first, "upstream"), lab.actor(middle, "proxy"), lab.actor(third, "client")
    a = lab.connect(proxy, upstream, first.ip, 0, "a")
    b = lab.connect(client, proxy, FAR_SIDE, 1, "b")
    if relay:
        proxy.begin(relay, "relay")
        fill(upstream, "a")
        lab.stalled(a)
    return upstream, proxy, client, a, b, third.ip
