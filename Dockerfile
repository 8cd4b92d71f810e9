# syntax=docker/dockerfile:1
# One image with both programs: static binaries over distroless, no shell, not root. It needs no
# writable file system.

FROM golang:1.26 AS build
ENV GOMODCACHE=/cache/mod GOCACHE=/cache/build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache go mod download
COPY cmd cmd
COPY client client
COPY internal internal
COPY migrations migrations
# What `paylatch version` prints; `make up` passes both. They come after the sources, so that a new
# commit alone rebuilds nothing but the programs.
ARG VERSION=
ARG COMMIT=
RUN --mount=type=cache,target=/cache \
    pkg=github.com/paylatch/paylatch/internal/buildinfo && CGO_ENABLED=0 go build -trimpath -buildvcs=false \
    -ldflags="-s -w -X $pkg.version=$VERSION -X $pkg.commit=$COMMIT" -o /out/ ./cmd/paylatch ./cmd/payclient

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
ENTRYPOINT ["paylatch"]
