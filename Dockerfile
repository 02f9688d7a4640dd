# The image for those who have docker; `make image` makes the same without. Both: the static
# program, the names it is called by, CA roots, and nothing else.
#
#   docker build -t cluster-proxy .

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN . image/lib.sh \
    && build_program "$(this_arch)" release \
    && make_root /root-of-image "$(this_arch)" release

FROM scratch
COPY --from=build /root-of-image/ /
USER 65532:65532
ENTRYPOINT ["/cluster-proxy"]
