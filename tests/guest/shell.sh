#!/bin/busybox sh
# What scripts are made of, in busybox's shell: a KTAP report, on Daxite as on any Linux. Every command is an applet of
# the same binary, and each that is not built in is a task.

dir=/tmp/shell.$$
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

echo "KTAP version 1"
mkdir "$dir" && cd "$dir" || exit 1

is "a pipe of three" 3 "$(printf 'b\na\nb\nc\n' | sort -u | wc -l)"
is "a pipe that is full waits for its reader" 1000000 "$(head -c 1000000 /dev/zero | cat | wc -c)"
is "a reader that leaves ends its writer" y "$(yes | head -n 1)"
is "the status of a pipe is that of its end" 1 "$(true | false; echo $?)"
is "substitutions in substitutions" "a b c" "$(echo a $(echo b `echo c`))"
is "a substitution takes status and output" "out 7" "$(x=$(echo out; exit 7); echo "$x $?")"

word=here
cat >document <<END
$word is $((6 * 7))
	\$word stays
END
is "a here-document with expansions" "here is 42
	\$word stays" "$(cat document)"
is "a here-document without" '$word' "$(cat <<'END'
$word
END
)"
is "a here-document without tabs" "no tab" "$(cat <<-END
	no tab
	END
)"
head -c 200000 /dev/zero | tr '\0' x >long
is "a here-document longer than a pipe" 200001 "$(wc -c <<END
$(cat long)
END
)"

echo one >file
echo two >>file
is "> and >>" "one
two" "$(cat <file)"
ls /none 2>errors
is "2> and the status of a command that failed" "1 ls: /none: No such file or directory" "$? $(cat errors)"
is "2>&1 before a pipe" 1 "$(ls /none 2>&1 | grep -c none)"
is "descriptors by number" "three" "$(exec 3>third; echo three >&3; exec 3>&-; cat third)"
exec 4<file
read -r first <&4
read -r second <&4
exec 4<&-
is "read goes on where it was" "one two" "$first $second"
is "noclobber" "cannot" "$(set -C; (echo x >file) 2>/dev/null || echo cannot)"

is "a trap of EXIT" "body end" "$(sh -c 'trap "echo end" EXIT; printf "body "')"
is "a trap of a signal, after which the script goes on" "caught on" \
    "$(sh -c 'trap "printf \"caught \"" USR1; kill -USR1 $$; echo on')"
is "a signal without a trap" 143 "$(sh -c 'kill -TERM $$'; echo $?)"
is "a signal that is ignored, by the child, too" alive "$(sh -c 'trap "" TERM; sh -c "kill -TERM \$\$; echo alive"')"
is "a wait that a trap ends" "caught 138" "$(sh -c 'trap "printf \"caught \"" USR1; sleep 9 & job=$!
    (sleep 0.4; kill -USR1 $$) & wait $job; echo $?; kill $job' 2>/dev/null)"

until [ -e go ]; do sleep 0.05; done &
slow=$!
(exit 9) &
quick=$!
wait $quick
status=$?
kill -0 $slow 2>/dev/null && state=running
touch go
wait $slow
is "jobs in the background and their statuses" "9 running 0" "$status $state $?"
sleep 10 &
kill $!
wait $!
is "a job that was killed" 143 $?
is "a background job has no input" "" "$(cat & wait)"
is "twenty jobs at a time" 20 "$(for i in $(seq 20); do (sleep 0.05; echo $i) & done | wc -l; wait)"

is "a subshell changes nothing outside" "here $dir" "$( (word=there; cd /; exec 5>x) 2>/dev/null; echo $word $PWD)"
is "set -e" "before" "$(sh -ec 'echo before; false; echo after')"
is "set -u" 2 "$(sh -uc 'echo $nothing' 2>/dev/null; echo $?)"
is "patterns" "file third document" "$(echo f* ?hird [a-d]*)"
is "find and xargs" "./file" "$(find . -type f -print0 | xargs -0 grep -l two)"
is "awk, sed, cut, tr" "2:TWO" "$(awk '{ print NR ":" $1 ":" length($1) }' file | sed -n '$p' | cut -d: -f1,2 | tr a-z A-Z)"
tar cf files.tar document file long
mkdir copy && tar xf files.tar -C copy
is "tar there and back" "" "$(for name in document file long; do cmp $name copy/$name; done 2>&1)"
is "gzip there and back" 200000 "$(gzip -c long | gunzip -c | wc -c)"
mv file moved && ln -s moved link && cp -a link copy/link2
is "mv, ln -s, cp -a" "moved two" "$(readlink copy/link2) $(tail -n 1 link)"
dd if=/dev/urandom of=noise bs=4k count=16 2>/dev/null
is "dd of a file, and a part of it" 65536,4096 "$(wc -c <noise),$(dd if=noise bs=1k skip=8 count=4 2>/dev/null | wc -c)"
script='echo "$0 $# $2"'
printf '#!/bin/busybox sh\n%s\n' "$script" >own
is "a script is sourced" "own-shell 2 b" "$(sh -c '. ./own' own-shell a b)"

cd / && rm -r "$dir"
is "rm -r" "" "$(ls -d "$dir" 2>/dev/null)"
echo "1..$number"
exit $failed
