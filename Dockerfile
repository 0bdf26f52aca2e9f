# One image with the three programs; the command says which one runs.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/riverline/tollgate/internal/version.version=${VERSION}" \
      -o /out/ ./cmd/api ./cmd/worker ./cmd/tollgate \
 && mkdir -p /out/data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/api /out/worker /out/tollgate /usr/local/bin/
# Volumes that are mounted here start out owned by the unprivileged user.
COPY --from=build --chown=nonroot:nonroot /out/data /var/lib/tollgate
COPY --from=build --chown=nonroot:nonroot /out/data /var/lib/tollgate-journal
USER nonroot:nonroot
EXPOSE 8080 9090 9091
CMD ["/usr/local/bin/api"]
