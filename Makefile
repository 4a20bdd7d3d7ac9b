# make          build/kernel.elf, build/kernel.sym, build/daxite
# make run      the tour, on build/nvdimm.img
# make test     host tests, guest tests, fuzz targets, loom models
# make check    formatting, lints, documentation, size by floor
# make bench    the figures, beside Linux's
# make kernel FEATURES='nfit dax' OUT=build/kernel-2.elf    a kernel of these cargo features and no others
# make properties   the 39 properties and the tests that show them

SHELL := /bin/sh
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules
# In the order of the lists below; cargo uses all CPUs by itself.
.NOTPARALLEL:

# Set-up comes first: make reads this file, finds it missing, makes it, and starts over.
include build/toolchain.mk
build/toolchain.mk: boot/setup.sh
	@boot/setup.sh $@

TARGET := x86_64-target.json
KERNEL_FLAGS := --package kernel --release --target $(TARGET) -Z json-target-spec \
    -Z build-std=core,alloc,compiler_builtins -Z build-std-features=compiler-builtins-mem,optimize_for_size
# build-std and custom targets are unstable; the variable lets a stable toolchain take them.
KERNEL_CARGO := RUSTC_BOOTSTRAP=1 cargo
KERNEL_OUT := target/x86_64-target/release/kernel
OUT := build/kernel.elf
ifdef FEATURES
KERNEL_FLAGS += --no-default-features --features '$(FEATURES)'
endif

.PHONY: all kernel variants daxite guest suite packages run test check bench properties clean
all: kernel daxite

kernel:
	@echo "  kernel  $(OUT)"
	@$(KERNEL_CARGO) build --quiet $(KERNEL_FLAGS)
	@mkdir -p $(dir $(OUT))
	@objcopy --only-keep-debug $(KERNEL_OUT) $(OUT:.elf=.sym)
	@objcopy --strip-all $(KERNEL_OUT) $(OUT)

# Kernels that tests and benchmarks boot beside the usual one.
variants: kernel
	@$(MAKE) --no-print-directory kernel FEATURES='nfit dax dax_pmem brd checks' OUT=build/kernel-checks.elf
	@$(MAKE) --no-print-directory kernel FEATURES='nfit' OUT=build/kernel-nodax.elf
	@$(MAKE) --no-print-directory kernel FEATURES='nfit dax brd' OUT=build/kernel-nopmem.elf
	@$(MAKE) --no-print-directory kernel FEATURES='nfit dax dax_pmem brd bench_unpinned' OUT=build/kernel-noepoch.elf

daxite:
	@echo "  host    build/daxite"
	@cargo build --quiet --release --package daxite
	@mkdir -p build
	@cp target/release/daxite build/daxite

guest:
	@echo "  guest   build/guest"
	@tests/guest/build.sh build/guest

suite:
	@echo "  host    test suite"
	@cargo build --quiet --release --package host-tests
	@mkdir -p build
	@gcc -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-Ttext=0x100000 -o build/null.elf tests/host/null.s

run: all guest
	@tests/guest/tour.sh build

# What only the tests need. Some guest programs are linked with it, so it comes first.
packages:
	@boot/setup.sh tests

test: packages all variants guest suite
	target/release/suite test

bench: all variants guest suite
	target/release/suite bench

properties: all variants guest suite
	target/release/suite properties

check:
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(KERNEL_CARGO) clippy --quiet $(KERNEL_FLAGS) -- -D warnings
	$(KERNEL_CARGO) clippy --quiet $(KERNEL_FLAGS) --features checks,bench_unpinned -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items
	# The guest programs, the fuzz targets and the loom models are workspaces of their own.
	cd tests/guest && cargo fmt --check && cargo clippy --quiet --all-targets -- -D warnings
	cd tests/fuzz && cargo fmt --check && cargo clippy --quiet --all-targets -- -D warnings
	# Not --all-targets: the unit tests of the file that the models include are not theirs.
	cd tests/loom && cargo fmt --check && cargo clippy --quiet --lib --tests -- -D warnings
	tests/features.sh
	tests/floors.sh

clean:
	rm -rf build target tests/guest/target tests/fuzz/target tests/loom/target
