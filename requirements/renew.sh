#!/usr/bin/env bash
# Renews the locked requirements from pyproject.toml, with hashes, for every Python and platform at once.
# Needs uv and a package index. `requirements/renew.sh --upgrade` also moves to the newest releases;
# without it only what pyproject.toml asks for changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# setuptools is what the one dependency without a wheel (sdnotify) is built with.
build_requires() {
    python3 -c 'import tomllib; print("setuptools", *tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
}

lock() { # lock OUTPUT INPUT...: one locked file; the header names this script alone, no machine's path or index
    local output=$1
    shift
    env --unset=PIP_FIND_LINKS --unset=UV_FIND_LINKS UV_NO_CONFIG=1 UV_CUSTOM_COMPILE_COMMAND=requirements/renew.sh \
        uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --output-file "requirements/$output" "${extra[@]}" "$@"
    echo "requirements/$output: $(grep --count '^[a-z]' "requirements/$output") packages"
}

extra=("$@")
lock run.txt pyproject.toml
build_requires | lock build.txt -
# `editables` is what the build backend asks for to install a checkout in place.
{ build_requires; echo editables; } | lock dev.txt pyproject.toml --group dev -
lock client.txt --group client
lock services.txt --group services
