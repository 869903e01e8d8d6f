// The one way from a page to the server: the same API that every client uses, with the session's CSRF token.

export class Refused extends Error {
  constructor(status, failure) {
    super(failure.message || `The server answered with status ${status}.`);
    this.status = status;
    this.failure = failure;
  }
}

const SESSION_ENDED = "Your session has ended. Log in in another tab, then try again here. What you typed is kept.";

// The token that the server expects of this page with each change.
export const csrfToken = () => document.querySelector("meta[name=csrf]")?.content;

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
  const response = await sendOnce(method, path, body, headers);
  if (response.status !== 403 && response.status !== 401) return response;
  const failure = failureOf(parsed(await response.clone().text()), "");
  return (await mayTryAgain(response.status, failure)) ? sendOnce(method, path, body, headers) : response;
}

// Whether a refused request may be sent again: a log-in in another tab changes the token, also that of this page.
export async function mayTryAgain(status, failure) {
  if (status === 401) throw new Refused(status, { message: SESSION_ENDED });
  if (status !== 403 || !failure.detail?.reason?.startsWith("CSRF")) return false;
  const page = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (page.status === 401) throw new Refused(page.status, { message: SESSION_ENDED });
  const fresh = new DOMParser().parseFromString(await page.text(), "text/html").querySelector("meta[name=csrf]");
  if (fresh) document.querySelector("meta[name=csrf]")?.replaceWith(fresh);
  return fresh !== null;
}

async function sendOnce(method, path, body, headers) {
  const isJson = body !== undefined && !(body instanceof Blob || body instanceof FormData || body instanceof ArrayBuffer);
  const options = { method, headers: { Accept: "application/json", ...headers } };
  const csrf = csrfToken();
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
