// The console of a workspace: runs scripts as jobs, shows their output live, and keeps the scripts of this browser session.

import { call } from "./api.js";
import { clearProblems, isBusy, problem, report } from "./actions.js";
import { follow, Terminal } from "./output.js";

const KEPT_ENTRIES = 20;
const SHOWN_BYTES = 20_000;
const ENDED = ["succeeded", "failed", "cancelled", "lost"];

const form = document.getElementById("console");
const box = form.elements.script;
const log = document.getElementById("console-log");
const workspace = form.dataset.workspace;
const storageKey = `scripts of ${workspace}`;
let entries = JSON.parse(sessionStorage.getItem(storageKey) ?? "[]"); // {script, id, job}, oldest first
let shown = entries.length; // the entry that Alt and the arrows have put into the box

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});

box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  } else if (event.altKey && event.key === "ArrowUp") browse(event, -1);
  else if (event.altKey && event.key === "ArrowDown") browse(event, 1);
});

function browse(event, step) {
  event.preventDefault();
  shown = Math.min(Math.max(shown + step, 0), entries.length);
  box.value = entries[shown]?.script ?? "";
}

async function run() {
  if (isBusy(form)) return;
  clearProblems(form);
  form.setAttribute("aria-busy", "true");
  const script = box.value;
  try {
    const { id, job } = await call("POST", "/push_job/", { name: workspace, job: script, type: 1, timeout: 0 });
    const entry = { script, id, job };
    entries = [...entries, entry].slice(-KEPT_ENTRIES);
    shown = entries.length;
    sessionStorage.setItem(storageKey, JSON.stringify(entries));
    if (box.value === script) box.value = "";
    followJob(show(entry), entry);
  } catch (error) {
    problem(form, error);
  } finally {
    form.removeAttribute("aria-busy");
  }
}

// --- entries of the log, newest first

function show(entry) {
  const element = document.getElementById("console-entry").content.firstElementChild.cloneNode(true);
  const link = element.querySelector("[data-job]");
  link.textContent = `Job ${entry.job}`;
  link.href = `/pages/jobs/${entry.id}/`;
  element.querySelector("[data-script]").textContent = entry.script;
  element.querySelector("[data-edit]").addEventListener("click", () => {
    box.value = entry.script;
    box.focus();
  });
  element.querySelector("[data-cancel]").addEventListener("click", () => cancel(entry));
  setState(element, "queued");
  log.prepend(element);
  return element;
}

function setState(element, state) {
  const badge = element.querySelector("[data-state]");
  badge.className = `state state-${state}`;
  badge.textContent = state;
  element.querySelector("[data-cancel]").hidden = ENDED.includes(state);
}

async function followJob(element, entry) {
  const output = element.querySelector("[data-text]");
  output.dataset.output = `/jobs/${entry.id}/output`;
  try {
    await follow(output);
    await showOutcome(element, entry);
  } catch (error) {
    report(error.message, "bad");
  }
}

async function showOutcome(element, entry) {
  const { state, error } = await call("GET", `/jobs/${entry.id}`);
  setState(element, state);
  const text = element.querySelector("[data-error]");
  text.hidden = !error;
  if (error) text.textContent = error.traceback || `${error.type ? `${error.type}: ` : ""}${error.message}`;
  return state;
}

async function cancel(entry) {
  try {
    await call("POST", "/cancel_job/", { name: workspace, job: entry.job });
    report("Cancelled.");
  } catch (error) {
    report(error.message, "bad");
  }
}

// --- scripts that this browser session has run before the page was loaded

async function restore(entry) {
  const element = show(entry);
  const output = element.querySelector("[data-text]");
  try {
    if (!ENDED.includes(await showOutcome(element, entry))) return followJob(element, entry);
    const head = await fetch(`/jobs/${entry.id}/output`, { method: "HEAD" });
    const begin = Math.max(0, Number(head.headers.get("X-Next-Offset")) - SHOWN_BYTES);
    const text = await (await fetch(`/jobs/${entry.id}/output?offset=${begin}`)).text();
    new Terminal(output).print(text);
    output.dataset.ended = "";
  } catch {
    element.remove(); // its job is not kept, or of a workspace of that name before
  }
}

for (const entry of entries) restore(entry);

// --- a variable is set by a script, so it waits for its turn in the queue like every job

document.addEventListener("submit", async (event) => {
  const target = event.target.closest("#set-variable");
  if (!target) return;
  event.preventDefault();
  clearProblems(target);
  const { variable, value } = Object.fromEntries(new FormData(target));
  try {
    const script = `${variable} = ${value}`;
    const job = await call("POST", "/push_job/", { name: workspace, job: script, type: 1, timeout: 10 });
    if (job.error) throw Object.assign(new Error(job.error.message), { failure: { detail: { field: "value" } } });
    target.reset();
    report(job.finish ? `${variable} is set.` : `${variable} will be set when the jobs before have ended.`);
  } catch (error) {
    problem(target, error);
  }
});
