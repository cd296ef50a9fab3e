# shellcheck shell=bash
# What the scripts here share: narration, Debian packages, a real registry. Sourced by bash, never run.
# Everything started by `background` is ended, by its own process id, when the script ends.

set -euo pipefail
export LC_ALL=C

# shellcheck disable=SC2034 # for those who source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DEBS=${SEALIFT_DEBS:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/sealift-debs}
BACKGROUND_PIDS=()
ON_EXIT=()

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# run COMMAND...: shows the command as one would type it, then runs it.
run() {
    { printf '$'; printf ' %q' "$@"; echo; } >&2
    "$@"
}

need() {
    local tool
    for tool; do command -v "$tool" >/dev/null || die "$tool is missing: scripts/test --install brings it"; done
}

at_exit() { ON_EXIT+=("$1"); trap finish EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; }

finish() {
    local pid command
    for pid in ${BACKGROUND_PIDS[@]+"${BACKGROUND_PIDS[@]}"}; do kill "$pid" 2>/dev/null || true; done
    for pid in ${BACKGROUND_PIDS[@]+"${BACKGROUND_PIDS[@]}"}; do wait "$pid" 2>/dev/null || true; done
    for command in ${ON_EXIT[@]+"${ON_EXIT[@]}"}; do eval "$command" || true; done
}

# scratch: sets SCRATCH to a directory that goes away with the script.
scratch() {
    SCRATCH=$(mktemp -d)
    at_exit "rm -rf -- '$SCRATCH'"
}

# background LOG COMMAND...: starts a server; waits until LOG.out or LOG.err says
# `listening on [http://]127.0.0.1:PORT`; sets SERVER_HOST to that address and SERVER_PID.
background() {
    local log=$1 tries
    shift
    : >"$log.out"
    : >"$log.err"
    "$@" >"$log.out" 2>"$log.err" </dev/null &
    SERVER_PID=$!
    BACKGROUND_PIDS+=("$SERVER_PID")
    at_exit :
    for ((tries = 0; tries < 200; tries++)); do
        SERVER_HOST=$(sed -nE 's/.*listening on (http:\/\/)?(127\.0\.0\.1:[0-9]+).*/\2/p' "$log.out" "$log.err" | head -n 1)
        [ -z "$SERVER_HOST" ] || return 0
        kill -0 "$SERVER_PID" 2>/dev/null || break
        sleep 0.05
    done
    cat "$log.out" "$log.err" >&2
    die "$1 did not start"
}

# stop PID: ends one server started by `background`.
stop() {
    local pid rest=()
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    # Its number may be somebody else's when the script ends.
    for pid in "${BACKGROUND_PIDS[@]}"; do [ "$pid" = "$1" ] || rest+=("$pid"); done
    BACKGROUND_PIDS=(${rest[@]+"${rest[@]}"})
}

# docker_registry DIRECTORY: Debian's docker-registry with its storage in DIRECTORY, on a port the kernel picks; run by
# the command UNDER, if there is one.
docker_registry() {
    need docker-registry
    mkdir -p "$1/storage"
    cat >"$1/config.yml" <<YAML
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: "$1/storage"}, delete: {enabled: true}}
http: {addr: "127.0.0.1:0", secret: only-for-tests}
YAML
    # shellcheck disable=SC2086 # a command with its arguments
    background "$1/log" ${UNDER:-} docker-registry serve "$1/config.yml"
}

# apt_get COMMAND...: runs an apt-get command; waits up to 10 minutes while another program holds apt's locks.
# DPkg::Lock::Timeout does not cover the lock of `apt-get update`.
apt_get() {
    local tries told
    for ((tries = 0; ; tries++)); do
        ! told=$(run "$@" 2>&1) || { printf '%s\n' "$told" >&2; return 0; }
        case $told in
            *'Could not get lock'* | *'Unable to lock'* | *'Unable to acquire'*) [ "$tries" -lt 120 ] || break ;;
            *) break ;;
        esac
        [ "$tries" -gt 0 ] || say 'Another program uses apt; waiting for it'
        sleep 5
    done
    printf '%s\n' "$told" >&2
    return 1
}

# fetch_debs PACKAGE:ARCHITECTURE...: brings what is not in the cache yet, as $DEBS/PACKAGE_ARCHITECTURE.deb. apt gets
# a state directory of its own, so that the system's architectures, lists and caches are neither used nor changed.
fetch_debs() {
    local spec missing=() state found
    for spec; do [ -s "$(deb_file "$spec")" ] || missing+=("$spec"); done
    [ ${#missing[@]} -gt 0 ] || return 0
    mkdir -p "$DEBS"
    # Two scripts that want the same packages take turns; whoever comes second finds them there.
    exec 9>"$DEBS/.lock"
    flock 9
    state=$DEBS/.apt
    mkdir -p "$state/lists/partial" "$state/archives/partial"
    : >"$state/status"
    local apt=(apt-get -qq -o "APT::Architectures=amd64,arm64" -o APT::Architecture=amd64 -o Acquire::Languages=none
        -o Acquire::Retries=3 -o APT::Sandbox::User="$(id -un)" -o Dir::State="$state" -o Dir::State::status="$state/status"
        -o Dir::Cache="$state")
    printf 'fetching %d Debian packages into %s\n' ${#missing[@]} "$DEBS" >&2
    # A third-party source without arm64 makes this fail although Debian's own lists arrived; the download will tell.
    "${apt[@]}" update >&2 || true
    found=$(mktemp -d "$DEBS/.new.XXXXXX")
    (cd "$found" && "${apt[@]}" download "${missing[@]}" >&2) || die "apt-get could not download: ${missing[*]}"
    for spec in "${missing[@]}"; do
        mv "$found/${spec%:*}"_*_"${spec#*:}".deb "$(deb_file "$spec")" 2>/dev/null ||
            mv "$found/${spec%:*}"_*_all.deb "$(deb_file "$spec")"
    done
    rm -rf "$found" "$state"
    exec 9>&-
}

deb_file() { printf '%s/%s_%s.deb' "$DEBS" "${1%:*}" "${1#*:}"; }
