#!/bin/sh
# Installs TFserve from this checkout into a virtual environment: deploy/install.sh /opt/tfserve [extra,extra]
# The Dockerfile and the systemd unit run what this makes. Nothing in the environment refers to the checkout.
set -eu

[ $# -ge 1 ] || { echo "usage: deploy/install.sh FOLDER [EXTRA,EXTRA]   (python: \$PYTHON, default python3)" >&2; exit 2; }
target=$1
extras=${2-tensorflow}
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# From a copy, because setuptools writes to the folder that it builds in, and would pack what an earlier build left there.
mkdir "$work/source"
(cd "$checkout" && cp -R pyproject.toml README.md LICENSE tfserve clients "$work/source")

"${PYTHON:-python3}" -m venv "$target"
pip() { "$target/bin/python" -m pip --disable-pip-version-check "$@"; }
pip wheel --quiet --no-deps --wheel-dir "$work" "$work/source/clients/python" "$work/source"
for wheel in "$work"/tfserve-*.whl; do
    pip install --quiet --constraint "$checkout/constraints.txt" "$work"/tfserve_client-*.whl "$wheel${extras:+[$extras]}"
done
# For files of Keras 2. Its package demands `tensorflow`, while `tensorflow-cpu` is installed.
case ",$extras," in
*,tensorflow,* | *,training,*) pip install --quiet --constraint "$checkout/constraints.txt" --no-deps tf-keras ;;
esac
"$target/bin/tfserve" --version
