# Two commands are all that a newcomer needs: `make demo` and `make test`.
# A stamp per interpreter version and purpose keeps a second call from installing again.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV := .venv
BIN := $(VENV)/bin
STAMP = $(VENV)/.stamp-$(VERSION)

.PHONY: demo test check lint types docs wheel clean

demo: $(STAMP)-demo
	$(BIN)/sciml demo

test: $(STAMP)-test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check:
	bash .ci/run

lint: $(STAMP)-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)-check
	$(BIN)/basedpyright

docs: $(STAMP)-check
	$(BIN)/mkdocs build --strict --quiet --config-file docs/mkdocs.yml --site-dir ../site

wheel: $(STAMP)-check
	$(BIN)/python .ci/check_wheel.py

clean:
	rm -rf $(VENV) site dist build .cache

# Another interpreter version starts a new environment in the same place.
$(STAMP): 
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sciml needs Python >= 3.11; name one with: make PYTHON=python3.12 ..."; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	touch $@

$(STAMP)-demo: pyproject.toml | $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[cli,amg]'
	touch $@

$(STAMP)-test: pyproject.toml | $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[all]' --group test
	touch $@

$(STAMP)-check: pyproject.toml | $(STAMP)
	$(BIN)/python -m pip install --quiet -e '.[all]' --group test --group lint --group docs --group build
	touch $@
