#!/bin/sh
# Install into a new virtual environment what pyproject.toml asks for, at the versions of requirements.txt, without the
# development tools: the image's large layer, as a script of its own so that it runs without an image too.
#   docker/install.sh VENV
# TORCH_INDEX names an index with other builds of torch; without it pip takes the default build, which brings CUDA.
set -eu

venv=${1:?"usage: install.sh VENV, from the folder of pyproject.toml and requirements.txt"}

python3 -m venv "$venv"
python3 -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["dependencies"], sep="\n")
' >"$venv/dependencies.txt"
"$venv/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
    --constraint requirements.txt --requirement "$venv/dependencies.txt"
