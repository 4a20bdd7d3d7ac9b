#!/bin/sh
# Counts the lines of code by floor (no tests, no comments, no blank lines) beside the budget of each. A floor that is
# over its budget says by how much: that is owed. It may not grow any more, which is what the second number of its line
# below is for: what it has today, to be lowered and never raised.
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
# floor BUDGET LIMIT NAME FILES: a budget of 0 is none.
floor() {
    budget=$1 limit=$2 name=$3
    shift 3
    lines=$(count "$@")
    printf '%-28s %6d' "$name" "$lines"
    [ "$budget" -eq 0 ] || printf ' of %d' "$budget"
    [ "$budget" -eq 0 ] || [ "$lines" -le "$budget" ] || printf '  over by %d' $((lines - budget))
    if [ "$limit" -gt 0 ] && [ "$lines" -gt "$limit" ]; then
        printf '  AND GREW: it may have %d' "$limit"
        over=1
    fi
    printf '\n'
}

heart="drivers/nfit/src drivers/nvdimm/src drivers/dax/src drivers/platform/src boot/entry/src mm/src"
kernel=$(find kernel/src -mindepth 1 -maxdepth 1 ! -name linux ! -name shell | sort)
for crate in $heart; do floor 0 0 "  ${crate%/src}" "$crate"; done
floor 0 0 "  kernel less linux, shell" $kernel
floor 8000 12249 "the heart" $heart $kernel
floor 6000 9724 "kernel/src/linux" kernel/src/linux
[ ! -d kernel/src/shell ] || floor 1000 1000 "kernel/src/shell" kernel/src/shell
floor 2500 2500 "boot/launcher" boot/launcher/src
exit $over
