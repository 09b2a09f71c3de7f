"""A cluster file in the making: what measured links say of it, and the text that is written."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from nptp_opt.cluster.draft import draft, parse_device, profile_file, to_toml, with_profiles
from nptp_opt.cluster.profiles import PROFILE_SCHEMA, Link, Profile
from nptp_opt.errors import InputError
from tests.cluster.test_links import MIXED


def _profile(link: Link) -> Profile:
    fields: dict[str, Any] = {"schema": PROFILE_SCHEMA, "model": "m", "threads": 1, "gflops": 4.0,
                              "overhead_ms": 0.1, "layers": (), "provenance": {}}  # fmt: skip
    return Profile.model_validate(fields | {"link": link})


def test_every_device_has_its_own_link_and_a_medium_the_mean_rate() -> None:
    """The harmonic mean of 80, 80 and 40 Mbit/s is 60; a rate that is given stays."""
    profiles = {name: _profile(MIXED.link(i)) for i, name in enumerate(MIXED.names)}
    entries = [{"name": name, "gflops": 1} for name in MIXED.names]
    made = with_profiles(draft(entries, name="x", kind="shared"), profiles, MIXED)
    assert made["network"]["mbit_per_s"] == 60
    assert made["device"][0] == {"name": "a", "profile": "a.profile.json"}
    given = draft(entries, name="x", kind="shared", mbit_per_s=50)
    assert with_profiles(given, profiles, MIXED)["network"]["mbit_per_s"] == 50
    assert "mbit_per_s" not in with_profiles(
        draft(entries, name="x", kind="switched"), profiles, MIXED
    )["network"]  # fmt: skip


def test_the_text_says_what_the_content_says() -> None:
    """Also for names that need quoting."""
    devices = [parse_device('Böard "1" \\ x,gflops=2.5,address=192.0.2.1'), {"name": "b"}]
    content = draft(devices, name="a # b", kind="switched", mbit_per_s=10, latency_ms=0.5)
    assert tomllib.loads(to_toml(content)) == content
    assert "measured" not in to_toml(content, measured=True)
    assert "measured" in to_toml(draft([], name="x", kind="shared"), measured=True)


def test_a_name_is_no_path() -> None:
    """A device of another folder's name writes into no other folder."""
    assert profile_file("../x/pi 0") == "..-x-pi-0.profile.json"


@pytest.mark.parametrize("text", ["", "a,", "a,b", "=1", "a,gflops="])
def test_what_is_no_device_is_quoted(text: str) -> None:
    with pytest.raises(InputError, match=r"must be KEY=VALUE|needs a name"):
        parse_device(text)
