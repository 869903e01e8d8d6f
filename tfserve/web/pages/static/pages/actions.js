// Forms that act: <form data-action="POST /restart_workspace/" data-confirm="…" data-verb="…" data-then="/pages/…">.
// The fields become the JSON of the request, typed by data-type (number, boolean, json, lines, list); empty ones are left out.
// {name} in the action is replaced by that field. A name such as autoscale.min is a field of an object.

import { call } from "./api.js";

const READERS = {
  number: (text) => Number(text),
  boolean: (text) => text === "true" || text === "on",
  json: (text) => JSON.parse(text),
  lines: (text) => text.split("\n").map((line) => line.trim()).filter(Boolean),
  list: (text) => text.split(",").map((entry) => entry.trim()).filter(Boolean),
};

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-action]");
  if (!form) return;
  event.preventDefault();
  submit(form, event.submitter);
});

const pending = new WeakSet(); // buttons whose requests have no response yet: a second click sends nothing

async function submit(form, submitter) {
  const sender = submitter ?? form;
  if (pending.has(sender)) return;
  const { confirm: question, verb, then, done } = { ...form.dataset, ...submitter?.dataset };
  if (question && !(await confirmed(question, verb ?? submitter?.textContent.trim()))) return;
  clearProblems(form);
  pending.add(sender);
  form.setAttribute("aria-busy", "true");
  try {
    const fields = fieldsOf(form, submitter);
    const given = { ...fields };
    const [method, template] = (submitter?.dataset.action ?? form.dataset.action).split(" ");
    const path = filled(template, fields);
    for (const [, name] of template.matchAll(/\{(\w+)\}/g)) delete fields[name];
    const result = await call(method, path, method === "GET" || method === "DELETE" ? undefined : fields);
    if (result?.finish && result.error) throw Object.assign(new Error(result.error.message), { failure: result.error });
    report(done ?? "Done.", "good");
    form.dispatchEvent(new CustomEvent("acted", { detail: result, bubbles: true }));
    if (then) location.assign(filled(then, { ...given, ...(typeof result === "object" ? result : { result }) }));
    else if (form.dataset.keep === undefined) form.reset();
  } catch (error) {
    problem(form, error);
  } finally {
    pending.delete(sender);
    form.removeAttribute("aria-busy");
  }
}

// A form that waits for its response is not sent again by a second click.
export function isBusy(form) {
  return form.getAttribute("aria-busy") === "true";
}

function fieldsOf(form, submitter) {
  const fields = {};
  for (const input of form.elements) {
    if (!input.name || input.disabled || (input.type === "submit" && input !== submitter) || input.type === "file") continue;
    if (input.type === "radio" && !input.checked) continue;
    if (input.type === "checkbox" && input.dataset.type !== "boolean") {
      if (input.checked) (fields[input.name] ??= []).push(input.value);
      continue;
    }
    const text = input.type === "checkbox" ? String(input.checked) : input.value;
    if (text.trim() === "") continue;
    put(fields, input.name.split("."), read(input, text));
  }
  return fields;
}

export function put(fields, [name, ...inner], value) {
  if (inner.length) put((fields[name] ??= {}), inner, value);
  else fields[name] = value;
}

function read(input, text) {
  try {
    return input.dataset.type ? READERS[input.dataset.type](text) : text;
  } catch {
    throw Object.assign(new Error(`${input.name} must be JSON, for example [1, 2] or "text".`), {
      failure: { detail: { field: input.name } },
    });
  }
}

function filled(template, fields) {
  return template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(fields[name] ?? ""));
}

// --- problems are shown at the field that the server names, or else at the end of the form

export function problem(form, error) {
  const { detail = {}, field = detail.field } = error.failure ?? {};
  const input = refusedInput(form, { ...detail, field });
  const message = document.createElement("p");
  message.className = "problem";
  message.id = `problem-${Math.random().toString(36).slice(2)}`;
  message.setAttribute("role", "alert");
  message.textContent = error.message;
  if (input && isVisible(input)) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", message.id);
    input.after(message);
    input.focus();
  } else if (isVisible(form) && form.dataset.inline === undefined) form.append(message);
  else report(error.message, "bad");
}

// The server names the field, or shows its value: {name: "first"}.
function refusedInput(form, { field, ...values }) {
  const names = field ? [field, String(field).split(/[.[]/)[0]] : Object.keys(values);
  return [...form.elements].find((each) => names.includes(each.dataset.input ?? each.name));
}

// Also where only its label is: a chosen file's button.
function isVisible(element) {
  return element.type !== "hidden" && element.getClientRects().length > 0;
}

export function clearProblems(form) {
  form.querySelectorAll(".problem").forEach((each) => each.remove());
  form.querySelectorAll("[aria-invalid]").forEach((each) => {
    each.removeAttribute("aria-invalid");
    each.removeAttribute("aria-describedby");
  });
}

// --- what happened, for a few seconds

let hiding = 0;

export function report(text, kind = "good") {
  const feedback = document.getElementById("feedback");
  feedback.textContent = text;
  feedback.dataset.kind = kind;
  clearTimeout(hiding);
  hiding = setTimeout(() => (feedback.textContent = ""), kind === "bad" ? 15_000 : 5_000);
}

// --- confirmation, once for each destructive action

export function confirmed(question, verb = "Continue") {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("[data-question]").textContent = question;
  dialog.querySelector("[value=yes]").textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
}

// --- copy buttons: <button data-copy="#id-of-element">

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  if (await copied(source)) report("Copied.");
  else report("The browser does not allow copying here. The text is selected: copy it with Ctrl+C.", "bad");
});

// Browsers have a clipboard on https:// and on localhost only. Elsewhere the selected text is copied.
async function copied(source) {
  try {
    await navigator.clipboard.writeText(source.innerText);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    const isCopied = document.execCommand("copy");
    if (isCopied) getSelection().removeAllRanges();
    return isCopied;
  }
}
