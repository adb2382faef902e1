#!/bin/sh
# The image's install steps, in a script so that they also run without an image. From the repository's root:
#   docker/install.sh dependencies VENV    the run-time dependencies, at the versions of requirements.txt
#   docker/install.sh wheel FOLDER         build the package's wheel with the pinned setuptools
#   docker/install.sh package VENV FOLDER  install that wheel into VENV
# DEVICE=cpu installs torch's CPU build, gigabytes smaller, from TORCH_INDEX; otherwise pip's default build, with CUDA.
set -eu

dependencies() {
    python3 -m venv "$1"
    # Without the development tools; with S3, PostgreSQL and the dependencies of an MLflow server with users.
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
