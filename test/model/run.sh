#!/usr/bin/env bash
# Checks the models exhaustively: the protocol must hold, and each variant must do what README.md's
# tables say. Needs spin and a C compiler (Debian: apt-get install spin gcc).
set -euo pipefail
cd "$(dirname "$0")"
command -v spin > /dev/null || { echo "spin is missing: apt-get install spin gcc" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# found PAN.LOG prints what the run found. A variant that must fail has to fail by the assertion
# that is meant: any other error would only show that the model is broken.
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
    elif [[ $assertion == *'+1)]==0'* ]]; then
        echo order
    elif [[ $assertion == *']!=0)'* ]]; then
        echo unknown
    elif [[ $assertion == *disturbed* ]]; then
        echo disturbed
    elif [[ $assertion == *passedOver* ]]; then
        echo passed
    elif [[ $assertion == *'floor==0'* ]]; then
        echo rises
    elif grep -q 'acceptance cycle' "$1"; then
        echo never
    else
        echo other
    fi
}

failed=0
# check NAME EXPECTED MODE(safety|emission) MACROS... checks a variant of $model.
check() {
    local name=$1 expected=$2 mode=$3 optimize=-O2 compile search dir found states
    shift 3
    [[ $expected == holds ]] || optimize=-O0 # A counterexample is found sooner than compiled well.
    case $mode in
    safety) compile=(-DSAFETY -DNOCLAIM) search=(-m200000) ;;
    emission) compile=(-DNFAIR=3) search=(-a -f -m400000) ;;
    esac
    dir=$(mktemp -d -p "$work")
    (cd "$dir" && spin -a "$@" "$model" > spin.log 2>&1 &&
        gcc "$optimize" -w "${compile[@]}" -DCOLLAPSE -DMEMLIM=6000 -DVECTORSZ=2048 -o pan pan.c &&
        timeout 900 ./pan "${search[@]}" -n > pan.log) || true
    touch "$dir/pan.log"
    states=$(awk '/states, stored/ {print $1; exit}' "$dir/pan.log")
    found=$(found "$dir/pan.log")
    printf '%-52s %10s  %-10s %-10s\n' "$name" "$states" "$expected" "$found"
    if [[ $found != "$expected" ]]; then
        failed=1
        tail -n 25 "$dir/spin.log" "$dir/pan.log" >&2 || true
    fi
}

model=$PWD/fenced.pml
printf '%-52s %10s  %-10s %-10s\n' 'fenced.pml' states expected found
check 'the protocol: no duplicate, no loss'        holds     safety
check 'three payments, two faults'                 holds     safety -DPAYMENTS=3 -DFAULTS=2
check 'the protocol: every payment is seen'        holds     emission -DFAULTS=2
check 'without the tail read'                      duplicate safety -DNO_TAIL
check 'without fencing and continuity'             duplicate safety -DNO_FENCE -DNO_CONTINUITY
check 'marks apart from next_offset'               duplicate safety -DMARKS_APART
check 'an EndTransaction error taken as not sent'  duplicate safety -DERROR_IS_NOT_SENT
check 'produces before the last marker is seen'    loss      safety -DNO_SETTLED
check 'idle before the last marker is seen'        never     emission -DFAULTS=1 -DNO_SETTLED_AT_REST
check 'ends transactions of any epoch'             loss      safety -DENDS_ANY
check 'does not prove the lock after the fence'    loss      safety -DNO_LOCK_PROOF
check 'without fencing alone'                      holds     safety -DNO_FENCE -DFAULTS=2
check 'without continuity alone'                   holds     safety -DNO_CONTINUITY
check 'without stable end = end alone'             holds     safety -DNO_STABLE_END -DFAULTS=2
check 'without memory = row alone'                 holds     safety -DNO_MEMORY

model=$PWD/failover.pml
allow_unknown=(-DNO_BARRIER_AT_COMMIT -DMAY_BE_UNKNOWN)
any_order=("${allow_unknown[@]}" -DMAY_BE_OUT_OF_ORDER)
disturbance=(-DREJOIN -DDISTURBANCE)
one_fence=(-DREJOIN -DFENCES_MAX=1)
printf '\n%-52s %10s  %-10s %-10s\n' 'failover.pml' states expected found
check 'the protocol, two faults'                   holds     safety
check 'three payments, no fault'                   holds     safety -DPAYMENTS=3 -DFAULTS=0
check 'an isolated primary fences at most once'    holds     safety -DFAULTS=1 "${disturbance[@]}"
check 'every payment is seen'                      holds     emission -DFAULTS=1
check 'no barrier before a marker'                 loss      safety -DFAULTS=1 -DNO_BARRIER_AT_MARKER
check 'no barrier before a commit'                 unknown   safety -DFAULTS=0 -DNO_BARRIER_AT_COMMIT
check 'the same, and unknown payments are allowed' order     safety -DFAULTS=0 "${allow_unknown[@]}"
check 'the same, and any order is allowed'         holds     safety -DFAULTS=1 "${any_order[@]}"
check 'the barrier of a commit before the claim'   unknown   safety -DFAULTS=0 -DBARRIER_BEFORE_CLAIM
check 'the barrier of a commit before the produce' holds     safety -DFAULTS=1 -DBARRIER_BEFORE_PRODUCE
check 'no barrier before the fence'                disturbed safety -DFAULTS=0 "${disturbance[@]}" -DNO_BARRIER_AT_FENCE
check 'the same, and one fence is allowed'         holds     safety -DFAULTS=1 -DNO_BARRIER_AT_FENCE "${one_fence[@]}"
check 'barriers on whichever database is primary'  loss      safety -DFAULTS=1 -DBARRIER_ELSEWHERE "${one_fence[@]}"
check 'no barrier before a replay'                 loss      safety -DFAULTS=1 -DNO_BARRIER_AT_REPLAY -DREJOIN
check 'that barrier on whichever is primary'       loss      safety -DFAULTS=0 -DREPLAY_ELSEWHERE -DREJOIN
check 'the API takes a cancelled wait for success' loss      safety -DFAULTS=1 -DUNSEEN_BY_API
check 'a sender takes it for success'              holds     safety -DFAULTS=1 -DUNSEEN_BY_SENDER

model=$PWD/floor.pml
printf '\n%-52s %10s  %-10s %-10s\n' 'floor.pml' states expected found
check 'the rules: no payment is skipped'           holds     safety
check 'three creates'                              holds     safety -DCREATES=3 -DBATCHES=4
check 'payments are sent again'                    holds     safety -DRESEND
check 'the sequence is set back'                   holds     safety -DSET_BACK -DCREATES=3 -DBATCHES=4
check 'locked delivery, which skips rows'          holds     safety -DLOCKED
check 'the floor does rise'                        rises     safety -DRISES
check 'a create draws before it has an id'         passed    safety -DNO_GATE
check 'the owner reads after it has its id'        passed    safety -DID_BEFORE_READ -DCREATES=3 -DBATCHES=4
check 'the floor rises before xmin does'           passed    safety -DNO_XMIN
check 'the floor rises before the commit'          passed    safety -DBEFORE_COMMIT
check 'the floor rises above a skipped row'         passed    safety -DLOCKED -DPASSES_SKIPPED
check 'resend leaves the generation'               passed    safety -DRESEND -DNO_GENERATION
check 'a query ignores the row'                    passed    safety -DRESEND -DNO_ROW
check 'the last value is ignored'                  passed    safety -DSET_BACK -DNO_LAST -DCREATES=3 -DBATCHES=4
exit "$failed"
