"""Known vulnerabilities of all that is installed beside this file: ``python -m tools.audit``.

Asks the Python Packaging Advisory Database, by ``pip-audit``. Exit status 1 where it knows of one,
``NOT_AUDITED`` where it could be asked about nothing (without network, say): that is no pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

NOT_AUDITED = 3
COMMAND = ("-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner=off", "-f", "json")


def report(dependencies: Sequence[Mapping[str, Any]]) -> tuple[list[str], int]:
    """Lines about ``pip-audit``'s dependencies, and the exit status."""
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    vulnerable = [
        f"{each['name']} {each['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for each in dependencies
        for found in each.get("vulns", ())
    ]
    audited = len(dependencies) - len(skipped)
    if not audited:
        told = f"nothing was audited: the database knows none of {len(skipped)} packages"
        return [told], NOT_AUDITED
    told = f"{audited} packages audited, the database does not know {', '.join(skipped) or 'none'}"
    if vulnerable:
        return [*vulnerable, told], 1
    return [told], 0


def main() -> int:
    """Print what is found; returns the exit status."""
    run = subprocess.run([sys.executable, *COMMAND], capture_output=True, text=True, check=False)
    try:
        dependencies = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = run.stderr.strip().splitlines()[-1:]
        print("nothing was audited:", *last, file=sys.stderr)
        return NOT_AUDITED
    lines, status = report(dependencies)
    print(*lines, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
