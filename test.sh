#!/usr/bin/env bash
# Installs what the tests need and runs every check and test; a second run reuses what the first one made.
# `./test.sh --fast` is the linters and the unit tests alone, without root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export MLFLOWD_TEST_CACHE=${MLFLOWD_TEST_CACHE:-/var/cache/mlflowd-tests}
readonly PACKAGES=(python3 python3-venv git shellcheck docker.io iptables iproute2 busybox-static
    docker-compose systemd-container debootstrap debian-archive-keyring openssl openssh-client netavark catatonit zstd restic)
# Servers that the tests run by themselves, each with the unit that its package would start now and with the machine.
readonly -A SERVERS=([postgresql]=postgresql [mariadb-server]=mariadb [openssh-server]=ssh [podman]=podman.socket)
readonly ENGINE_RUN=/run/mlflowd-test-engine PODMAN_RUN=/run/mlflowd-test-podman
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
    ensure_podman
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
    local missing=() servers=() package
    for package in "${PACKAGES[@]}"; do installed "$package" || missing+=("$package"); done
    for package in "${!SERVERS[@]}"; do installed "$package" || servers+=("$package"); done
    ((${#missing[@]} + ${#servers[@]})) || return 0
    stage "installing ${missing[*]} ${servers[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    ((!${#missing[@]})) || install_packages "${missing[@]}"
    ((!${#servers[@]})) || install_servers "${servers[@]}"
}

installed() { # installed PACKAGE
    [[ $(dpkg-query -W -f '${Status}' "$1" 2>/dev/null) == *' installed' ]]
}

install_packages() {
    apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "$@" >/dev/null
}

install_servers() ( # their packages, so that nothing of them runs: the tests start processes of their own
    local policy=/usr/sbin/policy-rc.d package # Debian asks it before it starts a service; 101: not allowed
    if [[ ! -e $policy ]]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    install_packages "$@"
    for package in "$@"; do
        systemctl disable --quiet "${SERVERS[$package]}" 2>/dev/null || true # no systemd, or no such unit
    done
)

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
    until_answers $! "$MLFLOWD_TEST_ENGINE" "$MLFLOWD_TEST_CACHE/engine.log"
}

ensure_podman() { # a Podman of our own, for the time of the tests
    if [[ -n ${MLFLOWD_TEST_PODMAN:-} ]] && engine_answers "$MLFLOWD_TEST_PODMAN"; then return; fi
    stage "starting Podman for the contract tests"
    mkdir -p "$PODMAN_RUN/networks" "$MLFLOWD_TEST_CACHE"
    # runc, since crun refuses a machine with both versions of cgroups; limits that need no right of their own to be set.
    cat >"$PODMAN_RUN/containers.conf" <<-END
		[containers]
		default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
		[engine]
		runtime = "runc"
		cgroup_manager = "cgroupfs"
		events_logger = "file"
		[network]
		network_backend = "netavark"
		network_config_dir = "$PODMAN_RUN/networks"
	END
    export MLFLOWD_TEST_PODMAN=$PODMAN_RUN/podman.sock
    ( # conmon leaves a file "oom" where it works
        cd "$PODMAN_RUN" && CONTAINERS_CONF=$PODMAN_RUN/containers.conf exec podman \
            --root "$MLFLOWD_TEST_CACHE/podman" --runroot "$PODMAN_RUN/run" --tmpdir "$PODMAN_RUN/tmp" \
            system service --time=0 "unix://$MLFLOWD_TEST_PODMAN" </dev/null >"$MLFLOWD_TEST_CACHE/podman.log" 2>&1
    ) &
    until_answers $! "$MLFLOWD_TEST_PODMAN" "$MLFLOWD_TEST_CACHE/podman.log"
}

until_answers() { # until_answers PID SOCKET LOG: wait for an engine of ours, which is ended with the tests
    ENGINES+=("$1")
    trap 'kill "${ENGINES[@]}"; wait "${ENGINES[@]}" || true' EXIT
    until engine_answers "$2"; do
        kill -0 "$1" || { tail "$3" >&2 && exit 1; }
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
