# The environment that `uv run` makes, on a machine with NVIDIA's container toolkit. Code and data stay
# outside: a clone, in which DVC works, and the data set are mounted.
#
#   docker build -t opmask .
#   docker run --rm -it --gpus all --shm-size 16g --user "$(id -u):$(id -g)" \
#     -v "$PWD":/opmask -v /coco:/coco opmask dvc exp run -S scale=coco -S data_root=/coco
#
# torch brings its own CUDA libraries: the image adds what the container toolkit asks for.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

RUN apt-get update \
 && apt-get install -y --no-install-recommends git python3-pip \
 && rm -rf /var/lib/apt/lists/* \
 && pip install --no-cache-dir --break-system-packages uv==0.13.9 \
 && git config --system --add safe.directory '*' \
 && git config --system user.name opmask \
 && git config --system user.email opmask@localhost

# pyproject.toml says how detectron2 is built, constraints.txt which files are whole.
COPY pyproject.toml constraints.txt /opt/environment/
WORKDIR /opt/environment
ENV UV_PYTHON=3.11 UV_PYTHON_INSTALL_DIR=/opt/python
RUN uv venv /opt/venv \
 && VIRTUAL_ENV=/opt/venv uv pip sync --no-cache --require-hashes constraints.txt

# `uv run …` and plain commands alike are of this environment, which nothing changes any more. DVC asks
# who runs it, and git who commits an experiment: `--user` may be one whom the image does not know.
ENV PATH=/opt/venv/bin:$PATH UV_PROJECT_ENVIRONMENT=/opt/venv UV_NO_SYNC=1 HOME=/tmp USER=opmask
WORKDIR /opmask
CMD ["bash"]
