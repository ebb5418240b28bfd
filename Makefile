# `make sweep` and `make test` need git, make and Python >= 3.11; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup sweep test slow test-cluster chaos-cluster scale check format lock chaos neighbours coverage races planted report study proposals bench-search bench-precision bench lanes

setup: .venv/ready

# uv installs the pinned set in a tenth of pip's time; --compile-bytecode makes every later import 3 times faster.
.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --editable .
	touch $@

sweep: setup
	$(BIN)/tuner run search_spaces/cnn_digits.toml

test: setup
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=5 --no-loadscope-reorder

# Tests that take most of a minute each, such as Ray's own death and its memory monitor's killing, or repeat others.
slow: setup
	$(BIN)/python -m pytest -m "slow and not cluster"

# A cluster on loopback, and heads and workers as hosts of their own in network namespaces; the latter need root and
# iproute2, and are skipped elsewhere. 12 minutes; CI leaves out the slow ones, which are half of that.
CLUSTER ?= cluster
test-cluster: setup
	$(BIN)/python -m pytest -m "$(CLUSTER)" -rs --durations=20 tests/test_cluster_ray.py tests/cluster

# Kills sweeps at random and at every durable write, resumes them, and compares them with untouched ones.
KILLS ?= 60
SEED ?= 1
chaos: setup
	$(BIN)/python -m benchmarks.chaos --backend both --kills $(KILLS) --ray-kills $$(( $(KILLS) / 10 )) \
		--study-kills $$(( $(KILLS) / 5 )) --races 100 --every-epoch --seed $(SEED) --out benchmarks/results/chaos.json

# Kills nodes and cuts links of clusters in network namespaces, with the run folder on a shared folder or on S3; 20 minutes.
FAULTS ?= 20
chaos-cluster: setup
	$(BIN)/python -m benchmarks.chaos_cluster --faults $(FAULTS) --seed $(SEED)

# What the driver costs: 2,000 trials of 20 s, 64 at a time, on one node that declares 64 cores; 12 minutes.
scale: setup
	$(BIN)/python -m benchmarks.scale

# Whether two trials on two cores slow each other down by more than the machine does; 5 minutes.
neighbours: setup
	$(BIN)/python benchmarks/neighbours.py

# Whether the corrected score's interval holds planted truths as often as it says; 10 minutes.
coverage: setup
	OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/coverage.py

# Whether races drop an equal config as seldom as they say; 1 minute.
races: setup
	OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/races.py

# Whether importance and refinement find what was planted in 100 sweeps; 2 minutes.
planted: setup
	$(BIN)/python benchmarks/planted.py

# How long proposals take, of every strategy; 10 minutes.
proposals: setup
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.proposals

# How long a report of 1,000 trials takes, and how large its page is; 2 minutes.
report: setup
	$(BIN)/python benchmarks/report.py

# Every strategy, plain hyperopt, Optuna and Ray's HyperOptSearch on functions and recorded curves, 20 seeds, then on the
# functions that are held out; an hour on 2 idle cores, and minutes when only one strategy has changed since.
SEEDS ?= 20
bench-search: setup
	$(BIN)/python -m benchmarks.search --held-out --seeds $(SEEDS)
	$(BIN)/python -m benchmarks.search --seeds $(SEEDS)

# Whether bfloat16 ends where float32 does, and ranks configs as it: what precision = "auto" waits for; 15 minutes.
# Fashion-MNIST is read from $TUNER_DATA.
bench-precision: setup
	$(BIN)/python benchmarks/precision.py

# How fast this project is against naive Ray Tune, Optuna, skorch and a for-loop, and what it costs by itself; three hours,
# with nothing else running; `python -m benchmarks.speed PART` measures a part. Where skorch cannot be had, the page says so.
PARTS ?= step startup trivial memory many long short medium
bench: setup
	-$(BIN)/uv pip install --quiet --python $(BIN)/python "skorch>=1.4"
	$(BIN)/python -m benchmarks.speed $(PARTS) page

# How long the study of the digits takes, untouched and killed once in every stage; 5 minutes.
study: setup
	$(BIN)/python benchmarks/study.py

# Lanes, processes and a DataLoader loop against one trial at a time; on a GPU where there is one.
lanes: setup
	$(BIN)/python -m benchmarks.lanes

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_docs.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Renews the pinned versions; torch and torchvision must stay the registry's matching pair.
lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-header --no-annotate --upgrade \
		pyproject.toml --output-file requirements.lock
