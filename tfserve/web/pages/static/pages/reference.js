// Swagger UI with the OpenAPI document of this server, read with the session of the page or with a token.

/* global SwaggerUIBundle */

const form = document.getElementById("token");
const secret = document.getElementById("secret");
const refusal = document.getElementById("refusal");
const reference = document.getElementById("reference");
const csrf = document.querySelector("meta[name=csrf]")?.content;
const dark = matchMedia("(prefers-color-scheme: dark)");

function colours() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

// Requests that use the session need the page's CSRF token.
function withCsrf(request) {
  if (csrf && !request.headers.Authorization) request.headers["X-CSRFToken"] = csrf;
  return request;
}

function show(spec, token) {
  form.hidden = true;
  const ui = SwaggerUIBundle({
    spec,
    domNode: reference,
    deepLinking: true,
    filter: true,
    docExpansion: "list",
    defaultModelsExpandDepth: -1,
    displayRequestDuration: true,
    validatorUrl: null,
    requestInterceptor: withCsrf,
    plugins: [withoutNestedButtons],
    onComplete: () => token && ui.preauthorizeApiKey("bearer", token),
  });
  new MutationObserver(nameParts).observe(reference, { childList: true, subtree: true });
}

// The head of an operation is a button, in which no keyboard reaches a second button or a link.
function withoutNestedButtons() {
  return { wrapComponents: { CopyToClipboardBtn: () => () => null, DeepLink: () => ({ text }) => text } };
}

// Swagger UI is made as a page of its own, and leaves out the name of its list.
function nameParts() {
  reference.querySelector("#servers")?.setAttribute("aria-label", "Server");
}

async function load(token) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    const response = await fetch("/openapi.json?models=true", { headers });
    const content = await response.json();
    if (response.ok) {
      show(content, token);
      return;
    }
    reference.textContent = "";
    form.hidden = false;
    refusal.textContent = token ? content.result : "";
    secret.focus();
  } catch {
    reference.textContent = "The server does not respond. Load this page again when it runs.";
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  load(secret.value.trim());
});
dark.addEventListener("change", colours);
colours();
load();
