#!/usr/bin/env bash
# Builds the servers that tests/backends, tests/policy and `make demo-jaeger` run: Jaeger, the Collector, Tempo and OPA from pinned Go modules,
# Prometheus from Debian. Once, into a cache outside the checkout; what is there at its pinned version is left alone, and what was interrupted goes on where
# Go's build cache has it.
#
#   collector-config/build-backends.sh                      everything
#   collector-config/build-backends.sh jaeger collector     only these
#
# OTELRT_BACKENDS names another folder than ~/.cache/otel-runtime/backends; what begins with OTEL_RUNTIME_ would be a setting. GOFLAGS=-p=1 and
# `nice` keep a small machine usable.
# Exit codes: 0 Jaeger and the Collector are there, 1 one of them could not be built, 2 Go is missing or too old, or a wrong word.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${OTELRT_BACKENDS:-${XDG_CACHE_HOME:-$HOME/.cache}/otel-runtime/backends}
bin=$cache/bin logs=$cache/log src=$cache/src stamps=$cache/stamp

# Jaeger 2.20.0, by commit: its tag has no /v2 module path. The second is what the module index lists last, Jaeger 2.13.0.
jaeger_pins=(798e4b0fcf22609e381df764a01461affd813e1e v1.76.0)
# The first by commit, where the proxy still asks its origin. The second is of May 2025 (2.8) and not in Go's checksum database, so its sum stands
# here and is compared instead.
tempo_pins=(005325e425d49548f7d5c242352639da06f0e2e8 "v1.5.1-0.20250529124718-87c2dc380cec#h1:wnzJov9RhSHGaTYGzTygL4qq986fLen8xSqnQgaMd28=")
builder_version=v0.159.0
opa_version=v1.22.0
go_minimum=1.26

# Process id of what runs in the background, for Ctrl-C: bash lets such processes ignore it.
running=
trap '[[ -z $running ]] || kill "$running" 2>/dev/null; echo "backends: stopped; the next run goes on from here" >&2; exit 130' INT TERM

say() { printf 'backends: %s\n' "$*"; }

need_go() {
  local found
  if ! command -v go >/dev/null; then
    say "expected Go $go_minimum or newer, found none; install it (https://go.dev/dl), or use containers: docker compose -f collector-config/compose.yaml up" >&2
    exit 2
  fi
  found=$(go env GOVERSION)
  found=${found#go}
  if [[ $(printf '%s\n%s\n' "$go_minimum" "${found%%-*}" | sort -V | head -n 1) != "$go_minimum" ]]; then
    say "expected Go $go_minimum or newer, got $found; install a newer one from https://go.dev/dl" >&2
    exit 2
  fi
}

# there NAME PIN: it was built from this pin and still lies there.
there() { [[ -x $bin/$1 && -f $stamps/$1 && $(<"$stamps/$1") == "$2" ]]; }

# logged NAME COMMAND...: runs it, everything into one log, a sign of life every 30 seconds.
logged() {
  local name=$1 log=$logs/$1.log started=$SECONDS pid
  shift
  "$@" >>"$log" 2>&1 &
  pid=$!
  running=$pid
  while kill -0 "$pid" 2>/dev/null; do
    for _ in {1..30}; do
      kill -0 "$pid" 2>/dev/null || break
      # In the background and waited for, so that a signal is seen at once.
      sleep 1 &
      wait $! || true
    done
    if kill -0 "$pid" 2>/dev/null; then
      say "$name: $((SECONDS - started)) s, $(wc -l <"$log") lines in $log"
    fi
  done
  running=
  wait "$pid"
}

# fetched MODULE PIN: folder of the module's source in Go's cache; Go's own words on standard error when it cannot be had. A pin
# VERSION#SUM is checked against that sum, others against Go's checksum database.
fetched() {
  local answer sum='' unlisted=''
  [[ $2 != *'#'* ]] || { sum=${2#*#}; unlisted=$1; }
  answer=$(cd "$src" && GOFLAGS=-mod=mod GONOSUMDB="$unlisted" go mod download -json "$1@${2%%#*}") ||
    { sed -n 's/^.*"Error": "\(.*\)".*$/\1/p' <<<"$answer" >&2; return 1; }
  [[ -z $sum || $answer == *"\"Sum\": \"$sum\""* ]] ||
    { echo "expected the sum $sum, got $(sed -n 's/^.*"Sum": "\(.*\)".*$/\1/p' <<<"$answer")" >&2; return 1; }
  sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p' <<<"$answer"
}

# from_module NAME MODULE PACKAGE PIN...: builds inside the module's own folder, so that its own go.sum and `replace` lines hold.
from_module() {
  local name=$1 module=$2 package=$3 pin folder
  shift 3
  for pin; do
    there "$name" "$pin" && { say "$name: is there ($pin)"; return; }
  done
  : >"$logs/$name.log"
  for pin; do
    say "$name: fetching $module@$pin"
    if ! folder=$(fetched "$module" "$pin" 2>>"$logs/$name.log"); then
      say "$name: $pin cannot be had here: $(tail -n 1 "$logs/$name.log")"
      continue
    fi
    say "$name: compiling, 5 to 25 minutes the first time"
    # shellcheck disable=SC2016 # the inner shell expands them
    logged "$name" sh -c 'cd "$1" && exec env CGO_ENABLED=0 go build -v -trimpath -buildvcs=false -mod=readonly -ldflags="-s -w" -o "$2" "$3"' \
      - "$folder" "$bin/$name" "$package" || { say "$name: $pin does not build; see $logs/$name.log"; continue; }
    printf '%s' "$pin" >"$stamps/$name"
    say "$name: built from $pin"
    return
  done
  return 1
}

build_jaeger() { from_module jaeger github.com/jaegertracing/jaeger ./cmd/jaeger "${jaeger_pins[@]}"; }

build_tempo() { from_module tempo github.com/grafana/tempo ./cmd/tempo "${tempo_pins[@]}"; }

# A builder of one Collector: NAME MANIFEST.
collector_from() {
  local name=$1 manifest=$2 pin
  pin=$(sha256sum <"$manifest" | cut -c1-16)
  there "$name" "$pin" && { say "$name: is there ($pin)"; return; }
  : >"$logs/$name.log"
  if ! there builder "$builder_version"; then
    say "$name: building the Collector's builder $builder_version"
    GOBIN=$bin logged "$name" go install -trimpath -ldflags='-s -w' "go.opentelemetry.io/collector/cmd/builder@$builder_version" || return 1
    printf '%s' "$builder_version" >"$stamps/builder"
  fi
  say "$name: fetching its modules"
  # shellcheck disable=SC2016 # the inner shell expands them
  logged "$name" sh -c 'cd "$1" && exec "$2" --config "$3" --skip-compilation' - "$src" "$bin/builder" "$manifest" || return 1
  say "$name: compiling, 5 to 25 minutes the first time"
  # shellcheck disable=SC2016 # the inner shell expands them
  logged "$name" sh -c 'cd "$1" && exec env CGO_ENABLED=0 go build -v -trimpath -buildvcs=false -ldflags="-s -w" -o "$2" .' \
    - "$src/$(sed -n 's/^  output_path: \.\///p' "$manifest")" "$bin/$name" || return 1
  printf '%s' "$pin" >"$stamps/$name"
  say "$name: built"
}

build_collector() { collector_from otelcol "$here/ocb-manifest.yaml"; }

build_scale-out() { collector_from otelcol-scale-out "$here/ocb-manifest-scale-out.yaml"; }

build_opa() { from_module opa github.com/open-policy-agent/opa . "$opa_version"; }

build_prometheus() {
  local folder=$cache/prometheus archive
  [[ -x $bin/prometheus && -x $bin/promtool ]] && { say "prometheus: is there"; return; }
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || { say "prometheus: taken from Debian's package, and this is no Debian"; return 1; }
  rm -rf "$folder"
  mkdir -p "$folder"
  say "prometheus: fetching Debian's package"
  logged prometheus sh -c 'cd "$1" && exec apt-get download prometheus' - "$folder" || return 1
  archive=$(find "$folder" -name 'prometheus_*.deb' -print -quit)
  dpkg -x "$archive" "$folder"
  ln -sf "$folder/usr/bin/prometheus" "$folder/usr/bin/promtool" "$bin/"
  say "prometheus: unpacked, nothing is installed"
}

main() {
  local part missing=() asked=("$@")
  [[ ${#asked[@]} -gt 0 ]] || asked=(jaeger collector prometheus tempo opa)
  for part in "${asked[@]}"; do
    [[ $part =~ ^(jaeger|collector|prometheus|tempo|scale-out|opa)$ ]] ||
      { say "unknown part \`$part\`; expected jaeger, collector, prometheus, tempo, scale-out or opa" >&2; exit 2; }
  done
  need_go
  mkdir -p "$bin" "$logs" "$src" "$stamps"
  say "into $cache"
  for part in "${asked[@]}"; do
    "build_$part" || { missing+=("$part"); say "$part: NOT there; see $logs/$part.log"; }
  done
  if [[ " ${missing[*]-} " =~ \ (jaeger|collector)\  ]]; then exit 1; fi
  say "done${missing[*]:+; without ${missing[*]}, whose tests are skipped}"
}

main "$@"
