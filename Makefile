# One vocabulary for people, hooks and CI. `make help` lists it.

VENV   := .venv
BIN    := $(VENV)/bin
# Without a folder of data sets, Keras downloads them.
DATA   ?= $(or $(TRIPTYCH_DATA),$(wildcard ../shared/data))
# [cuda] where an NVIDIA driver answers, else [cpu].
DEVICE := $(if $(shell nvidia-smi -L 2>/dev/null),cuda,cpu)
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
IMAGE  ?= triptych:$(DEVICE)
# Processes that tests are shared out to, file by file; they wait more than they compute.
JOBS   ?= 2
# The image is dated by its last change, not by its build.
EPOCH   = $(shell git log -1 --format=%ct 2>/dev/null)

comma  := ,

.DEFAULT_GOAL := help
.PHONY: help serve test train bench bench-peers lint format protos image image-check gpu-check clean

help:  ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(VENV)/serve  ## install what serving needs, and serve models/ until Ctrl-C
	@$(BIN)/python -m serving serve $(ARGS)

test: lint  ## install what tests need, and run lint, types and tests
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

train: $(VENV)/dev  ## train and export the three models from DATA into models/
	@$(BIN)/python -m training fit sentiment topic house_price $(if $(DATA),--data '$(DATA)') --out models/ $(ARGS)

bench: $(VENV)/dev  ## measure this server on this machine, into benchmarks/results/
	@$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(VENV)/dev  ## measure it beside other model servers, installing them into benchmarks/peers/.venvs/
	@$(BIN)/python -m benchmarks peers $(ARGS)

lint: $(VENV)/dev  ## check format, lint and types
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy --no-error-summary

format: $(VENV)/dev  ## mend what can be mended of format and lint
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

protos: $(VENV)/dev  ## regenerate the code of the typed API and the schema of model.json
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=protos --pyi_out=protos --grpc_python_out=protos \
		prediction/v1/prediction.proto
	@# The generated import is absolute from protos/; here it must be relative.
	@sed -i 's/^from prediction\.v1 import/from . import/' protos/prediction/v1/prediction_pb2_grpc.py
	@$(BIN)/python -m serving.package.manifest > serving/package/model.schema.json

image:  ## build the container image for DEVICE (cpu or cuda)
	docker build --build-arg DEVICE=$(DEVICE) $(EPOCH:%=--build-arg SOURCE_DATE_EPOCH=%) --tag $(IMAGE) .

image-check: $(VENV)/serve  ## build the image twice without Docker, run it, look at it and measure it (as root)
	@$(BIN)/python -m image.check $(ARGS)

# With wheels, in an environment made of them; without, in the one that is here.
gpu-check:  ## prove on a machine with an NVIDIA GPU that serving on it is right; WHEELS=DIR: without internet
	@$(or $(if $(WHEELS),,$(wildcard $(BIN)/python)),python3) -m gpu.check $(if $(WHEELS),--wheels '$(WHEELS)') $(ARGS)

clean:  ## remove everything that can be made again
	rm -rf $(VENV) .venv-gpu benchmarks/peers/.venvs build dist runs *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Triptych needs Python 3.11 or newer")'
	@python3 -m venv $(VENV)

# A test environment can serve, too.
ifneq ($(wildcard $(VENV)/dev),)
$(VENV)/serve: $(VENV)/dev
	@touch $@
else
$(VENV)/serve: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing into $(VENV) for $(DEVICE) …"
	@$(PIP) '.[serve,$(DEVICE)]'
	@touch $@
endif

# onnxruntime and onnxruntime-gpu share a folder: the one goes before the other comes, and until it has come
# nothing here can serve.
$(VENV)/dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing into $(VENV) for tests, about 3 GB …"
	@rm -f $(VENV)/serve $@
	@$(BIN)/pip uninstall --quiet --yes onnxruntime 2>/dev/null || true
	@$(PIP) '.[dev$(if $(filter cuda,$(DEVICE)),$(comma)cuda)]'
	@touch $@
