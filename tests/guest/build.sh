#!/bin/sh
# Builds every guest program into OUTDIR: tests/guest/build.sh OUTDIR
#
# Rust programs are static-PIE (cargo, with this directory's own workspace). C programs are static with musl;
# hello, dax_mmap and ok also with glibc, at a fixed address (-glibc) and as static-PIE (-pie), and some dynamic
# (-dynamic), as gcc and g++ make them. Scripts of busybox are programs, too.
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
    [ "$out/$3" -nt "$source" ] || $1 $flags -o "$out/$3" "$source" $4
}
# These must fault or recurse as they are written; a compiler that proves it would object.
wild="-O0 -Wno-infinite-recursion -Wno-null-dereference"
for name in ok exit7 loop abort sigbus oom jump_kernel echo_bytes hello dax_mmap orphan drain traced; do
    compile musl-gcc $name.c $name -static
done
for name in segv stack_overflow; do
    compile musl-gcc $name.c $name "-static $wild"
done
for name in ok hello dax_mmap; do
    compile gcc $name.c $name-glibc -static
    compile gcc $name.c $name-pie -static-pie
done
for name in processes threads pipes waits sessions queued; do
    compile musl-gcc $name.c $name '-static -pthread'
    compile gcc $name.c $name-glibc '-static -pthread'
done
for name in fresh_registers far_return; do
    compile gcc $name.S $name '-static -nostdlib'
done
for name in hello processes threads; do
    compile gcc $name.c $name-dynamic -pthread
done
compile musl-gcc hello.c hello-musl-dynamic ''
compile g++ cpp.cpp cpp-dynamic '-std=c++20 -pthread'
compile g++ cpp.cpp cpp-static '-std=c++20 -pthread -static'
compile gcc library.c libdynamic.so '-fPIC -shared -Wl,-soname,libdynamic.so'
compile gcc library.c libplugin.so "-DPLUGIN -fPIC -shared -L$out -ldynamic"
compile gcc dynamic.c dynamic "-pthread -L$out -Wl,-rpath,\$ORIGIN -ldynamic"
compile gcc ok.c no-loader '-Wl,--dynamic-linker=/none'
compile gcc ok.c bad-loader '-Wl,--dynamic-linker=/test/no-program'
# `make test` has installed PMDK; `make run` does without.
[ ! -f /usr/include/libpmem.h ] || compile gcc pmem.c pmem -lpmem
[ ! -f /usr/include/libpmemobj.h ] || compile gcc pool.c pool -lpmemobj

cp "$here/shell.sh" "$here/attributes.sh" "$here/daxctl.sh" "$out"
