// The form that tries a model with numbers and texts: its fields become a v1 request.

import { clearProblems, isBusy, problem } from "./actions.js";
import { Refused, call } from "./api.js";

const SHOWN_CHARS = 20_000;

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-try]");
  if (!form) return;
  event.preventDefault();
  if (isBusy(form)) return;
  clearProblems(form);
  form.setAttribute("aria-busy", "true");
  try {
    const inputs = inputsOf(form);
    const began = performance.now();
    const response = await call("POST", form.dataset.try, { signature_name: form.dataset.signature, inputs });
    show(form.querySelector("[data-answer]"), response, performance.now() - began);
  } catch (error) {
    problem(form, error);
  } finally {
    form.removeAttribute("aria-busy");
  }
});

function inputsOf(form) {
  const whole = form.querySelector("[data-whole]");
  if (whole) return parsed(whole, whole.value);
  return Object.fromEntries([...form.querySelectorAll("[data-input]")].map((each) => [each.dataset.input, valueOf(each)]));
}

function valueOf(field) {
  const text = field.value;
  if (field.dataset.way === "json") return parsed(field, text);
  const value = "text" in field.dataset ? text : parsed(field, text);
  return filled(value, field.dataset.sizes ? field.dataset.sizes.split(",").map(Number) : []);
}

function parsed(field, text) {
  try {
    return JSON.parse(text);
  } catch {
    const hint = field.tagName === "TEXTAREA" ? "JSON such as [[1, 2]]" : "a number";
    const name = field.dataset.input ?? "All inputs";
    throw new Refused(400, { message: `${name} must be ${hint}.`, field: name });
  }
}

function filled(value, sizes) {
  return sizes.reduceRight((inner, size) => Array(size).fill(inner), value);
}

function show(answer, response, milliseconds) {
  const text = pretty(response);
  const took = document.createElement("p");
  took.className = "hint";
  took.textContent = `The response took ${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms.`;
  const pre = document.createElement("pre");
  pre.className = "text";
  pre.tabIndex = 0;
  pre.setAttribute("aria-label", "Response");
  pre.textContent = text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}\n… ${text.length - SHOWN_CHARS} more characters` : text;
  answer.replaceChildren(took, pre);
}

// Indented JSON, with the innermost lists on one line.
function pretty(value, indent = "") {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const isFlat = Object.values(value).every((each) => each === null || typeof each !== "object");
  if (Array.isArray(value) && isFlat) return `[${value.map((each) => JSON.stringify(each)).join(", ")}]`;
  const inner = `${indent}  `;
  const lines = Array.isArray(value)
    ? value.map((each) => inner + pretty(each, inner))
    : Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${pretty(each, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return lines.length ? `${open}\n${lines.join(",\n")}\n${indent}${close}` : open + close;
}
