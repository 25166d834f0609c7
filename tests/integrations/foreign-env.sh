#!/usr/bin/env bash
# An environment with the real packages of the systems whose events we read, for the tests that run them: once, into a cache outside the
# checkout. The wheel of a3s-code 2.6.0 holds its native part; newer ones fetch it from elsewhere when they are imported. Dreadnode's
# dependencies contradict one another (its own bound on starlette, fastapi's, those of two releases of OpenTelemetry), so pip's older
# resolver takes them as they come and the pins below mend what that breaks.
#
#   tests/integrations/foreign-env.sh [PYTHON]      OTEL_RUNTIME_FOREIGN names another folder
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
where=${OTEL_RUNTIME_FOREIGN:-${XDG_CACHE_HOME:-$HOME/.cache}/otel-runtime/foreign}
# Another number makes everything anew.
stamp=$where/.complete-1
if [[ -e $stamp ]]; then
  echo "foreign packages: already in $where"
  exit 0
fi
echo "foreign packages: installing into $where (1.3 GB, a few minutes the first time)"
rm -rf "$where"
"${1:-python3}" -m venv "$where"
pip=("$where/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" --use-deprecated=legacy-resolver 'dreadnode==2.0.52'
"${pip[@]}" --use-deprecated=legacy-resolver 'opentelemetry-api==1.44.0' 'opentelemetry-semantic-conventions==0.65b0' \
  'opentelemetry-exporter-otlp==1.44.0' 'starlette>=1.6.0' 'python-dateutil<3' 'google-re2' 'genai-prices' 'wrapt<3'
"${pip[@]}" 'a3s-code==2.6.0'
"$where/bin/python" -c 'import a3s_code, dreadnode.agents.agent, dreadnode.app.server.app'
PYTHONPATH=$top "$where/bin/python" -c 'import otel_runtime; otel_runtime.configure(otlp="off").shutdown()'
touch "$stamp"
echo "foreign packages: ready in $where"
