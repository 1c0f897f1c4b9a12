# make demo [STUDY=folder]   set everything up and segment a phantom study without T1ce (or your own study)
# make test                  set everything up and run all tests
# make lint                  ruff, format included
# make train-demo            train a small network on phantoms, export it and segment with it
# make screenshots           draw the README's pictures anew
# Everything lives in .venv; constraints.txt pins what the tests were last run with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip compiles one file after the other: all cores do it, when everything is there.
PIP := $(BIN)/pip --disable-pip-version-check -q install --no-compile -c constraints.txt
COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null || true
# A folder of real studies, used by the tests when it is there (see Testing/README.md).
LCKD_DATA ?= ../shared/data
DEMO := demo

.PHONY: demo test lint screenshots train-demo clean

demo: $(VENV)/installed
ifdef STUDY
	@mkdir -p $(DEMO)
	$(BIN)/lckd segment "$(STUDY)" -o $(DEMO)/segmentation.seg.nrrd --report $(DEMO)/report.json --picture $(DEMO)/picture.png
else
	$(BIN)/lckd phantom $(DEMO) --cases 1 --size 160
	@rm -f $(DEMO)/Phantom_00_000/*_t1ce.nii.gz
	$(BIN)/lckd segment $(DEMO)/Phantom_00_000 -o $(DEMO)/segmentation.seg.nrrd --report $(DEMO)/report.json --picture $(DEMO)/picture.png
endif
	@echo "segmentation: $(DEMO)/segmentation.seg.nrrd   report: $(DEMO)/report.json   picture: $(DEMO)/picture.png"

# A process for each core, each with a thread; a file's tests stay together, since they share what they prepare.
test: $(VENV)/tested
	@sh Testing/system-packages.sh
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" LCKD_DATA="$(LCKD_DATA)" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(VENV)/tested
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# torch first and by itself: its pinned version decides which build the rest gets.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) -e ".[training]"
	$(PIP) --no-deps deepbet  # finds the brain; without the window toolkit and pandas it asks for
	@$(COMPILE)
	@touch $@

$(VENV)/tested: $(VENV)/installed
	$(PIP) -e ".[training,test]"
	@$(COMPILE)
	@touch $@

train-demo: $(VENV)/installed
	$(BIN)/lckd phantom $(DEMO)/phantoms --cases 15 --size 96
	rm -rf $(DEMO)/runs
	$(BIN)/lckd train Training/configs/smoke.yaml --data $(DEMO)/phantoms --out $(DEMO)/runs/elected
	$(BIN)/lckd train Training/configs/smoke.yaml --data $(DEMO)/phantoms --out $(DEMO)/runs/none strategy=none logit_weight=0
	$(BIN)/lckd export $(DEMO)/runs/none --out $(DEMO)/models/none
	$(BIN)/lckd export $(DEMO)/runs/elected --out $(DEMO)/models/elected
	@for name in none elected; do echo "$$name:"; grep -h "mean of" $(DEMO)/models/$$name/README.md; done
	$(BIN)/lckd segment $(DEMO)/phantoms/Phantom_00_000 --model $(DEMO)/models/elected -o $(DEMO)/trained.seg.nrrd

screenshots: $(VENV)/tested
	$(BIN)/lckd phantom $(DEMO) --cases 1 --size 160
	@rm -f $(DEMO)/Phantom_00_000/*_t1ce.nii.gz
	$(BIN)/lckd segment $(DEMO)/Phantom_00_000 -o $(DEMO)/segmentation.seg.nrrd --picture docs/result.png
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python Testing/module/screenshots.py

clean:
	rm -rf $(VENV) $(DEMO) build
