"""Asks pip-audit for known vulnerabilities of a lock file, from the first service that answers; prints one line where none does.

Exit codes: 0: none is known, or no service can be reached; 1: some are known, and pip-audit's table names them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request

PROBE_S = 3
RUN_S = 300
# a distribution with a known vulnerability, so that an answer without one is no answer
PROBES = {
    "pypi": urllib.request.Request("https://pypi.org/pypi/jinja2/3.1.2/json"),
    "osv": urllib.request.Request(
        "https://api.osv.dev/v1/query",
        data=json.dumps({"package": {"name": "jinja2", "ecosystem": "PyPI"}, "version": "3.1.2"}).encode(),
        headers={"Content-Type": "application/json"},
    ),
}


def unreachable(service: str) -> str | None:
    """Why a service's data cannot be reached from here; None if it can."""
    try:
        with urllib.request.urlopen(PROBES[service], timeout=PROBE_S) as answer:
            found = json.load(answer)
    except (OSError, ValueError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    known = found.get("vulnerabilities") or found.get("vulns") if isinstance(found, dict) else None
    return None if known else "it answers without vulnerabilities"


def main(lock: str) -> int:
    """Audit one hashed lock file."""
    reasons = {}
    for service in PROBES:
        reason = unreachable(service)
        if reason is None:
            # the lock file is complete and hashed: nothing is resolved, installed or executed
            words = ["--requirement", lock, "--no-deps", "--disable-pip", "--progress-spinner", "off", "--desc", "off"]
            try:
                command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", service, *words]
                return subprocess.run(command, check=False, timeout=RUN_S).returncode
            except subprocess.TimeoutExpired:
                reason = f"no end within {RUN_S} s"
        reasons[service] = reason
    print(
        "skipped: no data of known vulnerabilities can be reached (" + "; ".join(f"{s}: {r}" for s, r in reasons.items()) + ")"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
