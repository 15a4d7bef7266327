#!/bin/sh
# Make the peers' environment: setup.sh ENV [options of pip for PyTorch, such as --index-url of its CPU builds].
set -eu
[ $# -ge 1 ] || { echo "usage: $0 ENV [PIP OPTIONS]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
environment=$1
shift
"${PYTHON:-python3}" -m venv "$environment"
"$environment/bin/pip" install --quiet "$@" torch==2.13.0
"$environment/bin/pip" install --quiet numpy scipy pillow scikit-learn
"$environment/bin/pip" install --quiet --no-deps -r "$here/requirements.txt"
"$environment/bin/python" - <<'CHECK'
import torch

if torch.version.cuda is not None:
    print(f"warning: torch {torch.__version__} is a CUDA build; figures are meant for a CPU build")
print(f"torch {torch.__version__}")
CHECK
