#!/usr/bin/env bash
# What both container recipes do, in an image of python:3.11-slim-bookworm with the checkout at
# /opt/study. The checkout keeps its .git, so that every row of a table names the commit.
set -euo pipefail

apt-get update -qq
# scontrol and munge's library put a warned job back into the queue; Fashion-MNIST needs no download.
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    dataset-fashion-mnist git libmunge2 make procps slurm-client
rm -rf /var/lib/apt/lists/*

cd /opt/study
git config --system --add safe.directory /opt/study
pip install --no-cache-dir --disable-pip-version-check -r requirements.lock
pip install --no-cache-dir --disable-pip-version-check --no-deps -e .
python -m study losses >/dev/null
