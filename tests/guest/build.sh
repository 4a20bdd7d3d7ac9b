#!/bin/sh
# Builds every guest program into OUTDIR: tests/guest/build.sh OUTDIR
#
# Rust programs are static-PIE (cargo, with this directory's own workspace). C programs are static with musl;
# hello, dax_mmap and ok also with glibc, at a fixed address (-glibc) and as static-PIE (-pie).
# CARGO names another cargo; CARGO_TARGET_DIR is honoured.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:?usage: build.sh OUTDIR}"
out=$(cd "$1" && pwd)
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-$here/target}

# In the directory itself: cargo reads .cargo/config.toml (static, target) from where it runs.
(
    cd "$here"
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    CARGO_TARGET_DIR=$target "$cargo" build --quiet --release --bins
)
for source in "$here"/src/bin/*; do
    name=$(basename "$source" .rs)
    cp "$target/x86_64-unknown-linux-gnu/release/$name" "$out/$name"
done

flags="-O2 -Wall -Wextra -Werror -s"
# compile COMPILER SOURCE OUTPUT FLAGS: only when the source is newer, so that a second make costs nothing.
compile() {
    source=$here/../c/$2
    [ "$out/$3" -nt "$source" ] || $1 $flags $4 -o "$out/$3" "$source"
}
# These must fault or recurse as they are written; a compiler that proves it would object.
wild="-O0 -Wno-infinite-recursion -Wno-null-dereference"
for name in ok exit7 loop abort sigbus oom jump_kernel echo_bytes hello dax_mmap orphan drain; do
    compile musl-gcc $name.c $name -static
done
for name in segv stack_overflow; do
    compile musl-gcc $name.c $name "-static $wild"
done
for name in ok hello dax_mmap; do
    compile gcc $name.c $name-glibc -static
    compile gcc $name.c $name-pie -static-pie
done
for name in processes threads pipes sessions; do
    compile musl-gcc $name.c $name '-static -pthread'
    compile gcc $name.c $name-glibc '-static -pthread'
done
for name in fresh_registers far_return; do
    compile gcc $name.S $name '-static -nostdlib'
done
