// <button data-again="12"> submits the stored request of job 12 again, through the API.

import { call } from "./api.js";
import { report } from "./actions.js";

const REQUESTS = {
  script: ({ text, file, clear, resources }) => ["/push_job/", { job: text ?? file, type: text === undefined ? 0 : 1, clear, resources }],
  clear: () => ["/clear/", {}],
  undeploy: () => ["/undeploy/", {}],
  update: ({ path, warm_up, idle_after_s, replicas, placement, resources, autoscale }) =>
    ["/update/", { path, warm_up: warm_up ?? undefined, idle_after: idle_after_s, replicas, placement, resources, autoscale }],
  deploy: ({ path, device, options = {} }) => ["/deploy/", { path, device, ...deployFields(options) }],
};

// The server repeats these by itself, because their requests are files.
const OF_MODELS = ["deferred", "batch"];

// Sizes and times have their unit in the name where they are stored.
function deployFields({ max_delay_s, device_memory_bytes, idle_after_s, image, ...same }) {
  const fields = { ...same };
  if (max_delay_s !== undefined) fields.max_delay = max_delay_s;
  if (device_memory_bytes) fields.device_memory = String(device_memory_bytes);
  if (idle_after_s !== undefined) fields.idle_after = idle_after_s;
  if (image) fields.image = image;
  return fields;
}

async function submitAgain(id) {
  const job = await call("GET", `/jobs/${id}`);
  if (OF_MODELS.includes(job.kind)) return call("POST", `/jobs/${id}/repeat`);
  const [path, fields] = REQUESTS[job.kind](job.request);
  const limit = job.time_limit ? { time_limit: job.time_limit } : {};
  return call("POST", path, { name: job.workspace, timeout: 0, ...limit, ...fields });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-again]");
  if (!button || button.getAttribute("aria-disabled")) return;
  button.setAttribute("aria-disabled", "true");
  try {
    const { id } = await submitAgain(button.dataset.again);
    if (button.dataset.then !== undefined) location.assign(`/pages/jobs/${id}/`);
    else report("Submitted again.");
  } catch (error) {
    report(error.message, "bad");
  } finally {
    button.removeAttribute("aria-disabled");
  }
});
