#!/bin/sh
# Train, deploy and predict with nothing but curl (and sed and awk to pick values out of the JSON).
#
#   examples/workspace.sh [http://127.0.0.1:8000]
#
# The server has to run on this machine, since the training script is named by its path on the server's disk.

set -eu

base=${1:-${TFSERVE_URL:-http://127.0.0.1:8000}}
folder=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
count=20

# Sends one request and leaves the answer's JSON in $answer. Every endpoint takes POST with a JSON object.
# A refused request has `request_result` false, and a job that failed is a request that succeeded: its error stands in
# the result. Both have an `error` object, so that is what to look for.
call() {
    answer=$(curl --silent --show-error --noproxy '*' --max-time 180 \
        --header 'Content-Type: application/json' --data "$2" "$base$1")
    case $answer in
    *'"error":{'* | *'"error": {'* | *'"request_result":false'*)
        echo "$1 failed: $answer" >&2
        exit 1
        ;;
    *'"request_result"'*) ;;
    *)
        echo "$1: this is no answer of the server: $answer" >&2
        exit 1
        ;;
    esac
}

# The string, number or boolean with this name in $answer.
value() {
    printf '%s' "$answer" | sed -n 's/.*"'"$1"'": *"\{0,1\}\([^",}]*\).*/\1/p'
}

# A text as a JSON string.
quote() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}

# 1. A workspace is a Python session of its own, with a queue of jobs. Without a name it gets a random one.
call /create_workspace/ '{}'
name=$(value result)
echo "workspace $name"
# Destroyed at the end, however this script ends: it takes its process, its model and its files along.
trap 'call /destroy_workspace/ "{\"name\": \"$name\"}"; echo "workspace destroyed"' EXIT

# 2. Train. `timeout` is how long the call waits for the job's end; 0 returns at once with the job's number and id.
call /push_job/ "{\"name\": \"$name\", \"job\": $(quote "$folder/digits/train.py"), \"timeout\": 0}"
job=$(value job)
id=$(value id)
echo "training is job $job"

# What the job prints is streamed to whoever asks, and the stream ends with the job:
#   curl --no-buffer --header 'Accept: text/event-stream' "$base/jobs/$id/output"
# Here the simple way: ask now and then whether it has finished.
until [ "${finished:-false}" = true ]; do
    sleep 0.5
    call /get_finish/ "{\"name\": \"$name\", \"job\": $job}"
    finished=$(value result)
done
curl --silent --show-error --noproxy '*' "$base/jobs/$id/output" | sed 's/^/  /'

# The job's result is true, or false if the script raised.
call /get_result/ "{\"name\": \"$name\", \"job\": $job}"
[ "$(value result)" = true ] || { echo "the training script failed" >&2; exit 1; }

# 3. Variables that a script has set stay in the workspace, and can be read as JSON.
call /get_variable/ "{\"name\": \"$name\", \"variable\": [\"model_path\", \"accuracy\"]}"
model_path=$(value model_path)
echo "trained to an accuracy of $(value accuracy)"

# 4. Deploy the SavedModel that the script wrote. This waits up to a minute, and returns as soon as it is loaded.
call /deploy/ "{\"name\": \"$name\", \"path\": $(quote "$model_path"), \"timeout\": 60}"
echo "deployed $model_path"

# 5. A job may also be a script in the request (type 1). It goes on with the variables that the first one has set.
script="import json; held_out = json.load(open(held_out_path));\
 images = held_out['images'][:$count]; labels = held_out['labels'][:$count]"
call /push_job/ "{\"name\": \"$name\", \"type\": 1, \"job\": $(quote "$script"), \"timeout\": 60}"
call /get_variable/ "{\"name\": \"$name\", \"variable\": \"labels\"}"
labels=$(printf '%s' "$answer" | sed -n 's/.*"labels": *\[\([0-9, ]*\)\].*/\1/p')
call /get_variable/ "{\"name\": \"$name\", \"variable\": \"images\"}"
images=$(printf '%s' "$answer" | sed -n 's/.*"images": *\(\[\[\[.*\]\]\]\).*/\1/p')

# 6. Predict: `feed_dict` names the inputs of the model's signature, `fetches` the outputs that are wanted.
call /predict/ "{\"name\": \"$name\", \"fetches\": \"probabilities\", \"feed_dict\": {\"images\": $images}, \"timeout\": 60}"

# The result has one value for each fetched tensor: here a single one, a row of ten probabilities for each image.
printf '%s' "$answer" | tr -d ' ' | sed 's/.*"result":\[\[\[\(.*\)\]\]\].*/\1/; s/\],\[/;/g' | tr ';' '\n' |
    awk -F, -v labels="$labels" '
        BEGIN { split(labels, label, /, */) }
        {
            best = 1
            for (digit = 2; digit <= NF; digit++) if ($digit + 0 > $best + 0) best = digit
            right += (best - 1 == label[NR])
            printf "predicted %d, is %d\n", best - 1, label[NR]
        }
        END {
            printf "%d of %d right (%.0f %%)\n", right, NR, NR ? 100 * right / NR : 0
            exit !(NR == '"$count"' && right >= 0.8 * NR)
        }'

# 7. How the workspace is doing. `undeploy` unloads the model and gives all its memory back.
call /get_status/ "{\"name\": \"$name\"}"
echo "status $(value STATUS), last finished job $(value FIN_JOB_NUM)"
call /undeploy/ "{\"name\": \"$name\", \"timeout\": 60}"
echo "undeployed"
