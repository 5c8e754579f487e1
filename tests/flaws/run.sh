#!/bin/bash
# Brings each flaw back in a scratch clone of HEAD, one by one, and expects the test that is named with it to go red.
# Usage: tests/flaws/run.sh [EDIT…]     all of tests/flaws/*.edit when none is named
set -euo pipefail
project=$(cd "$(dirname "$0")/../.." && pwd)
scratch=${RKE2FLOW_FLAWS_DIR:-$(mktemp -d)}
limit_seconds=900 # for one build and one test

if [ $# -eq 0 ]; then set -- "$project"/tests/flaws/*.edit; fi
edits=()
for edit in "$@"; do edits+=("$(realpath "$edit")"); done

clone=$scratch/clone
[ -d "$clone" ] || git clone --quiet "$project" "$clone"
git -C "$clone" fetch --quiet origin HEAD
git -C "$clone" checkout --quiet --force --detach FETCH_HEAD
export CARGO_TARGET_DIR=$scratch/target RKE2FLOW_LAB=${RKE2FLOW_LAB:-}
# Each edit is a build: an unoptimised one is compiled in part only, and several times as fast.
fast=()
for crate in engine steps twin; do fast+=(--config "profile.dev.package.rke2flow-$crate.opt-level=0"); done

field() { sed -n "/^---/q; s/^$1 //p" "$2"; }
# The text between two marks, without its last line end.
part() { awk -v from="--- $1" '/^--- /{on = ($0 == from); next} on' "$2" | perl -pe 'chomp if eof'; }
# Exit status of the test; 99 when it does not compile, or when no test has this name.
try() {
    local arguments log=$scratch/log
    read -ra arguments <<<"$1"
    if ! (cd "$clone" && cargo "${fast[@]}" test --quiet "${arguments[@]}" --no-run) >"$log" 2>&1; then return 99; fi
    if (cd "$clone" && timeout "$limit_seconds" cargo "${fast[@]}" test "${arguments[@]}") >"$log" 2>&1; then
        grep -Eq '^running [1-9]' "$log" || return 99
        return 0
    fi
    return 1
}

caught=0 missed=()
for edit in "${edits[@]}"; do
    name=$(basename "$edit" .edit) file=$clone/$(field file "$edit") test=$(field test "$edit") green=0 red=0
    try "$test" || green=$?
    FIND=$(part find "$edit") REPLACE=$(part replace "$edit") \
        perl -0777 -pi -e '$n = () = /\Q$ENV{FIND}\E/g; die "not exactly once: $n\n" if $n != 1; s/\Q$ENV{FIND}\E/$ENV{REPLACE}/' "$file"
    try "$test" || red=$?
    git -C "$clone" checkout --quiet --force
    case $green:$red in
    0:1) caught=$((caught + 1)) && printf 'red    %s\n' "$name" ;;
    0:99) missed+=("$name: does not compile with the edit, or its test is gone") ;;
    0:*) missed+=("$name: the test does not notice") ;;
    *) missed+=("$name: the test is not green without the edit, or there is none") ;;
    esac
done
printf '%d of %d edits were noticed\n' "$caught" "${#edits[@]}"
for line in "${missed[@]}"; do printf 'MISSED %s\n' "$line"; done
[ ${#missed[@]} -eq 0 ]
