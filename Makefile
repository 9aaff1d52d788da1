# make reproduce          the whole story, ending in reports/demo/index.html
# make reproduce PROFILE=smoke
# make test | lab | bench | clean
PYTHON ?= python3
PROFILE ?= demo
RUN := .venv/bin/python

.PHONY: reproduce test lab bench clean

reproduce: .venv/installed
	$(RUN) -m amg reproduce --profile $(PROFILE)

test: .venv/installed
	$(RUN) -m pytest

lab: .venv/installed
	$(RUN) -m jupyterlab --notebook-dir=notebooks

bench: .venv/installed
	$(RUN) tests/bench.py

# the environment and what the kit made of the embedded corpus; your own data are left alone
clean:
	rm -rf .venv amg.egg-info data/cache data/audio/sheet_music data/train/demo data/train/smoke \
	  data/models/demo data/models/smoke database/demo database/smoke reports/smoke reports/local \
	  data/train/demo.recipe.json data/train/smoke.recipe.json

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch .venv/installed
