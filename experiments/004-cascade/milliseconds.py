"""Time the processor for runs: ``python experiments/004-cascade/milliseconds.py RUN_FOLDER…``.

One thread, bf16, from a crop to the pose; the least of 60 repetitions, the runs in turn.
"""

import sys
import time

import numpy as np
import torch

from convpose.runtime.pytorch import load_run

torch.set_num_threads(1)
runtimes = {run: load_run(run, accelerator="cpu", precision="bf16-mixed") for run in sys.argv[1:]}
least = dict.fromkeys(runtimes, float("inf"))
for _ in range(60):
    for run, runtime in runtimes.items():
        side = runtime.spec.input_size_px
        crop = np.random.default_rng(0).integers(0, 256, (1, 3, side, side), dtype=np.uint8)
        start = time.process_time()
        runtime(crop)
        least[run] = min(least[run], 1000 * (time.process_time() - start))
for run, milliseconds in least.items():
    print(f"{run}: {milliseconds:.2f} ms")
