#!/usr/bin/env bash
# Sets Headlight beside PyTorch: benches/compare.sh [PYTHON] [options of compare.py, such as --growth]
#
# Without PYTHON the packages are those of the parity suite, in a virtual environment that is made on the first run.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/.." && pwd)"

if [[ $# -gt 0 && $1 != --* ]]; then
    python="$1"
    shift
else
    "$root/tests/parity/run.sh" --prepare
    python="${XDG_CACHE_HOME:-$HOME/.cache}/headlight/parity-venv/bin/python"
fi
exec "$python" "$here/compare.py" --headlight "${CARGO_TARGET_DIR:-$root/target}/release/headlight" "$@"
