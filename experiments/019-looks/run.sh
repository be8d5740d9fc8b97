#!/usr/bin/env bash
# One look and two looks of the packaged network at whole frames of validation images. Ten minutes on one core that others use, too.
# Usage, from the repository's root, with both archives in CONVPOSE_DATA or data/: bash experiments/019-looks/run.sh [overrides of the data]
set -euo pipefail
${PYTHON:-.venv/bin/python} experiments/019-looks/looks.py "$@"
