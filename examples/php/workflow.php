<?php
// The whole workflow from PHP 8, without extensions. Prepare FOLDER as docs/how-to/any-language.md says.
//
//   php examples/php/workflow.php FOLDER

$server = getenv('TFSERVE_URL') ?: 'http://127.0.0.1:8000';
$folder = realpath($argv[1] ?? '.');

class Refused extends RuntimeException {}

/** Opens the response to a request. Throws the server's message on errors. $headers are those of the response. */
function open(string $method, string $path, string $body = '', array $sent = [], ?array &$headers = null)
{
    if ($token = getenv('TFSERVE_TOKEN')) {
        $sent[] = "Authorization: Bearer $token";
    }
    $options = ['method' => $method, 'header' => $sent, 'content' => $body, 'ignore_errors' => true, 'timeout' => 300];
    $response = fopen($GLOBALS['server'] . $path, 'r', false, stream_context_create(['http' => $options]));
    if ($response === false) {
        throw new RuntimeException("{$GLOBALS['server']} does not respond");
    }
    $headers = stream_get_meta_data($response)['wrapper_data'];
    $status = (int) explode(' ', $headers[0])[1];
    if ($status !== 200) {
        $error = json_decode(stream_get_contents($response), true)['error']; // in v1, v2 and training a text
        throw new Refused("status $status: " . ($error['message'] ?? $error));
    }
    return $response;
}

function send(string $method, string $path, string $body = '', array $sent = [], ?array &$headers = null): string
{
    return stream_get_contents(open($method, $path, $body, $sent, $headers));
}

function post(string $path, array $fields): array
{
    $json = json_encode((object) $fields, JSON_PRESERVE_ZERO_FRACTION);
    return json_decode(send('POST', $path, $json, ['Content-Type: application/json']), true);
}

/** The `result` of the workspace API. A job that failed is a request that succeeded, so its error is checked, too. */
function call(string $path, array $fields = []): mixed
{
    $result = post($path, $fields)['result'];
    if (is_array($result) && isset($result['error'])) {
        throw new RuntimeException("$path failed: {$result['error']['message']}");
    }
    return $result;
}

/** Prints the output of a job or training while it runs. Returns its final state. */
function follow(string $path): string
{
    $events = open('GET', $path, '', ['Accept: text/event-stream']);
    while (($line = fgets($events)) !== false) {
        if (!str_starts_with($line, 'data: ')) {
            continue;
        }
        $data = json_decode(substr($line, 6), true);
        if (isset($data['state'])) {
            return $data['state'];
        }
        if (trim($data['text']) !== '') {
            echo '  ', str_replace("\n", "\n  ", rtrim($data['text'])), "\n";
        }
    }
    throw new RuntimeException('the stream ended before the job');
}

function check(bool $condition, string $problem): void
{
    $condition || throw new RuntimeException($problem);
}

function run(string $name, string $folder): void
{
    $script = "for n in range(3):\n    print('line', n, flush=True)";
    $job = call('/push_job/', ['name' => $name, 'type' => 1, 'job' => $script, 'timeout' => 0]);
    echo "pushed job {$job['id']}\n";
    $state = follow("/jobs/{$job['id']}/output");
    echo "followed the job: $state\n";

    call('/deploy/', ['name' => $name, 'path' => "$folder/half.onnx", 'timeout' => 120]);
    echo "deployed half.onnx\n";
    $predicted = post("/v1/models/$name:predict", ['instances' => [[1, 2], [3, 4]]]);
    echo 'predicted by v1: ', json_encode($predicted['predictions']), "\n";

    $input = ['name' => 'x', 'shape' => [2, 2], 'datatype' => 'FP32', 'parameters' => ['binary_data_size' => 16]];
    $output = ['name' => 'y', 'parameters' => ['binary_data' => true]];
    $head = json_encode(['inputs' => [$input], 'outputs' => [$output]]);
    $length = 'Inference-Header-Content-Length';
    $body = $head . pack('g*', 1, 2, 3, 4); // little-endian FP32
    $sent = ['Content-Type: application/octet-stream', "$length: " . strlen($head)];
    $response = send('POST', "/v2/models/$name/infer", $body, $sent, $headers);
    $found = preg_grep("/^$length:/i", $headers);
    $tensor = substr($response, (int) trim(explode(':', reset($found))[1]));
    echo 'predicted by v2: ', implode(' ', unpack('g*', $tensor)), "\n";

    call('/deploy/', ['name' => $name, 'path' => "$folder/brightness.onnx", 'timeout' => 120]);
    $photo = file_get_contents("$folder/photo.png");
    $image = json_decode(send('POST', "/v1/models/$name:predict", $photo, ['Content-Type: image/png']), true);
    echo "classified the image: {$image['predictions'][0]['label']}\n";

    $parameters = ['epochs' => 1, 'backbone' => 'compact', 'effort' => 'fast', 'exports' => 'saved_model'];
    $project = ['userId' => 'me', 'projectId' => 'digits', 'projectDir' => "$folder/digits"];
    $id = post('/tasks/', [...$project, 'trainType' => 'classification', 'parameters' => $parameters])['taskId'];
    if (getenv('TFSERVE_QUICK')) {
        post("/tasks/$id/cancel", []); // to try the other steps in seconds
    }
    follow("/tasks/$id/output");
    $task = json_decode(send('GET', "/tasks/$id"), true);
    check(in_array($task['state'], ['done', 'cancelled']), $task['error'] ?? $task['state']);
    echo "trained: {$task['state']} ", $task['modelPath'] ?? '', "\n";

    $endless = ['name' => $name, 'type' => 1, 'job' => 'import time; time.sleep(600)', 'timeout' => 0];
    $number = call('/push_job/', $endless)['job'];
    $cancelled = call('/cancel_job/', ['name' => $name, 'job' => $number]);
    check($cancelled['cancelled'], 'the job ended before it was cancelled');
    echo "cancelled job $number\n";

    try {
        call('/get_status/', ['name' => 'no such workspace']);
    } catch (Refused $error) {
        echo "refused with {$error->getMessage()}\n";
    }
}

$name = call('/create_workspace/'); // a random name
echo "created workspace $name\n";
try {
    run($name, $folder);
} finally {
    call('/destroy_workspace/', ['name' => $name]); // also ends its jobs, and deletes its model and files
    echo "destroyed the workspace\n";
}
