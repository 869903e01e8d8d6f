// The whole flow with openapi-fetch and the types that openapi-typescript has generated.
// Arguments: address of the server, folder to train on, model file, JPEG file.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import createClient from "openapi-fetch";

import type { paths } from "./generated_types.js";

const [url, project, model, photo] = process.argv.slice(2);
const { GET, POST } = createClient<paths>({ baseUrl: url });

/** The data of a response, unless it is an error. */
function checked<T>({ data, error }: { data?: T; error?: unknown }): T {
  assert.equal(error, undefined, JSON.stringify(error));
  return data!;
}

const parameters = { epochs: 1, exports: "saved_model", backbone: "compact", effort: "fast" };
const body = { userId: "u", projectId: "p", projectDir: project, trainType: "classification", parameters };
const task = checked(await POST("/tasks/", { body }));

const name = checked(await POST("/create_workspace/", { body: { name: "typescript" } })).result;
const script = { name, job: "x = 6 * 7; print(x)", type: 1 as const, timeout: 60 };
const job = checked(await POST("/push_job/", { body: script })).result;
assert.deepEqual([job.finish, job.result, job.stdout, job.variable.x], [true, true, "42\n", 42]);

assert.equal(checked(await POST("/deploy/", { body: { name, path: model, timeout: 60 } })).result.result, true);
const params = { path: { model: name } };
const predicted = checked(await POST("/v1/models/{model}:predict", { params, body: { instances: [[1, 2]] } }));
assert.deepEqual((predicted as { predictions: unknown }).predictions, [[2.5, 3]]);

const id = { path: { id: task.taskId } };
const headers = { Accept: "text/event-stream" };
const events = checked(await GET("/tasks/{id}/output", { params: id, headers, parseAs: "text" }));
assert.match(events, /^event: end$/m);
const done = checked(await GET("/tasks/{id}", { params: id }));
assert.equal(done.state, "done", done.error);
const trained = { name, path: done.modelPath!, timeout: 60 };
assert.equal(checked(await POST("/deploy/", { body: trained })).result.result, true);
const file = new File([new Uint8Array(await readFile(photo))], "photo.jpg", { type: "image/jpeg" });
const form = new FormData();
form.append("file", file);
const image = checked(
  await POST("/v1/models/{model}:predict", { params, body: { file: "photo.jpg" }, bodySerializer: () => form }),
);
assert.match((image as { predictions: { label: string }[] }).predictions[0].label, /^(one|zero)$/);

const refused = await POST("/v1/models/{model}:predict", { params: { path: { model: "none" } }, body: { instances: [] } });
assert.match(refused.error!.error as string, /Servable not found/);
checked(await POST("/destroy_workspace/", { body: { name } }));
console.log("all done");
