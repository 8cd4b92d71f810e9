#!/usr/bin/env bash
# Checks the model of fenced delivery exhaustively: the protocol must hold, and each variant with a guard left out must do what the table says. Needs spin and a C
# compiler (Debian: apt-get install spin gcc).
set -euo pipefail
cd "$(dirname "$0")"
command -v spin > /dev/null || { echo "spin is missing: apt-get install spin gcc" >&2; exit 1; }
model=$PWD/fenced.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# found PAN.LOG says what the run found. A variant that must fail has to fail by the assertion that is meant: any other error would only say that the model is broken.
found() {
    local assertion
    assertion=$(grep -oE 'assertion violated .*' "$1" || true)
    if grep -qE 'search depth too small|reached memory limit|out of memory' "$1" || ! grep -q 'errors:' "$1"; then
        echo '?'
    elif grep -q 'errors: 0' "$1"; then
        echo holds
    elif [[ $assertion == *'<=1'* ]]; then
        echo duplicate
    elif [[ $assertion == *promised* || $assertion == *'emitted[i]==1'* ]]; then
        echo loss
    elif grep -q 'acceptance cycle' "$1"; then
        echo never
    else
        echo other
    fi
}

failed=0
printf '%-46s %12s  %-10s %-10s\n' variant states expected found
# check NAME EXPECTED(holds|duplicate|loss|never) MODE(safety|emission) MACROS...
check() {
    local name=$1 expected=$2 mode=$3 dir found states
    shift 3
    dir=$(mktemp -d -p "$work")
    if [[ $mode == safety ]]; then
        (cd "$dir" && spin -a "$@" "$model" > spin.log 2>&1 && gcc -O2 -w -DSAFETY -DNOCLAIM -DCOLLAPSE -DMEMLIM=6000 -DVECTORSZ=2048 -o pan pan.c && timeout 900 ./pan -m200000 -n > pan.log) || true
    else
        (cd "$dir" && spin -a "$@" "$model" > spin.log 2>&1 && gcc -O2 -w -DCOLLAPSE -DMEMLIM=6000 -DVECTORSZ=2048 -DNFAIR=3 -o pan pan.c && timeout 900 ./pan -a -f -m400000 -n > pan.log) || true
    fi
    touch "$dir/pan.log"
    states=$(awk '/states, stored/ {print $1; exit}' "$dir/pan.log")
    found=$(found "$dir/pan.log")
    printf '%-46s %12s  %-10s %-10s\n' "$name" "$states" "$expected" "$found"
    if [[ $found != "$expected" ]]; then
        failed=1
        tail -n 25 "$dir/spin.log" "$dir/pan.log" >&2 || true
    fi
}

check 'the protocol: no duplicate, no loss'        holds     safety
check 'three payments, two faults'                 holds     safety -DPAYMENTS=3 -DFAULTS=2
check 'the protocol: every payment is seen'        holds     emission -DFAULTS=2
check 'without the tail read'                      duplicate safety -DNO_TAIL
check 'without fencing and continuity'             duplicate safety -DNO_FENCE -DNO_CONTINUITY
check 'marks apart from next_offset'               duplicate safety -DMARKS_APART
check 'an EndTransaction error taken as not sent'  duplicate safety -DERROR_IS_NOT_SENT
check 'produces before the last marker is seen'    loss      safety -DNO_SETTLED
check 'rests before the last marker is seen'       never     emission -DFAULTS=1 -DNO_SETTLED_AT_REST
check 'ends transactions of any epoch'             loss      safety -DENDS_ANY
check 'no proof of the lock after the fence'       loss      safety -DNO_LOCK_PROOF
check 'without fencing alone'                      holds     safety -DNO_FENCE -DFAULTS=2
check 'without continuity alone'                   holds     safety -DNO_CONTINUITY
check 'without stable end = end alone'             holds     safety -DNO_STABLE_END -DFAULTS=2
check 'without memory = row alone'                 holds     safety -DNO_MEMORY
exit "$failed"
