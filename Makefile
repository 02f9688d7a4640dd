# What people type. Everything slow is cached outside the tree; see CONTRIBUTING.md.
#
#   make quickstart        see it work on this machine, no Kubernetes needed
#   make check             format, lints, unit tests (no lab)
#   make test              everything, the real clusters included; SUITE=story for one suite
#   make test-long         the full numbers of tunnel, interop and hostile: an hour and more, with a report
#   make lab, make lab-down
#   make bench-http, make bench-tunnel
#                          requests beside direct ones; the tunnel beside Go's; reports in bench/reports
#   make image             the image, as a tar, and its bill of materials; ARCH=arm64 for the other machine

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SUITE ?= all
ARGS ?=

.PHONY: help
help:
	@sed -n 's/^#  \?//p' Makefile

.PHONY: quickstart
quickstart: tools
	cargo build --package cluster-proxy
	./target/debug/cluster-proxy quickstart $(ARGS)

.PHONY: check
check: tools
	./tests/run check

.PHONY: test
test: tools
	./tests/run $(SUITE)

.PHONY: test-long
test-long: tools
	./tests/run long

.PHONY: bench bench-http
bench bench-http: tools
	./tests/run bench $(ARGS)

.PHONY: bench-tunnel
bench-tunnel: tools
	./tests/run bench-tunnel $(ARGS)

.PHONY: deny
deny: tools
	./tests/run deny

.PHONY: image
image: tools
	./image/build $(if $(ARCH),--arch $(ARCH)) $(ARGS)

.PHONY: lab
lab:
	./lab/lab up

.PHONY: lab-down
lab-down:
	./lab/lab down

.PHONY: tools
tools:
	@./tests/tools
