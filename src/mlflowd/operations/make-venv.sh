#!/bin/sh
# Runs in the first stage of the build, as root: makes /opt/mlflow from /build/requirements.txt.
set -eu
export PIP_CONFIG_FILE=/build/pip.conf PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 \
    PIP_PROGRESS_BAR=off PIP_ROOT_USER_ACTION=ignore
if [ -s /build/ca.pem ]; then
    export SSL_CERT_FILE=/build/ca.pem REQUESTS_CA_BUNDLE=/build/ca.pem
fi
umask 022

fail() {
    echo "$1" >&2
    exit 1
}
command -v python3 >/dev/null || fail "the base image has no python3"
[ ! -e /opt/mlflow ] || fail "the base image has an /opt/mlflow already; take one with Python alone"
python3 -c 'import sys; v = sys.version_info
v >= (3, 10) or sys.exit(f"the base image has Python {v.major}.{v.minor}; MLflow needs 3.10 or newer")'

echo "==> making the environment /opt/mlflow"
# Without ensurepip (Debian keeps it in python3-venv), the base image's own pip fills the environment.
if ! python3 -m venv /opt/mlflow >/tmp/venv.log 2>&1; then
    rm -rf /opt/mlflow
    python3 -m venv --without-pip /opt/mlflow
    python3 -m pip --version >/dev/null 2>&1 || fail "the base image has neither pip nor venv (Debian: python3-venv)"
    python3 -m pip --python /opt/mlflow/bin/python3 install pip
fi

echo "==> installing $(tr '\n' ' ' < /build/requirements.txt)"
/opt/mlflow/bin/pip install --no-compile -r /build/requirements.txt
/opt/mlflow/bin/pip check
/opt/mlflow/bin/pip freeze > /opt/mlflow/requirements.txt
# One module and what makes it a package: pip would fetch a build backend for it.
cp -r /build/turns/. "$(/opt/mlflow/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
echo "==> compiling"
# pip compiles on one processor, this on all; exit status 1 comes of templates that some packages ship
/opt/mlflow/bin/python3 -m compileall -q -j 0 /opt/mlflow/lib || true
