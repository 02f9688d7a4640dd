# shellcheck shell=bash
# How the image is made. For image/build and tests/image.
#
# The program is linked statically with glibc: its malloc is the one that the benchmarks were made
# with (musl's takes one lock for all threads), its resolver knows search domains, ndots and TCP,
# and Debian has all of it for both machines without another tool chain.

die() {
  echo "image: $*" >&2
  exit 1
}

# Names by which charts of the Go cluster-proxy call it.
PROGRAM_LINKS=(agent manager proxy-agent proxy-server)

# Roots that Mozilla trusts, as Debian's package ca-certificates has them: not what the building
# machine trusts besides.
ROOTS=/usr/share/ca-certificates/mozilla

this_arch() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) die "no image for $(uname -m)" ;;
  esac
}

# triple ARCH: the target as Rust names it.
triple() {
  case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    *) die "there is no architecture \"$1\", only amd64 and arm64" ;;
  esac
}

# tool ARCH NAME: a program of the C tool chain for ARCH.
tool() {
  if [ "$1" = "$(this_arch)" ]; then
    echo "$2"
  else
    echo "$(triple "$1" | sed 's/-unknown//')-$2"
  fi
}

program_version() { sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"$/\1/p' Cargo.toml; }

# need_tools ARCH: what is missing, installed where that is possible.
need_tools() {
  local arch=$1 target missing=()
  target=$(triple "$arch")
  if command -v rustup >/dev/null; then
    rustup target list --installed | grep -qx "$target" || rustup target add "$target"
  fi
  command -v jq >/dev/null || missing+=(jq)
  [ -d "$ROOTS" ] || missing+=(ca-certificates)
  if ! command -v "$(tool "$arch" gcc)" >/dev/null || ! command -v "$(tool "$arch" strip)" >/dev/null; then
    if [ "$arch" = "$(this_arch)" ]; then
      missing+=(gcc libc6-dev)
    else
      missing+=("gcc-$(tool "$arch" '')" "libc6-dev-$arch-cross")
    fi
  fi
  [ "${#missing[@]}" -gt 0 ] || return 0
  # The name of Debian's package has no dash at its end.
  missing=("${missing[@]%-}")
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "missing: ${missing[*]} (Debian's names); or use the Dockerfile"
  fi
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
}

# build_program ARCH PROFILE [PACKAGE]
build_program() {
  local target variable settings
  target=$(triple "$1")
  variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")
  # Only for that target, and so not for build scripts.
  settings=("${variable}_RUSTFLAGS=-C target-feature=+crt-static")
  [ "$1" = "$(this_arch)" ] || settings+=("${variable}_LINKER=$(tool "$1" gcc)")
  env "${settings[@]}" \
    cargo build --locked --package "${3:-cluster-proxy}" --target "$target" --profile "$2"
}

# built_program ARCH PROFILE: where build_program leaves it.
built_program() {
  local folder=$2
  [ "$folder" != dev ] || folder=debug
  echo "${CARGO_TARGET_DIR:-target}/$(triple "$1")/$folder/cluster-proxy"
}

# make_root FOLDER ARCH PROFILE: the image's files.
make_root() {
  local root=$1 link
  mkdir -p "$root/etc/ssl/certs"
  # With the names of functions, for backtraces, it would be beyond 30 MB.
  "$(tool "$2" strip)" --strip-all -o "$root/cluster-proxy" "$(built_program "$2" "$3")"
  for link in "${PROGRAM_LINKS[@]}"; do ln -s cluster-proxy "$root/$link"; done
  cat "$ROOTS"/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
  find "$root" -type d -exec chmod 0755 {} +
  chmod 0755 "$root/cluster-proxy"
  chmod 0644 "$root/etc/ssl/certs/ca-certificates.crt"
}

# pack WORK ARCH VERSION TAR NAME…: WORK/root as an image in TAR, the same bytes for the same files.
pack() {
  local work=$1 arch=$2 version=$3 tar=$4 blobs layer config manifest name names=()
  shift 4
  blobs=$work/oci/blobs/sha256
  mkdir -p "$blobs"
  reproducible_tar "$work/root" "$work/layer"
  local unpacked
  unpacked=$(digest "$work/layer")
  gzip -n -9 <"$work/layer" >"$work/layer.gz"
  layer=$(put "$work/layer.gz" "$blobs")

  cat >"$work/config" <<JSON
{"created":"1970-01-01T00:00:00Z","architecture":"$arch","os":"linux","config":{"User":"65532:65532","Entrypoint":["/cluster-proxy"],"WorkingDir":"/","Labels":{"org.opencontainers.image.title":"cluster-proxy","org.opencontainers.image.version":"$version","org.opencontainers.image.licenses":"Apache-2.0"}},"rootfs":{"type":"layers","diff_ids":["sha256:$unpacked"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"image/build"}]}
JSON
  config=$(put "$work/config" "$blobs")
  cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",$config},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",$layer}]}
JSON
  manifest=$(put "$work/manifest" "$blobs")
  for name in "$@"; do
    names+=("{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",$manifest,\"annotations\":{\"io.containerd.image.name\":\"$name\",\"org.opencontainers.image.ref.name\":\"${name##*:}\"},\"platform\":{\"architecture\":\"$arch\",\"os\":\"linux\"}}")
  done
  (
    IFS=,
    echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[${names[*]}]}"
  ) >"$work/oci/index.json"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
  reproducible_tar "$work/oci" "$tar.new"
  mv "$tar.new" "$tar"
}

reproducible_tar() {
  # Root's files, which the image's user cannot write.
  tar -C "$1" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu -cf "$2" .
}

digest() { sha256sum <"$1" | cut -d' ' -f1; }

# put FILE BLOBS: moves it there, and gives the fields that describe it.
put() {
  local sum
  sum=$(digest "$1")
  echo "\"digest\":\"sha256:$sum\",\"size\":$(stat -c %s "$1")"
  mv "$1" "$2/$sum"
}
