#!/bin/sh
# Counts the lines of code by floor: no tests, no comments, no blank lines. The heart may have 12,000 lines, linux/
# 6,000, shell/ 1,000, the launcher 2,500: more is an error. The heart had 8,000 with one CPU, one task and one device
# a region: what it has grown by is meant to shrink.
set -eu
cd "$(dirname "$0")/.."

# Lines of code in these files and directories. Unit tests stand at the end of a file, behind #[cfg(test)], or in
# files called tests.
count() {
    find "$@" \( -name '*.rs' -o -name '*.s' -o -name '*.ld' \) ! -path '*/tests/*' ! -name '*tests.rs' \
        ! -name 'testing.rs' ! -name 'fake.rs' ! -path '*/examples/*' 2>/dev/null | sort | xargs -r awk '
            FNR == 1 { tests = 0 }
            /^#\[cfg\(test\)\]/ { getline; if ($0 ~ /\{$/) tests = 1; next }
            tests || /^[[:space:]]*$/ || /^[[:space:]]*(\/\/|#[[:space:]]|\/?\*)/ { next }
            { lines++ }
            END { print lines + 0 }'
}

over=0
floor() {
    limit=$1 name=$2
    shift 2
    lines=$(count "$@")
    printf '%-28s %6d' "$name" "$lines"
    if [ "$limit" -gt 0 ]; then
        printf ' of %d' "$limit"
        if [ "$lines" -gt "$limit" ]; then
            printf '  over by %d' $((lines - limit))
            over=1
        fi
    fi
    printf '\n'
}

heart="drivers/nfit/src drivers/nvdimm/src drivers/dax/src drivers/platform/src boot/entry/src mm/src"
kernel=$(find kernel/src -mindepth 1 -maxdepth 1 ! -name linux ! -name shell | sort)
for crate in $heart; do floor 0 "  ${crate%/src}" "$crate"; done
floor 0 "  kernel less linux, shell" $kernel
floor 12000 "the heart" $heart $kernel
floor 6000 "kernel/src/linux" kernel/src/linux
[ ! -d kernel/src/shell ] || floor 1000 "kernel/src/shell" kernel/src/shell
floor 2500 "boot/launcher" boot/launcher/src
exit $over
