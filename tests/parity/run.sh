#!/usr/bin/env bash
# Runs the live parity suite: tests/parity/run.sh [BINARY] [--seed N] [--json]
# With --prepare alone it only makes sure that the packages are there.
#
# The first run makes a virtual environment in the cache folder and installs the
# packages of requirements.txt into it; later runs reuse it.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"

environment="${XDG_CACHE_HOME:-$HOME/.cache}/headlight/parity-venv"
installed="$environment/requirements.txt"
# The copy is written last, so a broken or outdated installation is made again.
if ! cmp -s "$here/requirements.txt" "$installed"; then
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$installed"
fi

[[ ${1:-} == --prepare ]] && exit 0

headlight="${CARGO_TARGET_DIR:-$root/target}/release/headlight"
if [[ $# -gt 0 && $1 != --* ]]; then
    headlight="$1"
    shift
fi
if [[ ! -x "$headlight" ]]; then
    echo "no binary at $headlight: build it with cargo build --release, or name one" >&2
    exit 2
fi
exec "$environment/bin/python" "$here/parity.py" --headlight "$headlight" "$@"
