#!/usr/bin/env bash
# Can oddkind be installed with this Python? One line for whatever is missing; exit 1 if anything is.
# hnswlib comes as source only, so a C++ compiler and Python's headers are needed once, at installation.
#
#   can-build.sh PYTHON [no-compiler]   no-compiler: hnswlib is there as a wheel
set -u
python="${1:-}"
missing=0

lacks() {
    echo "oddkind cannot be installed: $1" >&2
    missing=1
}

if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    found="$([ -n "$python" ] && "$python" -V 2>/dev/null)"
    lacks "Python 3.11 or newer needed, found ${found:-none}; install python3.11 or set PYTHON=/path/to/python3.11"
    exit 1
fi
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    lacks "Python's venv module is missing; on Debian: apt install python3-venv"
[ "${2:-}" != no-compiler ] || exit "$missing"
"$python" -c 'import os, sysconfig; p = sysconfig.get_path("include"); raise SystemExit(not os.path.exists(p + "/Python.h"))' ||
    lacks "Python.h is missing, hnswlib is built from source; on Debian: apt install python3-dev"
command -v "${CXX:-g++}" >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null ||
    lacks "no C++ compiler, hnswlib is built from source; on Debian: apt install g++"
exit "$missing"
