// The whole workflow from Node 18 or newer, without packages. Prepare FOLDER as docs/how-to/any-language.md says.
//
//   node examples/node/workflow.mjs FOLDER

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";

const server = process.env.TFSERVE_URL ?? "http://127.0.0.1:8000";
const token = process.env.TFSERVE_TOKEN;
const folder = resolve(process.argv[2] ?? ".");

class Refused extends Error {}

async function send(method, path, body, headers = {}) {
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(server + path, { method, body, headers: { ...authorization, ...headers } });
  if (response.ok) return response;
  const { error } = await response.json(); // an object, or in v1, v2 and training a text
  throw new Refused(`status ${response.status}: ${error.message ?? error}`);
}

async function post(path, fields) {
  const response = await send("POST", path, JSON.stringify(fields), { "Content-Type": "application/json" });
  return response.json();
}

/** The `result` of the workspace API. A job that failed is a request that succeeded, so its error is checked, too. */
async function call(path, fields) {
  const { result } = await post(path, fields);
  if (result.error) throw new Error(`${path} failed: ${result.error.message}`);
  return result;
}

/** Prints the output of a job or training while it runs. Returns its final state. */
async function follow(path) {
  const events = await send("GET", path, undefined, { Accept: "text/event-stream" });
  let text = "";
  for await (const chunk of events.body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const event of parts) {
      const data = event.match(/^data: (.*)$/m);
      if (!data) continue; // a comment, which keeps the connection open
      const { text, state } = JSON.parse(data[1]);
      if (event.startsWith("event: end")) return state;
      if (text) console.log(`  ${text.trimEnd().replaceAll("\n", "\n  ")}`);
    }
  }
  throw new Error("the stream ended before the job");
}

function check(condition, problem) {
  if (!condition) throw new Error(problem);
}

async function run(name) {
  const script = "for n in range(3):\n    print('line', n, flush=True)";
  const job = await call("/push_job/", { name, type: 1, job: script, timeout: 0 });
  console.log(`pushed job ${job.id}`);
  console.log(`followed the job: ${await follow(`/jobs/${job.id}/output`)}`);

  await call("/deploy/", { name, path: `${folder}/half.onnx`, timeout: 120 });
  console.log("deployed half.onnx");
  const { predictions } = await post(`/v1/models/${name}:predict`, { instances: [[1, 2], [3, 4]] });
  console.log(`predicted by v1: ${JSON.stringify(predictions)}`);

  const input = { name: "x", shape: [2, 2], datatype: "FP32", parameters: { binary_data_size: 16 } };
  const head = JSON.stringify({ inputs: [input], outputs: [{ name: "y", parameters: { binary_data: true } }] });
  const body = Buffer.concat([Buffer.from(head), Buffer.from(new Float32Array([1, 2, 3, 4]).buffer)]);
  const length = "Inference-Header-Content-Length";
  const response = await send("POST", `/v2/models/${name}/infer`, body, { [length]: String(head.length) });
  const tensor = (await response.arrayBuffer()).slice(Number(response.headers.get(length)));
  console.log(`predicted by v2: ${[...new Float32Array(tensor)]}`);

  await call("/deploy/", { name, path: `${folder}/brightness.onnx`, timeout: 120 });
  const photo = await readFile(`${folder}/photo.png`);
  const image = await send("POST", `/v1/models/${name}:predict`, photo, { "Content-Type": "image/png" });
  console.log(`classified the image: ${(await image.json()).predictions[0].label}`);

  const parameters = { epochs: 1, backbone: "compact", effort: "fast", exports: "saved_model" };
  const project = { userId: "me", projectId: "digits", projectDir: `${folder}/digits` };
  const { taskId } = await post("/tasks/", { ...project, trainType: "classification", parameters });
  if (process.env.TFSERVE_QUICK) await post(`/tasks/${taskId}/cancel`, {}); // to try the other steps in seconds
  await follow(`/tasks/${taskId}/output`);
  const task = await (await send("GET", `/tasks/${taskId}`)).json();
  check(["done", "cancelled"].includes(task.state), task.error);
  console.log(`trained: ${task.state} ${task.modelPath ?? ""}`);

  const endless = await call("/push_job/", { name, type: 1, job: "import time; time.sleep(600)", timeout: 0 });
  const { cancelled } = await call("/cancel_job/", { name, job: endless.job });
  check(cancelled, "the job ended before it was cancelled");
  console.log(`cancelled job ${endless.job}`);

  try {
    await call("/get_status/", { name: "no such workspace" });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.log(`refused with ${error.message}`);
  }
}

const name = await call("/create_workspace/", {}); // a random name
console.log(`created workspace ${name}`);
try {
  await run(name);
} finally {
  await call("/destroy_workspace/", { name }); // also ends its jobs, and deletes its model and files
  console.log("destroyed the workspace");
}
