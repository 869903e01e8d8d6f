// The one way from a page to the server: the same API that every client uses, with the session's CSRF token.

export class Refused extends Error {
  constructor(status, failure) {
    super(failure.message || `The server answered with status ${status}.`);
    this.status = status;
    this.failure = failure;
  }
}

const csrf = document.querySelector("meta[name=csrf]")?.content;

// Sends JSON, or a File, FormData or Blob as it is. Resolves to the response's JSON (the `result` of an envelope).
export async function call(method, path, body) {
  const response = await send(method, path, body);
  const text = await response.text();
  const content = parsed(text);
  if (!response.ok) throw new Refused(response.status, failureOf(content, text));
  if (content && content.request_result === false) throw new Refused(response.status, failureOf(content, text));
  return content && "request_result" in content ? content.result : content;
}

// The response itself, of whatever status.
export async function send(method, path, body, headers = {}) {
  const isJson = body !== undefined && !(body instanceof Blob || body instanceof FormData || body instanceof ArrayBuffer);
  const options = { method, headers: { Accept: "application/json", ...headers } };
  if (csrf) options.headers["X-CSRFToken"] = csrf;
  if (isJson) options.headers["Content-Type"] = "application/json";
  if (body !== undefined) options.body = isJson ? JSON.stringify(body) : body;
  try {
    return await fetch(path, options);
  } catch {
    throw new Refused(0, { message: "The server does not respond. Nothing is known about this request." });
  }
}

export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export function failureOf(content, text) {
  const failure = content?.error ?? text.slice(0, 500);
  return typeof failure === "string" ? { message: failure } : failure;
}
