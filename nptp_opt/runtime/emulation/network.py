"""An emulated cluster on one machine: a network namespace per device, links at the plan's rates.

Every namespace reaches a hub namespace by a veth pair; the host's own network takes no part. On a
switched network the hub is a bridge, and a token bucket (``tbf``) shapes each direction of each
device's link. A shared medium is a router in which every packet crosses one trunk, shaped by one
token bucket. Latency is added by ``netem`` or, where the kernel lacks it, by the transport.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from nptp_opt.cluster import Cluster, Device
from nptp_opt.errors import ExecutionError
from nptp_opt.runtime.emulation.namespace import Namespace, check_tools

log = logging.getLogger(__name__)

INTERFACE = "eth0"
QUEUE_BYTES = 2**30
"""Deep enough that nothing is dropped: the model knows no losses."""
TRUNK_IN, TRUNK_OUT = "02:00:00:00:00:01", "02:00:00:00:00:02"
VIA_TRUNK = 100
"""Number of the routing table that sends a packet through the trunk."""


TCP_SETTINGS = (
    "net.ipv4.tcp_congestion_control=reno",
    "net.ipv4.tcp_slow_start_after_idle=0",
    "net.ipv4.tcp_no_metrics_save=1",
    "net.ipv4.tcp_early_retrans=0",
    "net.ipv4.tcp_rmem=4096 4194304 33554432",
    "net.ipv4.tcp_wmem=4096 4194304 4194304",
)
"""Links lose nothing, so nothing is sent twice, and a whole message is in line for its link as soon
as it is ready: a window or buffer that is too small for it waits for acknowledgements, which stand
in line behind what others send. Other congestion controls (bbr, cubic) hold back when the queue of
the bucket delays what they send."""

LEAST_TIMEOUT_S = 1.0
"""Of the cluster's clock: after that TCP takes for lost what is not acknowledged."""

WINDOW_FRAMES = 1000
"""What a connection has under way before the first acknowledgement: 1.4 MB; it grows from there."""

HEADER_BYTES = 66
"""Of a frame with TCP: 14 of Ethernet, 20 of IP and 32 of TCP with timestamps."""

PACKET_FRAMES = 2
"""Frames that leave a device in one packet: the smallest bucket holds them. A packet that it has to
cut up would be counted with all its headers."""


def burst_bytes(mbit_per_s: float) -> int:
    """Bucket size: 4 kB up to 100 Mbit/s, above that what 0.3 ms of the rate fill."""
    return max(4000, int(mbit_per_s * 1e6 / 8 * 0.3e-3))


def shaper(interface: str, mbit_per_s: float, do: str = "add") -> str:
    """The ``tc`` command that shapes what leaves through an interface, or changes how.

    A plan's rates are payload rates, so the bucket counts payload: how many acknowledgements there
    are depends on TCP's timers, which know no dilation.
    """
    bucket = f"burst {burst_bytes(mbit_per_s)} limit {QUEUE_BYTES}"
    root = f"qdisc {do} dev {interface} root handle 1: stab overhead -{HEADER_BYTES}"
    return f"{root} tbf rate {mbit_per_s * 1e6:.0f}bit {bucket}"


@dataclass
class EmulatedCluster:
    """The devices of ``cluster`` as namespaces; a ``Site`` while its ``with`` block lasts."""

    cluster: Cluster
    dilation: float = 1.0
    """A second of the cluster's takes so many here: rates are lower and latencies longer."""
    delay_s: float = 0.0
    """Latency that ``netem`` does not add, because the kernel lacks it."""
    _inside: dict[str, Namespace] = field(default_factory=dict)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def prefix(self, device: str) -> Sequence[str]:
        """What stands before the command line of a device's worker."""
        return self._inside[device].prefix

    def interface(self, device: str) -> str:  # the same name in every namespace
        """The device's only interface beside its loopback."""
        return INTERFACE

    def __enter__(self) -> EmulatedCluster:
        check_tools()
        try:
            self.hub = self._open.enter_context(Namespace())
            for device in self.cluster.devices:
                self._inside[device.name] = self._open.enter_context(Namespace())
            self._wire()
        except BaseException:
            self._open.close()
            raise
        return self

    def change_rates(self, cluster: Cluster) -> None:
        """From now on links, or the medium, have the rates of ``cluster``: of the same devices on a
        network of the same kind."""
        if cluster.shared:
            assert cluster.network.mbit_per_s is not None
            rate = cluster.network.mbit_per_s / self.dilation
            self.hub.tc(shaper("ta", rate, "change"))
            return
        for i, device in enumerate(cluster.devices):
            assert device.up_mbit_per_s is not None and device.down_mbit_per_s is not None
            up, down = (r / self.dilation for r in (device.up_mbit_per_s, device.down_mbit_per_s))
            self._inside[device.name].tc(shaper(INTERFACE, up, "change"))
            self.hub.tc(shaper(f"p{i}", down, "change"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def _wire(self) -> None:
        for i, device in enumerate(self.cluster.devices):
            pid = self._inside[device.name].pid
            self.hub.ip(f"link add p{i} type veth peer name {INTERFACE} netns {pid}")
            self._inside[device.name].run("sysctl", "-qw", *TCP_SETTINGS)
        if self.cluster.shared:
            self._build_shared()
        else:
            self._build_switched()

    # -- switched ------------------------------------------------------------------------------

    def _build_switched(self) -> None:
        ports = range(len(self.cluster.devices))
        self.hub.ip("link add br0 type bridge", "link set br0 up")
        self.hub.ip(*(f"link set p{i} master br0 up" for i in ports))
        for i, device in enumerate(self.cluster.devices):
            self._attach(device, f"10.77.0.{i + 1}/24", "10.77.0.0/24")
            assert device.up_mbit_per_s is not None
            assert device.down_mbit_per_s is not None
            self._inside[device.name].tc(shaper(INTERFACE, device.up_mbit_per_s / self.dilation))
            self.hub.tc(shaper(f"p{i}", device.down_mbit_per_s / self.dilation))
            self._delay(self._inside[device.name], INTERFACE)

    def _attach(self, device: Device, address: str, others: str) -> None:
        """Give a device its address and its route to the ``others``.

        TCP sends again what is not acknowledged in time: as long as a packet stands in line, it is
        not late, in whatever clock.
        """
        patience = f"rto_min {self.dilation * LEAST_TIMEOUT_S * 1e3:.0f}ms"
        self._inside[device.name].ip(
            "link set lo up",
            f"addr add {address} dev {INTERFACE} noprefixroute",
            f"link set {INTERFACE} gso_max_segs {PACKET_FRAMES} up",
            f"route add {others} dev {INTERFACE} {patience} initcwnd {WINDOW_FRAMES}",
        )

    def _delay(self, namespace: Namespace, interface: str) -> None:
        """One-way latency of what leaves; left to the transport where there is no netem."""
        latency_s = self.cluster.network.latency_s * self.dilation
        if latency_s == 0:
            return
        command = f"qdisc add dev {interface} parent 1:1 handle 10: netem"
        try:
            namespace.tc(f"{command} delay {latency_s * 1e6:.0f}us limit 100000")
        except ExecutionError as error:
            log.info("no netem (%s): the transport adds the latency", error)
            self.delay_s = latency_s

    # -- shared medium -------------------------------------------------------------------------

    def _build_shared(self) -> None:
        rate = self.cluster.network.mbit_per_s
        assert rate is not None
        count = len(self.cluster.devices)
        self.hub.ip(
            "link add ta type veth peer name tb",
            f"link set ta address {TRUNK_IN} up",
            f"link set tb address {TRUNK_OUT} up",
            "addr add 10.78.0.1/24 dev ta",
            f"neigh add 10.78.0.2 lladdr {TRUNK_OUT} dev ta",
            f"route add default via 10.78.0.2 dev ta table {VIA_TRUNK}",
            *(f"addr add 10.77.{i}.1/24 dev p{i}" for i in range(count)),
            *(f"link set p{i} up" for i in range(count)),
            *(f"rule add iif p{i} lookup {VIA_TRUNK}" for i in range(count)),
        )
        self._let_pass()
        self.hub.tc(shaper("ta", rate / self.dilation))
        self._delay(self.hub, "ta")
        for i, device in enumerate(self.cluster.devices):
            self._attach(device, f"10.77.{i}.2/24", f"default via 10.77.{i}.1 onlink")

    def _let_pass(self) -> None:
        """Forward packets although they come in by another way than they would go out."""
        links = ("all", "default", "ta", "tb", *(f"p{i}" for i in range(len(self._inside))))
        settings = ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0"]
        settings += [f"net.ipv4.conf.{link}.rp_filter=0" for link in links]
        self.hub.run("sysctl", "-qw", *settings)
