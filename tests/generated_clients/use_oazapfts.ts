// The whole flow with a client that oazapfts has generated.
// Arguments: address of the server, folder to train on, model file, JPEG file.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import * as api from "./generated_oazapfts.js";

const [url, project, model, photo] = process.argv.slice(2);
assert.equal(api.defaults.baseUrl, url, "the document names the server");

/** The data of a response, unless it is an error. */
function checked<T extends { status: number; data: unknown }>(response: T): Extract<T, { status: 200 }>["data"] {
  assert.equal(response.status, 200, JSON.stringify(response.data));
  return response.data as Extract<T, { status: 200 }>["data"];
}

const parameters = { epochs: 1, exports: "saved_model", backbone: "compact", effort: "fast" };
const task = checked(
  await api.startTask({ userId: "u", projectId: "p", projectDir: project, trainType: "classification", parameters }),
);

const name = checked(await api.createWorkspace({ name: "oazapfts" })).result;
const job = checked(await api.pushJob({ name, job: "x = 6 * 7; print(x)", type: 1, timeout: 60 })).result;
assert.deepEqual([job.finish, job.result, job.stdout, job.variable.x], [true, true, "42\n", 42]);

assert.equal(checked(await api.deployModel({ name, path: model, timeout: 60 })).result.result, true);
const predicted = checked(await api.predictV1Model(name, { instances: [[1, 2]] }));
assert.deepEqual(predicted.predictions, [[2.5, 3]]);

const upload = checked(await api.createUpload({ file: new File(["print(1)"], "script.py") })).result;
assert.deepEqual([upload.state, upload.files], ["complete", 1]);

const events = await api.readTaskOutput(task.taskId, {}, { headers: { Accept: "text/event-stream" } });
assert.match(checked(events), /^event: end$/m);
const done = checked(await api.getTask(task.taskId));
assert.equal(done.state, "done", done.error);
assert.equal(checked(await api.deployModel({ name, path: done.modelPath!, timeout: 60 })).result.result, true);
const b64 = (await readFile(photo)).toString("base64");
const image = checked(await api.predictV1Model(name, { instances: [{ b64 }] }));
assert.match(image.predictions![0].label, /^(one|zero)$/);

const refused = await api.predictV1Model("none", { instances: [] });
assert.equal(refused.status, 404);
assert.match((refused.data as api.Error).error as string, /Servable not found/);
checked(await api.destroyWorkspace({ name }));
console.log("all done");
