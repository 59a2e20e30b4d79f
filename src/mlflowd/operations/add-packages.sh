#!/bin/sh
# Runs in the first stage of a derived image's build, as root: puts what the base lacks of /build/requirements.txt into
# /additions. What the base has stays as it is, but for packages that a person gave a version for.
set -eu
export PIP_CONFIG_FILE=/build/pip.conf PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/tmp/mlflowd-pip PIP_NO_INPUT=1 \
    PIP_PROGRESS_BAR=off PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1
if [ -s /build/ca.pem ]; then
    export SSL_CERT_FILE=/build/ca.pem REQUESTS_CA_BUNDLE=/build/ca.pem
fi
umask 022

fail() {
    echo "$1" >&2
    exit 1
}
[ -n "$PURELIB" ] || fail "the base image does not say where its Python keeps packages"
python -c 'import pip; v = pip.__version__.split("."); assert (int(v[0]), int(v[1])) >= (22, 2)' 2>/dev/null ||
    fail "the base image has no pip of 22.2 or newer; take an image that has one, or one with the packages in it"

echo "==> looking for $(tr '\n' ' ' < /build/requirements.txt)"
python /build/plan.py constraints > /build/constraints.txt
set -- -r /build/requirements.txt
# Where something that the base has may change, MLflow's own requirements have a say.
[ ! -s /build/exempt.txt ] || set -- "$@" mlflow
python -m pip install --dry-run --report /build/report.json -c /build/constraints.txt "$@"
python /build/plan.py additions > /build/additions.txt
mkdir /additions
if [ -s /build/additions.txt ]; then
    echo "==> installing $(tr '\n' ' ' < /build/additions.txt)"
    python -m pip install --no-deps --no-compile --target /additions -r /build/additions.txt
fi
rm -rf /additions/bin # programs, which the server does not run, and which would lie among the modules
cp /build/mlflowd_added.py /additions/
cp /build/additions.txt /additions/mlflowd_added.txt
echo "==> compiling"
# for the place where the files will be; exit status 1 comes of templates that some packages ship
python -m compileall -q -j 0 -s /additions -p "$PURELIB" /additions || true
