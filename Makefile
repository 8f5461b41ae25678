# Everything lives in .venv and the user's cache folder; `make clean` removes the first.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

# What the targets for a GPU run with: .venv; or, where TRITONSERVER is given, what the machine
# has already, and nothing is installed:
#   make test-gpu PYTHON=/path/python TRITONSERVER=/path/tritonserver
# PYTHON needs this package's dependencies, and pytest with pytest-timeout. TRITONSERVER may be a
# script that sets the server's environment and ends with exec: what Triton's Python backend
# needs is told in docs/results/README.md.
ifdef TRITONSERVER
GPU_PYTHON = PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" \
	TRITONIC_NB_TRITONSERVER="$(TRITONSERVER)" $(PYTHON)
else
GPU_PYTHON = $(BIN)/python
GPU_READY = gpu-ready
endif

.PHONY: lab test test-gpu faults bench bench-gpu gpu-ready lint browser notebooks links binder-check \
	clean

lab: .venv/lab
	$(BIN)/tritonic-nb prepare
	$(BIN)/jupyter lab --ServerApp.root_dir=notebooks \
		--LabApp.default_url=/lab/tree/01-quickstart.ipynb $(ARGS)

test: .venv/test browser
	$(BIN)/tritonic-nb prepare
	$(BIN)/python tests/run.py $(ARGS)

# Each test is skipped, with its reason, where there is no CUDA device. The libraries that are
# there take part: PyTorch, CuPy, JAX; NVIDIA's examples where TRITONIC_NB_NVIDIA_EXAMPLES names
# them. TRITONIC_NB_FAKE_GPU=1 runs what can be run without a GPU.
test-gpu: $(GPU_READY)
	$(GPU_PYTHON) -m pytest tests/gpu $(ARGS)

# The same ways as `make bench` with CUDA shared memory, and rates of copies: five minutes. The
# tables are printed, and written to docs/results/gpu-DEVICE.md.
bench-gpu: $(GPU_READY)
	$(GPU_PYTHON) -m tritonic_nb.benchmark --gpu --markdown docs/results $(ARGS)

gpu-ready: .venv/test
	$(BIN)/tritonic-nb prepare

# Processes killed, memory full, calls failing: ten minutes, and a table of what was survived. Without
# make: TRITONIC_NB_FAULTS=full python -m pytest tests/faults
# `make test` has a short form of it.
faults: .venv/test
	$(BIN)/tritonic-nb prepare
	TRITONIC_NB_FAULTS=full $(BIN)/python -m pytest tests/faults $(ARGS)

# The ways to move a tensor to Triton and back, side by side: four minutes, best on an idle machine.
# The tables are printed; the figures and the picture for the README go to docs/.
bench: .venv/test
	$(BIN)/tritonic-nb prepare
	$(BIN)/python -m tritonic_nb.benchmark --json docs/benchmark.json --plot docs/benchmark.png $(ARGS)

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The browser tests need a Chromium. Where it cannot be installed they are skipped, and say so.
browser:
	@sh tests/browser/install.sh

# Runs the notebooks and keeps what they show, as a static page shows it: text, HTML and pictures.
# After a cell was changed: make notebooks NOTEBOOKS=notebooks/02-what-shared-memory-is.ipynb
notebooks: .venv/test
	$(BIN)/tritonic-nb prepare
	$(BIN)/python tests/notebooks/save.py $(NOTEBOOKS)

# Writes the public address, which stands in pyproject.toml, into the README and the notebooks.
links: .venv/test
	$(BIN)/python tests/notebooks/links.py

# What mybinder.org would do with binder/, without Docker: the build, and the notebooks in a pod
# of 64 MB of /dev/shm, 2 GB of memory and no network. As root; three minutes.
binder-check:
	@sh tests/binder/check.sh

.venv/lab: pyproject.toml | .venv/pip
	$(BIN)/python -m pip install --quiet --editable '.[lab]'
	@touch $@

.venv/test: pyproject.toml | .venv/pip
	$(BIN)/python -m pip install --quiet --editable '.[lab,test]'
	@touch $@

.venv/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed: make ... PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
