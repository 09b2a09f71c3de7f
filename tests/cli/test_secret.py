"""``secret``: files that their owner alone can read, never overwritten."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from nptp_opt.runtime.transport.handshake import device, read_secret
from nptp_opt.runtime.transport.tls import read_identity
from tests.cli.test_commands import call


def test_a_secret_is_fresh_and_private(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    done = call("secret", one, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["secret"] == str(one)
    assert call("secret", two).exit_code == 0
    assert one.stat().st_mode & 0o777 == 0o600
    assert len(read_secret(one)) == 64 and read_secret(one) != read_secret(two)


def test_a_secret_that_is_there_is_kept(tmp_path: Path) -> None:
    """Machines that have it would be locked out."""
    path = tmp_path / "one"
    path.write_text("precious")
    done = call("secret", path)
    assert done.exit_code == 2 and "is not overwritten" in done.stderr
    assert path.read_text() == "precious"
    done = call("secret", tmp_path / "no" / "such" / "place")
    assert done.exit_code == 2 and "cannot be written" in done.stderr


CLUSTER = """
[network]
kind = "shared"
mbit_per_s = 100
[[device]]
name = "pi-0"
gflops = 1.0
[[device]]
name = "desk top"
gflops = 1.0
"""


def test_certificates_of_a_clusters_devices(tmp_path: Path) -> None:
    """One file for each, which its owner alone can read; and the names that they are of."""
    cluster, folder = tmp_path / "c.toml", tmp_path / "certificates"
    cluster.write_text(CLUSTER)
    done = call("secret", tmp_path / "s", "--tls", folder, "--cluster", cluster, "--days", 30,
                "--json")  # fmt: skip
    assert done.exit_code == 0
    names = ["authority", "launcher", "pi-0", "desk top"]
    said = json.loads(done.stdout)
    assert said["certificates"] == [str(folder / f"{name}.pem") for name in names]
    assert 29 <= (date.fromisoformat(said["expires"]) - datetime.now(UTC).date()).days <= 30
    assert (tmp_path / "s").exists() and folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    parties = [str(read_identity(folder / f"{name}.pem").party) for name in names[1:]]
    assert parties == ["the launcher", "device 'pi-0'", "device 'desk top'"]


def test_a_device_more_has_the_same_authority_and_nothing_is_overwritten(tmp_path: Path) -> None:
    """Certificates that boards have already go on being right."""
    assert call("secret", "--tls", tmp_path, "--device", "a").exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    again = call("secret", tmp_path / "s", "--tls", tmp_path, "--device", "b", "--device", "a")
    assert again.exit_code == 2 and "a.pem: is there already" in again.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    done = call("secret", "--tls", tmp_path, "--device", "b")
    assert done.exit_code == 0 and "valid until" in done.stderr
    assert {path: path.read_bytes() for path in before} == before
    end = "-----END CERTIFICATE-----"
    authorities = {(tmp_path / f"{name}.pem").read_text().split(end)[1] for name in "ab"}
    assert len(authorities) == 1 and read_identity(tmp_path / "b.pem").party == device("b")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a FILE for the secret"),
        (["--device", "a"], "name a FILE for the secret"),
        (["--tls", "t"], "name them by --cluster or --device"),
        (["--tls", "t", "--device", "../a"], "no / among them"),
        (["--tls", "t", "--device", "launcher"], "call the device otherwise"),
        (["--tls", "t", "--device", "x" * 65], "at most 64 letters"),
        (["--tls", "t", "--device", "a", "--days", "99999"], "--days = 99999: must be between"),
        (["there", "--tls", "t", "--device", "a"], "a secret is not overwritten"),
        (["--tls", "there", "--device", "a"], "there: cannot be written"),
        (["--tls", "kept", "--device", "a"], "authority.pem: is no authority's file"),
    ],
)
def test_what_cannot_be_made_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("precious")
    Path("kept").mkdir()
    Path("kept/authority.pem").write_text("precious")
    done = call("secret", *words)
    assert done.exit_code == 2 and told in done.stderr
    left = sorted(str(path) for path in Path().rglob("*"))
    assert left == ["kept", "kept/authority.pem", "there"]


def test_without_cryptography_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    done = call("secret", "--tls", tmp_path / "t", "--device", "a")
    assert done.exit_code == 2 and "pip install 'nptp-opt[tls]'" in done.stderr
    assert call("secret", tmp_path / "s").exit_code == 0
