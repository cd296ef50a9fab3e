# shellcheck shell=bash
# The way of a tree made by images.sh into a registry, with curl alone. Sourced by bash after lib.sh; needs OUT to be set.

# push_tree URL: everything in OUT. Each blob goes up once and is mounted where else it is needed.
push_tree() {
    export OUT PUSH_URL=$1
    export -f push_blob upload_location
    # First the first repository that wants each blob, then the others, which can mount from it.
    awk -F'\t' '!($2 in home) { home[$2] = $1; print $1 "\t" $2 "\t-" }' "$OUT/blobs.tsv" |
        xargs -r -P 4 -L 1 bash -c 'push_blob "$@"' push_blob
    awk -F'\t' '!($2 in home) { home[$2] = $1; next } { print $1 "\t" $2 "\t" home[$2] }' "$OUT/blobs.tsv" |
        xargs -r -P 4 -L 1 bash -c 'push_blob "$@"' push_blob
    local repository reference digest type
    while IFS=$'\t' read -r repository reference digest type; do
        curl -fsS -o /dev/null -X PUT -H "Content-Type: $type" --data-binary "@$OUT/blobs/sha256/${digest#sha256:}" \
            "$PUSH_URL/v2/$repository/manifests/$reference" || die "$repository: $reference was refused"
    done <"$OUT/refs.tsv"
}

# push_blob REPOSITORY DIGEST FROM|-
push_blob() {
    local url=$PUSH_URL/v2/$1/blobs query='' answer location
    ! curl -fsI -o /dev/null "$url/$2" 2>/dev/null || return 0
    [ "$3" = - ] || query="?mount=$2&from=$3"
    answer=$(curl -sS -D - -o /dev/null -X POST -H 'Content-Length: 0' "$url/uploads/$query")
    case $answer in
    "HTTP/1.1 201 "*) return 0 ;;
    "HTTP/1.1 202 "*) ;;
    *) echo "$1: no upload of $2: ${answer%%$'\r'*}" >&2; return 255 ;;
    esac
    location=$(upload_location "$answer")
    case $location in *\?*) location="$location&digest=$2" ;; *) location="$location?digest=$2" ;; esac
    curl -fsS -o /dev/null -H 'Content-Type: application/octet-stream' -H 'Expect:' -T "$OUT/blobs/sha256/${2#sha256:}" "$location" ||
        { echo "$1: $2 was refused" >&2; return 255; }
}

upload_location() {
    local location
    location=$(sed -n 's/^[Ll]ocation: *//p' <<<"$1" | tr -d '\r')
    case $location in /*) location=$PUSH_URL$location ;; esac
    echo "$location"
}
