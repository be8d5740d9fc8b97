"""Commands as real processes that start in a moment: a warm process has imported all and forks.

There is one for all the processes of a test session, as long as one of them needs it.
`Forker` begins them for a test. Its `python` is an interpreter for what starts processes itself, a
search or a training on two devices: `python -m convpose.X` becomes a fork of the warm process with
the arguments, environment, folder and open files of who asked, all else a real interpreter.
"""

import fcntl
import functools
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARM = ("convpose.", "torch.distributed.run", "submitit.core._submit")
_SERVER = """
import atexit, contextlib, fcntl, functools, gc, importlib, json, os, runpy, select, signal
import socket, sys, tempfile, threading, traceback
gc.disable()  # while all is imported
import convpose.train.command, torch
from convpose.files import conf_folder
from hydra import compose, initialize_config_dir
from PIL import Image

torch.set_num_threads(1)
Image.init()
sys.path.insert(0, sys.argv[3])
import forked
sys.path.pop(0)
forked.keep_conf()

@functools.cache
def warm(module):
    "Import what a command will import, and read its conf/."
    module = module.removesuffix(".__main__")
    if module.startswith("convpose."):
        importlib.import_module(module + ".command")
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            compose(module.split(".")[1])
    with contextlib.suppress(ImportError):
        if module == "convpose.export":
            import onnxscript  # not OpenVINO: a fork of its threads does not end well

def leave():
    "End, if nobody has come in the moment after the last one went."
    with open("lock") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.read(users, 1):
            os.unlink(sys.argv[1])
            os._exit(0)

def asked(listening):
    "Wait for whoever asks for a process; return in that process with the request and its files."
    while True:
        if users in select.select([users, listening], [], [])[0]:
            leave()
            continue
        connection = listening.accept()[0]
        message, files, *_ = socket.recv_fds(connection, 2**20, 3)
        request = json.loads(message)
        warm(request["module"])
        if os.fork() == 0:
            if (pid := os.fork()) == 0:
                connection.close(), listening.close()
                return request, files
            connection.send(str(pid).encode())
            process = os.pidfd_open(pid)
            if connection in select.select([connection, process], [], [])[0]:
                os.kill(pid, signal.SIGKILL)  # who has asked is gone
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with contextlib.suppress(OSError):
                connection.send(str(code).encode())
            os._exit(0)
        for file in (connection.fileno(), *files):
            os.close(file)
        connection.detach()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

users = os.open("users", os.O_RDONLY | os.O_NONBLOCK)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
    listening.bind(sys.argv[1])
    listening.listen()
    warm("convpose.train")
    gc.freeze(), gc.enable()  # nobody touches what all forks share
    print("ready", flush=True)
    request, files = asked(listening)
for target, file in enumerate(files):
    os.dup2(file, target)
    os.close(file)
os.chdir(request["folder"])
os.environ.clear()
os.environ.update(request["environment"])
tempfile.tempdir = None
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.executable, sys.argv = sys.argv[2], [request["module"], *request["arguments"]]
sys.stdout.reconfigure(write_through=request["unbuffered"])
try:
    code = 0
    exec(request["before"])
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code if isinstance(end.code, int) else int(end.code is not None)
except BaseException:
    code = 1
    traceback.print_exc()
# as a process ends, without the seconds that it takes to take everything apart
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
os._exit(code)
"""
_PYTHON = """#!{real} -SI
import json, os, signal, socket, sys

options, arguments = sys.argv[1:2] == ["-u"], [a for a in sys.argv[1:3] if a != "-u"]
arguments += sys.argv[3:]
if arguments[:1] != ["-m"] or not arguments[1].startswith({warm}):
    os.execv("{real}", ["{real}", *sys.argv[1:]])
request = dict(module=arguments[1], arguments=arguments[2:], folder=os.getcwd(), before="")
request |= dict(environment=dict(os.environ), unbuffered=options)
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)

def forward(number, _):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass

with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect("{address}")
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    pid = int(server.recv(99))
    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    code = int(server.recv(99))
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@dataclass
class Life:
    """A process of a command.

    Attributes:
        server: connection to the warm process, which tells how this one ends.
        pid: of the process.
        log: file of what it says.
        start_s: when it began.
        code: with which it ended, as soon as that was asked for.
    """

    server: socket.socket
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
        """Tell if it has not ended yet."""
        return self.code is None and not select.select([self.server], [], [], 0)[0]

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> int:
        """Its exit code, negative after a signal."""
        if self.code is None:
            with self.server:
                self.code = int(self.server.recv(99))
        return self.code


def keep_conf(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Keep what the files of conf/ say, and their interpolations: half of every composition.

    Args:
        put: puts a function in the place of another, as `setattr` does.
    """
    import omegaconf

    from convpose.files import conf_folder

    load, folder, known = omegaconf.OmegaConf.load, str(conf_folder()), {}

    def kept(file: Any) -> Any:
        name = getattr(file, "name", "")
        if not name.startswith(folder):
            return load(file)
        if name not in known:
            known[name] = pickle.dumps(load(file))  # read again faster than it is copied
        return pickle.loads(known[name])

    put(omegaconf.OmegaConf, "load", kept)
    parsed = functools.cache(omegaconf.grammar_parser.parse)
    for module in (omegaconf.base, omegaconf._utils):
        put(module, "parse", parsed)


folder = Path()  # of the warm process, shared by the processes of a session


@functools.cache
def server() -> tuple[Path, Path, int, subprocess.Popen[str] | None]:
    """Find or start the warm process: its address, its `python`, our stake in it, the process."""
    address, python, users = (folder / name for name in ("socket", "python", "users"))
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = None if address.exists() else _start(address, python, users)
        return address, python, os.open(users, os.O_WRONLY | os.O_NONBLOCK), process


def _start(address: Path, python: Path, users: Path) -> subprocess.Popen[str]:
    python.write_text(_PYTHON.format(real=sys.executable, warm=WARM, address=address))
    python.chmod(0o755)
    users.unlink(missing_ok=True)
    os.mkfifo(users)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(address), str(python), str(Path(__file__).parent)],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def close() -> None:
    """Give the warm process up, if this process has needed it; wait for its end if it is ours."""
    if server.cache_info().currsize:
        *_, users, process = server()
        os.close(users)
        if process is not None:
            process.communicate()
        server.cache_clear()


def environment() -> dict[str, str]:
    """The environment in which commands run."""
    checkout = str(Path(__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": checkout, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


class Forker:
    """Begins commands in a folder, each with a log of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives: list[Life] = []

    def begin(
        self, *arguments: str, module: str = "convpose.train", before: str = "", **more: str
    ) -> Life:
        """Fork a command line; `before` is run in its process first, `more` is environment."""
        log = self.folder / f"{1 + len(self.lives):02d}.log"
        start_s = time.monotonic()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(str(server()[0]))
        request = {"module": module, "arguments": arguments, "folder": str(self.folder)}
        request |= {"environment": environment() | more, "unbuffered": False, "before": before}
        with log.open("ab") as file, Path(os.devnull).open() as nothing:
            files = [nothing.fileno(), file.fileno(), file.fileno()]
            socket.send_fds(connection, [json.dumps(request).encode()], files)
        self.lives.append(Life(connection, int(connection.recv(99)), log, start_s))
        return self.lives[-1]

    def settle(self) -> None:
        """End the processes that a failed test may have left."""
        for life in self.lives:
            if life.alive():
                life.kill()
            life.ended()
