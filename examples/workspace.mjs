// Train, deploy and predict from Node (18 or newer), without any dependency.
//
//   node examples/workspace.mjs [http://127.0.0.1:8000]
//
// The server has to run on this machine, since the training script is named by its path on the server's disk.

import { fileURLToPath } from "node:url";

const base = process.argv[2] ?? process.env.TFSERVE_URL ?? "http://127.0.0.1:8000";
const trainScript = fileURLToPath(new URL("digits/train.py", import.meta.url));
const count = 20;

/** Every endpoint takes POST with a JSON object and answers {request_result, result}. */
async function call(endpoint, fields = {}) {
  const response = await fetch(base + endpoint, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(fields),
  });
  const answer = await response.json();
  if (!answer.request_result) {
    throw new Error(`${endpoint} was refused (${response.status} ${answer.error?.code}): ${answer.result}`);
  }
  return answer.result;
}

/**
 * Submits a job and waits for its end: the server answers as soon as the job has finished, after `timeout` seconds at
 * the latest. A job that failed is a request that succeeded, so its error has to be looked for.
 */
async function runJob(endpoint, fields) {
  const job = await call(endpoint, { timeout: 120, ...fields });
  if (!job.finish) {
    throw new Error(`${endpoint}: job ${job.job} still runs; /get_finish/ and /get_result/ fetch it later`);
  }
  if (job.error) {
    throw new Error(`${endpoint} failed: ${job.error.traceback ?? job.error.message}`);
  }
  return job;
}

const indexOfLargest = (numbers) => numbers.indexOf(Math.max(...numbers));

async function trainAndPredict(name) {
  // A file job: the path of a script on the server's disk. What it printed comes with the answer. (A program that wants
  // to see it live pushes with `timeout: 0` and reads GET /jobs/<id>/output with `Accept: text/event-stream`.)
  console.log("training...");
  const training = await runJob("/push_job/", { name, job: trainScript });
  console.log(training.stdout.trimEnd().replace(/^/gm, "  "));

  // Variables that a script has set stay in the workspace, and can be read as JSON.
  const { model_path, accuracy } = await call("/get_variable/", { name, variable: ["model_path", "accuracy"] });
  console.log(`trained to an accuracy of ${accuracy.toFixed(4)}`);

  await runJob("/deploy/", { name, path: model_path });
  console.log(`deployed ${model_path}`);

  // A job may also be a script in the request (type 1). It goes on with the variables that the first one has set.
  const script = `
import json
with open(held_out_path) as file:
    held_out = json.load(file)
images, labels = held_out["images"][:${count}], held_out["labels"][:${count}]
`;
  await runJob("/push_job/", { name, type: 1, job: script });
  const { images, labels } = await call("/get_variable/", { name, variable: ["images", "labels"] });

  // `feed_dict` names the inputs of the model's signature, `fetches` the outputs that are wanted. The result has one
  // value for each fetched tensor: here a single one, a row of ten probabilities for each image.
  const prediction = await runJob("/predict/", { name, fetches: ["probabilities"], feed_dict: { images } });
  const [probabilities] = prediction.result;
  const predicted = probabilities.map(indexOfLargest);
  predicted.forEach((digit, i) => console.log(`predicted ${digit}, is ${labels[i]}`));
  const right = predicted.filter((digit, i) => digit === labels[i]).length;
  console.log(`${right} of ${count} right (${Math.round((100 * right) / count)} %)`);
  if (right < 0.8 * count) {
    throw new Error("that is worse than the training promised");
  }

  const status = await call("/get_status/", { name });
  console.log(`status ${status.STATUS}, last finished job ${status.FIN_JOB_NUM}`);

  await runJob("/undeploy/", { name }); // unloads the model and gives all its memory back
  console.log("undeployed");
}

// A workspace is a Python session of its own, with a queue of jobs. Without a name it gets a random one.
const name = await call("/create_workspace/");
console.log(`workspace ${name}`);
try {
  await trainAndPredict(name);
} finally {
  await call("/destroy_workspace/", { name }); // takes its process, its model and its files along
  console.log("workspace destroyed");
}
