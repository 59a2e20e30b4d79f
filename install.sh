#!/usr/bin/env bash
# Installs mlflowd from this checkout, or upgrades or removes it. `./install.sh --help` says how.
# Every step looks before it acts: run it again after an error, or to upgrade.
set -euo pipefail

readonly PREFIX=/opt/mlflowd           # env-*: one environment per version; current: the one in use; bin, share: its
readonly COMMAND=/usr/local/bin/mlflowd
readonly CONFIGURATION=/etc/mlflowd.toml
readonly STATE=/var/lib/mlflowd RUNTIME=/run/mlflowd
readonly SERVICE_USER=mlflowd
readonly UNITS=/etc/systemd/system SYSUSERS=/usr/lib/sysusers.d/mlflowd.conf TMPFILES=/usr/lib/tmpfiles.d/mlflowd.conf
readonly TIMERS=(mlflowd-backup mlflowd-backup-check mlflowd-backup-verify)  # each a .timer and its .service
readonly CATALOG=/usr/lib/systemd/catalog/mlflowd.catalog
readonly LOG=/var/log/mlflowd-install.log
readonly DAEMON_LOG=/var/log/mlflowd.log ENGINE_LOG=/var/log/mlflowd-engine.log  # where systemd does not run
readonly WAIT=600                      # seconds until a first start that does not answer counts as failed
readonly KEEP_VARIABLES=PIP_CERT,PIP_INDEX_URL,PIP_EXTRA_INDEX_URL,PIP_TRUSTED_HOST,PIP_FIND_LINKS,PIP_CONFIG_FILE,\
PIP_PROXY,SSL_CERT_FILE,REQUESTS_CA_BUNDLE,http_proxy,https_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,NO_PROXY
CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly CHECKOUT

usage() {
    cat <<'TEXT'
Usage: ./install.sh [--no-start]           install or upgrade mlflowd, start it, wait until MLflow answers
       ./install.sh uninstall [--purge]    remove it; data and configuration stay, unless --purge
       ./install.sh --help

  --no-start   install everything, but neither fetch the image nor enable and start the service
  --purge      also remove the data in /var/lib/mlflowd, /etc/mlflowd.toml, the user and the images that were built

Runs on Debian 12 and 13, Ubuntu 24.04 and Fedora, as root (it uses sudo itself).
Exit statuses: 0 done, 1 failed (run it again once the cause is mended), 2 wrong usage, 77 not root.
TEXT
}

main() {
    local verb=install start=yes purge=no
    for argument in "$@"; do
        case $argument in
            install | uninstall) verb=$argument ;;
            --no-start) start=no ;;
            --purge) purge=yes ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && echo "install.sh: unknown argument: $argument" >&2 && exit 2 ;;
        esac
    done
    if [[ $verb == install && $purge == yes || $verb == uninstall && $start == no ]]; then
        usage >&2 && exit 2
    fi
    become_root "$@"
    prepare_shell
    if [[ $verb == uninstall ]]; then uninstall "$purge"; else install_all "$start"; fi
}

become_root() {
    ((EUID != 0)) || return 0
    if ! command -v sudo >/dev/null; then
        echo "install.sh: this needs root and there is no sudo; run: su -c '$CHECKOUT/install.sh $*'" >&2
        exit 77
    fi
    echo "==> Going on as root, by sudo"
    exec sudo --preserve-env="$KEEP_VARIABLES" "$CHECKOUT/install.sh" "$@"
}

prepare_shell() {
    umask 022
    export PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
    export DEBIAN_FRONTEND=noninteractive
    unset PYTHONHOME PYTHONPATH VIRTUAL_ENV
    : >"$LOG"
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
}

install_all() {
    local start=$1
    SECONDS=0
    ensure_python
    ensure_engine
    ensure_restic
    ensure_environment
    ensure_user
    ensure_configuration
    switch_environment
    if systemd_runs; then ensure_units; fi
    if [[ $start == no ]]; then
        say "Installed, not started. To start it: $(start_hint)"
        return
    fi
    start_engine
    ensure_image
    if systemd_runs; then start_service && enable_timers; else start_in_background; fi
    wait_until_serving
    remove_old_environments
    farewell
}

# --- saying what is done ---------------------------------------------------------------------------

say() { printf '==> %s\n' "$*"; }

die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

step() { # step "What it does" command...: say it, keep its output in the log, show the log's end when it fails
    local what=$1 began=$SECONDS
    shift
    say "$what"
    echo "== $what: $*" >>"$LOG"
    if ! "$@" >>"$LOG" 2>&1; then
        tail -n 25 "$LOG" | sed 's/^/    /' >&2
        die "this step failed: $what. All of its output is in $LOG; run ./install.sh again once the cause is mended."
    fi
    ((SECONDS - began < 5)) || printf '    done in %d s\n' $((SECONDS - began))
}

systemd_runs() { [[ -d /run/systemd/system ]]; }

# --- packages of the distribution --------------------------------------------------------------------

packages() { # packages NAME...: install them, from Debian's, Ubuntu's or Fedora's package index
    if command -v apt-get >/dev/null; then
        [[ -n ${INDEX_FRESH:-} ]] || step "Refreshing the package index" apt-get -o DPkg::Lock::Timeout=300 update -q
        INDEX_FRESH=yes
        step "Installing $*" apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends "$@"
    elif command -v dnf >/dev/null; then
        step "Installing $*" dnf install -y "$@"
    else
        die "there is neither apt-get nor dnf here; install these yourself, then run ./install.sh again: $*"
    fi
}

has_package() { apt-cache show "$1" >/dev/null 2>&1; }

ensure_python() {
    PYTHON=/usr/bin/python3
    if ! "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; then
        if command -v apt-get >/dev/null; then packages python3 python3-venv; else packages python3; fi
    fi
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$PYTHON is $("$PYTHON" --version 2>&1), and mlflowd needs 3.11 or newer (Debian 12, Ubuntu 24.04, Fedora)."
}

ensure_engine() {
    if command -v dockerd >/dev/null || [[ -S /run/docker.sock ]]; then
        say "A container engine is here already"
    elif command -v apt-get >/dev/null; then
        packages docker.io
        ! has_package docker-cli || packages docker-cli  # a package of its own since Debian 13
    else
        packages moby-engine
    fi
    # Where the kernel enforces AppArmor, Docker starts no container without this program.
    if [[ $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) == Y ]] && ! command -v apparmor_parser >/dev/null; then
        packages apparmor
    fi
}

ensure_restic() { # keeps the backups; what speaks SFTP for it is OpenSSH's client
    command -v restic >/dev/null || packages restic
    command -v ssh >/dev/null || { if command -v apt-get >/dev/null; then packages openssh-client; else packages openssh-clients; fi; }
}

# --- mlflowd's own environment -----------------------------------------------------------------------

ensure_environment() { # sets ENVIRONMENT: a complete one for this checkout and this Python
    local key
    key=$(cd "$CHECKOUT" && { find src requirements docs pyproject.toml README.md LICENSE -type f -not -name '*.py[co]' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum; "$PYTHON" --version; } | sha256sum | cut -c -12)
    ENVIRONMENT=$PREFIX/env-$key
    if [[ -e $ENVIRONMENT/.complete ]] && "$ENVIRONMENT/bin/mlflowd" --version >/dev/null; then
        say "This version is installed already, in $ENVIRONMENT"
        return
    fi
    mkdir -p "$PREFIX"
    rm -rf "$ENVIRONMENT"
    step "Fetching the locked packages" make_wheels
    step "Installing mlflowd into $ENVIRONMENT, byte-compiled" make_environment
}

make_wheels() { # in $WORK/wheels: every package as requirements/ locks it, and mlflowd built from the checkout
    "$PYTHON" -m venv "$WORK/build" || return
    local pip=("$WORK/build/bin/python" -m pip)
    "${pip[@]}" install --require-hashes --only-binary :all: -r "$CHECKOUT/requirements/build.txt" &&
        "${pip[@]}" wheel --require-hashes --no-build-isolation --use-pep517 -r "$CHECKOUT/requirements/run.txt" \
            -w "$WORK/wheels" &&
        "${pip[@]}" wheel --no-deps --no-index --no-build-isolation "$CHECKOUT" -w "$WORK/wheels"
}

make_environment() {
    "$PYTHON" -m venv --without-pip "$ENVIRONMENT" &&
        "$WORK/build/bin/python" -m pip --python "$ENVIRONMENT/bin/python" install \
            --no-index --no-compile "$WORK"/wheels/*.whl &&
        "$ENVIRONMENT/bin/python" -m compileall -q -o 0 -o 2 "$ENVIRONMENT/lib" && # 2: as the unit runs it
        mkdir -p "$ENVIRONMENT/share/doc/mlflowd" &&
        cp -r "$CHECKOUT"/{README.md,LICENSE,docs} "$ENVIRONMENT/share/doc/mlflowd" &&
        touch "$ENVIRONMENT/.complete"
}

switch_environment() {
    if [[ -e $CONFIGURATION ]]; then
        "$ENVIRONMENT/bin/mlflowd" config --validate >/dev/null ||
            die "$CONFIGURATION does not fit this version (above); mend it and run ./install.sh again. Nothing was changed."
    fi
    point "$PREFIX/current" "$ENVIRONMENT"
    point "$PREFIX/bin" current/bin
    point "$PREFIX/share" current/share
    point "$COMMAND" "$PREFIX/bin/mlflowd"
    ! command -v restorecon >/dev/null || restorecon -R "$PREFIX" "$COMMAND" || true
}

point() { # point LINK TARGET: at no moment is there no link
    [[ $(readlink "$1" || true) == "$2" ]] && return
    mkdir -p "$(dirname "$1")"
    ln -sfn "$2" "$1.new"
    mv -T "$1.new" "$1"
    CHANGED=yes
}

remove_old_environments() {
    find "$PREFIX" -mindepth 1 -maxdepth 1 -name 'env-*' -not -path "$ENVIRONMENT" -exec rm -rf {} +
}

# --- user, configuration, units ------------------------------------------------------------------------

put() { # put SOURCE TARGET [MODE]: install a file where it is missing or differs
    cmp -s "$1" "$2" && return
    install -D -m "${3:-644}" "$1" "$2"
    CHANGED=yes
}

ensure_user() {
    put "$CHECKOUT/systemd/mlflowd.sysusers" "$SYSUSERS"
    if command -v systemd-sysusers >/dev/null; then
        step "Making the user $SERVICE_USER" systemd-sysusers "$SYSUSERS"
    elif ! id "$SERVICE_USER" >/dev/null 2>&1; then
        step "Making the user $SERVICE_USER" useradd --system --user-group --home-dir "$STATE" --no-create-home \
            --shell /usr/sbin/nologin "$SERVICE_USER"
    fi
}

ensure_configuration() {
    if [[ -e $CONFIGURATION ]]; then
        say "$CONFIGURATION is here already and stays as it is"
    else
        install -m 640 -g "$SERVICE_USER" "$CHECKOUT/etc/mlflowd.toml" "$CONFIGURATION"
        say "$CONFIGURATION is new: every key with its default"
    fi
}

ensure_units() {
    local timer
    put "$CHECKOUT/systemd/mlflowd.service" "$UNITS/mlflowd.service"
    for timer in "${TIMERS[@]}"; do
        install -D -m 644 -t "$UNITS" "$CHECKOUT/systemd/$timer".{service,timer}
    done
    put "$CHECKOUT/systemd/mlflowd.tmpfiles" "$TMPFILES"
    put "$CHECKOUT/systemd/mlflowd.catalog" "$CATALOG"
    step "Telling systemd" tell_systemd
}

tell_systemd() {
    systemd-tmpfiles --create "$TMPFILES" && journalctl --update-catalog && systemctl daemon-reload
}

enable_timers() { # they do nothing until backup.repository is set
    systemctl enable --quiet --now "${TIMERS[@]/%/.timer}"
}

# --- engine and image ------------------------------------------------------------------------------------

ask_engine() { # ask_engine answers | has-image: whether that is true of the configured engine and image
    "$PREFIX/current/bin/python" - "$1" <<'PY' >/dev/null 2>>"$LOG"
import os, sys
from mlflowd.config import load
from mlflowd.engine.docker import DockerEngine
settings = load(None, os.environ).settings
engine = DockerEngine(settings.engine.socket, settings.engine.timeout)
image = settings.image.reference
sys.exit(not (engine.info() if sys.argv[1] == "answers" else engine.image(image) or engine.stand_in(image)))
PY
}

start_engine() {
    if ask_engine answers; then return; fi
    if systemd_runs; then
        step "Starting the container engine" systemctl start docker
    else
        say "Starting the container engine in the background; its log is $ENGINE_LOG"
        setsid dockerd </dev/null >>"$ENGINE_LOG" 2>&1 &
    fi
    local began=$SECONDS
    until ask_engine answers; do
        ((SECONDS - began < 60)) || die "the container engine does not answer: see $(engine_log_hint) and $LOG."
        sleep 0.3
    done
}

engine_log_hint() { if systemd_runs; then echo "journalctl -u docker"; else echo "$ENGINE_LOG"; fi; }

ensure_image() {
    if ask_engine has-image; then
        say "The MLflow image is here already"
        return
    fi
    say "Pulling the MLflow image"
    if "$COMMAND" image pull; then return; fi
    say "It could not be pulled (above). Building an equivalent one from Debian's packages and PyPI: some minutes"
    command -v debootstrap >/dev/null || packages debootstrap
    if [[ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]]; then
        if command -v apt-get >/dev/null; then packages debian-archive-keyring; else packages debian-keyring; fi
    fi
    "$COMMAND" image build ||
        die "the image could be neither pulled nor built (above); run ./install.sh again once it can."
}

# --- start and wait ------------------------------------------------------------------------------------------

start_hint() {
    if systemd_runs; then echo "systemctl enable --now mlflowd"; else echo "./install.sh"; fi
}

start_service() {
    systemctl enable --quiet mlflowd
    if systemctl is-active --quiet mlflowd && [[ -z ${CHANGED:-} ]]; then
        say "mlflowd.service runs this version already"
    else
        if [[ $(systemctl is-active mlflowd) =~ ^(active|activating|reloading|deactivating)$ ]]; then
            step "Stopping the mlflowd that runs, and MLflow with it" systemctl stop mlflowd
        fi
        say "Starting mlflowd.service"
        systemctl reset-failed mlflowd 2>/dev/null || true
        systemctl start --no-block mlflowd
    fi
}

start_in_background() { # no systemd here: the same daemon as the same user, ended by its process id
    if background_pid >/dev/null && [[ -z ${CHANGED:-} ]]; then
        say "mlflowd runs this version already"
        return
    fi
    stop_in_background
    install -d -o "$SERVICE_USER" -g "$SERVICE_USER" -m 755 "$RUNTIME"
    install -d -o "$SERVICE_USER" -g "$SERVICE_USER" -m 700 "$STATE"
    step "Preparing the stores" "$COMMAND" prepare
    say "systemd does not run here: starting mlflowd in the background"
    # shellcheck disable=SC2016  # the inner shell writes its own process id, which the daemon keeps
    setsid --fork setpriv --reuid "$SERVICE_USER" --regid "$SERVICE_USER" --groups "$(engine_groups)" \
        env HOME="$STATE" sh -c 'echo $$ >"$1" && exec "$2" run' sh "$RUNTIME/pid" "$COMMAND" </dev/null >>"$DAEMON_LOG" 2>&1
}

engine_groups() { # the service's group, and the one that may use the engine's socket
    echo "$(id -g "$SERVICE_USER"),$(stat -L -c %g /run/docker.sock 2>/dev/null || getent group docker | cut -d: -f3)"
}

stop_in_background() {
    local pid
    pid=$(background_pid) || return 0
    say "Stopping the mlflowd that runs in the background (process $pid)"
    kill "$pid"
    tail --pid="$pid" -f /dev/null
}

background_pid() { # the process of RUNTIME/pid, while it is mlflowd's
    local pid
    pid=$(cat "$RUNTIME/pid" 2>/dev/null) && grep -qs mlflowd "/proc/$pid/cmdline" && echo "$pid"
}

daemon_runs() {
    if ! systemd_runs; then
        background_pid >/dev/null
    elif systemctl is-failed --quiet mlflowd; then
        return 1
    fi
}

daemon_log() {
    if systemd_runs; then journalctl -u mlflowd --no-pager -n 20 -o cat; else tail -n 20 "$DAEMON_LOG"; fi
}

sentence() { # what the daemon says it is doing
    "$COMMAND" status --json 2>/dev/null | "$PYTHON" -c '
import json, sys
print(json.load(sys.stdin).get("reason", ""))' 2>/dev/null || true
}

answers() { # what else may be wrong (a disk that fills up) is no reason to wait, and `mlflowd status` fails with it
    local document
    document=$("$COMMAND" status --json 2>/dev/null) || (($? == 1)) || return 1
    "$PYTHON" -c 'import json, sys; sys.exit(not json.loads(sys.argv[1])["serving"])' "$document" 2>/dev/null
}

wait_until_serving() {
    local began=$SECONDS told="" now
    say "Waiting until MLflow answers"
    until answers; do
        now=$(sentence)
        if [[ -n $now && $now != "$told" ]]; then printf '    [%3d s] %s\n' $((SECONDS - began)) "$now"; fi
        told=$now
        if ((SECONDS - began > 3)) && ! daemon_runs || ((SECONDS - began > WAIT)); then
            daemon_log | sed 's/^/    /' >&2
            die "MLflow does not answer (above). \`mlflowd check\` says what is wrong; then run ./install.sh again."
        fi
        sleep 0.5
    done
}

farewell() {
    if ! "$COMMAND" status >"$WORK/status"; then
        say "MLflow answers, but not all is well:"
        sed 's/^/    /' "$WORK/status"
    fi
    say "MLflow answers (after $SECONDS s in all). What now:"
    echo "    mlflowd status                  how it is"
    if systemd_runs; then
        echo "    journalctl -u mlflowd -f        what happens and why (-x: with explanations)"
        echo "    systemctl reload mlflowd        after an edit of $CONFIGURATION"
    else
        echo "    tail -f $DAEMON_LOG     what happens and why"
        echo "    kill -HUP \$(cat $RUNTIME/pid)   after an edit of $CONFIGURATION"
        echo "    kill \$(cat $RUNTIME/pid)        stops it, MLflow included; ./install.sh starts it again"
    fi
}

# --- removing -----------------------------------------------------------------------------------------------------

uninstall() {
    local purge=$1
    if systemd_runs && [[ -e $UNITS/mlflowd.service ]]; then
        step "Stopping and disabling mlflowd.service" systemctl disable --now mlflowd
    fi
    if systemd_runs; then stop_timers; fi
    stop_in_background
    remove_container
    [[ $purge == no ]] || remove_images
    say "Removing $PREFIX, $COMMAND and the units"
    rm -f "$UNITS"/mlflowd-backup{,-check,-verify}.{service,timer}
    rm -rf "$PREFIX" "$COMMAND" "$UNITS/mlflowd.service" "$SYSUSERS" "$TMPFILES" "$CATALOG" "$RUNTIME"
    if systemd_runs; then step "Telling systemd" sh -c 'journalctl --update-catalog && systemctl daemon-reload'; fi
    if [[ $purge == yes ]]; then remove_data; fi
    say "mlflowd is removed; the container engine stays. $([[ $purge == yes ]] || echo "Kept: $STATE, $CONFIGURATION")"
}

stop_timers() {
    local timer
    for timer in "${TIMERS[@]}"; do
        [[ ! -e $UNITS/$timer.timer ]] || step "Stopping $timer" systemctl disable --now "$timer.timer" "$timer.service"
    done
}

remove_container() {
    local container
    command -v docker >/dev/null || return 0
    for container in $(docker ps --all --quiet --filter label=io.mlflowd.spec 2>/dev/null); do
        step "Removing the container $container" sh -c "docker stop $container && docker rm $container"
    done
    docker network rm mlflowd >/dev/null 2>&1 || true
}

remove_images() {
    local image
    command -v docker >/dev/null || return 0
    for image in $(docker images --quiet --filter label=io.mlflowd.stands-for 2>/dev/null) \
        $(docker images --quiet mlflowd/base 2>/dev/null); do
        step "Removing the image $image" docker image rm --force "$image"
    done
}

remove_data() {
    say "Removing $STATE, $CONFIGURATION and the user $SERVICE_USER (stores that you placed elsewhere stay)"
    rm -rf "$STATE" "$CONFIGURATION" "$DAEMON_LOG" "$ENGINE_LOG"
    ! id "$SERVICE_USER" >/dev/null 2>&1 || userdel "$SERVICE_USER"
}

main "$@"
