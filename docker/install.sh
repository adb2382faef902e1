#!/bin/sh
# The image's install steps, as a script of their own so that they run without an image too. From the repository's root:
#   docker/install.sh dependencies VENV    what the package needs at run time, at the versions of requirements.txt
#   docker/install.sh wheel FOLDER         the package, built with the pinned setuptools
#   docker/install.sh package VENV FOLDER  that wheel into VENV
# DEVICE=cpu takes torch's build for the CPU, gigabytes smaller, from TORCH_INDEX; else pip's default build, with CUDA.
set -eu

dependencies() {
    python3 -m venv "$1"
    # Without the development tools; with S3, PostgreSQL and what an MLflow server with users needs.
    python3 -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["postgresql"], *extras["s3"], *extras["server"], sep="\n")
' >"$1/dependencies.txt"
    index=""
    if [ "${DEVICE:-gpu}" = cpu ]; then
        index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
    fi
    "$1/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check ${index:+--extra-index-url "$index"} \
        --constraint requirements.txt --requirement "$1/dependencies.txt"
}

wheel() {
    builder=$(mktemp -d)
    python3 -m venv "$builder"
    "$builder/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --constraint requirements.txt setuptools
    "$builder/bin/pip" wheel --quiet --no-deps --no-build-isolation --disable-pip-version-check --wheel-dir "$1" .
    rm -rf "$builder"
}

package() {
    "$1/bin/pip" install --quiet --no-cache-dir --no-deps --disable-pip-version-check "$2"/spin_rl-*.whl
}

case ${1:-} in
    dependencies | wheel | package) "$@" ;;
    *) echo "usage: install.sh dependencies VENV | wheel FOLDER | package VENV FOLDER" >&2 && exit 2 ;;
esac
