// The form of a new training: uploads the images, shows what the check of the dataset finds, and starts the task.

import { clearProblems, isBusy, problem } from "./actions.js";
import { Refused, call } from "./api.js";
import { entriesOfDrop, entriesOfInput, progressOf, upload, withoutCommonFolder } from "./upload.js";

const form = document.querySelector("form[data-train]");
const drop = form.querySelector("[data-drop]");
const findings = form.querySelector("[data-findings]");
const progress = form.querySelector("[data-progress]");
const showProgress = progressOf(progress);

for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => over(event, true));
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => over(event, false));
drop.addEventListener("drop", (event) => take(entriesOfDrop(event.dataTransfer.items)));
for (const selector of ["[data-folder]", "[data-zip]"]) {
  form.querySelector(selector).addEventListener("change", (event) => {
    take(entriesOfInput(event.target));
    event.target.value = ""; // so that the same folder can be chosen again, when its images have changed
  });
}
form.querySelector("[data-check]").addEventListener("click", () => busy(check));
form.addEventListener("change", (event) => {
  if (event.target.name !== "trainType") return;
  for (const each of form.querySelectorAll("[data-parameters]")) each.hidden = each.dataset.parameters !== event.target.value;
  if (form.elements.projectDir.value) busy(check);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  busy(async () => {
    const { trainType, projectDir, projectId, userId } = form.elements;
    requireFolder();
    const task = { userId: userId.value, projectId: projectId.value, projectDir: projectDir.value, trainType: trainType.value, parameters: parameters() };
    const { taskId } = await call("POST", "/tasks/", task);
    location.assign(`/pages/trainings/${taskId}/`);
  });
});

function over(event, isOver) {
  event.preventDefault();
  drop.classList.toggle("over", isOver);
}

async function take(chosen) {
  await busy(async () => {
    const entries = await chosen;
    if (!entries.length) return;
    const name = entries[0].path.split("/")[0].replace(/\.(zip|tar|tgz|gz)$/i, "");
    const { path } = await upload(withoutCommonFolder(entries), showProgress);
    form.elements.projectDir.value = path;
    if (!form.elements.projectId.value) form.elements.projectId.value = name;
    await check();
  });
}

async function busy(work) {
  if (isBusy(form)) return;
  clearProblems(form);
  form.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    problem(form, error);
  } finally {
    progress.hidden = true;
    form.removeAttribute("aria-busy");
  }
}

function requireFolder() {
  if (!form.elements.projectDir.value) throw new Refused(400, { message: "Drop folders of images above, or give a folder on the server.", field: "projectDir" });
}

async function check() {
  requireFolder();
  const projectDir = form.elements.projectDir.value;
  showProgress(100, "Checking the images:");
  let trainType, found;
  do {
    trainType = form.elements.trainType.value;
    found = await call("POST", "/training/check/", { projectDir, trainType });
  } while (trainType !== form.elements.trainType.value); // another one was chosen meanwhile
  show(found, projectDir);
}

// Only what differs from the defaults.
function parameters() {
  const chosen = {};
  for (const field of form.querySelectorAll(`[data-parameters="${form.elements.trainType.value}"] [data-parameter]`)) {
    const value = field.type === "checkbox" ? field.checked : field.value.trim();
    if (value === "" || String(value) === field.dataset.default) continue;
    chosen[field.dataset.parameter] = "number" in field.dataset && Number.isFinite(Number(value)) ? Number(value) : value;
  }
  return chosen;
}

// --- what the check found

function show(found, projectDir) {
  const parts = [summary(found)];
  if (found.problems.length) parts.push(list("Problems to solve first", found.problems.map((each) => element("li", {}, each)), "problems"));
  if (found.dataset.remarks?.length) parts.push(list("Good to know", found.dataset.remarks.map((each) => element("li", {}, each)), "remarks"));
  if (found.skipped.length) parts.push(leftOut(found, projectDir));
  if (found.samples.length) parts.push(samples(found, projectDir));
  findings.replaceChildren(...parts);
}

function summary({ problems, image_count: images, classes }) {
  const state = problems.length ? "failed" : "ready";
  const text = problems.length ? `${problems.length} ${problems.length === 1 ? "problem" : "problems"}` : "Ready to train";
  const classNames = classes.length ? ` in ${classes.length} ${classes.length === 1 ? "class" : "classes"}: ${classes.slice(0, 12).join(", ")}${classes.length > 12 ? " …" : ""}` : "";
  return element("p", { class: "found" }, element("span", { class: `state state-${state}` }, text), ` ${images} usable images${classNames}`);
}

function leftOut({ skipped, skipped_count: count }, projectDir) {
  const rows = skipped.map(({ path, reason }) => element("li", {}, thumbnail(projectDir, path), element("span", {}, element("span", { class: "path" }, path), element("br", {}), element("span", { class: "minor" }, reason))));
  return list(`${count} ${count === 1 ? "file is" : "files are"} left out`, rows, "left-out");
}

function samples({ samples: shown }, projectDir) {
  const rows = shown.map(({ path, label }) => element("li", {}, thumbnail(projectDir, path), element("span", { class: "labels" }, label || path)));
  return list("Some of the images", rows, "gallery");
}

function thumbnail(projectDir, path) {
  const query = new URLSearchParams({ projectDir, placeholder: "true" });
  const address = path.split("/").map(encodeURIComponent).join("/");
  return element("img", { src: `/training/thumbnails/${address}?${query}`, alt: "", loading: "lazy", width: "112", height: "112" });
}

function list(title, rows, name) {
  return element("section", {}, element("h2", {}, title), element("ul", { class: name, tabindex: "0", "aria-label": title }, ...rows));
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
