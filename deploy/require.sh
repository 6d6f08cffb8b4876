#!/bin/sh
# Checks the prerequisites before anything else happens: one line that names what is missing, and its package.
# Usage: require.sh PYTHON [go]
set -eu
missing() {
    echo "shiplog: $1 is missing or too old: install $2 (Debian: apt-get install $3)" >&2
    exit 1
}
"$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    || missing "$1" "Python 3.11 or newer with venv" "python3 python3-venv"
java -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])' || missing java "Java 17 or newer" openjdk-17-jre-headless
command -v mvn >/dev/null || missing mvn Maven maven
if [ "${2:-}" = go ]; then
    go version 2>/dev/null | grep -qE 'go1\.(2[4-9]|[3-9][0-9])' || missing go "Go 1.24 or newer (only for the conformance client)" golang-go
fi
