#!/usr/bin/env bash
# Starts Jaeger, runs the demo into it, and leaves it open until Ctrl-C. `make demo-jaeger` calls it.
#
#   collector-config/demo-jaeger.sh PYTHON [WORDS FOR THE DEMO]
#
# Containers where there are some, because their Jaeger has its page; else the one that build-backends.sh has built, whose APIs work and
# whose page is a placeholder: `otel-runtime trace` looks into it. JAEGER_ONCE=1 ends after the demo.
# Exit codes: that of the demo; 2 when there is no Jaeger to be had.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${1:-python3}
shift || true
jaeger=${OTELRT_BACKENDS:-${XDG_CACHE_HOME:-$HOME/.cache}/otel-runtime/backends}/bin/jaeger
page=http://127.0.0.1:16686
work=$(mktemp -d)
stop=:
# Of the Jaeger that is our own process.
pid=

say() { printf 'demo-jaeger: %s\n' "$*"; }

finish() {
  $stop
  # It writes until it has ended.
  [[ -z $pid ]] || wait "$pid" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

answers() { "$python" -c 'import sys, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(sys.argv[1], timeout=2)' "$1" 2>/dev/null; }

container() {
  say "starting Jaeger in a container"
  docker compose -f "$here/compose.yaml" up --detach jaeger
  stop="docker compose -f $here/compose.yaml stop jaeger"
}

plain_process() {
  say "starting $jaeger"
  JAEGER_STORE=memory JAEGER_DATA=$work/data "$jaeger" --config "$here/jaeger.yaml" >"$work/log" 2>&1 &
  pid=$!
  stop="kill $pid"
}

ready() {
  for _ in {1..120}; do
    answers "$page/api/v3/services" && return
    # A process of ours that has ended will not get ready.
    [[ -z $pid ]] || kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
  done
  say "Jaeger did not get ready" >&2
  [[ ! -f $work/log ]] || tail -n 5 "$work/log" >&2
  exit 2
}

if answers "$page/api/v3/services"; then
  say "using the Jaeger that is running at $page"
elif command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  container
elif [[ -x $jaeger ]]; then
  plain_process
else
  say "no Jaeger to be had: start Docker, or build one with collector-config/build-backends.sh jaeger (needs Go)" >&2
  exit 2
fi
ready

code=0
OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 "$python" "$here/../examples/support_agent/demo.py" "$@" || code=$?
say "the runs of the last hour:"
"$python" -m otel_runtime trace list --since 1h --jaeger "$page" || true
# As it was called: nobody who typed `make` has the program on PATH.
look="$python -m otel_runtime trace show TRACE_ID --waterfall"
if [[ -n $pid ]]; then
  say "this Jaeger was built without its page; look from here: $look"
else
  say "open $page, or look from here: $look"
fi
if [[ -z ${JAEGER_ONCE:-} ]]; then
  say "Jaeger runs until Ctrl-C"
  while :; do sleep 3600 & wait $!; done
fi
exit "$code"
