# `make` alone lists what there is.
.PHONY: help format lint test bench docs

help:
	@echo 'make format   format all sources in place'
	@echo 'make lint     check the format'
	@echo 'make test     set up, build, run the whole test suite'
	@echo 'make bench    build in release mode and run the benchmarks'
	@echo 'make docs     write the API documentation to .build/docs'

format:
	Scripts/lint --fix

lint:
	Scripts/lint

test:
	./test

bench:
	Scripts/bootstrap
	swift run -c release --package-path Benchmarks

docs:
	Scripts/docs
