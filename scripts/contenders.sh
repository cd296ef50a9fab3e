# shellcheck shell=bash
# Those who are measured by scripts/bench, and how. Sourced by bash after lib.sh; uses its SCRATCH, OUT, SEALIFT.
# shellcheck disable=SC2154 # set by scripts/bench

# reach HOST: the corpus is to be had there.
reach() {
    awk -F'\t' -v host="$1" '{ print host "/" $1 ":" $2 }' "$OUT/expect.tsv" >"$SCRATCH/images.txt"
    awk -F'\t' -v host="$1" 'BEGIN { printf "%s:\n  tls-verify: false\n  images:\n", host }
        { tags[$1] = tags[$1] (tags[$1] ? ", " : "") "\"" $2 "\"" }
        END { for (repository in tags) printf "    %s: [%s]\n", repository, tags[repository] }' "$OUT/expect.tsv" >"$SCRATCH/skopeo.yml"
    awk -F'\t' -v host="$1" '!seen[$2]++ { printf "url = \"http://%s/v2/%s/blobs/%s\"\noutput = \"%s\"\n", host, $1, $2, substr($2, 8) }' \
        "$OUT/blobs.tsv" >"$SCRATCH/curl"
    awk -F'\t' '!seen[$2]++ { print substr($2, 8) "  " substr($2, 8) }' "$OUT/blobs.tsv" | sort >"$SCRATCH/sums"
}

export_tar() {
    rm -f "$SCRATCH/bundle.tar"
    timed export-tar source "$SEALIFT" export --from "$SCRATCH/images.txt" --output "$SCRATCH/bundle.tar" --key "$SCRATCH/key"
}

export_directory() {
    put_aside "$SCRATCH/bundle"
    timed export-directory source "$SEALIFT" export --from "$SCRATCH/images.txt" --output "$SCRATCH/bundle" --key "$SCRATCH/key"
}

export_skopeo() {
    put_aside "$SCRATCH/dir"
    rm -f "$SKOPEO_KNOWS"
    mkdir "$SCRATCH/dir"
    timed export-skopeo source skopeo --insecure-policy sync --all --scoped --src yaml --dest dir "$SCRATCH/skopeo.yml" "$SCRATCH/dir"
}

export_around() {
    rm -f "$SCRATCH"/skopeo.tar "$SCRATCH"/SUMS*
    # shellcheck disable=SC2016
    timed export-around - bash -ec 'cd "$SCRATCH" && tar cf skopeo.tar dir && sha256sum skopeo.tar >SUMS && ssh-keygen -q -Y sign -f key -n file SUMS'
}

export_floor() {
    put_aside "$SCRATCH/floor"
    mkdir "$SCRATCH/floor"
    # shellcheck disable=SC2016
    timed export-floor source bash -ec 'cd "$SCRATCH/floor" && curl -fsS --parallel --parallel-max 4 -K ../curl &&
        cut -c 67- ../sums | xargs -P 2 -n 1 sha256sum | sort | cmp - ../sums'
}

import_tar() { import_bundle import-tar "$SCRATCH/bundle.tar"; }
import_directory() { import_bundle import-directory "$SCRATCH/bundle"; }

import_bundle() { # NAME BUNDLE
    fresh_registry
    in_memory "$2"
    timed "$1" destination "$SEALIFT" import "$2" "$to" --trust "$SCRATCH/key.allowed_signers"
    landed "$1"
}

import_skopeo() {
    rm -f "$SKOPEO_KNOWS"
    fresh_registry
    in_memory "$SCRATCH/dir"
    # shellcheck disable=SC2016
    timed import-skopeo destination bash -ec 'find "$SCRATCH/dir" -name manifest.json -printf "%h\n" | sed "s,/[^/]*\$,," | sort -u | while read -r parent; do
        below=${parent#"$SCRATCH/dir/"}
        skopeo --insecure-policy sync --all --preserve-digests --src dir --dest docker --dest-tls-verify=false "$parent" "$1/${below#*/}"
    done' skopeo "$to"
    landed import-skopeo
}

import_around() {
    in_memory "$SCRATCH/skopeo.tar"
    mkdir "$SCRATCH/unpacked"
    # shellcheck disable=SC2016
    timed import-around - bash -ec 'cd "$SCRATCH" && ssh-keygen -Y verify -f anybody -I bench -n file -s SUMS.sig <SUMS && sha256sum --strict -c SUMS &&
        tar xf skopeo.tar -C unpacked'
    put_aside "$SCRATCH/unpacked"
}

# What is imported is read from memory by everyone: which medium it came on is not measured.
in_memory() { find "$1" -type f -exec cat {} + >/dev/null; }

# put_aside PATH...: frees what a contender has written, and keeps the empty files until the script ends. ext4 without a
# journal searches past each file that was deleted in the last minutes when it makes another, which whoever comes next
# would pay for. What has a second name belongs to somebody else.
put_aside() {
    local path
    for path; do
        [ -e "$path" ] || continue
        find "$path" -type f -links 1 -size +0 -exec truncate --size 0 {} +
        mv "$path" "$(mktemp -d "$SCRATCH/aside.XXXXXX")"
    done
}

# timed NAME source|destination|- COMMAND...: adds a line to results; requests are those that came to that registry.
timed() {
    local name=$1 log=$SCRATCH/$2/log.out before=0 began ended asked=-
    shift 2
    [ ! -e "$log" ] || before=$(wc -l <"$log")
    sync
    began=$EPOCHREALTIME
    # shellcheck disable=SC2086 # UNDER is a command with its arguments, or nothing
    /usr/bin/time -q -f '%U %S %M %I %O' -o "$SCRATCH/time" $UNDER "$@" >"$SCRATCH/said" 2>&1 ||
        { tail -n 20 "$SCRATCH/said" >&2; die "$name failed"; }
    ended=$EPOCHREALTIME
    [ ! -e "$log" ] || asked=$(requests "$log" "$before")
    ((counts)) || return 0
    awk -v name="$part $fsync_is $name" -v began="$began" -v ended="$ended" -v asked="$asked" \
        '{ printf "%s %.3f %.2f %.1f %.1f %.1f %s\n", name, ended - began, $1 + $2, $3 / 1024, $4 / 2048, $5 / 2048, asked }' "$SCRATCH/time" |
        tee -a "$SCRATCH/results" | cut -d ' ' -f 3-8 >&2
}

# requests LOG LINE: what the registry was asked after that line: GET-manifests=48,GET-blobs=107
requests() {
    tail -n "+$(($2 + 1))" "$1" | awk '$6 ~ /^"[A-Z]+$/ {
        kind = "other"
        if ($7 ~ /\/manifests\//) kind = "manifests"
        else if ($7 ~ /[?&]mount=/) {
            # From itself it asks whether the blob is there, and opens an upload if not.
            to = from = $7
            sub(/^\/v2\//, "", to); sub(/\/blobs\/uploads\/.*/, "", to)
            sub(/.*[?&]from=/, "", from); sub(/&.*/, "", from); gsub(/%2F/, "/", from)
            kind = to == from ? "uploads" : "mounts"
        } else if ($7 ~ /\/blobs\/uploads/) kind = "uploads"
        else if ($7 ~ /\/blobs\//) kind = "blobs"
        else if ($7 ~ /\/tags\/list/) kind = "tags"
        else if ($7 ~ /\/referrers\//) kind = "referrers"
        count[substr($6, 2) "-" kind]++
    } END { for (what in count) { printf "%s%s=%d", comma, what, count[what]; comma = "," } if (!comma) printf "-" }'
}

# An empty destination for each import: sets `to`, perhaps behind a slow line (`line`: its latency and bandwidth).
fresh_registry() {
    put_aside "$SCRATCH/destination"
    docker_registry "$SCRATCH/destination"
    destination=$SERVER_HOST DESTINATION_PID=$SERVER_PID LINE_PID=''
    to=$destination
    [ ${#line[@]} -gt 0 ] || return 0
    background "$SCRATCH/line-in" "$YARDSTICK" line "$destination" "${line[@]}"
    to=$SERVER_HOST LINE_PID=$SERVER_PID
}

# A contender that did not land every name with its digest has not won anything; nor has the export that it came from.
landed() {
    awk -F'\t' -v host="$destination" '{ printf "url = \"http://%s/v2/%s/manifests/%s\"\n", host, $1, $2 }' "$OUT/expect.tsv" >"$SCRATCH/names"
    local oci=application/vnd.oci.image docker=application/vnd.docker.distribution
    curl -fsS --head -H "Accept: $oci.manifest.v1+json, $oci.index.v1+json, $docker.manifest.v2+json, $docker.manifest.list.v2+json" \
        -K "$SCRATCH/names" | tr -d '\r' | sed -n 's/^docker-content-digest: //Ip' | cmp -s - <(cut -f 3 "$OUT/expect.tsv") ||
        die "$1: not everything landed"
    [ -z "$LINE_PID" ] || stop "$LINE_PID"
    stop "$DESTINATION_PID"
}
