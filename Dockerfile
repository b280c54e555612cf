# The benchmark in a container:
#   docker build -t neumf-bench .                                    CPU
#   docker build -t neumf-bench-gpu --build-arg EXTRA=gpu .          NVIDIA GPUs
#   docker run --rm -v "$PWD/results:/results" -v neumf-cache:/cache neumf-bench --track=ml-1m
#   docker run --rm --gpus=all ... neumf-bench-gpu --flagfile=scripts/flags/ml-20m-gpu.flags
# --privileged lets the runs clear the system's file caches; their logs record whether they did.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# git: each log records the commit and whether the tree has uncommitted changes.
RUN apt-get update \
 && apt-get install -y --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /workspace/neumf-bench
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# Packages are installed first, so that a source change does not download them again.
ARG EXTRA=cpu
COPY pyproject.toml README.md LICENSE ./
COPY requirements requirements
# An editable installation requires the folders of all packages, so empty ones are created.
RUN python -c "import os, tomllib; \
packages = tomllib.load(open('pyproject.toml', 'rb'))['tool']['setuptools']['packages']; \
[os.makedirs(name.replace('.', '/'), exist_ok=True) for name in packages]" \
 && python -m pip install -c requirements/constraints.txt -e ".[${EXTRA}]"

COPY . .
RUN git config --system --add safe.directory /workspace/neumf-bench

ENV NEUMF_PYTHON=/usr/local/bin/python XDG_CACHE_HOME=/cache
VOLUME ["/cache", "/results"]
ENTRYPOINT ["./run_and_time.sh", "--results_dir=/results"]
