// The whole workflow from a web page, without packages. Prepare FOLDER as docs/how-to/any-language.md says.
//
//   python3 -m http.server 8080 --directory examples/browser
//
// Start the server with TFSERVE_ALLOWED_ORIGINS=http://localhost:8080, and open that address.

const LENGTH = "Inference-Header-Content-Length";
const form = document.getElementById("settings");
const steps = document.getElementById("steps");
let server, token, folder, quick;

class Refused extends Error {}

function print(line) {
  steps.textContent += `${line}\n`;
}

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

// The `result` of the workspace API. A job that failed is a request that succeeded, so its error is checked, too.
async function call(path, fields) {
  const { result } = await post(path, fields);
  if (result.error) throw new Error(`${path} failed: ${result.error.message}`);
  return result;
}

// Shows the output of a job or training while it runs. Returns its final state.
// EventSource would be shorter, but it can't send a token.
async function follow(path) {
  const events = await send("GET", path, undefined, { Accept: "text/event-stream" });
  const reader = events.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the stream ended before the job");
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const line of lines.filter((each) => each.startsWith("data: "))) {
      const data = JSON.parse(line.slice("data: ".length));
      if (data.state) return data.state;
      if (data.text?.trim()) print(`  ${data.text.trimEnd().replaceAll("\n", "\n  ")}`);
    }
  }
}

function check(condition, problem) {
  if (!condition) throw new Error(problem);
}

// A bright image, as a page gets one from a file input or the camera.
async function drawnImage() {
  const canvas = new OffscreenCanvas(64, 48);
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(250, 240, 200)";
  context.fillRect(0, 0, 64, 48);
  return canvas.convertToBlob({ type: "image/png" });
}

async function run(name) {
  const script = "for n in range(3):\n    print('line', n, flush=True)";
  const job = await call("/push_job/", { name, type: 1, job: script, timeout: 0 });
  print(`pushed job ${job.id}`);
  print(`followed the job: ${await follow(`/jobs/${job.id}/output`)}`);

  await call("/deploy/", { name, path: `${folder}/half.onnx`, timeout: 120 });
  print("deployed half.onnx");
  const { predictions } = await post(`/v1/models/${name}:predict`, { instances: [[1, 2], [3, 4]] });
  print(`predicted by v1: ${JSON.stringify(predictions)}`);

  const input = { name: "x", shape: [2, 2], datatype: "FP32", parameters: { binary_data_size: 16 } };
  const head = JSON.stringify({ inputs: [input], outputs: [{ name: "y", parameters: { binary_data: true } }] });
  const body = new Blob([head, new Float32Array([1, 2, 3, 4])]);
  const response = await send("POST", `/v2/models/${name}/infer`, body, { [LENGTH]: head.length });
  const tensor = (await response.arrayBuffer()).slice(Number(response.headers.get(LENGTH)));
  print(`predicted by v2: ${new Float32Array(tensor).join(" ")}`);

  await call("/deploy/", { name, path: `${folder}/brightness.onnx`, timeout: 120 });
  const image = await send("POST", `/v1/models/${name}:predict`, await drawnImage(), { "Content-Type": "image/png" });
  print(`classified the image: ${(await image.json()).predictions[0].label}`);

  const parameters = { epochs: 1, backbone: "compact", effort: "fast", exports: "saved_model" };
  const project = { userId: "me", projectId: "digits", projectDir: `${folder}/digits` };
  const { taskId } = await post("/tasks/", { ...project, trainType: "classification", parameters });
  if (quick) await post(`/tasks/${taskId}/cancel`, {});
  await follow(`/tasks/${taskId}/output`);
  const task = await (await send("GET", `/tasks/${taskId}`)).json();
  check(["done", "cancelled"].includes(task.state), task.error);
  print(`trained: ${task.state} ${task.modelPath ?? ""}`);

  const endless = await call("/push_job/", { name, type: 1, job: "import time; time.sleep(600)", timeout: 0 });
  const { cancelled } = await call("/cancel_job/", { name, job: endless.job });
  check(cancelled, "the job ended before it was cancelled");
  print(`cancelled job ${endless.job}`);

  try {
    await call("/get_status/", { name: "no such workspace" });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    print(`refused with ${error.message}`);
  }
}

async function workflow() {
  const name = await call("/create_workspace/", {}); // a random name
  print(`created workspace ${name}`);
  try {
    await run(name);
  } finally {
    await call("/destroy_workspace/", { name }); // also ends its jobs, and deletes its model and files
    print("destroyed the workspace");
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = new FormData(form);
  server = fields.get("server").replace(/\/$/, "");
  token = fields.get("token");
  folder = fields.get("folder");
  quick = fields.has("quick");
  steps.textContent = "";
  try {
    await workflow();
    print("all steps succeeded");
  } catch (error) {
    print(`failed: ${error.message}`);
  }
});
