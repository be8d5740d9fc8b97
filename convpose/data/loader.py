"""Load batches, and explain what a machine refuses to loading processes."""

import errno
import sys
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from convpose.data.annotation import PoseSample
from convpose.errors import ModelError
from convpose.hardware import loader_killed

PREFETCHED = 2  # batches of each process
FILES, FILES_OF_PROCESS = 64, 48  # of the training; a batch is five tensors, each a file
REMEDY = "type data.num_workers=0, or num_workers=0 to convpose.evaluate"


class Loader(DataLoader[PoseSample]):
    """Load batches; see `DataLoader`.

    Raises:
        ModelError: no shared memory or no open files left, or a process that was killed.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator does as well
        """Yield batches."""
        self._check_files()
        try:
            yield from super().__iter__()
        except (RuntimeError, OSError) as error:
            if trouble := self._trouble(error):
                raise ModelError(trouble) from error
            raise

    def _check_files(self) -> None:
        """Raise the limit of open files to what is allowed; refuse one that ends in silence.

        A process that cannot pass a batch on loses it, and whoever waits for it waits for ever.
        """
        if sys.platform == "win32" or self.num_workers == 0:
            return
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        needed = FILES + self.num_workers * FILES_OF_PROCESS
        if soft < needed and soft != resource.RLIM_INFINITY:
            if hard != resource.RLIM_INFINITY and hard < needed:
                raise ModelError(self._few_files())
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

    def _few_files(self) -> str:
        size = f"data.batch_size={self.batch_size} data.num_workers={self.num_workers}"
        return f"too few files can be open, with {size}; {REMEDY}, or raise the limit (ulimit -n)"

    def _trouble(self, error: BaseException) -> str | None:
        text = str(error)
        size = f"data.batch_size={self.batch_size} data.num_workers={self.num_workers}"
        # a semaphore of a queue has no file name
        full = isinstance(error, OSError) and (error.errno, error.filename) == (errno.ENOSPC, None)
        if full or any(place in text for place in ("shared memory", "/dev/shm", "torch_shm")):
            side = getattr(self.dataset, "input_size_px", 0)
            batch = 3 * side**2 * (self.batch_size or 0)
            kb = PREFETCHED * max(1, self.num_workers) * batch / 1e3
            most = f"{kb / 1e3:.0f} MB" if kb >= 1e3 else f"{kb:.0f} kB"
            return (
                f"/dev/shm is full: {size} hand up to {most} over in it; {REMEDY}, or start the "
                "container with --shm-size=1g"
            )
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) or (
            "Too many open files" in text or "items of ancdata" in text
        ):
            return self._few_files()
        if loader_killed(error):
            return (
                "a loading process was killed, mostly because the memory or /dev/shm is full: "
                f"{size}; {REMEDY}, or a smaller data.batch_size; a training goes on with "
                "ckpt_path=last"
            )
        return None
