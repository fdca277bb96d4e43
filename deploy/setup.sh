#!/bin/sh
# Make a virtual environment in $1 with the three distributions (editable) and the tools of
# development, at the versions of constraints.txt. As root on Debian it installs what is missing.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
venv=$1
python=${PYTHON:-python3}

if ! "$python" -c 'import ensurepip, sys; assert sys.version_info >= (3, 11)' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3 python3-venv
    else
        echo "virt-preflight needs Python 3.11 or newer with venv (Debian: apt install python3-venv)" >&2
        exit 1
    fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'
cd "$here"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --constraint constraints.txt \
    --editable ./proto --editable ./agent --editable ./controller --group dev

# libvirt's binding has no wheels. Where its headers are, or root can have them, it is built for the
# tests of the agent's live side (8 s of CPU); without it those are skipped, and say so.
if ! "$venv/bin/python" -c 'import libvirt' 2>/dev/null; then
    if ! pkg-config --exists libvirt 2>/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
            -o DPkg::Lock::Timeout=120 gcc libc6-dev libvirt-dev pkg-config python3-dev >/dev/null || true
    fi
    if libvirt=$(pkg-config --modversion libvirt 2>/dev/null); then
        "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "libvirt-python==$libvirt" ||
            echo "libvirt's binding could not be built: tests that need it are skipped" >&2
    fi
fi
