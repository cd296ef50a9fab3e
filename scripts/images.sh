# shellcheck shell=bash
# Images from Debian packages. Sourced by bash after lib.sh; needs OUT (the tree) to be set.
# Written with printf and curl on purpose: content for tests must not come from the code under test.
#
# Every maker prints the digest of the manifest it made. What a manifest reaches is kept in $OUT/.reach/<hex>, a line
# `blob|manifest DIGEST SIZE MEDIATYPE` each, children before parents, the manifest itself last.

OCI=application/vnd.oci.image
DOCKER=application/vnd.docker
EMPTY_TYPE=application/vnd.oci.empty.v1+json

new_tree() {
    [ ! -e "$OUT" ] || [ -z "$(ls -A "$OUT")" ] || die "$OUT is not empty"
    mkdir -p "$OUT/blobs/sha256" "$OUT/.reach" "$OUT/.layers"
}

# add_blob FILE: moves FILE into the tree; prints `DIGEST SIZE`.
add_blob() {
    local hex size
    hex=$(sha256sum <"$1") && hex=${hex%% *}
    size=$(stat -c %s "$1")
    chmod 644 "$1"
    mv "$1" "$OUT/blobs/sha256/$hex"
    echo "sha256:$hex $size"
}

# add_text TEXT: the same for a few bytes, without a trailing newline.
add_text() {
    local file
    file=$(mktemp "$OUT/.text.XXXXXX")
    printf %s "$1" >"$file"
    add_blob "$file"
}

# layer_tar SPEC: the uncompressed tar of PACKAGE:ARCHITECTURE, of `empty`, or of `random-SEED-MIB` (does not compress).
layer_tar() {
    local seed=${1#random-}
    case $1 in
    empty) head -c 1024 /dev/zero ;;
    random-*) openssl enc -aes-128-ctr -pass "pass:${seed%-*}" -nosalt -md sha256 -in /dev/zero 2>/dev/null | head -c $((${seed#*-} << 20)) || true ;;
    *) dpkg-deb --fsys-tarfile "$(deb_file "$1")" ;;
    esac
}

# make_layer SPEC[=gzip|zstd|plain]: keeps `DIGEST SIZE DIFFID CODEC` in .layers, so that a shared layer is made once.
make_layer() {
    local spec=${1%%=*} codec=gzip file diff_id
    [ "$spec" = "$1" ] || codec=${1#*=}
    local memo=$OUT/.layers/$spec=$codec
    [ ! -s "$memo" ] || return 0
    file=$(mktemp "$OUT/.layer.XXXXXX")
    case $codec in
    gzip) diff_id=$(layer_tar "$spec" | tee >(gzip -n -6 >"$file"; : >"$file.done") | sha256sum) ;;
    zstd) diff_id=$(layer_tar "$spec" | tee >(zstd -q -3 -T1 -c >"$file"; : >"$file.done") | sha256sum) ;;
    plain) diff_id=$(layer_tar "$spec" | tee "$file" | sha256sum) && : >"$file.done" ;;
    *) die "no such compression: $codec" ;;
    esac
    # tee does not wait for its process substitution.
    while [ ! -e "$file.done" ]; do sleep 0.01; done
    rm "$file.done"
    echo "$(add_blob "$file") sha256:${diff_id%% *} $codec" >"$memo.new"
    mv "$memo.new" "$memo"
}

# make_layers SPEC...: several at a time, for trees with many.
make_layers() {
    export OUT DEBS
    export -f make_layer layer_tar add_blob deb_file die
    printf '%s\n' "$@" | sort -u | xargs -r -P "$(nproc)" -I '{}' bash -c 'set -euo pipefail; make_layer "$1"' make_layers '{}'
}

layer_type() {
    case $1-$2 in
    docker-plain) echo $DOCKER.image.rootfs.diff.tar ;;
    docker-gzip) echo $DOCKER.image.rootfs.diff.tar.gzip ;;
    oci-plain) echo $OCI.layer.v1.tar ;;
    oci-*) echo "$OCI.layer.v1.tar+$2" ;;
    esac
}

descriptor() { printf '{"mediaType":"%s","digest":"%s","size":%s' "$1" "$2" "$3"; }

# remember DIGEST SIZE MEDIATYPE [REACH-LINES]: writes .reach and prints the digest.
remember() {
    { printf '%s' "${4:-}"; echo "manifest $1 $2 $3"; } | awk '!seen[$2]++' >"$OUT/.reach/${1#sha256:}"
    echo "$1"
}

# image oci|docker ARCHITECTURE LAYER...
# ODD=1 writes the manifest as no tool would, to see whether its bytes survive.
image() {
    local flavour=$1 arch=$2 spec digest size diff_id codec type layers='' diff_ids='' reach='' config
    shift 2
    for spec; do
        make_layer "$spec"
        [[ $spec == *=* ]] || spec=$spec=gzip
        read -r digest size diff_id codec <"$OUT/.layers/$spec"
        type=$(layer_type "$flavour" "$codec")
        layers+=${layers:+,}$(descriptor "$type" "$digest" "$size")"}"
        diff_ids+=${diff_ids:+,}\"$diff_id\"
        reach+="blob $digest $size $type"$'\n'
    done
    config=$(add_text "{\"architecture\":\"$arch\",\"os\":\"linux\",\"config\":{\"Env\":[\"PATH=/usr/bin:/bin\"],\"Cmd\":[\"/bin/sh\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$diff_ids]}}")
    if [ "$flavour" = docker ]; then
        manifest $DOCKER.distribution.manifest.v2+json $DOCKER.container.image.v1+json "$config" "$layers" "$reach"
    else
        manifest $OCI.manifest.v1+json $OCI.config.v1+json "$config" "$layers" "$reach"
    fi
}

# manifest TYPE CONFIG-TYPE "CONFIG-DIGEST SIZE" LAYERS REACH [MORE-FIELDS]
manifest() {
    local text
    # shellcheck disable=SC2086 # "DIGEST SIZE" is meant to be two words
    text="{\"schemaVersion\":2,\"mediaType\":\"$1\",\"config\":$(descriptor "$2" $3)},\"layers\":[$4]${6:-}}"
    if [ -n "${ODD:-}" ]; then
        text=$(printf '\n{\t"x-unknown" : { "kept": [ 1, 2.50, 1e3, "\\u00e9\\/", null ] },\r\n  %s  \n\n.' "${text#\{}")
        text=${text%.}
    fi
    # shellcheck disable=SC2046
    remember $(add_text "$text") "$1" "blob $3 $2"$'\n'"$5"
}

# index oci|docker DIGEST[@PLATFORM-ARCHITECTURE]...: of manifests made before.
index() {
    local type=$OCI.index.v1+json child digest size child_type children='' reach=''
    [ "$1" = oci ] || type=$DOCKER.distribution.manifest.list.v2+json
    shift
    for child; do
        read -r _ digest size child_type < <(tail -n 1 "$OUT/.reach/$(hex_of "${child%@*}")")
        children+=${children:+,}$(descriptor "$child_type" "$digest" "$size")
        [ "${child%@*}" = "$child" ] || children+=",\"platform\":{\"architecture\":\"${child#*@}\",\"os\":\"linux\"}"
        children+='}'
        reach+=$(cat "$OUT/.reach/$(hex_of "$digest")")$'\n'
    done
    # shellcheck disable=SC2046
    remember $(add_text "{\"schemaVersion\":2,\"mediaType\":\"$type\",\"manifests\":[$children]}") "$type" "$reach"
}

hex_of() { echo "${1#sha256:}"; }

# artifact SUBJECT ARTIFACT-TYPE LAYER-TYPE TEXT: an OCI 1.1 artifact that refers to SUBJECT.
artifact() {
    local type digest size layer subject
    read -r _ digest size type < <(tail -n 1 "$OUT/.reach/$(hex_of "$1")")
    subject=$(descriptor "$type" "$digest" "$size")"}"
    layer=$(add_text "$4")
    # shellcheck disable=SC2086
    manifest $OCI.manifest.v1+json $EMPTY_TYPE "$(add_text '{}')" "$(descriptor "$3" $layer)}" "blob $layer $3"$'\n' \
        ",\"subject\":$subject,\"artifactType\":\"$2\""
}

# publish REPOSITORY TAG|- DIGEST TRAITS: adds lines to refs.tsv, blobs.tsv and expect.tsv; `-`: by digest only.
publish() {
    local repository=$1 reference=$2 top=$3 kind digest size type top_type
    [ "$reference" != - ] || reference=$top
    read -r _ _ _ top_type < <(tail -n 1 "$OUT/.reach/$(hex_of "$top")")
    while read -r kind digest size type; do
        case $kind in
        blob) printf '%s\t%s\n' "$repository" "$digest" >>"$OUT/.blobs" ;;
        manifest)
            [ "$digest" = "$top" ] || printf '%s\t%s\t%s\t%s\n' "$repository" "$digest" "$digest" "$type" >>"$OUT/.refs"
            ;;
        esac
    done <"$OUT/.reach/$(hex_of "$top")"
    printf '%s\t%s\t%s\t%s\n' "$repository" "$reference" "$top" "$top_type" >>"$OUT/.refs"
    awk -v head="$repository	$reference	$top	$top_type	$4" \
        '{ n++; bytes += $3 } END { printf "%s\t%d\t%.0f\n", head, n, bytes }' "$OUT/.reach/$(hex_of "$top")" >>"$OUT/.expect"
}

# end_tree: the lists in their final form, without repetitions and in the order in which pushing works.
end_tree() {
    local list
    for list in refs blobs expect; do awk '!seen[$0]++' "$OUT/.$list" >"$OUT/$list.tsv"; done
    rm -rf "$OUT"/.reach "$OUT"/.layers "$OUT"/.refs "$OUT"/.blobs "$OUT"/.expect
}
