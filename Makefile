# What people type here; `make help` lists it. Logic longer than a line lives in .ci/.

.DEFAULT_GOAL := help
.PHONY: help demo test bench simulate simulate-scaling chaos lint lock picture clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The recipe reads these from its environment, as they were typed: names with spaces, quotes and
# dollar signs in them stay whole.
override VIDEO := $(value VIDEO)
override LADDER := $(value LADDER)
export VIDEO LADDER

demo: .venv/runtime.stamp ## Three peers take one video to a ladder (VIDEO=clip.mp4 LADDER=web|hls|640x360@800k,…)
	@.venv/bin/peerctl demo $${LADDER:+--ladder "$$LADDER"} -- $${VIDEO:+"$$VIDEO"}

test: .venv/dev.stamp ## Run all tests (ARGS="-m 'not slow' tests/unit" goes to pytest)
	@.ci/test $(ARGS)

bench: .venv/dev.stamp ## Measure, and print one table of what was measured and what was promised
	@.venv/bin/python -m tests.bench.run $(ARGS)

SEEDS ?= 200
simulate: .venv/dev.stamp ## Look for faults in the gossip with random seeds (SEEDS=100000 for a night)
	@.venv/bin/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

simulate-scaling: .venv/dev.stamp ## Simulated days of work: the policy beside its rivals, as a table and scaling.png
	@.venv/bin/python -m tests.simulation.scaling --picture scaling.png $(ARGS)

HOURS ?= 1
chaos: .venv/dev.stamp ## Break a real cluster at random while it works (HOURS=8 for a night; root)
	@.venv/bin/python -m tests.chaos.cluster --hours $(HOURS) $(ARGS)

lint: .venv/dev.stamp ## Check format, style, types and who may import whom
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.ci/debian-packages shellcheck
	if command -v shellcheck >/dev/null; then shellcheck .ci/* deploy/providers/* deploy/make-secrets deploy/peerctl $(filter-out %/mc,$(wildcard deploy/lab/images/entries/*)); fi

lock: .venv/dev.stamp ## Write the lock files anew (UPGRADE=1 takes the newest versions)
	@.ci/lock $(if $(UPGRADE),--upgrade)

picture: .venv/dev.stamp ## Draw the README's picture of `peerctl demo` from a real run
	@.ci/debian-packages tmux
	@.venv/bin/python .github/make_picture.py

clean: ## Remove .venv and what the tools have cached here
	rm -f .venv/*.stamp  # first: half a .venv must not pass for a whole one
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/runtime.stamp: requirements.lock requirements-build.lock pyproject.toml
	@.ci/environment
	@touch $@

.venv/dev.stamp: requirements-dev.lock pyproject.toml
	@.ci/environment dev
	@touch $@ .venv/runtime.stamp
