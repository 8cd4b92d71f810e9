#!/usr/bin/env bash
# Checks the model of fenced delivery exhaustively: the protocol must hold, and each variant with a guard left out must do what the table says. Needs spin and a C
# compiler (Debian: apt-get install spin gcc).
set -euo pipefail
cd "$(dirname "$0")"
command -v spin > /dev/null || { echo "spin is missing: apt-get install spin gcc" >&2; exit 1; }
model=$PWD/fenced.pml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failed=0
printf '%-46s %12s  %-8s %-8s\n' variant states expected found
# check NAME EXPECTED(holds|fails) MODE(safety|emission) MACROS...
check() {
    local name=$1 expected=$2 mode=$3 dir found states
    shift 3
    dir=$(mktemp -d -p "$work")
    if [[ $mode == safety ]]; then
        (cd "$dir" && spin -a "$@" "$model" > spin.log 2>&1 && gcc -O2 -w -DSAFETY -DNOCLAIM -DCOLLAPSE -DMEMLIM=6000 -DVECTORSZ=2048 -o pan pan.c && timeout 600 ./pan -m200000 -n > pan.log) || true
    else
        (cd "$dir" && spin -a "$@" "$model" > spin.log 2>&1 && gcc -O2 -w -DCOLLAPSE -DMEMLIM=6000 -DVECTORSZ=2048 -DNFAIR=3 -o pan pan.c && timeout 600 ./pan -a -f -m400000 -n > pan.log) || true
    fi
    states=$(awk '/states, stored/ {print $1; exit}' "$dir/pan.log" 2> /dev/null || true)
    if grep -qE 'search depth too small|reached memory limit|out of memory' "$dir/pan.log" || ! grep -q 'errors:' "$dir/pan.log" 2> /dev/null; then
        found='?'
    elif grep -q 'errors: 0' "$dir/pan.log"; then
        found=holds
    else
        found=fails
    fi
    printf '%-46s %12s  %-8s %-8s\n' "$name" "$states" "$expected" "$found"
    if [[ $found != "$expected" ]]; then
        failed=1
        tail -n 25 "$dir/spin.log" "$dir/pan.log" >&2 || true
    fi
}

check 'the protocol: no duplicate, no loss'        holds safety
check 'three payments, two faults'                 holds safety -DPAYMENTS=3 -DFAULTS=2
check 'the protocol: every payment is emitted'     holds emission -DFAULTS=2
check 'without the tail read'                      fails safety -DNO_TAIL
check 'without fencing and continuity'             fails safety -DNO_FENCE -DNO_CONTINUITY
check 'marks apart from next_offset'               fails safety -DMARKS_APART
check 'an EndTransaction error taken as not sent'  fails safety -DERROR_IS_NOT_SENT
check 'without fencing alone'                      holds safety -DNO_FENCE -DFAULTS=2
check 'without continuity alone'                   holds safety -DNO_CONTINUITY
check 'without stable end = end alone'             holds safety -DNO_STABLE_END
check 'without memory = row alone'                 holds safety -DNO_MEMORY
exit "$failed"
