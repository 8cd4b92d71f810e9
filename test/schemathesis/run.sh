#!/usr/bin/env bash
# Runs schemathesis against a service of its own: requests made from /openapi.json, right ones and
# wrong ones. It fails on any 5xx and on any response outside the document. It needs Python 3 and
# PyPI, and takes about a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=4.32.5
venv=$PWD/.cache/schemathesis-$version
[[ -x $venv/bin/schemathesis ]] ||
    { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "schemathesis==$version"; }

work=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || { kill "$pid"; wait "$pid" || true; }; rm -rf "$work"' EXIT
go build -buildvcs=false -o "$work/paylatch-dev" ./cmd/paylatch-dev
"$work/paylatch-dev" run --ephemeral --listen 127.0.0.1:0 --kafka-listen 127.0.0.1:0 > "$work/out" &
pid=$!
for _ in $(seq 600); do grep -q '^ready ' "$work/out" && break; kill -0 "$pid"; sleep 0.1; done
api=$(sed -n 's/^ready api=\([^ ]*\).*/\1/p' "$work/out")
key=$(sed -n 's/^ready .*key=\([^ ]*\).*/\1/p' "$work/out")

# What the document cannot say is not checked: that an IBAN's check digits are right
# (positive_data_acceptance).
cd "$work" # It leaves what it learnt in its working directory.
"$venv/bin/schemathesis" run "$api/openapi.json" --url "$api" --header "Authorization: Bearer $key" \
    --seed "${SEED:-1}" --checks all --exclude-checks positive_data_acceptance --phases examples,coverage,fuzzing \
    --max-examples "${EXAMPLES:-100}" --suppress-health-check all --continue-on-failure "$@"
