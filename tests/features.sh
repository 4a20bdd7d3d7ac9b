#!/bin/sh
# Type-checks every combination of the kernel's features for the bare machine: each must build without a warning, or
# be refused by the sentence that says what is missing.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

# What refuses the combination, or nothing.
refusal() {
    case " $1 " in
    *" dax_pmem "*) case " $1 " in
        *" nfit "*) ;;
        *) echo "feature dax_pmem makes dax regions of the NFIT's ranges: it needs feature nfit" && return ;;
        esac ;;
    esac
    case " $1 " in *" dax "*) return ;; esac
    case " $1 " in
    *" dax_pmem "*) echo "feature dax_pmem makes dax regions of the NFIT's ranges: it needs feature dax" ;;
    *" brd "*) echo "feature brd registers RAM disks as dax devices: it needs feature dax" ;;
    esac
}

check() {
    RUSTC_BOOTSTRAP=1 "$cargo" check --quiet --package kernel --target x86_64-target.json -Z json-target-spec \
        -Z build-std=core,alloc,compiler_builtins -Z build-std-features=compiler-builtins-mem,optimize_for_size \
        --no-default-features --features "$1" 2>&1
}

number=0
for nfit in '' nfit; do for dax in '' dax; do for pmem in '' dax_pmem; do for brd in '' brd; do
    features=$(echo $nfit $dax $pmem $brd)
    expected=$(refusal "$features")
    output=$(check "$features") && status=0 || status=$?
    if [ -z "$expected" ]; then
        [ $status = 0 ] && [ -z "$output" ] || { echo "$output"; echo "features '$features': does not build"; exit 1; }
    else
        first=$(echo "$output" | grep -m 1 '^error' || :)
        [ $status != 0 ] && [ "$first" = "error: $expected" ] || {
            echo "$output" && echo "features '$features': expected the refusal: $expected" && exit 1
        }
    fi
    number=$((number + 1))
done; done; done; done
echo "features: $number combinations build or are refused in words"
