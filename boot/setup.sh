#!/bin/sh
# Finds, and as root on Debian installs, what building and testing Daxite needs. This is the one place that
# chooses the toolchain: whichever has the sources of `core` (kernel and host programs are built with the same).
#
# usage: boot/setup.sh OUTPUT    writes a Makefile fragment with the choice
#        boot/setup.sh tests     what only the tests need: the programs that they run in the guest
set -eu
output=$1

# A toolchain whose rustc has rust-src: first the one on PATH (rustup), then Debian's in /usr/bin.
toolchain() {
    for bin in "$(dirname "$(command -v rustc 2>/dev/null || echo /nowhere/rustc)")" /usr/bin; do
        [ -x "$bin/rustc" ] && [ -x "$bin/cargo" ] || continue
        sysroot=$(RUSTUP_AUTO_INSTALL=0 "$bin/rustc" --print sysroot 2>/dev/null) || continue
        [ -f "$sysroot/lib/rustlib/src/rust/library/core/src/lib.rs" ] || continue
        [ -x "$bin/cargo-clippy" ] && [ -x "$bin/rustfmt" ] || continue
        echo "$bin"
        return
    done
}

# What is missing, as Debian packages.
missing() {
    if [ "$output" = tests ]; then
        [ -x /bin/busybox ] || echo busybox-static
        command -v fio >/dev/null || echo fio
        command -v ndctl >/dev/null || echo ndctl
        command -v daxctl >/dev/null || echo daxctl
        [ -f /usr/include/libpmem.h ] || echo libpmem-dev
        [ -f /usr/include/libpmemobj.h ] || echo libpmemobj-dev
        command -v gron >/dev/null || echo gron
        return
    fi
    [ -n "$(toolchain)" ] || echo rustc-web cargo-web rust-web-src rust-web-clippy rustfmt-web
    command -v ld.lld >/dev/null || echo lld
    command -v gcc >/dev/null || echo gcc libc6-dev
    command -v g++ >/dev/null || echo g++
    command -v objcopy >/dev/null || echo binutils
    command -v musl-gcc >/dev/null || echo musl-tools
    command -v cpio >/dev/null || echo cpio
    command -v qemu-system-x86_64 >/dev/null || echo qemu-system-x86
    [ -f /usr/share/qemu/qboot.rom ] || [ -f /usr/share/qemu-system-data/qboot.rom ] || echo qemu-system-data
    [ -f /usr/share/seabios/bios-256k.bin ] || [ -f /usr/share/qemu/bios-256k.bin ] || echo seabios
}

need=$(missing | tr '\n' ' ')
if [ -n "$need" ]; then
    install="apt-get update && apt-get install -y --no-install-recommends $need"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $need" >&2
        export DEBIAN_FRONTEND=noninteractive
        sh -c "$install" >&2
    fi
    need=$(missing | tr '\n' ' ')
fi
if [ -n "$need" ]; then
    {
        echo "Daxite needs these Debian packages, or their like: $need"
        echo "    sudo sh -c '$install'"
        [ "$output" = tests ] || echo "With rustup and a network, this replaces rustc-web and its kin:
    rustup component add rust-src clippy rustfmt"
    } >&2
    exit 1
fi

[ "$output" != tests ] || exit 0
mkdir -p "$(dirname "$output")"
{
    echo "# written by boot/setup.sh"
    echo "export PATH := $(toolchain):$PATH"
} >"$output"
