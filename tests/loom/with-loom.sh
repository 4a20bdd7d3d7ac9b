#!/bin/sh
# The compiler that cargo would call, with the flag that makes crossbeam-epoch use loom's atomics.
exec "$@" --cfg crossbeam_loom
