#!/bin/busybox sh
# Every file of /sys and every link, with busybox's find, cat and ls: what may be read is read, what may not is refused,
# and what is linked is there. A KTAP report.

failed=0
number=0
# report NAME COMPLAINTS
report() {
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - $1"
    else
        failed=1
        echo "not ok $number - $1"
        echo "$2" | sed 's/^/# /'
    fi
}
# at_least COUNT WHAT WORDS...: a complaint when there are fewer words
at_least() {
    [ $(($# - 2)) -ge "$1" ] || echo "$(($# - 2)) $2, expected $1 or more"
}

echo "KTAP version 1"
echo "1..4"
readable=$(find /sys -type f -perm -400)
secret=$(find /sys -type f ! -perm -400)
links=$(find /sys /dev -type l)

report "each file that may be read has lines or nothing" "$(
    at_least 60 "files that may be read" $readable
    for file in $readable; do
        text=$(cat "$file" 2>&1 || echo status $?; echo end)
        case $text in
        *status*) echo "$file: $text" ;;
        end | *"
end") ;;
        *) echo "$file does not end with a line" ;;
        esac
    done
)"
report "each file that may not be read is refused" "$(
    at_least 5 "files that may not be read" $secret
    for file in $secret; do
        cat "$file" 2>/dev/null && echo "$file was read"
    done
)"
report "each link leads somewhere" "$(
    at_least 20 links $links
    for link in $links; do
        ls -dL "$link" >/dev/null 2>&1 || echo "$link leads to $(readlink "$link")"
    done
)"
report "a device is the same by its bus, by its number and by its region" "$(
    number=$(cat /sys/bus/dax/devices/dax0.0/dev)
    for device in /sys/bus/dax/devices/dax0.0 /sys/dev/char/"$number" /sys/bus/nd/devices/region0/dax0.0/dax0.0; do
        (cd "$device" && pwd -P && cat size align resource numa_node target_node uevent || echo "$device") 2>&1 | md5sum
    done | uniq | sed 1d
)"
exit $failed
