# Builds the server, its models inside, for a CPU or an NVIDIA GPU:
#   docker build --tag triptych:cpu .
#   docker build --tag triptych:cuda --build-arg DEVICE=cuda .
# CUDA and cuDNN come as Python wheels and the driver from the host, so both start from the same small image.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


# The dependencies change rarely and weigh most: a stage, and in the image a layer, of their own.
FROM ${PYTHON_IMAGE} AS dependencies
WORKDIR /build
COPY pyproject.toml constraints.txt ./

# The extra of pyproject.toml to install beside [serve]: cpu or cuda; or gpu, if PYTHON_IMAGE brings CUDA itself.
ARG DEVICE=cpu
RUN python -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
print(*project['dependencies'], *extras['serve'], *extras['${DEVICE}'], sep='\n')" > requirements.txt

# Outside the venv runs the image's own pip, so the venv has none. The optional secret is a pip.conf, for a private
# index: docker build --secret id=pip,src=pip.conf …
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --constraint constraints.txt --requirement requirements.txt


# The server and its models, compiled, and readable by everyone whatever the umask of the checkout was.
FROM ${PYTHON_IMAGE} AS application
COPY models/ /models/
COPY protos/ /app/protos/
COPY serving/ /app/serving/
RUN python -m compileall -q /app && chmod -R u=rwX,go=rX /app /models


FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="triptych" \
      org.opencontainers.image.description="Three reference Keras models, served over gRPC by ONNX Runtime"

# Nothing installs or writes here any more: pip goes, and the standard library, which comes uncompiled, is compiled once
# instead of at every start.
RUN pip uninstall --yes --root-user-action=ignore setuptools wheel pip \
 && python -c "import compileall, sysconfig; compileall.compile_dir(sysconfig.get_path('stdlib'), quiet=2)"

COPY --from=dependencies /opt/venv /opt/venv
COPY --from=application /app /app
COPY --from=application /models /models

# HOME is where libraries put caches, if they can: /tmp is the one place that may be writable.
# ONNX Runtime's official builds report to Microsoft unless told not to.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
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
