// The drop zone of a workspace's folder: each file is sent to the API, with a progress bar.

import { report } from "./actions.js";
import { sendFile } from "./send_file.js";

const zone = document.getElementById("upload-files");
const list = zone.querySelector(".uploads");

zone.addEventListener("submit", (event) => event.preventDefault());
zone.addEventListener("change", async (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  await sendAll(files);
});

for (const type of ["dragenter", "dragover"]) {
  zone.addEventListener(type, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
}
for (const type of ["dragleave", "drop"]) zone.addEventListener(type, () => zone.classList.remove("over"));
zone.addEventListener("drop", (event) => {
  event.preventDefault();
  sendAll([...event.dataTransfer.files]);
});

async function sendAll(files) {
  for (const file of files) await send(file);
  zone.dispatchEvent(new CustomEvent("acted", { bubbles: true }));
}

async function send(file) {
  const row = list.appendChild(document.createElement("li"));
  const bar = document.createElement("progress");
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute("aria-label", `Progress of ${file.name}`);
  row.append(`${file.name} `, bar);
  try {
    await sendFile("PUT", zone.dataset.target + encodeURIComponent(file.name), file, (share) => (bar.value = share));
    row.remove();
    report(`${file.name} is stored.`);
  } catch (error) {
    row.className = "problem";
    row.textContent = `${file.name}: ${error.message}`;
  }
}
