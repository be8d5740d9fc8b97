"""Start several workers on this machine: processes of the same command."""

import signal
import subprocess
import sys
import time

from optuna.trial import TrialState

from convpose.config.application import sigterm_exits
from convpose.errors import ConvposeError
from convpose.search.setup import SearchSetup
from convpose.search.summary import trial_line

POLL_S = 1.0


class Worker:
    """Process that works on a search.

    Args:
        setup: of the search.
        number: of the worker, from 1.
    """

    def __init__(self, setup: SearchSetup, number: int) -> None:
        self.name = f"worker {number}"
        self.log = setup.folder / f"worker-{number}.log"
        self.starts = 0
        self._command = [
            *(sys.executable, "-m", "convpose.search", *sys.argv[1:]),
            *("workers=1", f"worker={number}"),
        ]
        self.start()

    def start(self) -> None:
        """Begin; what it prints goes to its log."""
        self.starts += 1
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            # a session of its own: Ctrl-C on the terminal reaches it once, through `stop`
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def stop(self, how: signal.Signals) -> None:
        """Interrupt the process, which then puts its trial into the queue again."""
        if self.process.poll() is None:
            self.process.send_signal(how)

    def died(self, retries: int) -> bool:
        """Tell if the process is gone for good; start one that was killed again."""
        code = self.process.poll()
        if not code:
            return code == 0
        killed = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        again = code < 0 and self.starts <= retries
        print(f"{self.name} {killed}, see {self.log}" + ("; started again" if again else ""))
        if again:
            self.start()
        return not again


@sigterm_exits()
def run_workers(setup: SearchSetup) -> None:
    """Start the workers and print what they finish, until they have ended.

    Raises:
        ConvposeError: they ended early.
        SystemExit, KeyboardInterrupt: interrupted, after the workers have put their trials back.
    """
    seen = {t.number for t in setup.queue.trials() if t.state.is_finished()}
    workers = [Worker(setup, number) for number in range(1, setup.cfg.workers + 1)]
    alive = list(workers)
    try:
        while alive:
            time.sleep(POLL_S)
            alive = [worker for worker in alive if not worker.died(setup.cfg.retries)]
            _print_finished(setup, seen)
    except BaseException as end:
        for worker in alive:
            worker.stop(signal.SIGINT if isinstance(end, KeyboardInterrupt) else signal.SIGTERM)
        for worker in alive:
            worker.process.wait()
        raise
    left = setup.queue.in_state(TrialState.WAITING, TrialState.RUNNING)
    if left and not setup.cfg.timeout_s:
        logs = ", ".join(str(worker.log) for worker in workers)
        raise ConvposeError(f"the workers ended with {len(left)} trials left; see {logs}")


def _print_finished(setup: SearchSetup, seen: set[int]) -> None:
    for trial in setup.queue.trials():
        if trial.state.is_finished() and trial.number not in seen:
            seen.add(trial.number)
            print(trial_line(setup, trial), flush=True)
