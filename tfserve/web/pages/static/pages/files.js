// The drop zone of a workspace's folder: each file is sent to the API, with a progress bar.

import { report } from "./actions.js";
import { sendFile } from "./send_file.js";
import { entriesOfDrop, entriesOfInput } from "./upload.js";

const zone = document.getElementById("upload-files");
const list = zone.querySelector(".uploads");

zone.addEventListener("submit", (event) => event.preventDefault());
zone.addEventListener("change", async (event) => {
  const entries = entriesOfInput(event.target);
  event.target.value = "";
  await sendAll(entries);
});

for (const type of ["dragenter", "dragover"]) {
  zone.addEventListener(type, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
}
for (const type of ["dragleave", "drop"]) zone.addEventListener(type, () => zone.classList.remove("over"));
zone.addEventListener("drop", async (event) => {
  event.preventDefault();
  try {
    await sendAll(await entriesOfDrop(event.dataTransfer.items));
  } catch (error) {
    report(`What was dropped can't be read: ${error.message}`, "bad");
  }
});

async function sendAll(entries) {
  for (const each of entries) await send(each);
  zone.dispatchEvent(new CustomEvent("acted", { bubbles: true }));
}

async function send({ path, file }) {
  const row = list.appendChild(document.createElement("li"));
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `Progress of ${path}`);
  row.append(`${path} `, bar);
  try {
    await sendFile("PUT", zone.dataset.target + path.split("/").map(encodeURIComponent).join("/"), file, (share) => (bar.value = share));
    row.remove();
    report(`${path} is stored.`);
  } catch (error) {
    row.className = "problem";
    row.textContent = `${path}: ${error.message}`;
  }
}
