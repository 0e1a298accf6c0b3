# Builds the server, its models inside, for a CPU or an NVIDIA GPU:
#   docker build --tag triptych:cpu .
#   docker build --tag triptych:cuda --build-arg DEVICE=cuda .
#   docker build --tag triptych:cpu-tracing --build-arg EXTRAS=tracing .
# and, as a target of its own, what trains them, on a CPU:
#   docker build --tag triptych:training --target training .
# CUDA and cuDNN come as Python wheels and the driver from the host, so both start from the same small image. Name it by
# digest, and give a SOURCE_DATE_EPOCH, to build the same image twice: docs/image.md.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


# The dependencies change rarely and weigh most: a stage, and in the image a layer, of their own.
FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /build
COPY pyproject.toml constraints.txt ./

# The extra of pyproject.toml to install beside [serve], cpu or cuda, and others with blanks between: tracing.
ARG DEVICE=cpu
ARG EXTRAS=""
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
chosen = ['serve', '${DEVICE}', *'${EXTRAS}'.split()]; \
print(*project['dependencies'], *(each for extra in chosen for each in extras[extra]), sep='\n')" > requirements.txt

# Outside the venv runs the image's own pip, so the venv has none. The optional secret is a pip.conf, for a private
# index: docker build --secret id=pip,src=pip.conf …
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-compile --constraint constraints.txt --requirement requirements.txt


# What a server uses of them. Compiled with a hash that is not checked: the bytes are the same every time, and Python need
# not look at the sources.
FROM dependencies AS environment
COPY image/steps/trim.py image/steps/strip.py ./
RUN python trim.py /opt/venv \
 && python strip.py /opt/venv \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib


# The server and its models, compiled, and readable by everyone whatever the umask of the checkout was.
FROM ${PYTHON_IMAGE} AS application
COPY models/ /models/
COPY protos/ /app/protos/
COPY serving/ /app/serving/
RUN python -m compileall -q --invalidation-mode unchecked-hash /app && chmod -R u=rwX,go=rX /app /models


# Training needs TensorFlow and much else, which no server should carry; it checks its packages with the server's code.
FROM dependencies AS training-dependencies
RUN python -c "import tomllib; \
print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['train'], sep='\n')" > training.txt
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/venv/bin/python install --no-compile --constraint constraints.txt --requirement training.txt \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib


FROM application AS training-application
COPY training/ /app/training/
RUN python -m compileall -q --invalidation-mode unchecked-hash /app/training && chmod -R u=rwX,go=rX /app/training


FROM ${PYTHON_IMAGE} AS training
LABEL org.opencontainers.image.title="triptych-training" \
      org.opencontainers.image.description="Makes, measures and publishes the model packages that Triptych serves"
COPY --from=training-dependencies /opt/venv /opt/venv
COPY --from=training-application /app /app

# TensorFlow says at every start which instructions it could use.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2

WORKDIR /app
USER 65532:65532
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]


# Python and the libraries that it and the environment are linked to: all there is of an operating system.
FROM environment AS rootfs
COPY image/steps/rootfs.py ./
RUN python rootfs.py /opt/venv /rootfs


# In two parts, for two layers: NVIDIA's libraries, if any, and what changes more often.
FROM environment AS parts
COPY image/steps/split.py ./
RUN python split.py /opt/venv /opt/cuda


# What is in the image, for whoever must know whether a flaw concerns it. What writes it stays outside.
FROM rootfs AS sbom
ARG SOURCE_DATE_EPOCH
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv --without-pip /opt/cyclonedx \
 && pip --python /opt/cyclonedx/bin/python install --constraint constraints.txt cyclonedx-bom
COPY image/steps/sbom.py ./
COPY --from=application /app/serving/__init__.py ./serving/
COPY --from=application /models /models
RUN /opt/cyclonedx/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
        --output-file python.cdx.json /opt/venv/bin/python \
 && /opt/cyclonedx/bin/python sbom.py python.cdx.json /rootfs /models \
        "$(python -c 'import serving; print(serving.__version__)')" > triptych.cdx.json


# The server, and the last stage: what is built where no target is named. Nothing runs here, and nothing could: there is
# no shell. What changes least lies lowest.
FROM scratch
LABEL org.opencontainers.image.title="triptych" \
      org.opencontainers.image.description="Three reference Keras models, served over gRPC by ONNX Runtime"

COPY --from=rootfs /rootfs/ /
COPY --from=parts /opt/cuda/ /opt/venv/
COPY --from=parts /opt/venv/ /opt/venv/
COPY --from=application /app /app
COPY --from=application /models /models
# Under a name by which scanners know it.
COPY --from=sbom /build/triptych.cdx.json /usr/share/sbom/

# HOME is where libraries put caches, if they can: /tmp is the one place that may be writable.
# ONNX Runtime's official builds report to Microsoft unless told not to.
ENV PATH=/opt/venv/bin \
    HOME=/tmp \
    LANG=C.UTF-8 \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    TRIPTYCH_MODELS=/models \
    TRIPTYCH_HTTP_ADDRESS=0.0.0.0:8000 \
    TRIPTYCH_GRPC_ADDRESS=0.0.0.0:8001 \
    TRIPTYCH_METRICS_ADDRESS=0.0.0.0:8002

WORKDIR /app
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8000 8001 8002

# Follows the metrics address; http.client, because urllib would send this through a proxy named in the environment.
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection(os.environ['TRIPTYCH_METRICS_ADDRESS'], timeout=2); c.request('GET', '/health/ready'); raise SystemExit(c.getresponse().status != 200)"]

# The server starts its shutdown on SIGTERM: lame duck, drain, exit 0.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "serving"]
CMD ["serve"]
