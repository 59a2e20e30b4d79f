#!/usr/bin/env bash
# Installs what the tests need and runs every check and test; a second run reuses what the first one made.
# `./test.sh --fast` is the linters and the unit tests alone, without root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export MLFLOWD_TEST_CACHE=${MLFLOWD_TEST_CACHE:-/var/cache/mlflowd-tests}
readonly PACKAGES=(python3 python3-venv git shellcheck docker.io iptables iproute2 busybox-static
    systemd-container debootstrap debian-archive-keyring)
readonly ENGINE_RUN=/run/mlflowd-test-engine
readonly SCRIPTS=(install.sh test.sh .ci/run requirements/renew.sh)
export PIP_DISABLE_PIP_VERSION_CHECK=1

main() {
    case ${1:-} in
        '') everything ;;
        --fast) checks && stage "unit tests" && run_pytest tests/unit ;;
        -h | --help) echo "Usage: ./test.sh [--fast]    --fast: linters and unit tests alone, without root" ;;
        *) echo "test.sh: unknown argument: $1 (only --fast and --help)" >&2 && exit 2 ;;
    esac
}

everything() {
    become_root
    export PATH="/usr/local/sbin:/usr/sbin:/sbin:$PATH"
    ensure_packages
    checks
    ensure_engine
    ensure_image
    stage "unit, contract and end-to-end tests; the first run makes root file systems and an image (minutes)"
    export MLFLOWD_TEST_REQUIRE_ENGINE=1 MLFLOWD_TEST_REQUIRE_GUEST=1
    run_pytest --cov --cov-report=term --durations=10 tests/unit tests/contract tests/e2e
}

become_root() {
    ((EUID != 0)) || return 0
    command -v sudo >/dev/null || { echo "test.sh: all tests together need root; without it: ./test.sh --fast" >&2 && exit 77; }
    exec sudo --preserve-env=CI,MLFLOWD_TEST_CACHE,PIP_CERT,PIP_INDEX_URL,http_proxy,https_proxy,no_proxy ./test.sh
}

# --- stages ---------------------------------------------------------------------------------------

stage() { # stage NAME: say what begins and how long the stage before it took
    [[ -z ${STAGE_BEGAN:-} ]] || printf '    %d s\n' $((SECONDS - STAGE_BEGAN))
    STAGE_BEGAN=$SECONDS
    printf '==> [%4d s] %s\n' "$SECONDS" "$1"
}

checks() {
    ensure_environment
    stage "ruff"
    .venv/bin/ruff check
    .venv/bin/ruff format --check
    stage "mypy"
    .venv/bin/mypy
    stage "import-linter"
    .venv/bin/lint-imports --no-cache
    stage "shellcheck"
    if command -v shellcheck >/dev/null; then
        shellcheck "${SCRIPTS[@]}"
    else
        echo "    not installed, left out (apt-get install shellcheck)"
    fi
}

run_pytest() {
    export COVERAGE_FILE=.coverage
    .venv/bin/python -m pytest "$@"
}

# --- what the tests need --------------------------------------------------------------------------

ensure_packages() {
    local missing=() package
    for package in "${PACKAGES[@]}"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' installed' ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    stage "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

ensure_environment() { # .venv: the locked packages, and mlflowd from this checkout in place
    local python=/usr/bin/python3 wanted
    wanted=$({ cat requirements/*.txt pyproject.toml && "$python" --version; } | sha256sum)
    [[ $(cat .venv/complete 2>/dev/null) != "$wanted" ]] || return 0
    stage "making .venv with the locked packages"
    rm -rf .venv
    "$python" -m venv .venv
    .venv/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements/build.txt
    .venv/bin/pip install --quiet --require-hashes --no-build-isolation --use-pep517 -r requirements/dev.txt
    .venv/bin/pip install --quiet --no-deps --no-index --no-build-isolation --editable .
    echo "$wanted" >.venv/complete
}

ensure_engine() { # the machine's engine, or one of our own for the time of the tests
    if engine_answers "${MLFLOWD_TEST_ENGINE:-/run/docker.sock}"; then return; fi
    stage "starting a container engine for the contract tests"
    mkdir -p "$ENGINE_RUN" "$MLFLOWD_TEST_CACHE/engine"
    export MLFLOWD_TEST_ENGINE=$ENGINE_RUN/docker.sock
    dockerd --host "unix://$MLFLOWD_TEST_ENGINE" --data-root "$MLFLOWD_TEST_CACHE/engine" --exec-root "$ENGINE_RUN" \
        --pidfile "$ENGINE_RUN/pid" </dev/null >"$MLFLOWD_TEST_CACHE/engine.log" 2>&1 &
    ENGINE_PID=$!
    trap 'kill "$ENGINE_PID"; wait "$ENGINE_PID" || true' EXIT
    until engine_answers "$MLFLOWD_TEST_ENGINE"; do
        kill -0 "$ENGINE_PID" || { tail "$MLFLOWD_TEST_CACHE/engine.log" >&2 && exit 1; }
        sleep 0.2
    done
}

ensure_image() { # MLflow for the contract tests; the engine keeps it, a second run finds it there
    local socket=${MLFLOWD_TEST_ENGINE:-/run/docker.sock}
    stage "MLflow's image for the contract tests"
    MLFLOWD_ENGINE__SOCKET=${socket#unix://} .venv/bin/mlflowd --config etc/mlflowd.toml image build
}

engine_answers() {
    .venv/bin/python -W ignore -c 'import sys, docker; docker.DockerClient("unix://" + sys.argv[1]).ping()' \
        "${1#unix://}" >/dev/null 2>&1
}

main "$@"
