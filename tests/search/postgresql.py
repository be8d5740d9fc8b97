"""A real PostgreSQL server in a folder of its own, for as long as a test runs."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "postgres"  # as whom the server runs where the tests run as root, which it refuses to be


@contextmanager
def server() -> Iterator[str]:
    """Yields the URL of an empty database; skips the test where PostgreSQL is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = programs[-1] if programs else shutil.which("initdb")
    if found is None:
        pytest.skip(
            "no PostgreSQL here: no /usr/lib/postgresql/*/bin/initdb (apt install postgresql)"
        )
    bin_folder = Path(found).parent
    root = os.geteuid() == 0
    # not tmp_path, which only its owner may enter
    with tempfile.TemporaryDirectory(prefix="convpose-pg-", ignore_cleanup_errors=True) as name:
        if root:
            shutil.chown(name, USER, USER)

        def call(program: str, *arguments: str) -> None:
            subprocess.run(
                [bin_folder / program, "-D", f"{name}/data", *arguments],
                user=USER if root else None,
                cwd=name,
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=120,
            )

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        call("initdb", "--auth=trust", "--username=search", "--no-sync", "--encoding=UTF8")
        options = f"-p {port} -k {name} -c listen_addresses=127.0.0.1 -c fsync=off"
        call("pg_ctl", "-w", "-l", f"{name}/log", "-o", options, "start")
        try:
            yield f"postgresql://search@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
