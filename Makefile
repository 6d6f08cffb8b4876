# Everything here works on a fresh clone: the virtual environment and the jars are made when they are missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help run check test test-fast coverage bench soak generate lock format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(READY): requirements/dev.txt pyproject.toml
	@sh deploy/require.sh $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) (a minute on the first run)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

run: $(READY) ## Kafka, Nacos, shiplog and a demo, with a live view; SHIPLOG_UP="--fresh" passes options
	@$(BIN)/shiplog up --demo $(SHIPLOG_UP)

check: $(READY) ## lint, format, types, import rules, generated code, compose files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml deploy/ha/docker-compose.yml
	$(BIN)/python schemas/generate.py --check

test-fast: $(READY) ## unit and property tests
	$(BIN)/pytest tests/unit tests/property

coverage: $(READY) ## branch coverage of what decides, by the unit and property tests
	$(BIN)/coverage run -m pytest -q tests/unit tests/property
	$(BIN)/coverage report

test: check ## check, and every test, on real Kafka and real Nacos
	@sh deploy/require.sh $(PYTHON) go
	$(BIN)/python -m tests.halves

bench: $(READY) ## every benchmark; see bench/README.md for one at a time
	$(BIN)/python -m bench all

soak: $(READY) ## the long loops: kills and random changes
	SHIPLOG_KILLS=100 SHIPLOG_KAFKA_OUTAGE_S=300 $(BIN)/pytest tests/integration/test_faults.py
	SHIPLOG_MATERIALIZER_KILLS=100 $(BIN)/pytest tests/integration/test_materializers.py
	SHIPLOG_LISTENER_KILLS=50 $(BIN)/pytest tests/integration/test_high_availability.py
	SHIPLOG_BROKER_ROUNDS=2 $(BIN)/pytest tests/integration/test_kafka_cluster.py
	SHIPLOG_CLUSTER_OUTAGE_S=60 $(BIN)/pytest tests/integration/test_nacos_cluster.py
	SHIPLOG_FUZZ=1000000 $(BIN)/pytest --timeout 3600 tests/property/test_fuzz.py
	SHIPLOG_FUZZ_SCHEMAS=100000 $(BIN)/pytest --timeout 7200 tests/property/test_hostile_items.py tests/property/test_hostile_nacos.py tests/property/test_hostile_log.py
	SHIPLOG_JUDGED=100000 $(BIN)/pytest --timeout 3600 tests/conformance/test_judge.py
	SHIPLOG_FUZZ_CONNECTIONS=20000 $(BIN)/pytest --timeout 3600 tests/integration/test_streams.py -k garbage
	SHIPLOG_FUZZ_ENVOY=2000 $(BIN)/pytest --timeout 7200 tests/data_plane

generate: $(READY) ## protobuf code
	$(BIN)/python schemas/generate.py

lock: $(READY) ## requirements/*.txt from pyproject.toml
	$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements/run.txt pyproject.toml
	$(BIN)/pip-compile --quiet --extra dev --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements/dev.txt pyproject.toml

format: $(READY) ## rewrites the code in the agreed format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean: ## removes what was made, data and jars included
	rm -rf $(VENV) .local .shiplog
