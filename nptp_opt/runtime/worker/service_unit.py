"""A systemd unit that keeps a worker running: printed for its owner to read, and to install."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Sequence
from pathlib import Path

from nptp_opt.errors import InputError

FOLDER = "nptp-opt"
"""In /var/cache, made by systemd."""

UNIT = """\
# Read it, then: save it as /etc/systemd/system/{unit}.service and run
#   systemctl daemon-reload && systemctl enable --now {unit}
[Unit]
Description=nptp-opt worker {described}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
User={user}
Restart=always
RestartSec=10
CacheDirectory={cache}
CacheDirectoryMode=0700
UMask=0077
NoNewPrivileges=yes
ProtectSystem=full
ProtectControlGroups=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_UNIX

[Install]
WantedBy=multi-user.target
"""


def service_unit(name: str, command: Sequence[str], cache: Path | None) -> str:
    """The unit's text. Without ``cache`` systemd makes a folder for the weights of all workers.

    Raises InputError for a device's name of which no unit can be named.
    """
    if not re.fullmatch(r"[A-Za-z0-9:_.-]+", name):
        raise InputError(f"`name` {name!r}: a unit's name has letters, digits, and : _ . - alone")
    told = ["--cache", str(cache.absolute() if cache else Path("/var/cache", FOLDER))]
    return UNIT.format(
        unit=f"nptp-opt-worker-{name}",
        described=name,
        command=" ".join(_quoted(word) for word in [*command, *told]),
        user=_user(),
        cache="" if cache else FOLDER,
    )


def _quoted(word: str) -> str:
    """A word of a command line as systemd reads it: no specifier, no variable, no end of word."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped) else f'"{escaped}"'


def _user() -> str:
    """By name; a number where this user has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
