// Deploys a model: uploads its files if they are on this computer, creates the workspace if it is new, and deploys.

import { clearProblems, isBusy, problem, put } from "./actions.js";
import { Refused, call } from "./api.js";
import { entriesOfInput, progressOf, upload, withoutCommonFolder } from "./upload.js";

const WAIT_S = 120;

document.addEventListener("change", (event) => {
  if (event.target.name !== "source") return;
  for (const each of event.target.form.querySelectorAll("[data-source]")) each.hidden = each.dataset.source !== event.target.value;
});

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-deploy]");
  if (!form) return;
  event.preventDefault();
  if (isBusy(form)) return;
  clearProblems(form);
  form.setAttribute("aria-busy", "true");
  try {
    const path = await pathOf(form);
    const name = form.elements.name.value;
    await createIfNew(name);
    const progress = form.querySelector("[data-progress]");
    if (progress) progressOf(progress)(100, "Loading the model:");
    await deployed(name, path, form);
    location.assign(`/pages/models/${encodeURIComponent(name)}/`);
  } catch (error) {
    form.querySelector("[data-progress]")?.setAttribute("hidden", "");
    problem(form, error);
  } finally {
    form.removeAttribute("aria-busy");
  }
});

async function pathOf(form) {
  const source = form.elements.source?.value ?? "server";
  if (source === "server") return required(form, "path", form.elements.path.value.trim(), "Give the path of the model.");
  const entries = withoutCommonFolder(entriesOfInput(form.elements[source]));
  required(form, source, entries.length, source === "file" ? "Choose the model's file." : "Choose the model's folder.");
  const { path } = await upload(entries, progressOf(form.querySelector("[data-progress]")));
  return path;
}

function required(form, field, value, message) {
  if (!value) throw new Refused(400, { message, field });
  return value;
}

async function createIfNew(name) {
  try {
    await call("POST", "/create_workspace/", { name });
  } catch (error) {
    if (error.status !== 409) throw error;
  }
}

async function deployed(name, path, form) {
  const fields = { name, path, runtime: form.elements.runtime?.value ?? "auto", timeout: WAIT_S };
  const idleAfter = form.elements.idle_after?.value;
  if (idleAfter) fields.idle_after = Number(idleAfter);
  for (const input of form.querySelectorAll("[data-option]")) {
    const text = input.value.trim();
    if (text) put(fields, input.name.split("."), input.type === "number" ? Number(text) : text);
  }
  const job = await call("POST", "/deploy/", fields);
  if (job.error) throw new Refused(200, { ...job.error, field: "path" });
}
