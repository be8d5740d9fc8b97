#!/usr/bin/env bash
# Left and right of the packaged network, and decodings that might repair them. Two minutes on one core of an AMD EPYC.
# Usage, from the repository's root, with both archives in CONVPOSE_DATA or data/: bash experiments/017-sides/run.sh [overrides of the data]
set -euo pipefail
${PYTHON:-.venv/bin/python} experiments/017-sides/sides.py "$@"
