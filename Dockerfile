# Two images: `producer` (rerankq and Flower, without torch) and `worker`. BuildKit is optional.
#
#   docker build --target producer -t rerankq-producer .
#   docker build --target worker -t rerankq-worker .
#
# TORCH_INDEX  package index for torch: the CPU build by default, .../whl/cu126 for a GPU
# MODELS       models to download into the worker's image, separated by spaces; `bundled` is always in it

FROM python:3.11.14-slim-bookworm AS base
ENV PATH=/opt/rerankq/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/var/lib/rerankq/models
# A volume gets its owner from the folder that it is first mounted on.
RUN groupadd --gid 10001 rerankq \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin rerankq \
    && install --directory --owner rerankq --group rerankq --mode 700 \
        /var/lib/rerankq/models /var/lib/rerankq/flower \
    && install --directory --owner rerankq --group rerankq /opt/models


# Install the dependencies without the code, so that changing the code does not reinstall them.
FROM base AS producer-dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_CONSTRAINT=/source/constraints.txt
WORKDIR /source
COPY pyproject.toml constraints.txt deploy/requirements.py deploy/slim.py ./
RUN python -m venv /opt/rerankq \
    && python requirements.py monitor http > producer.txt \
    && pip install --no-compile --requirement producer.txt

FROM producer-dependencies AS code
COPY README.md LICENSE ./
COPY contract contract
COPY producer producer
COPY worker worker
COPY examples/packages examples/packages
RUN pip wheel --no-deps --wheel-dir /wheel .

FROM producer-dependencies AS producer-installed
COPY --from=code /wheel /wheel
# The imports compile the bytecode now, because the file system is read-only at run time.
RUN pip install --no-compile --no-deps /wheel/*.whl \
    && python slim.py /opt/rerankq \
    && python -c 'import producer.client.asynchronous, producer.cli, producer.http.server' \
    && python -c 'import flower.command, worker.health'

FROM base AS producer
COPY --from=producer-installed /opt/rerankq /opt/rerankq
USER 10001:10001
WORKDIR /home/rerankq
ENTRYPOINT ["rerankq"]


# This stage follows `producer`, because without BuildKit all stages before a target are built.
FROM producer-dependencies AS worker-dependencies
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY rerankq_bundled_model rerankq_bundled_model
# Only torch comes from its own index. All other packages, including its dependencies, are on PyPI.
RUN python requirements.py worker > worker.txt \
    && grep ^torch worker.txt > torch.txt \
    && pip install --no-compile --no-deps --index-url "$TORCH_INDEX" --requirement torch.txt \
    && pip install --no-compile --requirement worker.txt

FROM worker-dependencies AS worker-installed
COPY --from=code /wheel /wheel
RUN pip install --no-compile --no-deps /wheel/*.whl \
    && python slim.py /opt/rerankq \
    && python -c 'from worker.engine import load; load("bundled", threads=1)' \
    && python -c 'import worker.health, worker.restart, worker.jobs.tasks, worker.runtime.pool'

FROM base AS worker
COPY --from=worker-installed /opt/rerankq /opt/rerankq
USER 10001:10001
WORKDIR /home/rerankq
ARG MODELS=""
# Load the models as the worker does: this downloads the files it needs, and checks each model.
RUN for model in $MODELS; do \
        HF_HOME=/opt/models \
        python -c 'import sys; from worker.engine.checkpoint import load_encoder; load_encoder(sys.argv[1], "cpu")' "$model" \
        || exit 1; \
    done
COPY deploy/with-models.sh /usr/local/bin/with-models
ENTRYPOINT ["with-models"]
CMD ["celery", "-A", "worker", "worker", "--loglevel", "INFO"]
