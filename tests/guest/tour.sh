#!/bin/sh
# The tour: boots BUILD/kernel.elf once an alignment on one 4 GiB NVDIMM file: tests/guest/tour.sh BUILD
#
# The file BUILD/nvdimm.img stays; the next run finds its boot counter there.
set -eu
build=${1:?usage: tour.sh BUILD}
heading=heading
for align in 4K 2M 1G; do
    "$build/daxite" run --timeout 120 --nvdimm "$build/nvdimm.img,size=4G,align=1G" --align $align \
        --env DAX_ALIGN=$align "$build/guest/tour" $heading
    heading=
done
