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
	$(RUN) -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lab: .venv/installed
	$(RUN) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

bench: .venv/installed
	PYTHONPATH=tests $(RUN) -m bench

# the environment and what the kit made of the embedded corpus, by their names: all that is called
# demo or smoke, or begins with demo- or smoke-, and data/cache, which is made again when it is needed;
# your own data, reports/local and the committed runs are left alone
MADE := $(foreach name,demo smoke,data/train/$(name) data/models/$(name) database/$(name) reports/$(name))
clean:
	rm -rf .venv amg.egg-info data/cache data/audio/sheet_music $(MADE) \
	  $(foreach place,$(MADE),$(place)-* $(dir $(place)).$(notdir $(place))*.lock)

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch .venv/installed
