"""Commands as real processes that start in a moment: a warm process has imported all and forks."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_SERVER = """
import json, os, sys, traceback
from importlib import import_module
import_module(sys.argv[1] + ".command")
main = import_module(sys.argv[1] + ".__main__").main
import torch
torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    arguments, log, before = json.loads(line)
    pid = os.fork()
    if pid == 0:
        code = 1
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        os.chdir(os.path.dirname(log))
        sys.argv = [sys.argv[1].rpartition(".")[2], *arguments]
        try:
            exec(before)
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass
class Life:
    """A process of the command.

    Attributes:
        server: that has forked it, and tells how it ended.
        pid: of the process.
        log: file of what it says.
        start_s: when it began.
        code: with which it ended, as soon as that was asked for.
    """

    server: "Forker"
    pid: int
    log: Path
    start_s: float
    code: int | None = None

    def wait_for(self, text: str) -> float:
        """Wait until it has said something; seconds since its beginning."""
        while text not in (self.log.read_text() if self.log.exists() else ""):
            assert time.monotonic() < self.start_s + 300, f"never said {text}"
            assert self.alive(), f"ended before it said {text}:\n{self.log.read_text()}"
            time.sleep(0.005)
        return time.monotonic() - self.start_s

    def alive(self) -> bool:
        """Whether it has not ended yet; a dead process stays known until `ended` asks."""
        state = Path(f"/proc/{self.pid}/stat").read_text() if self.exists() else ""
        return state.rpartition(")")[2].split()[:1] not in ([], ["Z"])

    def exists(self) -> bool:
        return Path(f"/proc/{self.pid}").exists()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> int:
        """Its exit code, negative after a signal."""
        self.code = int(self.server.answer())
        return self.code


class Forker:
    """The warm process of a command, whose commands run in a folder."""

    def __init__(self, folder: Path, module: str = "convpose.train") -> None:
        self.within(folder)
        self.life: Life | None = None
        checkout = str(Path(__file__).parent.parent)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, module],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": checkout, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == "ready"

    def within(self, folder: Path) -> "Forker":
        """Go into another folder."""
        self.folder, self.count = folder, 0
        return self

    def answer(self) -> str:
        return self.process.stdout.readline().strip()

    def train(self, *arguments: str, before: str = "") -> Life:
        """Fork the command with a command line; `before` is run in its process first."""
        self.count += 1
        log = self.folder / f"{self.count:02d}.log"
        start_s = time.monotonic()
        self.process.stdin.write(json.dumps([arguments, str(log), before]) + "\n")
        self.process.stdin.flush()
        self.life = Life(self, int(self.answer()), log, start_s)
        return self.life

    def settle(self) -> None:
        """End the process that a failed test may have left."""
        if self.life is not None and self.life.code is None:
            if self.life.alive():
                self.life.kill()
            self.life.ended()

    def close(self) -> None:
        """End it."""
        self.settle()
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()
