// Sends files to POST /upload/ with progress. Folders and many files are packed into one zip file on the way.

import { zipped } from "./pack.js";
import { sendFile } from "./send_file.js";

// `entries` are {path, file}. Resolves to the upload's path, `upload:<id>`.
export async function upload(entries, onProgress) {
  const isOne = entries.length === 1 && !entries[0].path.includes("/");
  const body = isOne ? entries[0].file : await zipped(entries, (share) => onProgress(share * 20, "Packing"));
  const name = isOne ? entries[0].path : "folder.zip";
  const start = isOne ? 0 : 20;
  const content = await sendFile("POST", `/upload/?name=${encodeURIComponent(name)}`, body, (share) =>
    onProgress(start + share * (100 - start), share < 1 ? "Uploading" : "Unpacking"),
  );
  return { ...content, path: withinOneFolder(content, isOne ? entries[0].path : "") };
}

// One plain file is named in its path, because it is a file that is meant and not its folder.
function withinOneFolder(content, name) {
  const isArchive = /\.(zip|tar|tgz|tar\.gz)$/i.test(name);
  return name && !isArchive ? `${content.path}/${name}` : content.path;
}

// The files of a drop, of folders as well, as {path, file}.
export async function entriesOfDrop(items) {
  const found = [];
  const roots = [];
  for (const item of items) {
    const root = item.webkitGetAsEntry?.();
    const file = root ? null : item.getAsFile();
    if (root) roots.push(root);
    else if (file) found.push({ path: file.name, file });
  }
  for (const root of roots) await walk(root, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ path: entry.fullPath.replace(/^\//, ""), file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!batch.length) return;
    for (const each of batch) await walk(each, found);
  }
}

// The files of an <input type=file>, of a chosen folder as well.
export function entriesOfInput(input) {
  return [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

// Without the folder that contains everything, and without files that no program needs.
export function withoutCommonFolder(entries) {
  const kept = entries.filter(({ path }) => !/(^|\/)(\.|__MACOSX|Thumbs\.db)/.test(path));
  const first = kept[0]?.path.split("/")[0];
  const isCommon = kept.every(({ path }) => path.startsWith(`${first}/`));
  const isNested = isCommon && kept.some(({ path }) => path.split("/").length > 2);
  return isNested ? kept.map(({ path, file }) => ({ path: path.slice(first.length + 1), file })) : kept;
}

// Shows progress in an element with a <progress> and a <span>.
export function progressOf(element) {
  const [bar, text] = [element.querySelector("progress"), element.querySelector("span")];
  return (percent, what) => {
    element.hidden = false;
    bar.value = percent;
    text.textContent = `${what} ${Math.round(percent)} %`;
  };
}
