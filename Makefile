# make demo    install everything here and see the whole path work on a rendered product line
# make test    all checks and all tests
# make test-station   what takes minutes: outages, kills, a browser, real servers; needs Debian packages, or skips what
#                     needs them: mosquitto chromium chromium-driver python3-gi gir1.2-gst-rtsp-server-1.0
#                     gstreamer1.0-plugins-ugly
# make check   lint, format, types, import contracts
# make clean   remove what these made
#
# PYTHON=...     another Python (3.11 or newer)
# PIP_ARGS=...   for pip, such as --extra-index-url https://download.pytorch.org/whl/cpu
# PYTEST_ARGS=...  for pytest, such as -k demo

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo install test test-station check clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

demo: $(INSTALLED)
	$(BIN)/oddkind demo

test: check
	$(BIN)/pytest $(PYTEST_ARGS)

test-station: $(INSTALLED)
	$(BIN)/pytest tests/station $(PYTEST_ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(INSTALLED)

# hnswlib is built from source; without HNSWLIB_NO_NATIVE it would only run on CPUs like this one.
$(INSTALLED): pyproject.toml constraints.txt
	@bash deploy/can-build.sh "$(PYTHON)"
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	HNSWLIB_NO_NATIVE=1 $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt $(PIP_ARGS) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find edge calibration export tests -name __pycache__ -type d -prune -exec rm -rf {} +
