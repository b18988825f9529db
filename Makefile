# Two commands are all that a newcomer needs: `make demo` and `make test`.
#
# Everything is installed into .venv, once: a stamp per Python version and purpose marks
# what is complete. Another Python version (make PYTHON=python3.13 ...) or a changed
# pyproject.toml installs again; nothing else does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
STAMP := $(VENV)/.complete-$(VERSION)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

.NOTPARALLEL:
.PHONY: help demo test check lint types docs wheel clean

help:
	@echo 'make demo    install what the demonstration needs and run it (runs/demo/report.html)'
	@echo 'make test    install what the tests need and run them; ARGS="-k cg" passes options'
	@echo 'make check   everything that continuous integration runs'
	@echo 'make lint | types | docs | wheel   one of its gates;  make clean   start afresh'
	@echo 'PYTHON=python3.13 chooses the interpreter (3.11 or later).'

demo: $(STAMP)-demo
	$(BIN)/sciml demo

test: $(STAMP)-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check:
	bash .ci/run

lint: $(STAMP)-check
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .

types: $(STAMP)-check
	$(BIN)/python -m basedpyright --pythonpath $(BIN)/python sciml problems tests

docs: $(STAMP)-check
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --config-file docs/mkdocs.yml

wheel: $(STAMP)-check
	$(BIN)/python .ci/check_wheel.py

clean:
	rm -rf $(VENV) site dist build .cache

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "sciml-solvers needs Python 3.11 or later; '$(PYTHON)' is" \
	    "$(or $(VERSION),not installed)."; \
	  echo "Name another interpreter: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

# What each purpose installs. (Variables, as a comma would end an argument of `call`.)
DEMO := '.[cli,amg]'
TEST := '.[all]' --group test
CHECK := $(TEST) --group lint --group docs --group build

# While pip works the environment counts as incomplete, so one that was killed half-way
# is built afresh. A pip that fails by itself has changed nothing: its environment stays.
# (mv keeps the stamp's date: what else is installed in there stays up to date.)
define install
	@mv $(STAMP) $(STAMP).busy
	$(PIP) install --quiet --editable $(1); \
	  status=$$?; mv $(STAMP).busy $(STAMP); exit $$status
	@touch $@
endef

$(STAMP)-demo: pyproject.toml $(STAMP)
	$(call install,$(DEMO))

$(STAMP)-test: pyproject.toml $(STAMP)
	$(call install,$(TEST))

$(STAMP)-check: pyproject.toml $(STAMP)
	$(call install,$(CHECK))
