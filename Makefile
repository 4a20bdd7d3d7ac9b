# make          build/kernel.elf, build/kernel.sym, build/daxite
# make run      the tour, on build/nvdimm.img
# make test     host tests, guest tests, fuzz targets, loom models
# make check    formatting, lints, documentation, size by floor
# make bench    the figures, beside Linux's
# make properties   the 39 properties and the tests that show them

SHELL := /bin/sh
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules

# Set-up comes first: make reads this file, finds it missing, makes it, and starts over.
include build/toolchain.mk
build/toolchain.mk: boot/setup.sh
	@boot/setup.sh $@

TARGET := x86_64-target.json
KERNEL_FLAGS := --package kernel --release --target $(TARGET) -Z json-target-spec \
    -Z build-std=core,alloc,compiler_builtins -Z build-std-features=compiler-builtins-mem
# build-std and custom targets are unstable; the variable lets a stable toolchain take them.
KERNEL_CARGO := RUSTC_BOOTSTRAP=1 cargo
KERNEL_OUT := target/x86_64-target/release/kernel

.PHONY: all kernel daxite guest suite run test check bench properties clean
all: kernel daxite

kernel:
	@echo "  kernel  build/kernel.elf"
	@$(KERNEL_CARGO) build --quiet $(KERNEL_FLAGS)
	@mkdir -p build
	@objcopy --only-keep-debug $(KERNEL_OUT) build/kernel.sym
	@objcopy --strip-all $(KERNEL_OUT) build/kernel.elf

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

test: all guest suite
	target/release/suite test

bench: all guest suite
	target/release/suite bench

properties: all guest suite
	target/release/suite properties

check:
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(KERNEL_CARGO) clippy --quiet $(KERNEL_FLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items
	# The guest programs, the fuzz targets and the loom models are workspaces of their own.
	cd tests/guest && cargo fmt --check && cargo clippy --quiet --all-targets -- -D warnings
	cd tests/fuzz && cargo fmt --check && cargo clippy --quiet --all-targets -- -D warnings
	# Not --all-targets: the unit tests of the file that the models include are not theirs.
	cd tests/loom && cargo fmt --check && cargo clippy --quiet --lib --tests -- -D warnings
	tests/floors.sh

clean:
	rm -rf build target tests/guest/target tests/fuzz/target tests/loom/target
