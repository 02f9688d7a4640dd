# shellcheck shell=bash
# Container images without a builder or a registry: an OCI layout is a few
# JSON files and a tar of the root folder.

# image --name REF… --rootfs DIR --out TAR [--entrypoint JSON] [--user U] [--env K=V]…
# REF becomes the image's name as it is, so an image may stand in for an
# upstream one of the same name, or with several --name for several. USER must
# be a number where pods set runAsNonRoot.
image() {
    local names=() rootfs='' out='' entrypoint='[]' user='' env=()
    while (($#)); do
        (($# >= 2)) || usage_error "image: $1 wants a value"
        case $1 in
        --name) names+=("$2") ;;
        --rootfs) rootfs=$2 ;;
        --out) out=$2 ;;
        --entrypoint) entrypoint=$2 ;;
        --user) user=$2 ;;
        --env) env+=("$2") ;;
        *) usage_error "image: unknown option $1" ;;
        esac
        shift 2
    done
    [[ -n ${names[*]} && -n $out ]] || usage_error "image: --name, --rootfs and --out are wanted"
    [[ -d $rootfs ]] || usage_error "image: --rootfs $rootfs is not a folder"
    jq -e 'type == "array"' <<<"$entrypoint" >/dev/null 2>&1 ||
        usage_error "image: --entrypoint wants a JSON list, as [\"/bin/sh\"]"

    local work layer size config manifest
    work=$(mktemp -d)
    mkdir -p "$work/oci/blobs/sha256"
    # Sorted and without times and owners, so the same folder gives the same image.
    tar -C "$rootfs" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/layer" .
    layer=$(sha256sum <"$work/layer" | cut -d' ' -f1)
    size=$(stat -c %s "$work/layer")
    mv "$work/layer" "$work/oci/blobs/sha256/$layer"

    config=$(jq -nc --argjson entrypoint "$entrypoint" --arg user "$user" --arg layer "sha256:$layer" \
        --arg arch "$(goarch)" '{
            architecture: $arch, os: "linux",
            config: {User: $user, Entrypoint: $entrypoint, WorkingDir: "/",
                     Env: (["PATH=/usr/local/bin:/usr/bin:/bin"] + $ARGS.positional)},
            rootfs: {type: "layers", diff_ids: [$layer]}
        }' --args "${env[@]}" | put_blob "$work/oci")
    manifest=$(jq -nc --argjson config "$config" --arg layer "sha256:$layer" --argjson size "$size" '{
            schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
            config: ($config + {mediaType: "application/vnd.oci.image.config.v1+json"}),
            layers: [{mediaType: "application/vnd.oci.image.layer.v1.tar", digest: $layer, size: $size}]
        }' | put_blob "$work/oci")
    jq -nc --argjson manifest "$manifest" '{
            schemaVersion: 2,
            manifests: [$ARGS.positional[] as $name
                | $manifest + {mediaType: "application/vnd.oci.image.manifest.v1+json",
                               annotations: {"io.containerd.image.name": $name}}]
        }' --args "${names[@]}" >"$work/oci/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
    tar -C "$work/oci" -cf "$out.new" .
    mv "$out.new" "$out"
    rm -rf "$work"
}

# put_blob LAYOUT <CONTENT: stores it, prints the descriptor's digest and size.
put_blob() {
    local content digest
    content=$(cat)
    digest=$(printf '%s' "$content" | sha256sum | cut -d' ' -f1)
    printf '%s' "$content" >"$1/blobs/sha256/$digest"
    jq -nc --arg digest "sha256:$digest" --argjson size "${#content}" '{digest: $digest, size: $size}'
}

goarch() {
    case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
    esac
}

# === the lab's own images ===

PAUSE_IMAGE=lab.local/pause:1
TOOLS_IMAGE=lab.local/tools:1
COREDNS_IMAGE=lab.local/coredns:$COREDNS_VERSION

# A folder of tars, named by all that goes into them.
images_dir() {
    printf '%s/images-%s' "$CACHE" "$({
        cat "$LAB_DIR/lib/image.sh" "$LAB_DIR/images/pause.c" /bin/busybox "$(command -v curl)"
        build_key coredns
    } | sha256sum | cut -c1-12)"
}

make_images() {
    local dir new root
    dir=$(images_dir)
    [[ -d $dir ]] && return
    say "making images: pause, tools, coredns"
    new=$dir.new.$$
    rm -rf "$new"
    mkdir -p "$new"

    root=$new/pause
    mkdir -p "$root"
    gcc -static -Os -s -o "$root/pause" "$LAB_DIR/images/pause.c"
    image --name "$PAUSE_IMAGE" --rootfs "$root" --out "$new/pause.tar" --entrypoint '["/pause"]' --user 65532

    root=$new/coredns
    mkdir -p "$root"
    cp "$(coredns_dir)/coredns" "$root/coredns"
    image --name "$COREDNS_IMAGE" --rootfs "$root" --out "$new/coredns.tar" --entrypoint '["/coredns"]'

    root=$new/tools
    tools_rootfs "$root"
    image --name "$TOOLS_IMAGE" --rootfs "$root" --out "$new/tools.tar" --entrypoint '["/bin/sh"]'

    rm -rf "$new"/{pause,coredns,tools}
    mv -T "$new" "$dir" 2>/dev/null || rm -rf "$new"
}

# busybox and curl. Not busybox's wget: it dies when it has to look up a name.
tools_rootfs() {
    local root=$1 library
    mkdir -p "$root"/{bin,usr/bin,etc,tmp,root}
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    # Relative links, and only where no program of its own comes later.
    "$root/bin/busybox" --list | grep -vx -e busybox -e wget | while read -r applet; do
        ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
    cp "$(command -v curl)" "$root/usr/bin/curl"
    # The libraries it is linked with, and the two that glibc loads for names.
    {
        ldd "$(command -v curl)" | grep -oE '/[^ ]+'
        ldconfig -p | grep -oE '/[^ ]+/libnss_(dns|files)\.so\.2' || true
    } | sort -u | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
}
