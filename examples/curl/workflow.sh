#!/usr/bin/env bash
# The whole workflow with curl, and with sed and od to read responses. Prepare FOLDER as docs/how-to/any-language.md says.
#
#   examples/curl/workflow.sh FOLDER
set -euo pipefail

server=${TFSERVE_URL:-http://127.0.0.1:8000}
folder=$(cd "${1:-.}" && pwd)
files=$(mktemp -d)
authorization=(${TFSERVE_TOKEN:+--header "Authorization: Bearer $TFSERVE_TOKEN"})

# Sends a request and leaves the body of the response in $response. Ends the script with the server's message on errors.
send() {
    local status
    status=$(curl --silent --show-error --noproxy '*' --max-time 300 "${authorization[@]}" \
        --output "$files/response" --write-out '%{http_code}' "$server$1" "${@:2}")
    response=$(tr -d '\0' <"$files/response")
    [[ $status == 200 ]] || { message=$(value message "$response"); fail "status $status: ${message:-$response}"; }
}

# The same for the workspace API, where a job that failed is a request that succeeded.
call() {
    send "$1" --json "$2"
    [[ $response != *'"error":{'* ]] || fail "$1 failed: $(value message "$response")"
}

fail() { echo "$1" >&2; exit 1; }

# The text, number or boolean with this name in some JSON.
value() { sed -n 's/.*"'"$1"'": *"\(\([^"\\]\|\\.\)*\)".*/\1/p; t; s/.*"'"$1"'": *\([^",}]*\).*/\1/p' <<<"$2"; }

# Prints the output of a job or training while it runs, and leaves its final state in $state.
follow() {
    state=
    while read -r line; do
        case $line in
        'data: {"offset"'*) printf '  %b\n' "$(value text "$line" | sed 's/\(\\n\)*$//; s/\\n/\\n  /g')" ;;
        'data: {"state"'*) state=$(value state "$line") ;;
        esac
    done < <(curl --silent --no-buffer --noproxy '*' "${authorization[@]}" --header 'Accept: text/event-stream' "$server$1")
}

call /create_workspace/ '{}' # a random name
name=$(value result "$response")
echo "created workspace $name"
# At the end, however the script ends. This also ends its jobs, and deletes its model and files.
trap 'call /destroy_workspace/ "{\"name\": \"$name\"}"; echo "destroyed the workspace"; rm -r "$files"' EXIT

script='for n in range(3):\n    print(\"line\", n, flush=True)'
call /push_job/ '{"name": "'"$name"'", "type": 1, "job": "'"$script"'", "timeout": 0}'
job=$(value id "$response")
echo "pushed job $job"
follow "/jobs/$job/output"
echo "followed the job: $state"

call /deploy/ '{"name": "'"$name"'", "path": "'"$folder"'/half.onnx", "timeout": 120}'
echo "deployed half.onnx"
send "/v1/models/$name:predict" --json '{"instances": [[1, 2], [3, 4]]}'
echo "predicted by v1: $response"

printf %s '{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],' \
    '"outputs": [{"name": "y", "parameters": {"binary_data": true}}]}' >"$files/request"
length=$(wc -c <"$files/request")
printf '\0\0\200\77\0\0\0\100\0\0\100\100\0\0\200\100' >>"$files/request" # 1, 2, 3 and 4 as little-endian FP32
send "/v2/models/$name/infer" --header "Inference-Header-Content-Length: $length" --data-binary "@$files/request"
echo "predicted by v2:$(tail -c 16 "$files/response" | od -An -t f4 | tr -s ' ')"

call /deploy/ '{"name": "'"$name"'", "path": "'"$folder"'/brightness.onnx", "timeout": 120}'
send "/v1/models/$name:predict" --header 'Content-Type: image/png' --data-binary "@$folder/photo.png"
echo "classified the image: $(sed 's/.*"predictions":\[{"label":"\([^"]*\)".*/\1/' <<<"$response")"

send /tasks/ --json '{"userId": "me", "projectId": "digits", "projectDir": "'"$folder"'/digits", "trainType": "classification",
    "parameters": {"epochs": 1, "backbone": "compact", "effort": "fast", "exports": "saved_model"}}'
task=$(value taskId "$response")
[[ -z ${TFSERVE_QUICK:-} ]] || send "/tasks/$task/cancel" --request POST # to try the other steps in seconds
follow "/tasks/$task/output"
send "/tasks/$task"
state=$(sed 's/.*"state":"\([^"]*\)".*/\1/' <<<"$response")
[[ $state == done || $state == cancelled ]] || fail "$response"
echo "trained: $state $(value modelPath "$response")"

call /push_job/ '{"name": "'"$name"'", "type": 1, "job": "import time; time.sleep(600)", "timeout": 0}'
job=$(value job "$response")
call /cancel_job/ '{"name": "'"$name"'", "job": '"$job"'}'
[[ $(value cancelled "$response") == true ]] || fail "the job ended before it was cancelled"
echo "cancelled job $job"

# A subshell, because an error ends the script.
if refusal=$(call /get_status/ '{"name": "no such workspace"}' 2>&1); then fail "expected an error"; fi
echo "refused with $refusal"
