"""``data.batch_size=auto``: the largest power of two that the memory holds."""

import copy
import os
from collections.abc import Callable
from pathlib import Path

import torch
from lightning import Trainer

from convpose.data.annotation import PoseSample
from convpose.data.datamodule import PoseDataModule, power_of_two
from convpose.errors import ModelError
from convpose.hardware import out_of_memory
from convpose.train.module import PoseModule

STEPS = 10  # an epoch has at least so many
MOST_ON_CPU = 64  # more is no faster: caches are full (VGG-11, one core: 64 341/s, 256 258/s)
GPU_SHARE = 0.9  # of its memory; the rest is for what a long training adds, such as fragments
CPU_SHARE = 0.5  # of the free memory; the rest is for loading processes and the file cache


def choose_batch_size(module: PoseModule, datamodule: PoseDataModule, trainer: Trainer) -> int:
    """Find the batch size for a training on one device, and say it.

    The network's own step is tried on random images at the run's precision: on a GPU with ever
    larger batches until one does not fit, on a CPU, which would swap or be killed before it
    refused, by counting the bytes that the step keeps for its backward pass.

    Raises:
        ModelError: not even the smallest batch fits.
    """
    images = len(datamodule.datasets["train"])
    most = max(2, power_of_two(images // STEPS))
    reason = f"at least {STEPS} steps an epoch of {images} images"
    trial = Trial(module, datamodule, trainer)
    if trial.device.type == "cuda":
        fits, bound = largest(trial.runs, most), f"{GPU_SHARE:.0%} of the GPU's memory"
    else:
        if most > MOST_ON_CPU:
            most, reason = MOST_ON_CPU, "a CPU gains nothing from more"
        free = CPU_SHARE * available_bytes()
        bound = f"{CPU_SHARE:.0%} of the free memory"
        fits = largest(lambda size: trial.bytes_kept(size) <= free, most)
    if fits == 0:
        raise ModelError(
            f"data.batch_size=auto: not even 2 images of data.input_size_px="
            f"{datamodule.input_size_px} fit into {bound}; type a smaller model or input"
        )
    why = reason if fits == most else f"{2 * fits} do not fit into {bound}"
    print(f"data.batch_size=auto: {fits} ({why})", flush=True)
    return fits


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest power of two from 2 to `most` that fits; 0 if none does."""
    found = 0
    for size in (2**i for i in range(1, most.bit_length())):
        if not fits(size):
            break
        found = size
    return found


class Trial:
    """The training step on random images, with a copy of the network.

    Args:
        module, datamodule: of the run; both stay as they are.
        trainer: for its device and precision.
    """

    def __init__(self, module: PoseModule, datamodule: PoseDataModule, trainer: Trainer) -> None:
        self.device = trainer.strategy.root_device
        self.autocast = trainer.precision_plugin.train_step_context
        self.module = copy.deepcopy(module).to(self.device).train()
        self.optimizer = module.optimizer(
            self.module.parameter_groups(self.module.model, self.module.loss)
        )
        self.side = datamodule.input_size_px
        self.keypoints = datamodule.skeleton.num_keypoints

    def runs(self, size: int) -> bool:
        """Whether a step with so many images fits into the GPU's memory."""
        torch.cuda.set_per_process_memory_fraction(GPU_SHARE, self.device)
        try:
            for _ in range(2):  # the second one has the optimizer's state
                self.step(size)
            torch.cuda.synchronize(self.device)
        except Exception as error:
            if not out_of_memory(error):
                raise
            return False
        finally:
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)
        return True

    def bytes_kept(self, size: int) -> float:
        """What a step with so many images keeps, from steps with 2 and 4: it is a straight line.

        The memory that a step really takes was within 10 % of it (VGG-16 at 224 px, fp32 and bf16).
        """
        kept = []
        for few in (2, 4):
            storages: dict[int, int] = {}

            def note(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
                storage = tensor.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                self.step(few)
            kept.append(sum(storages.values()))
        return 1.1 * (kept[0] + (size - 2) * (kept[1] - kept[0]) / 2)

    def step(self, size: int) -> None:
        """Forward, backward, optimizer."""
        shape = (size, 3, self.side, self.side)
        batch = PoseSample(
            image=torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device),
            keypoints=torch.rand(size, self.keypoints, 2, device=self.device),
            visibility=torch.full((size, self.keypoints), 2, device=self.device),
            keypoints_px=torch.zeros(size, self.keypoints, 2, device=self.device),
            unit_to_px=torch.zeros(size, 2, 3, device=self.device),
            image_id="",
        )
        with self.autocast():
            _, loss = self.module.step(batch)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may still take: the machine's free one, or its container's."""
    limits = []
    meminfo = root / "proc/meminfo"
    if meminfo.is_file():
        lines = (line.split() for line in meminfo.read_text().splitlines())
        limits += [int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"]
    for most, used in (
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),  # cgroup 2, then 1
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        if (root / most).is_file() and (limit := (root / most).read_text().strip()) != "max":
            limits.append(int(limit) - int((root / used).read_text()))
    return min(limits) if limits else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
