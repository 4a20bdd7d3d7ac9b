#!/bin/busybox sh
# Devices made, resized and destroyed with Debian's daxctl: the sequences of ndctl's test daxctl-create.sh, on a region of
# 64 MiB with an alignment of 2 MiB. A KTAP report.

M=1048576
number=0
failed=0

# is NAME EXPECTED FOUND
is() {
    number=$((number + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $number - $1"
    else
        failed=1
        echo "not ok $number - $1"
        printf '%s\n' "expected: $2" "found: $3" | sed 's/^/# /'
    fi
}

# create ARGUMENTS...: the name of a new device
create() {
    daxctl create-device -r 0 "$@" 2>/tmp/errors | sed -n 's/.*"chardev":"\(.*\)".*/\1/p'
}
destroy() {
    for device in "$@"; do daxctl destroy-device -f "$device"; done 2>&1 | grep -v '^destroyed 1 device$'
}
resize() {
    daxctl disable-device "$1" 2>&1 | grep -v '^disabled 1 device$'
    daxctl reconfigure-device -m devdax -s "$2" "$1" >/dev/null 2>/tmp/errors || cat /tmp/errors
}
# of DEVICE: its size in MiB and how many ranges it has
of() {
    daxctl list -M -d "$1" | awk '/"size"/ && !size { gsub(/[^0-9]/, ""); size = $0 / '$M' }
        /page_offset/ { ranges++ } END { print size "M in " ranges }'
}
available() {
    daxctl list -R | awk '/available_size/ { gsub(/[^0-9]/, ""); print $0 / '$M' }'
}

echo "KTAP version 1"
is "the first device is taken from its users" "disabled 1 device" "$(daxctl disable-device dax0.0 2>&1)"
is "it is listed when disabled" '"state":"disabled"' "$(daxctl list -Di | grep -o '"state":"disabled"')"
is "it gives its memory back" "" "$(resize dax0.0 0)"
is "all of it is available" 64 "$(available)"

all=$(create)
is "a device takes what there is" "dax0.1: 64M in 1" "$all: $(of "$all")"
is "a second one finds nothing" ": created 0 devices" "$(create): $(grep created /tmp/errors)"
is "an active device is not destroyed without --force" "$all is active, specify --force for deletion" \
    "$(daxctl destroy-device "$all" 2>&1 | head -n 1)"
is "with --force it is" "" "$(destroy "$all")"

a=$(create -s 16M) b=$(create -s 16M) c=$(create -s 16M) d=$(create -s 16M)
is "four devices" "dax0.1 dax0.2 dax0.3 dax0.4" "$a $b $c $d"
destroy "$b" "$d"
hole=$(create)
is "a hole in the middle and the end make two ranges" "32M in 2" "$(of "$hole")"
# The device alone, without the brackets of a list.
daxctl list -M -d "$hole" | sed '1d;$d' >/tmp/hole.json
destroy "$hole"
hole=$(daxctl create-device -r 0 --input=/tmp/hole.json 2>/tmp/errors | sed -n 's/.*"chardev":"\(.*\)".*/\1/p')
is "a device is made again from the JSON of its ranges" "$(grep -A5 '"page_offset"' /tmp/hole.json)" \
    "$(daxctl list -M -d "${hole:-none}" | sed '1d;$d' | grep -A5 '"page_offset"')"
destroy "$a" "$c" "$hole"
is "everything is available again" 64 "$(available)"

a=$(create -s 4M) b=$(create -s 4M)
for size in 8M 12M 16M; do
    resize "$a" $size
    resize "$b" $size
done
is "two devices that grow in turn have four ranges each" "16M in 4, 16M in 4" "$(of "$a"), $(of "$b")"
destroy "$a" "$b"

a=$(create -s 16M) b=$(create -s 16M) c=$(create -s 32M)
destroy "$a"
resize "$b" 32M
is "growing into the head makes a range" "32M in 2" "$(of "$b")"
destroy "$b" "$c"
a=$(create -s 16M)
resize "$a" 32M
is "growing into the tail makes none" "32M in 1" "$(of "$a")"
is "a device is enabled" "enabled 1 device" "$(daxctl enable-device "$a" 2>&1)"
destroy "$a"

a=$(create -s 4M -a 4K)
is "an alignment of its own" '"align":4096,' "$(daxctl list -d "$a" | grep -o '"align":4096,')"
is "a size that is no multiple of it is refused" 1 \
    "$(daxctl create-device -r 0 -s 3M 2>&1 | grep -c 'created 0 devices')"
is "memory for the kernel is not made" "reconfigured 0 devices" \
    "$(daxctl reconfigure-device -m system-ram "$a" 2>&1 | tail -n 1)"
echo "1..$number"
exit $failed
