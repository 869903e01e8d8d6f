// Sends a file, or a Blob, and reports the progress, which `fetch` can't.

import { csrfToken, failureOf, mayTryAgain, parsed, Refused } from "./api.js";

// Resolves to the response's JSON (the `result` of an envelope); `onProgress` gets a share from 0 to 1.
export async function sendFile(method, path, body, onProgress = () => {}) {
  try {
    return await sendOnce(method, path, body, onProgress);
  } catch (refused) {
    if (!(await mayTryAgain(refused.status, refused.failure))) throw refused;
    return sendOnce(method, path, body, onProgress);
  }
}

function sendOnce(method, path, body, onProgress) {
  const request = new XMLHttpRequest();
  request.open(method, path);
  request.setRequestHeader("Accept", "application/json");
  const csrf = csrfToken();
  if (csrf) request.setRequestHeader("X-CSRFToken", csrf);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(total ? loaded / total : 0));
  request.upload.addEventListener("load", () => onProgress(1)); // the response may take longer
  return new Promise((resolve, reject) => {
    request.addEventListener("load", () => {
      const content = parsed(request.responseText);
      const isRefused = request.status >= 400 || content?.request_result === false;
      if (isRefused) reject(new Refused(request.status, failureOf(content, request.responseText)));
      else resolve(content && "request_result" in content ? content.result : content);
    });
    const gone = () => reject(new Refused(0, { message: "The connection broke while the file was sent." }));
    for (const event of ["error", "abort", "timeout"]) request.addEventListener(event, gone);
    request.send(body);
  });
}
