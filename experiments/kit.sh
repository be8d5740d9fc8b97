# Everything that a GPU machine without a network needs beside the repository. Scripts for a GPU `source` it for keys and files.
# To make it, from the repository's root, with the archives in CONVPOSE_DATA or data/ (5 minutes):
#   bash experiments/kit.sh        crops and ImageNet weights, for this machine
#   bash experiments/kit.sh 3.12   also packages for a machine without a network that has this Python; PyTorch, torchvision,
#                                  timm, OpenCV and what they need are there already
# It has two parts of 50 MiB; each fits into 64 MiB together with the repository. KIT names its folder, by default runs/kit.
set -euo pipefail
python="${PYTHON:-.venv/bin/python}"
kit="${KIT:-runs/kit}"
# A person of LSP or LSPET is about 150 px across in its crop, 200 at most: more than 192 px shows nothing more.
crops="data.cache=$kit/1/crops.safetensors data.cache_size_px=192 data.cache_format=webp data.cache_quality=60"
whole="data.cache=$kit/2/whole.safetensors data.cache_size_px=192 data.cache_format=webp data.cache_quality=35"

weights() {  # 0 or 2: model.weights of that EfficientNet-Lite, a file or imagenet
  local file="$kit/2/efficientnet_lite$1.safetensors"
  [[ -f $file ]] && echo "$file" || echo imagenet
}

workers() {  # RUNS at the same time: loading processes of each, all cores but one for each run
  local cores
  cores=$(nproc)
  echo $((cores > $1 ? (cores - $1) / $1 : 0))
}

if [[ ${BASH_SOURCE[0]} != "$0" ]]; then
  if [[ -d $kit/2/wheels && ! -d $kit/2/site ]]; then
    $python -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$kit/2/site" "$kit"/2/wheels/*.whl
  fi
  [[ ! -d $kit/2/site ]] || export PYTHONPATH="$kit/2/site${PYTHONPATH:+:$PYTHONPATH}"
  return
fi

version="${1:-}"
mkdir -p "$kit/1" "$kit/2"
once="trainer=cpu debug=fast logger=none model=vgg_narrow data.batch_size=4 data.num_workers=0 data.input_size_px=64"
for data in "data=lsp_lspet data.split=lsp_paper $crops" "data=lspet $whole"; do  # a training of one batch writes them
  rm -rf runs/kit-run
  $python -m convpose.train $once $data hydra.run.dir=runs/kit-run
done
$python - "$kit/2" <<'PYTHON'
import sys
from importlib import import_module
from pathlib import Path

import timm
from safetensors.torch import save_file

from convpose.models.backbones.timm import PACKAGES, timm_names
from convpose.models.weights import read_weights

for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite2"):
    package, kind = PACKAGES[name]
    source = getattr(import_module(package), f"{kind}ModelFile").get_model_file_path()
    features = timm.create_model(name, features_only=True).state_dict()
    needed = {key.replace("blocks_", "blocks.", 1) for key in features}
    given = {k: v for k, v in timm_names(read_weights(Path(source))).items() if k in needed}
    assert len(given) == len(features), (len(given), len(features))
    half = {k: (v.half() if v.ndim > 1 else v).contiguous() for k, v in given.items()}
    save_file(half, Path(sys.argv[1]) / f"{name.removeprefix('tf_')}.safetensors")
PYTHON
if [[ -n $version ]]; then
  lacking="hydra-core omegaconf albumentations albucore stringzilla simsimd pydantic pydantic-core typing-inspection annotated-types lightning"
  wanted=()
  for package in $lacking; do
    wanted+=("$package==$($python -c "import importlib.metadata as m; print(m.version('$package'))")")
  done
  platforms=()
  for libc in 2014 _2_17 _2_27 _2_28; do platforms+=(--platform "manylinux${libc}_x86_64"); done
  $python -m pip download -q --no-deps --only-binary=:all: --python-version "$version" "${platforms[@]}" -d "$kit/2/wheels" "${wanted[@]}"
  $python -m pip wheel -q --no-deps -w "$kit/2/wheels" antlr4-python3-runtime==4.9.3  # there is no wheel of it
fi
du -sh "$kit"/*
