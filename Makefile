# `make` alone lists the targets.
.PHONY: help format lint test bench docs gpu-check gpu-check-folder

help:
	@echo 'make format   format all sources in place'
	@echo 'make lint     check the format'
	@echo 'make test     set up, build, run the whole test suite'
	@echo 'make bench    build in release mode and run the benchmarks'
	@echo 'make docs     write the API documentation to .build/docs'
	@echo 'make gpu-check          measure and check a GPU; OUT=folder of the report'
	@echo 'make gpu-check-folder   pack that check for a machine without this repository'

format:
	Scripts/lint --fix

lint:
	Scripts/lint

test:
	./test

# PYTHON: the Python of an environment with Tests/Oracles/requirements.txt, to compare with
# upstream.
# THREADS: the number of threads for each side.
# LTX_TRAINER: packages/ltx-trainer of a checkout of upstream, to compare preprocessing
# (Benchmarks/reference_preprocess.py says what its Python needs).
PYTHON ?= python3
bench:
	Scripts/bootstrap
	Scripts/test-media
	swift build -c release --product ltx
	swift build -c release --package-path Benchmarks
	Benchmarks/.build/release/bench --ltx .build/release/ltx --python "$$(command -v $(PYTHON))" \
	  --scripts Benchmarks --media .deps/media $(if $(LTX_TRAINER),--ltx-trainer $(LTX_TRAINER)) \
	  $(if $(THREADS),--threads $(THREADS))

docs:
	Scripts/docs

# docs/doctor.md describes both.
OUT ?= gpu-check-report
gpu-check:
	Scripts/bootstrap --cuda
	swift build -c release --product ltx --static-swift-stdlib
	Scripts/gpu-check --out $(OUT)

gpu-check-folder:
	Scripts/bootstrap
	swift build -c release --product ltx --static-swift-stdlib
	Scripts/gpu-check --pack gpu-check-folder
