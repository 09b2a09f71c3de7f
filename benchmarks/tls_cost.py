"""What TLS takes of a processor: messages of the tcp transport with and without certificates.

    python benchmarks/tls_cost.py

Protocol: two ranks in one process, over loopback. One sends messages of a size to the other, which
answers the last one; all threads' processor time (user and system, both ranks) is counted, not the
clock, so that other work on the machine matters little. The median of ``ROUNDS`` rounds, plain and
TLS in turn. Every message's content is compared. A connection's set-up is counted likewise: TCP,
TLS if any, and the proof of the secret, both sides. Needs the extra ``tls``.
"""

from __future__ import annotations

import ssl
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from about import arguments, provenance, save

from nptp_opt.runtime.launcher.certificates import make_certificates, path_of
from nptp_opt.runtime.transport.base import Rendezvous
from nptp_opt.runtime.transport.handshake import Keys
from nptp_opt.runtime.transport.tcp import TcpTransport
from nptp_opt.runtime.transport.tls import read_identity

SIZES = (64, 2**14, 2**16, 2**18, 2**20, 2**23)
ROUNDS, BYTES, MOST_MESSAGES, MEETINGS = 7, 2**26, 400, 20
NAMES = ("d0", "d1")
Row = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two ranks that have met."""

    ranks: tuple[TcpTransport, TcpTransport]

    def carry(self, size: int, count: int) -> float:
        """Processor seconds of a message of so many bytes."""
        sent = np.random.default_rng(0).integers(0, 255, size, np.uint8)
        got = [np.zeros(size, np.uint8) for _ in range(count)]
        start = time.process_time()
        coming = [self.ranks[1].receive(0, k, buffer) for k, buffer in enumerate(got)]
        leaving = [self.ranks[0].send(1, k, sent) for k in range(count)]
        for each in (*coming, *leaving):
            each.wait()
        seconds = (time.process_time() - start) / count
        assert all(np.array_equal(buffer, sent) for buffer in got)
        return seconds

    def close(self) -> None:
        for rank in self.ranks:
            rank.close()


def meet(keys: tuple[Keys, Keys]) -> Pair:
    """Both ranks, in threads."""
    addresses, barrier = ["", ""], threading.Barrier(2)
    made: dict[int, TcpTransport] = {}

    def start(rank: int) -> None:
        def tell(own: str) -> list[str]:
            addresses[rank] = own
            barrier.wait()
            return addresses

        made[rank] = TcpTransport(
            Rendezvous(None, rank, 2, "127.0.0.1", keys[rank], tell, names=NAMES)
        )

    threads = [threading.Thread(target=start, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Pair((made[0], made[1]))


def set_up_s(keys: tuple[Keys, Keys]) -> float:
    """Processor seconds of a meeting, both sides."""
    start = time.process_time()
    pairs = [meet(keys) for _ in range(MEETINGS)]
    seconds = (time.process_time() - start) / MEETINGS
    for pair in pairs:
        pair.close()
    return seconds


def measure(plain: tuple[Keys, Keys], certified: tuple[Keys, Keys]) -> list[Row]:
    """A row per size."""
    pairs = [meet(plain), meet(certified)]
    rows = []
    for size in SIZES:
        count = max(2, min(MOST_MESSAGES, BYTES // size))
        rounds = [[pair.carry(size, count) for pair in pairs] for _ in range(ROUNDS)]
        without, with_tls = (statistics.median(times) for times in zip(*rounds, strict=True))
        rows.append({"bytes": size, "plain_us": without * 1e6, "tls_us": with_tls * 1e6,
                     "ratio": with_tls / without, "plain_mb_per_cpu_s": size / without / 1e6,
                     "tls_mb_per_cpu_s": size / with_tls / 1e6})  # fmt: skip
        print(rows[-1])
    for pair in pairs:
        pair.close()
    return rows


def page(content: Row) -> str:
    """The table to read."""
    about = content["about"]
    lines = [
        "# What TLS takes of a processor", "",
        f"`python benchmarks/tls_cost.py`, {about['date']}, commit {about['commit']}, "
        f"{about['cpu']}, {content['openssl']}, {content['cipher']}. Processor time of sender and "
        "receiver together.", "",
        "| bytes of a message | plain us | TLS us | ratio | plain MB per s | TLS MB per s |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['bytes']} | {row['plain_us']:.0f} | {row['tls_us']:.0f} | {row['ratio']:.2f} | "
        f"{row['plain_mb_per_cpu_s']:.0f} | {row['tls_mb_per_cpu_s']:.0f} |"
        for row in content["rows"]
    ]
    plain_ms, tls_ms = (1e3 * content[f"{name}_set_up_s"] for name in ("plain", "tls"))
    return "\n".join([*lines, "", f"A connection's set-up: {plain_ms:.1f} ms, with TLS "
                      f"{tls_ms:.1f} ms.", ""])  # fmt: skip


def cipher(keys: tuple[Keys, Keys]) -> str:
    """What the two agree on."""
    pair = meet(keys)
    found = pair.ranks[0].channels[1].stream._tls.cipher()[0]  # type: ignore[attr-defined]
    pair.close()
    return str(found)


def main() -> None:
    arguments(__doc__).parse_args()
    secret = b"a secret of this measurement"
    with tempfile.TemporaryDirectory() as folder:
        make_certificates(Path(folder), NAMES)
        first, second = (Keys(secret, read_identity(path_of(Path(folder), name))) for name in NAMES)
    plain, certified = (Keys(secret), Keys(secret)), (first, second)
    content = {
        "about": provenance(),
        "openssl": ssl.OPENSSL_VERSION,
        "cipher": cipher(certified),
        "plain_set_up_s": set_up_s(plain),
        "tls_set_up_s": set_up_s(certified),
        "rows": measure(plain, certified),
    }
    save("tls_cost", content, page(content))
    print(page(content))


if __name__ == "__main__":
    main()
